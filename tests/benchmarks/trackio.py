"""Benchmarks of Trackio: 200,000 rows of five metrics, written and read back."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bridges
from bridges.exporters.factory import make_exporters
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from tests.benchmarks.timing import ROWS, history, least_cpu, line, millis

RUN = "d" * 32


def trackio(folder: Path) -> None:
    """CPU of an export, read back, to Trackio's own `bulk_log` of the same rows."""
    os.environ["TRACKIO_DIR"] = str(folder / "stock")
    from trackio.sqlite_storage import SQLiteStorage

    state = history(folder / "state.json", ROWS)
    (run,) = bridges.read(state)
    rows: list[dict[str, Any]] = json.loads(state.read_text())["log_history"]
    steps = [row.pop("step") for row in rows]
    logged = [
        {**{f"train/{key}": value for key, value in row.items()}, "train/global_step": step}
        for row, step in zip(rows, steps, strict=True)
    ]
    times = [datetime.fromtimestamp(1.7e9 + at, timezone.utc).isoformat() for at in range(ROWS)]
    ids = [f"bridges:{RUN}:{at}" for at in range(ROWS)]

    def stock() -> None:
        shutil.rmtree(folder / "stock", ignore_errors=True)
        SQLiteStorage.bulk_log(
            "p", "run", logged, timestamps=times, config={"a": 1}, log_ids=ids, run_id=RUN
        )

    def stock_and_read() -> None:
        stock()
        assert len(SQLiteStorage.get_logs("p", "run", run_id=RUN)) == ROWS

    def ours() -> None:
        shutil.rmtree(folder / "ours", ignore_errors=True)
        (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(folder / "ours")})
        report = export_run(run, exporter, ExportOptions())
        assert report.verified, report.findings

    fast, slow, read = least_cpu(ours, stock, stock_and_read, repeats=5)
    line("Trackio, 200,000 rows: CPU, less than `bulk_log` and reading", read / fast, "≥ 2")
    line("the same, less than `bulk_log` alone", slow / fast, "≥ 2", millis(fast))


SECTIONS = {"trackio": trackio}
