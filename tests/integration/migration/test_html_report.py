"""A real browser opens the HTML report: it shows all runs, sorts, filters, and does no more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from bridges.migration.reports.html import HtmlReport
from bridges.report import RunReport, failure
from bridges.stream.finding import Finding, Severity
from tests.integration.browser import chromium_page, save

pytestmark = pytest.mark.slow

NOTE = Finding("clock-synthetic", Severity.INFO, "all rows", "the history has no times", 3)
LOSS = Finding("text-dropped", Severity.LOSS, "key 'note'", "the target holds numbers only")
MANY = 10_000
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


def some_runs(count: int) -> Iterable[RunReport]:
    """Runs of two targets, some without anything new, every tenth with a loss, one that failed."""
    for index in range(count):
        yield RunReport(
            f"out/run-{index}/trainer_state.json",
            f"run-{index}",
            ("mlflow", "tensorboard")[index % 2],
            ("exported", "unchanged")[index % 3 == 2],
            rows=index,
            points=index * 7919 % 100_003,
            location=f"https://tracker.example/#/runs/{index}" if index % 2 else f"/tb/{index}",
            verified=True,
            seconds=index / 7,
            findings=(NOTE, LOSS) if index % 10 == 0 else (NOTE,),
            trend=tuple(1 / (part + 1) for part in range(48)),
        )
    yield failure("broken.json", "mlflow", "found nothing; expected a history", code="source")


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


def head(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def test_the_table_sorts_and_filters(tmp_path: Path) -> None:
    runs = [*some_runs(30)]
    with chromium_page("report", height=900) as page:
        page.goto(write(tmp_path / "report.html", runs))
        assert column(page, 1) == [run.run for run in runs]
        check_order(page, runs)
        check_filter(page)
        page.get_by_text("1 loss, 1 info").first.click()
        expect(page.get_by_text("the target holds numbers only").first).to_be_visible()
        save(page, "report_light")
        page.emulate_media(media="print")
        assert not page.locator("#filter").is_visible()
        save(page, "report_print")


def check_order(page: Page, runs: list[RunReport]) -> None:
    """By numbers, up and down with the mouse; by name, as people count, with the keyboard."""
    points = sorted(run.points for run in runs)
    header = page.locator("#runs thead th", has=head(page, "points"))
    for order in ("ascending", "descending"):
        head(page, "points").click()
        expect(header).to_have_attribute("aria-sort", order)
        want = points if order == "ascending" else points[::-1]
        assert [int(text.replace(",", "")) for text in column(page, 4)] == want
    head(page, "run").focus()
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "none")
    assert column(page, 1) == ["broken.json", *(f"run-{index}" for index in range(30))]
    head(page, "findings").click()
    head(page, "findings").click()
    assert column(page, 1)[:4] == ["broken.json", "run-0", "run-10", "run-20"]


def check_filter(page: Page) -> None:
    """By words of any column and by status; the count of what is left is told."""
    told = page.locator("#shown")
    expect(told).to_have_text("31 of 31 shown")
    page.get_by_label("Find").fill("TENSORBOARD run-1")
    expect(told).to_have_text("6 of 31 shown")
    assert sorted(column(page, 1)) == ["run-1", *(f"run-1{digit}" for digit in (1, 3, 5, 7, 9))]
    page.get_by_label("Find").fill("")
    page.get_by_label("Status").select_option("failed or lost data")
    expect(told).to_have_text("4 of 31 shown")
    page.get_by_label("Status").select_option("unchanged")
    expect(told).to_have_text("10 of 31 shown")
    page.get_by_label("Status").select_option("all")
    expect(told).to_have_text("31 of 31 shown")


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
        head(page, "run").click()
        for details in page.locator("#runs summary").all():
            details.click()
        page.mouse.move(300, 500)
        shown = [name.replace("\u202e", "\N{REPLACEMENT CHARACTER}") for name in ATTACKS]
        assert sorted(column(page, 1)) == sorted(shown)
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


def test_ten_thousand_runs_open_and_sort(tmp_path: Path) -> None:
    address = write(tmp_path / "report.html", some_runs(MANY - 1))
    with chromium_page("report_many", height=900) as page:
        page.goto(address)
        expect(page.locator("#shown")).to_have_text("10,000 of 10,000 shown")
        head(page, "points").click()
        assert [*map(number, column(page, 4))] == sorted(run.points for run in some_runs(MANY - 1))
        page.get_by_label("Find").fill("run-9999 mlflow")
        expect(page.locator("#shown")).to_have_text("0 of 10,000 shown")
    assert (tmp_path / "report.html").stat().st_size < 1_300 * MANY


def number(text: str) -> int:
    return int(text.replace(",", ""))
