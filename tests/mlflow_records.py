"""Runs of an MLflow store, made by hand, as a source gives them.

As a script it exports one: `python -m tests.mlflow_records URI EXPERIMENT EVERY WRITER`, with the
points of every n-th step.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bridges.formats.mlflow_store.records import Experiment, Metric, RunHead, RunRecord
from bridges.sources.mlflow.runs import run_of
from bridges.stream.model import Run

START = 1_700_000_000_123  # milliseconds
VISION = Experiment(
    "182818284590452353",
    "vision",
    created=START - 5000,
    updated=START - 4000,
    tags={"team": "a", "mlflow.note.content": "All *trials*."},
)
TAGS = {
    "mlflow.runName": "nimble-toad-449",
    "mlflow.user": "ada",
    "mlflow.source.name": "train.py",
    "mlflow.source.type": "LOCAL",
    "mlflow.note.content": "Written by ada.",
    "stage": "draft",
}
Points = Sequence[tuple[int, int, float]]  # step, milliseconds after START, value


def head(number: int = 1, experiment: Experiment = VISION, **changes: Any) -> RunHead:
    """The head of a finished run; its id follows from its number."""
    known: dict[str, Any] = {
        "name": "nimble-toad-449",
        "status": "FINISHED",
        "start": START,
        "end": START + 60_000,
        "tags": TAGS,
    }
    run_id = f"{number:032x}"
    return RunHead(run_id, experiment, f"mlruns/{experiment.id}/{run_id}", **{**known, **changes})


def record(of: RunHead | None = None, **changes: Any) -> RunRecord:
    """A record with params and columns."""
    known: dict[str, Any] = {
        "params": {"lr": "0.1", "empty": "", "text": " two\r\nlines ", "名前": "値"},
        "user": "ada",
        "source_type": "LOCAL",
        "source_name": "train.py",
        "source_version": "1a2b3c",
        "entry_point": "main",
    }
    return RunRecord(of or head(), **{**known, **changes})


def metric(key: str, points: Points) -> Metric:
    """The metric with these points."""
    step, time, value = zip(*points, strict=True)
    return Metric(key, np.array(value, float), START + np.array(time), np.array(step))


CURVE: Mapping[str, Points] = {
    "loss": [(0, 0, 2.5), (1, 1000, 1.25), (2, 2000, float("nan")), (2**60, 3000, 1e-300)],
    "eval/acc": [(1, 1500, 0.5), (-3, 1500, 0.75), (2, 2000, 0.875)],
}


def run(of: RunRecord | None = None, points: Mapping[str, Points] = CURVE) -> Run:
    """The run of a record and its points."""
    return run_of(of or record(), [metric(key, at) for key, at in points.items()], "mlruns")


STEPS = 6000


def long_run(run_id: str, every: int) -> Run:
    """A long run with the points of every n-th step; more steps lie between known ones."""
    steps = range(0, STEPS, every)
    curve = [(step, step * 10, 1 / (step + 1)) for step in steps]
    return run(record(replace(head(), run_id=run_id)), {"loss": curve, "acc": curve[::3]})


def main(uri: str, experiment: str, every: str, writer: str) -> None:
    """Export the long run, with the name of its experiment as its id. Fails unless verified."""
    from bridges.exporters.mlflow.exporter import MlflowExporter
    from bridges.exporters.mlflow.options import MlflowOptions
    from bridges.pipeline.export_run import export_run
    from bridges.pipeline.options import ExportOptions

    options = MlflowOptions(uri, experiment, "client" if writer == "client" else "auto")
    report = export_run(long_run(experiment, int(every)), MlflowExporter(options), ExportOptions())
    print(report.status, report.findings)
    assert report.verified


if __name__ == "__main__":
    main(*sys.argv[1:])
