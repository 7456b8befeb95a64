"""What the tests of MLflow share: the judge, which is the installed mlflow's own client, and ways
to start an export in a process of its own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.model import Run
from tests.support import state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient as MlflowClient
    from mlflow.entities import ViewType as ViewType

OURS = ("bridges.", "mlflow.")


@dataclass(frozen=True)
class Judged:
    """A run as mlflow's client sees it, without its random id."""

    name: str
    status: str
    start: int
    end: int | None
    params: dict[str, str]
    tags: dict[str, str]
    points: dict[str, list[tuple[int, int, str]]]


def judge(uri: str, experiment: str, *, deleted: bool = False) -> list[Judged]:
    """The active (or the deleted) runs of an experiment."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    return [_judged(client, run) for run in client.search_runs([found.experiment_id], "", view)]


def _judged(client: Any, run: Any) -> Judged:
    points = {
        key: sorted(
            (point.timestamp, point.step, repr(point.value))
            for point in client.get_metric_history(run.info.run_id, key)
        )
        for key in run.data.metrics
    }
    return Judged(
        name=run.info.run_name,
        status=run.info.status,
        start=run.info.start_time,
        end=run.info.end_time,
        params=run.data.params,
        tags=run.data.tags,
        points=points,
    )


def export(run: Run, uri: str, experiment: str = "bridges", **options: Any) -> RunReport:
    """One run into one store."""
    return export_run(
        run, MlflowExporter(MlflowOptions(uri, experiment, **options)), ExportOptions()
    )


def failure(report: RunReport) -> str:
    """The message of a run that failed."""
    assert report.status == "failed", report
    return report.findings[-1].message


def command(uri: str, source: Path, *more: str) -> list[str]:
    """`bridge export` of one file as a process."""
    target = ["--to", "mlflow", "--tracking-uri", uri, *more]
    return [sys.executable, "-m", "bridges", "export", str(source), *target]


def long_rows(rows: int) -> list[dict[str, Any]]:
    """Log rows with two points each."""
    return [{"loss": 1 / (n + 1), "epoch": n / 9, "step": n} for n in range(rows)]


def long_history(folder: Path, rows: int) -> Path:
    """A `trainer_state.json` of that many rows, always with the same beginning."""
    file = folder / f"long{rows}.json"
    file.write_bytes(state(long_rows(rows)))
    return file


def codes_of(reports: Sequence[RunReport]) -> list[str]:
    """The codes of all findings."""
    return [finding.code for report in reports for finding in report.findings]
