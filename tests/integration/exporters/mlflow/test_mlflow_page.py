"""A real browser opens an exported run in the MLflow UI, and what it shows is what was exported.

The screenshots are in the folder `artifacts` (or $BRIDGES_ARTIFACTS).
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.pipeline.options import LayoutOptions
from bridges.stream.layout import lay_out
from tests.bounds import HANGS, until
from tests.integration.browser import chromium_page, save
from tests.integration.exporters.tensorboard.support import bridge
from tests.servers import mlflow_server
from tests.support import DATA, read_one

pytestmark = pytest.mark.slow

RUN = "steps_eval_predict"
STATE = DATA / "groundtruth" / RUN / "trainer_state.json"
HISTORY = "/metrics/get-history-bulk-interval"
# what plotly was given to draw; each line twice, as itself and as the original of a smooth one
DRAWN = """() => [...document.querySelectorAll('.js-plotly-plot')]
  .filter(plot => plot.querySelector('path.js-line, .bars path'))
  .map(plot => ({key: plot.data[0].metricKey, type: plot.data[0].type,
                 x: Array.from(plot.data[0].x), y: Array.from(plot.data[0].y)}))"""

Points = list[tuple[int, float, int]]  # step, value, timestamp


def history() -> dict[str, Points]:
    """The points of each metric: values and steps from the file, times as the stream has them."""
    rows = json.loads(STATE.read_text())["log_history"]
    microseconds = lay_out(read_one(STATE), "mlflow", LayoutOptions()).stream.time
    assert microseconds is not None
    times = microseconds // 1000
    points: dict[str, Points] = {}
    for row, time in zip(rows, times.tolist(), strict=True):
        for key in row.keys() - {"step"}:
            points.setdefault(key, []).append((row["step"], float(row[key]), time))
    return points


def neighbours(page: Page) -> dict[str, str]:
    """The text after each text: the value after the key of a table."""
    lines = [line.strip() for line in page.locator("body").inner_text().splitlines() if line]
    return dict(pairwise(lines))


def check_overview(page: Page, url: str) -> None:
    """The run's page: its name, status, note, params and the last value of each metric."""
    page.goto(url)
    body = page.locator("body")
    for text in (RUN, "Finished", "Written by bridges from", "Times are synthetic"):
        expect(body).to_contain_text(text, timeout=HANGS * 1000)
    last = {key: points[-1][1] for key, points in history().items()}
    until(lambda: last.keys() <= neighbours(page).keys())
    shown = neighbours(page)
    assert {key: float(shown[key]) for key in last} == last
    assert shown["max_steps"] == "24"
    assert shown["Status"] == "Finished"
    save(page, "mlflow_run")


def check_charts(page: Page, url: str) -> None:
    """The model metrics: every chart draws what was exported, out of requests that give that."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    want = history()
    page.goto(f"{url}/model-metrics")
    until(lambda: shows_all(page.evaluate(DRAWN), want))
    lines = {key for key, points in want.items() if len(points) > 1}
    served = [answer for address in asked if HISTORY in address for answer in serve(address)]
    assert {key for key, _ in served} >= lines
    for key, points in served:
        assert sorted(points) == sorted(want[key]), key
    save(page, "mlflow_charts")


def shows_all(charts: list[dict[str, Any]], want: dict[str, Points]) -> bool:
    """Whether each metric's chart has got its points; one point may be a bar of its value."""
    return {chart["key"] for chart in charts} == want.keys() and all(
        chart["x"] == [value for _, value, _ in want[chart["key"]]]
        if chart["type"] == "bar"
        else list(zip(chart["x"], chart["y"], strict=True)) == [p[:2] for p in want[chart["key"]]]
        for chart in charts
    )


def serve(address: str) -> Iterator[tuple[str, Points]]:
    """The metrics that the page asked for, and the points that the server gives for each."""
    with urllib.request.urlopen(address, timeout=HANGS) as response:
        metrics: list[dict[str, Any]] = json.load(response)["metrics"]
    for key in parse_qs(urlsplit(address).query)["metric_key"]:
        yield key, [(m["step"], m["value"], m["timestamp"]) for m in metrics if m["key"] == key]


def check_list(page: Page, url: str) -> None:
    """The page that is named for several runs lists them, with the runs of model training."""
    page.goto(url)
    expect(page.get_by_role("link", name=RUN)).to_be_visible(timeout=HANGS * 1000)
    expect(page.locator("body")).to_contain_text("1 matching run", timeout=HANGS * 1000)
    links = page.get_by_role("navigation").inner_text().splitlines()
    assert {"Runs", "Traces"} <= {*links}
    assert "Evaluation runs" not in links  # of the GenAI pages
    save(page, "mlflow_runs")


def test_the_mlflow_ui_shows_an_exported_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / RUN / STATE.name
    source.parent.mkdir()
    shutil.copy(STATE, source)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    report = bridge("export", f"{RUN}/{STATE.name}", "--to", "mlflow", "--tracking-uri", store,
                    "--json")  # fmt: skip
    route = json.loads(report)["runs"][0]["location"].partition("#")[2]
    several = MlflowExporter(MlflowOptions(store)).view_page(2 * [f"{store}#{route}"])
    experiment = several.partition("#")[2]
    with chromium_page("mlflow") as page, mlflow_server(store, workers=2) as server:
        check_overview(page, f"{server}/#{route}")
        check_charts(page, f"{server}/#{route}")
        check_list(page, f"{server}/#{experiment}")
