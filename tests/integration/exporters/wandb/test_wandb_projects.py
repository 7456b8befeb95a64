"""W&B: runs go to the project that the live callback of their library sets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from bridges.stream.model import Run
from bridges.testing.exporters import ROWS, ExporterContract, OpenTarget
from tests.integration.exporters.wandb.support import export, file_of, files_of, of_kind
from tests.support import DATA, make_run

ST = DATA / "live" / "st_evaluators"
OWN = "sentence-transformers"


@pytest.fixture(autouse=True)
def _no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


def project_of(file: Path) -> str:
    (run,) = of_kind(file, "run")
    return str(run.project)


def library_run(rows: list[dict[str, Any]] = ROWS) -> Run:
    return make_run(rows, project=OWN)


class TestProjects(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: WandbExporter(WandbOptions(wandb_dir=str(folder)))


def test_the_project_is_that_of_the_live_run(tmp_path: Path) -> None:
    lines = gzip.decompress((ST / "received.jsonl.gz").read_bytes()).splitlines()
    (live,) = (
        json.loads(found["value"])
        for found in map(json.loads, lines)
        if (found["tracker"], found["kind"]) == ("wandb", "run")
    )
    (run,) = bridges.export(ST / "out", to="wandb", wandb_dir=tmp_path).runs
    assert run.verified
    assert project_of(file_of(tmp_path)) == live["project"] == OWN


def test_a_given_project_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(library_run(), tmp_path / "option", project="mine")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    export(library_run(), tmp_path / "environment")
    assert project_of(file_of(tmp_path / "option")) == "mine"
    assert project_of(file_of(tmp_path / "environment")) == "theirs"


def test_runs_of_several_libraries_in_one_folder(tmp_path: Path) -> None:
    target = WandbExporter(WandbOptions(wandb_dir=str(tmp_path)))
    runs = [library_run(), make_run([{**row, "loss": 9.0} for row in ROWS])]
    for status in ("exported", "unchanged"):
        for run in runs:
            report = export_run(run, target, ExportOptions())
            assert (report.status, report.verified) == (status, True)
    assert sorted(map(project_of, files_of(tmp_path))) == ["huggingface", OWN]
    assert verify_run(
        runs[0], WandbExporter(WandbOptions(wandb_dir=str(tmp_path))), ExportOptions()
    ).verified


def test_a_run_stays_in_the_project_where_it_was_written(tmp_path: Path) -> None:
    """The first version knew the usual project only."""
    export(make_run(ROWS[:3]), tmp_path)
    report = export(library_run(ROWS[:3]), tmp_path)
    assert (report.status, report.verified) == ("unchanged", True)
    report = export(library_run(), tmp_path)
    assert (report.status, report.verified) == ("appended", True)
    assert project_of(file_of(tmp_path)) == "huggingface"


def test_receipts_are_saved_where_the_runs_are(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"sources: [{ST / 'out'}]\ntargets: [{{to: wandb, wandb_dir: {tmp_path}}}]\n"
    )
    for expected in ("exported", "unchanged"):
        (report,) = bridges.migrate(tmp_path / "c.yaml", workers=1).runs
        assert report.status == expected
    assert "known-by-its-files" in [finding.code for finding in report.findings]
