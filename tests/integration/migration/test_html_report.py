"""A real browser opens the HTML report: it shows each run once, sorts and filters them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from bridges.findings import explanations
from bridges.migration.reports.html import HtmlReport
from bridges.report import RunReport, failure
from bridges.stream.finding import Finding, Severity
from tests.integration.browser import chromium_page, save

pytestmark = pytest.mark.slow

NOTE = Finding("clock-synthetic", Severity.INFO, "all rows", "the history has no times", 3)
LOSS = Finding("underflow-to-zero", Severity.LOSS, "key 'note'", "the target holds numbers only")
MANY = 10_000
TARGETS = ("mlflow", "tensorboard")
ATTACKS = (
    "<script>window.hacked = 1</script>",
    "\"><img src=http://127.0.0.1:9/x onerror='window.hacked = 1'>",
    "' onmouseover='window.hacked = 1' x='",
    "</title></style></script><script>window.hacked = 1</script>",
    "@ROWS@ @TITLE@ {} %s &amp; &lt;",
    "\u202eevil \u05d0\u05d1\u05d2",
    "long " * 2_000,
)
ROWS = "#runs tbody tr"
MOST_ROWS = 200  # of a page of 900 pixels, whatever the number of runs
# the names of all rows, in the order in which they come into sight, and the most rows at a time
SCROLL = """async () => {
  const names = new Set();
  let most = 0;
  for (let y = 0; y < document.documentElement.scrollHeight; y += 800) {
    scrollTo(0, y);
    for (let frames = 0; frames < 2; frames++) await new Promise(requestAnimationFrame);
    const rows = [...document.querySelectorAll("#runs tbody tr")];
    most = Math.max(most, rows.length);
    for (const row of rows) {
      const {top, bottom} = row.getBoundingClientRect();
      if (bottom > 0 && top < innerHeight) names.add(row.cells[0].firstChild.textContent);
    }
  }
  return [[...names], most];
}"""
LINK = "https://tracker.example/#/runs/10"


def some_runs(count: int) -> Iterable[RunReport]:
    """Runs of two targets: some unchanged, every tenth with a loss in one target; one failed.

    All reports of the first target come first.
    """
    for at, target in enumerate(TARGETS):
        for index in range(count):
            yield RunReport(
                f"out/run-{index}/trainer_state.json",
                f"run-{index}",
                target,
                ("exported", "unchanged")[index % 3 == 2],
                rows=index,
                points=index * 7919 % 100_003,
                location=(f"https://tracker.example/#/runs/{index}", f"/tb/{index}")[at],
                verified=True,
                seconds=index / 7,
                findings=(NOTE, LOSS) if index % 10 == 0 and at else (NOTE,),
                trend=tuple(1 / (part + 1) for part in range(48)),
                trend_metric="loss",
            )
        yield failure("broken.json", target, "found nothing; expected a history", code="source")


def write(path: Path, reports: Iterable[RunReport], title: str = "sweep.yaml") -> str:
    """The address of a report of these."""
    with HtmlReport(str(path), title) as page:
        for report in reports:
            page.add(report)
    return path.as_uri()


def column(page: Page, number: int) -> list[str]:
    """The texts of a column, from the top, of the rows that are shown."""
    cells: list[str] = page.evaluate(
        f"[...document.querySelectorAll('{ROWS}:not([hidden])')]"
        f".map(row => row.cells[{number}].firstChild?.textContent ?? '')"
    )
    return cells


def test_each_run_is_shown_once_with_its_targets(tmp_path: Path) -> None:
    with chromium_page("report", height=900) as page:
        page.goto(write(tmp_path / "report.html", some_runs(30)))
        assert column(page, 0) == [*(f"run-{index}" for index in range(30)), "broken.json"]
        run = page.locator(ROWS).nth(10)
        lines = run.locator("td > ul > li")
        assert [line.inner_text().split() for line in lines.all()] == [
            ["mlflow", "exported", "79,190", "points,", "verified,", "1.43", "s", LINK],
            ["tensorboard", "exported", "79,190", "points,", "verified,", "1.43", "s", "/tb/10"],
        ]
        assert run.get_by_role("link", name=LINK).get_attribute("href") == LINK
        assert run.locator("small").last.inner_text().split() == ["loss", "1", "→", "0.02083"]
        run.get_by_text("1 loss, 1 info").click()
        expect(run.get_by_text("underflow-to-zero [tensorboard], key 'note'")).to_be_visible()
        save(page, "report_light")
        page.emulate_media(media="print")
        assert not page.locator("#filter").is_visible()
        assert page.get_by_text("the target holds numbers only").nth(2).is_visible()
        save(page, "report_print")


@pytest.mark.parametrize("width", [1200, 600, 400])
def test_nothing_is_cut_in_a_narrow_window(tmp_path: Path, width: int) -> None:
    with chromium_page("report", height=900) as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(write(tmp_path / "report.html", some_runs(30)))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for cell in page.locator(ROWS).first.locator("th, td").all():
            box = cell.bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        save(page, f"report_{width}")


def test_the_runs_sort(tmp_path: Path) -> None:
    with chromium_page("report", height=900) as page:
        page.goto(write(tmp_path / "report.html", some_runs(30)))
        names = [*(f"run-{index}" for index in range(30))]
        by_points = sorted(range(30), key=lambda index: index * 7919 % 100_003)
        page.get_by_label("Sort by").select_option("points")
        assert column(page, 0)[2:] == [f"run-{index}" for index in by_points][1:]  # two have none
        page.get_by_label("Sort by").select_option("name")
        assert column(page, 0) == ["broken.json", *names]  # run-2 before run-10
        page.get_by_role("button", name="Reverse").press("Enter")
        assert column(page, 0) == [*names[::-1], "broken.json"]
        page.get_by_label("Sort by").select_option("findings")
        assert column(page, 0)[:4] == ["broken.json", "run-0", "run-10", "run-20"]
        page.get_by_label("Sort by").select_option("last value of the metric")
        assert column(page, 0)[-1] == "broken.json"  # which has none


def test_the_runs_are_filtered(tmp_path: Path) -> None:
    with chromium_page("report", height=900) as page:
        page.goto(write(tmp_path / "report.html", some_runs(30)))
        shown = page.locator("#shown")
        expect(shown).to_have_text("31 of 31 runs shown")
        page.locator("#find").fill("TENSORBOARD run-1")
        expect(shown).to_have_text("11 of 31 runs shown")
        assert column(page, 0) == ["run-1", *(f"run-1{digit}" for digit in range(10))]
        page.locator("#find").fill("")
        page.get_by_label("Status").select_option("failed or lost data")
        expect(shown).to_have_text("4 of 31 runs shown")
        page.locator("#target").select_option("mlflow")  # the loss is in the other one
        expect(shown).to_have_text("1 of 31 runs shown")
        page.get_by_label("Status").select_option("unchanged")
        expect(shown).to_have_text("10 of 31 runs shown")


def test_a_finding_filters_and_is_explained(tmp_path: Path) -> None:
    with chromium_page("report", height=900) as page:
        page.goto(write(tmp_path / "report.html", some_runs(30)))
        codes = page.locator("#codes button")
        assert [code.inner_text() for code in codes.all()] == [
            "source 1", "underflow-to-zero 3", "clock-synthetic 30"
        ]  # fmt: skip
        codes.nth(1).click()
        expect(codes.nth(1)).to_have_attribute("aria-pressed", "true")
        assert column(page, 0) == ["run-0", "run-10", "run-20"]
        meaning = page.locator("#meaning")
        entry = explanations()["underflow-to-zero"]
        told = f"{entry.meaning} To do: {entry.action}".replace("`", "")
        expect(meaning).to_have_text(told)
        save(page, "report_finding")
        codes.nth(1).click()
        expect(page.locator("#shown")).to_have_text("31 of 31 runs shown")
        assert not meaning.is_visible()


def test_the_report_in_the_dark(tmp_path: Path) -> None:
    with chromium_page("report", height=900, color_scheme="dark") as page:
        page.goto(write(tmp_path / "report.html", some_runs(30)))
        expect(page.locator("body")).to_have_css("background-color", "rgb(21, 23, 26)")
        save(page, "report_dark")


def test_a_hostile_name_does_nothing(tmp_path: Path) -> None:
    asked: list[str] = []
    told: list[str] = []
    address = write(tmp_path / "report.html", map(hostile, ATTACKS), "".join(ATTACKS[:5]))
    with chromium_page("report_hostile", height=900) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        page.goto(address)
        page.get_by_label("Sort by").select_option("name")
        page.locator("#codes button").first.click()
        page.locator("#codes button").first.click()
        for details in page.locator("#runs summary").all():
            details.click()
        page.mouse.move(300, 500)
        shown = [name.replace("\u202e", "\N{REPLACEMENT CHARACTER}") for name in ATTACKS]
        assert sorted(column(page, 0)) == sorted(shown)
        assert page.title() == " ".join("".join(shown[:5]).split())
        assert page.evaluate("window.hacked") is None
        assert page.locator("script").count() == 1
        assert page.locator("img, #runs a").count() == 0
        assert max(heights(page)) < 800
        save(page, "report_hostile")
    assert asked == [address]
    assert told == []  # the policy had nothing to refuse either


def hostile(text: str) -> RunReport:
    found = Finding(text, Severity.LOSS, text, text)
    return RunReport(text, text, text, "exported", location=f"javascript:{text}", findings=(found,))


def heights(page: Page) -> list[float]:
    return [box["height"] for row in page.locator(ROWS).all() if (box := row.bounding_box())]


def test_the_report_is_readable_without_scripts(tmp_path: Path) -> None:
    address = write(tmp_path / "report.html", some_runs(30))
    with chromium_page("report", height=900, java_script_enabled=False) as page:
        page.goto(address)
        expect(page.locator(ROWS)).to_have_count(31)
        expect(page.get_by_text("4 of 31 runs failed or lost data")).to_be_visible()
        expect(page.get_by_text("run-0", exact=True)).to_be_visible()
        expect(page.locator("form, button").first).not_to_be_visible()


def test_ten_thousand_runs_are_never_in_the_page_at_once(tmp_path: Path) -> None:
    address = write(tmp_path / "report.html", some_runs(MANY - 1))
    with chromium_page("report_many", height=900) as page:
        page.goto(address)
        shown = page.locator("#shown")
        expect(shown).to_have_text("10,000 of 10,000 runs shown")
        assert len(column(page, 0)) < MOST_ROWS
        expect(page.locator("#runs")).to_have_attribute("aria-rowcount", "10001")
        page.get_by_label("Sort by").select_option("rows")
        page.get_by_role("button", name="Reverse").click()
        assert column(page, 0)[:2] == ["run-9998", "run-9997"]
        expect(page.locator(ROWS).first).to_have_attribute("aria-rowindex", "2")
        page.locator("#find").fill("RUN-5000 tensorboard")
        expect(shown).to_have_text("1 of 10,000 runs shown")
        assert column(page, 0) == ["run-5000"]
        page.locator("#find").fill("run-9999")
        expect(shown).to_have_text("0 of 10,000 runs shown")
    assert (tmp_path / "report.html").stat().st_size < 1_600 * MANY


@pytest.mark.parametrize("width", [1200, 600])
def test_each_of_many_runs_comes_into_sight(tmp_path: Path, width: int) -> None:
    count = 1_500
    address = write(tmp_path / "report.html", some_runs(count))
    with chromium_page("report_many", height=900) as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        names, most = page.evaluate(SCROLL)
        assert names == [*(f"run-{index}" for index in range(count)), "broken.json"]
        assert most < MOST_ROWS
        page.keyboard.press("Home")
        expect(page.locator(ROWS).first).to_be_in_viewport()
        assert column(page, 0)[0] == "run-0"
        save(page, f"report_many_{width}")


def test_open_findings_stay_open_out_of_sight(tmp_path: Path) -> None:
    with chromium_page("report_many", height=900) as page:
        page.goto(write(tmp_path / "report.html", some_runs(500)))
        page.locator(ROWS).nth(1).locator("summary").click()
        expect(page.locator("#runs details[open]")).to_have_count(1)
        page.locator("#find").focus()  # a row with the focus would stay
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        expect(page.locator("#runs details[open]")).to_have_count(0)
        page.evaluate("scrollTo(0, 0)")
        expect(page.locator(ROWS).nth(1).locator("details")).to_have_attribute("open", "")


def test_the_key_of_the_browsers_search_leads_to_rows_out_of_sight(tmp_path: Path) -> None:
    with chromium_page("report_many", height=900) as page:
        for count, is_found in ((500, True), (3, False)):  # all of the few rows are in the page
            page.goto(write(tmp_path / f"{count}.html", some_runs(count)))
            expect(page.locator("#shown")).to_have_text(f"{count + 1} of {count + 1} runs shown")
            page.keyboard.press("Control+f")
            assert page.evaluate("document.activeElement.id === 'find'") is is_found


def test_all_rows_are_printed(tmp_path: Path) -> None:
    with chromium_page("report_many", height=900) as page:
        page.goto(write(tmp_path / "report.html", some_runs(500)))
        expect(page.locator("#shown")).to_have_text("501 of 501 runs shown")
        page.evaluate(
            "addEventListener('beforeprint', () => {"
            " window.printed = document.querySelectorAll('#runs tbody tr').length })"
        )
        page.pdf(path=tmp_path / "report.pdf")
        assert page.evaluate("window.printed") == 501
        expect(page.locator(ROWS)).not_to_have_count(501)
        page.emulate_media(media="print")
        expect(page.locator(ROWS)).to_have_count(501)
        page.emulate_media(media="screen")
        expect(page.locator(ROWS)).not_to_have_count(501)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 600])
def test_the_report_is_accessible(tmp_path: Path, width: int, scheme: str) -> None:
    address = write(tmp_path / "report.html", some_runs(30))
    with chromium_page("report", height=900, color_scheme=scheme, bypass_csp=True) as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        page.locator("#codes button").nth(1).click()
        page.locator("#runs summary").first.click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
