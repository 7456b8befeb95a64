"""A real browser opens the page of charts: axes, smoothing, zoom, values, selection of runs."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from bridges.pipeline.key_rules import with_key_rules
from bridges.stream.model import Run
from bridges.views.charts.page import ChartPage
from tests.integration.browser import chromium_page, save
from tests.support import read_bytes, state

pytestmark = pytest.mark.slow

STEPS = 60
ATTACKS = (
    "</script><script>window.hacked = 1</script>",
    "<img src=http://127.0.0.1:9/x onerror='window.hacked = 1'>",
    "@DATA@ @SCRIPT@ \u2028 \ud800 \u202eevil",
    "long " * 500,
)


def loss(run: int, step: int) -> float:
    return (run + 1) * math.exp(-step / 20) + 0.2 * math.sin(step)


def rows_of(run: int) -> list[dict[str, Any]]:
    """Rows of which one has NaN and one is logged twice; one run in three has no epochs."""
    rows: list[dict[str, Any]] = []
    for step in range(1, STEPS + 1):
        row = {"loss": loss(run, step), "learning_rate": 1e-5 * step, "step": 10 * step}
        rows.append(row if run == 2 else {**row, "epoch": step / 10})
        if step % 20 == 0:
            rows.append({"eval_accuracy": step / 100 + run / 10, "step": 10 * step})
    rows[10]["loss"] = math.nan
    rows.append({**rows[-2], "loss": 0.125})
    rows.append({"train_runtime": 9.0 + run, "total_flos": 1.0, "step": 10 * STEPS})
    return rows


def made(folder: Path, name: str, run: int, rows: Any = None) -> Run:
    read = with_key_rules(read_bytes(folder, state(rows or rows_of(run))))
    return Run(**{**vars(read), "name": name, "params": {"seed": run}})


def write(folder: Path, runs: list[Run], title: str = "a sweep") -> str:
    page = ChartPage(str(folder / "charts.html"), title)
    for run in runs:
        page.add(run)
    page.write()
    return (folder / "charts.html").as_uri()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return write(tmp_path, [made(tmp_path, f"run-{run}", run) for run in range(3)])


def plotted(page: Page, key: str) -> list[list[float | None]]:
    """The x and the lines that a chart draws; a NaN gap is None."""
    page.wait_for_function(f"charts.get({key!r}).plot && !charts.get({key!r}).isStale")
    found: list[list[float | None]] = page.evaluate(
        f"charts.get({key!r}).plot.data.map(each => [...each].map(value => value ?? null))"
    )
    return found


def scale(page: Page, key: str, axis: str = "x") -> list[float]:
    found: list[float] = page.evaluate(
        f"(({{min, max}}) => [min, max])(charts.get({key!r}).plot.scales.{axis})"
    )
    return found


def settle(page: Page) -> None:
    """Wait until the charts are drawn anew."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")


def test_charts_show_every_point_of_every_run(address: str) -> None:
    with chromium_page("charts", height=1100) as page:
        page.goto(address)
        expect(page.locator(".chart h2")).to_have_text(["loss", "eval_accuracy", "learning_rate"])
        x, *lines = plotted(page, "loss")
        assert len(lines) == 3
        steps = [10 * step for step in range(1, STEPS + 1)]
        assert x == [*steps, 10 * STEPS]  # the last step is logged twice
        for run, line in enumerate(lines):
            want = [loss(run, step) for step in range(1, STEPS + 1)]
            assert line == [*want[:10], None, *want[11:], 0.125]
        expect(page.locator(".chart .note").first).to_have_text("3 values are NaN or infinite")
        expect(page.locator("#shown")).to_have_text("3 of 3 runs shown")
        once = page.locator("#once tbody td").all_text_contents()
        assert once == ["1", "9", "1", "10", "1", "11"]  # total_flos and train_runtime
        save(page, "charts_light")


def test_axes_log_scale_and_smoothing(address: str) -> None:
    with chromium_page("charts", height=1100, color_scheme="dark") as page:
        page.goto(address)
        page.get_by_label("x-axis").select_option("epoch")
        settle(page)
        x, *lines = plotted(page, "loss")
        assert (x[0], len(lines)) == (0.1, 2)
        expect(page.locator(".note").first).to_contain_text("1 of 3 runs have no epoch")
        page.get_by_label("x-axis").select_option("time")
        settle(page)
        assert plotted(page, "loss")[0][:2] == [0, 0.15]  # 9 s for 60 steps
        page.get_by_label("log scale").check()
        settle(page)
        low = sum(loss(run, step) <= 0 for run in range(3) for step in range(1, STEPS + 1))
        assert low
        expect(page.locator(".note").first).to_contain_text(f"{low} values at or below 0")
        page.get_by_label("log scale").uncheck()
        page.get_by_label("smoothing").fill("0.5")
        settle(page)
        _, raw, smooth, *_ = plotted(page, "loss")  # the line itself stays, faintly
        assert raw[1] == loss(0, 2)
        want = (0.5 * 0.5 * loss(0, 1) + 0.5 * loss(0, 2)) / 0.75
        assert smooth[1] == pytest.approx(want, rel=1e-12)
        save(page, "charts_dark_smoothed")


def test_zoom_of_all_charts_and_back(address: str) -> None:
    with chromium_page("charts", height=1100) as page:
        page.goto(address)
        whole = scale(page, "loss") if plotted(page, "loss") else []
        box = page.locator(".chart .u-over").first.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=4)
        page.mouse.up()
        settle(page)
        low, high = scale(page, "loss")
        assert low == pytest.approx(10 + 590 * 0.25, abs=5)
        assert high == pytest.approx(10 + 590 * 0.5, abs=5)
        assert scale(page, "eval_accuracy") == [low, high]
        assert page.locator("#from").input_value() == f"{low:.6g}"
        save(page, "charts_zoomed")
        page.mouse.dblclick(box["x"] + 50, box["y"] + 50)
        settle(page)
        assert scale(page, "loss") == whole
        page.locator("#from").fill("100")
        page.locator("#to").fill("200")
        page.locator("#to").press("Tab")
        settle(page)
        assert scale(page, "learning_rate") == [100, 200]
        page.get_by_role("button", name="Reset zoom").click()
        settle(page)
        assert scale(page, "loss") == whole


def test_values_under_the_mouse(address: str) -> None:
    with chromium_page("charts", height=1100) as page:
        page.goto(address)
        plotted(page, "loss")
        left, top = page.evaluate(
            "(plot => { const box = plot.over.getBoundingClientRect();"
            " const [x, y] = [plot.valToPos(100, 'x'), plot.valToPos(plot.data[2][9], 'y')];"
            " return [box.left + x, box.top + y] })(charts.get('loss').plot)"
        )
        page.mouse.move(left, top)
        tip = page.locator("#tip tr")
        expect(tip).to_have_count(3)
        expect(tip.first).to_contain_text("run-1")
        expect(tip.first).to_contain_text(repr(loss(1, 10)))
        expect(tip.first).to_contain_text("step 100, epoch 1")
        save(page, "charts_hover")
        page.mouse.move(5, 5)
        expect(page.locator("#tip")).to_be_hidden()


def test_runs_and_metrics_are_selected(address: str) -> None:
    with chromium_page("charts", height=1100) as page:
        page.goto(address)
        page.get_by_label("run-1").uncheck()
        settle(page)
        assert len(plotted(page, "loss")) == 1 + 2
        expect(page.locator("#shown")).to_have_text("2 of 3 runs shown")
        page.get_by_role("button", name="None").click()
        expect(page.locator(".note").first).to_have_text("no run is shown")
        page.get_by_role("button", name="All").click()
        page.locator("#runs").fill("run-2")
        settle(page)
        assert len(plotted(page, "loss")) == 1 + 1
        page.locator("#runs").fill("")
        page.locator("#metrics").fill("EVAL")
        expect(page.locator(".chart:visible h2")).to_have_text(["eval_accuracy"])
        page.get_by_role("button", name="Enlarge eval_accuracy").click()
        settle(page)
        width = page.locator(".chart:visible canvas").bounding_box()
        assert width
        assert width["width"] > 1300
        save(page, "charts_selected")


def test_a_hostile_name_does_nothing(tmp_path: Path) -> None:
    asked: list[str] = []
    told: list[str] = []
    rows = [{text: float(step) for text in ATTACKS} | {"step": step} for step in (1, 2)]
    runs = [made(tmp_path, text, 0, rows) for text in ATTACKS]
    address = write(tmp_path, runs, ATTACKS[0])
    with chromium_page("charts_hostile", height=900) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        page.goto(address)
        expect(page.locator(".chart")).to_have_count(len(ATTACKS))
        box = page.locator(".u-over").first.bounding_box()
        assert box
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        assert page.evaluate("window.hacked") is None
        assert page.locator("script").count() == 3
        assert page.locator("img, a").count() == 0
        assert page.title() == ATTACKS[0]
        save(page, "charts_hostile")
    assert asked == [address]
    assert told == []  # the policy had nothing to refuse


def test_a_small_screen_and_no_scripts(address: str) -> None:
    with chromium_page("charts", height=900) as page:
        page.set_viewport_size({"width": 600, "height": 900})
        page.goto(address)
        plotted(page, "loss")
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        save(page, "charts_600")
    with chromium_page("charts", height=900, java_script_enabled=False) as page:
        page.goto(address)
        expect(page.get_by_text("The charts need JavaScript.")).to_be_visible()
        expect(page.locator("#table tbody tr")).to_have_count(3)
        expect(page.locator("#controls")).not_to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(tmp_path: Path, address: str, scheme: str) -> None:
    with chromium_page("charts", height=900, color_scheme=scheme, bypass_csp=True) as page:
        page.goto(address)
        plotted(page, "loss")
        page.locator("summary").click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_the_page_of_one_run(tmp_path: Path) -> None:
    address = write(tmp_path, [made(tmp_path, "run-0", 0)], "run-0")
    with chromium_page("charts", height=1100) as page:
        page.goto(address)
        assert len(plotted(page, "loss")) == 1 + 1
        expect(page.locator("#runfilter")).to_be_hidden()
        for title in ("Logged once", "Params (1)", "Findings"):
            page.locator("summary").filter(has_text=title).click()
        expect(page.locator("#params")).to_contain_text("seed")
        save(page, "charts_one_run")


def test_two_hundred_runs(tmp_path: Path) -> None:
    address = write(tmp_path, [made(tmp_path, f"run-{run}", run) for run in range(200)])
    with chromium_page("charts", height=900) as page:
        page.goto(address)
        expect(page.locator("#cut")).to_be_hidden()
        assert len(plotted(page, "loss")) == 1 + 50
        expect(page.locator("#shown")).to_have_text("50 of 200 runs shown")
        page.get_by_role("button", name="All").click()
        settle(page)
        assert len(plotted(page, "loss")) == 1 + 200
        save(page, "charts_many")


def test_thousands_of_runs(tmp_path: Path) -> None:
    """The page lists and draws some at a time; the filter reaches each."""
    run = made(tmp_path, "run", 0)
    runs = [replace(run, name=f"run-{index}") for index in range(9_000)]
    address = write(tmp_path, runs)
    with chromium_page("charts_thousands", height=1100) as page:
        page.goto(address)
        expect(page.locator("#shown")).to_have_text("50 of 9,000 runs shown")
        expect(page.locator("#cut")).to_contain_text("200 of 9,000 runs are listed")
        for table in ("#table", "#once"):
            expect(page.locator(f"{table} tbody tr")).to_have_count(200)
        save(page, "charts_thousands")
        page.get_by_role("button", name="None").click()
        page.locator("#runs").fill("run-4321")
        expect(page.locator("#table tbody tr")).to_have_count(1)
        page.get_by_label("run-4321").check()
        settle(page)
        expect(page.locator("#shown")).to_have_text("1 of 9,000 runs shown")
        assert len(plotted(page, "loss")) == 1 + 1
        page.locator("#runs").fill("run-8999")  # behind the most points of a page
        expect(page.locator("#table tbody tr input")).to_have_count(0)
        expect(page.get_by_text(re.compile("The charts hold the first 7,... runs"))).to_be_visible()
        page.locator("#runs").fill("")
        page.get_by_role("button", name="All").click()
        settle(page)
        assert len(plotted(page, "loss")) == 1 + 500
        expect(page.locator(".note").first).to_contain_text("the first 500 of ")
    with chromium_page("charts_thousands", height=900, java_script_enabled=False) as page:
        page.goto(address)
        expect(page.locator("#table tbody tr")).to_have_count(9_000)
