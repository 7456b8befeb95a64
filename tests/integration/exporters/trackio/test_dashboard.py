"""The dashboard shows what was exported, and a live `trackio.log` writes beside an export."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import bridges
from tests import kills
from tests.bounds import HANGS
from tests.integration.browser import chromium_page, save
from tests.integration.exporters.tensorboard.support import (
    ENVIRONMENT,
    bridge_command,
    training_rows,
    write_state,
)
from tests.integration.exporters.trackio.dashboard import OFFLINE, dashboard
from tests.integration.exporters.trackio.test_database import FILES, OLD, make_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes"),
]

ROWS = training_rows(300)
KILLS = 50
LIVE_KILLS = 4
LIVE = """
import sys, time, trackio
trackio.init(project="p", name="live", embed=False)
print("started", flush=True)
for step in range(400):
    trackio.log({"loss": step}, step=step)
    time.sleep(0.005)
trackio.finish()
"""


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return write_state(folder / "source" / "trainer_state.json", rows)


def export(source: Path, folder: Path, **options: Any) -> str:
    """Export, and return the id of the run."""
    (report,) = bridges.export(
        source, to="trackio", trackio_dir=folder, project="p", **options
    ).runs
    assert report.verified, report.findings
    return report.run_id


def count(path: Path, run_id: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT count(*), count(DISTINCT step) FROM metrics WHERE run_id = ?"
        rows, steps = database.execute(query, (run_id,)).fetchone()
    assert rows == steps
    return int(rows)


def expected(rows: list[dict[str, Any]], at: int) -> dict[str, Any]:
    """A row as the live callback logs it."""
    row = {
        f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}": value
        for key, value in rows[at].items()
        if key != "step"
    }
    return {**row, "train/global_step": rows[at]["step"], "step": at}


def test_the_dashboards_requests_give_every_value_step_and_time(tmp_path: Path) -> None:
    """Also after the server has converted the file to its own tables."""
    folder, source = tmp_path / "t", write(tmp_path, ROWS[:200])
    export(source, folder, attach_source=True)
    with dashboard(folder) as shown:
        assert shown.ask("get_all_projects") == ["p"]
        (run,) = shown.ask("get_runs_for_project", project="p")
        about: dict[str, Any] = {"project": "p", "run": run["name"], "run_id": run["id"]}
        logs = shown.ask("get_logs", **about)
        times = [row.pop("timestamp") for row in logs]
        assert logs == [expected(ROWS, at) for at in range(200)]
        assert times == sorted({*times})
        assert run["created_at"] == times[0]
        assert run["id"] == export(write(tmp_path, ROWS), folder)  # beside the server
        longer = shown.ask("get_logs", **about)
        assert [row.pop("timestamp") for row in longer][:200] == times
        assert longer == [expected(ROWS, at) for at in range(len(ROWS))]
        assert sorted(shown.ask("get_metrics_for_run", **about)) == sorted(
            {key for row in logs for key in row} - {"step"}
        )
        (file,) = shown.ask("get_project_files", project="p")
        assert file["name"] == f"{run['id']}/trainer_state.json"
    (again,) = bridges.verify(source, to="trackio", trackio_dir=folder, project="p").runs
    assert again.verified


@pytest.mark.parametrize("release", OLD)
def test_trackio_converts_files_of_old_releases(release: str, tmp_path: Path) -> None:
    """As the message says that refuses them; then they are written."""
    folder, source = tmp_path / "t", write(tmp_path, ROWS)
    folder.mkdir()
    make_file(folder / "p.db", FILES[release])
    options: dict[str, Any] = {"to": "trackio", "trackio_dir": folder, "project": "p"}
    (refused,) = bridges.export(source, **options).runs
    assert "Start `trackio show`" in refused.findings[-1].message
    with dashboard(folder):
        pass
    run_id = export(source, folder)
    assert count(folder / "p.db", run_id) == len(ROWS)
    with dashboard(folder) as shown:
        names = {run["name"] for run in shown.ask("get_runs_for_project", project="p")}
    assert names >= {"live", "other"}
    assert len(names) == 3


def test_a_browser_shows_the_charts(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    export(write(tmp_path, ROWS), folder, run_name="my run")
    with (
        dashboard(folder, "--project", "p") as shown,
        chromium_page("trackio", height=1400) as page,
    ):
        page.goto(f"{shown.url}/?project=p")
        expect(page.get_by_text("my run").first).to_be_visible()
        for metric in ("train/loss", "eval/loss"):
            expect(page.get_by_text(metric.split("/")[1]).first).to_be_visible()
        expect(page.locator("canvas, svg.marks, .vega-embed").first).to_be_visible()
        save(page, "trackio")


def test_a_live_training_logs_beside_an_export(tmp_path: Path) -> None:
    """All rows of both are there, and the live run is not touched."""
    folder = tmp_path / "t"
    source = write(tmp_path, training_rows(60_000))
    export(write(tmp_path / "other", ROWS), folder)
    live = start_live(folder)
    run_id = export(source, folder)
    _, errors = live.communicate(timeout=300)
    assert live.returncode == 0, errors
    path = folder / "p.db"
    assert count(path, run_id) == 66_000
    assert live_rows(path) == [(step, {"loss": step}) for step in range(400)]
    (again,) = bridges.verify(source, to="trackio", trackio_dir=folder, project="p").runs
    assert again.verified


@pytest.mark.parametrize("is_new", [True, False], ids=["new project", "longer"])
def test_killed_at_random_moments(is_new: bool, tmp_path: Path) -> None:
    folder, kept, rows = tmp_path / "t", tmp_path / "kept", training_rows(60_000)
    if is_new:
        kept.mkdir()
    else:
        kept.mkdir()
        make_file(kept / "p.db", FILES["0.43.0"])
        export(write(tmp_path, rows[:5_000]), kept)
    source = write(tmp_path, rows)
    path, foreign = folder / "p.db", foreign_rows(kept / "p.db")

    def begin() -> kills.Command:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        before = kills.look(folder)
        options = ["--to", "trackio", "--project", "p", "--trackio-dir", str(folder)]
        process = kills.start(bridge_command("export", source, *options), env=ENVIRONMENT)
        return kills.Command(process, lambda: kills.look(folder) != before)

    def check() -> None:
        if path.exists():
            with closing(sqlite3.connect(path)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert foreign_rows(path) == foreign
        assert count(path, export(source, folder)) == len(rows)
        assert foreign_rows(path) == foreign

    kills.kill_often(KILLS // 2, 22, begin, check)


def test_killed_beside_a_live_training(tmp_path: Path) -> None:
    """The training loses no row, whenever the export dies; the next export is complete."""
    folder, rows = tmp_path / "t", training_rows(60_000)
    path, source = folder / "p.db", write(tmp_path, rows)
    lives: list[subprocess.Popen[str]] = []

    def begin() -> kills.Command:
        shutil.rmtree(folder, ignore_errors=True)
        lives.append(start_live(folder))
        options = ["--to", "trackio", "--project", "p", "--trackio-dir", str(folder)]
        process = kills.start(bridge_command("export", source, *options), env=ENVIRONMENT)
        return kills.Command(process, lambda: has_ours(path))

    def check() -> None:
        live = lives.pop()
        _, errors = live.communicate(timeout=HANGS)
        assert live.returncode == 0, errors
        assert live_rows(path) == [(step, {"loss": step}) for step in range(400)]
        assert count(path, export(source, folder)) == len(rows)
        assert live_rows(path) == [(step, {"loss": step}) for step in range(400)]

    kills.kill_often(LIVE_KILLS, 23, begin, check)


def has_ours(path: Path) -> bool:
    """Whether the project holds a state of bridges."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(path, timeout=60)) as database:
        if not database.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'project_metadata'"
        ).fetchone():
            return False
        query = "SELECT count(*) FROM project_metadata WHERE key LIKE 'bridges:%'"
        (found,) = database.execute(query).fetchone()
    return bool(found)


def foreign_rows(path: Path) -> list[tuple[Any, ...]]:
    """All rows of metrics and configs that others wrote; none without a file."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT * FROM metrics WHERE log_id NOT LIKE 'bridges:%' ORDER BY id"
        configs = "SELECT * FROM configs WHERE config NOT LIKE '%\"bridges\"%' ORDER BY id"
        return [*database.execute(query), *database.execute(configs)]


def live_rows(path: Path) -> list[tuple[int, Any]]:
    """Step and metrics of the rows of the live training."""
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT step, metrics FROM metrics WHERE run_name = 'live' ORDER BY step"
        return [(step, json.loads(text)) for step, text in database.execute(query)]


def start_live(folder: Path) -> subprocess.Popen[str]:
    """A training that logs, after its start."""
    environment = {**ENVIRONMENT, **OFFLINE, "TRACKIO_DIR": str(folder)}
    live = subprocess.Popen(
        [sys.executable, "-c", LIVE],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert live.stdout is not None
    while "started" not in (line := live.stdout.readline()):
        assert line, live.communicate()
    return live


def test_exports_that_meet_write_a_run_once(tmp_path: Path) -> None:
    folder, source = tmp_path / "t", write(tmp_path, ROWS)
    options = ["--to", "trackio", "--project", "p", "--trackio-dir", str(folder)]
    command = bridge_command("export", source, *options)
    processes = [subprocess.Popen(command, env=ENVIRONMENT) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    with closing(sqlite3.connect(folder / "p.db")) as database:
        (runs,) = database.execute("SELECT count(DISTINCT run_id) FROM metrics").fetchone()
        (rows,) = database.execute("SELECT count(*) FROM metrics").fetchone()
    assert (runs, rows) == (1, len(ROWS))
