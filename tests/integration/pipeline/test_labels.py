"""A name, group and tags that are asked for a run which is already in its target."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.base import Exporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions, MlflowWriter
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.exporters.wandb.reader import read_head
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.testing.exporters import ROWS
from tests.integration.exporters.wandb.support import files_of
from tests.support import make_run


def table(path: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table of a database."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f"select * from {name}")]


def export(exporter: Exporter, rows: int = len(ROWS), **labels: Any) -> RunReport:
    options = ExportOptions(**labels)
    named = {"name": options.run_name or "run", "group": options.group, "tags": options.tags}
    report = export_run(make_run(ROWS[:rows], **named), exporter, options)
    assert report.verified, report.findings
    assert report.status != "failed"
    return report


def kept(report: RunReport) -> bool:
    return any(finding.code == "labels-kept" for finding in report.findings)


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_mlflow_changes_labels_and_keeps_others(writer: MlflowWriter, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"

    def exporter() -> MlflowExporter:
        return MlflowExporter(MlflowOptions(f"sqlite:///{path}", mlflow_writer=writer))

    export(exporter(), run_name="first", tags={"team": "a", "stay": "1"})
    report = export(exporter(), run_name="second", group="g", tags={"team": "b"})
    assert (report.status, report.run, kept(report)) == ("unchanged", "second", False)
    tags = {row["key"]: row["value"] for row in table(path, "tags")}
    (run,) = table(path, "runs")
    assert (run["name"], run["status"]) == ("second", "FINISHED")
    assert (tags["mlflow.runName"], tags["bridges.group"]) == ("second", "g")
    assert (tags["team"], tags["stay"]) == ("b", "1")
    before = table(path, "runs"), table(path, "tags")
    assert export(exporter()).run == "second"
    assert (table(path, "runs"), table(path, "tags")) == before


def test_wandb_changes_labels_until_a_sync(tmp_path: Path) -> None:
    def exporter() -> WandbExporter:
        return WandbExporter(WandbOptions(wandb_dir=str(tmp_path)))

    export(exporter(), 3, run_name="first", tags={"team": "a", "stay": ""})
    report = export(exporter(), 3, run_name="second", group="g", tags={"team": "b"})
    assert (report.status, report.run, kept(report)) == ("unchanged", "second", False)
    (file,) = files_of(tmp_path)
    head = read_head(str(file))
    assert (head.name, head.group, head.tags) == ("second", "g", ("stay", "team:b"))
    content = file.read_bytes()
    export(exporter(), 3, run_name="second", tags={"stay": ""})
    assert file.read_bytes() == content
    export(exporter(), 4)  # a run that grows keeps its labels
    head = read_head(str(file))
    assert (head.name, head.group, head.tags) == ("second", "g", ("stay", "team:b"))
    Path(f"{file}.synced").touch()
    assert kept(export(exporter(), 4, run_name="third"))
    assert not kept(export(exporter(), 4, run_name="second", group="g", tags={"team": "b"}))
    assert [file] == files_of(tmp_path)


def test_tensorboard_says_that_labels_stay(tmp_path: Path) -> None:
    def exporter() -> TensorBoardExporter:
        return TensorBoardExporter(TensorBoardOptions(str(tmp_path)))

    export(exporter(), run_name="first", tags={"team": "a"})
    assert not kept(export(exporter(), run_name="first", tags={"team": "a"}))
    for labels in ({"run_name": "second"}, {"group": "g"}, {"tags": {"team": "b"}}):
        report = export(exporter(), **labels)
        assert (report.status, report.run, kept(report)) == ("unchanged", "first", True)
