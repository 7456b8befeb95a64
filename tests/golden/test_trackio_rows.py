"""Rows and config in Trackio are those that the live callback of transformers leaves there."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bridges.exporters.factory import make_exporters
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from tests.golden.make_trackio_rows import ARGS, MODEL, PATH, ROWS
from tests.support import make_run

LIVE: dict[str, Any] = json.loads(PATH.read_text())
SUMMARY = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss")


def test_an_export_is_as_live(tmp_path: Path) -> None:
    (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(tmp_path), "project": "p"})
    run = make_run(ROWS, name="run", params={**MODEL, **ARGS})
    report = export_run(run, exporter, ExportOptions())
    assert report.verified, report.findings
    with closing(sqlite3.connect(tmp_path / "p.db")) as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
        ((config,),) = database.execute("SELECT config FROM configs").fetchall()
    assert [[step, json.loads(metrics)] for step, metrics in rows] == LIVE["rows"]
    ours, live = json.loads(config), LIVE["config"]
    added = {key for key in ours if key.startswith("summary/")}
    assert added == {f"summary/{key}" for key in (*SUMMARY, "total_flos")}
    assert live.pop("allow_val_change") is True  # an argument that Trackio takes for a setting
    differing = {*added, "bridges", "_Created", "_Username"}
    assert {k: v for k, v in ours.items() if k not in differing} == {
        key: value for key, value in live.items() if key not in differing
    }
