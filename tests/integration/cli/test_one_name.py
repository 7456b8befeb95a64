"""`--run-name` names one run: for several, nothing is written, and the message says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridges
from bridges.cli.main import run
from bridges.errors import ConfigError
from tests.unit.sources.trainer.test_run_directory import HISTORY, put


def test_one_name_for_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        put(tmp_path / "runs" / f"r{number}", [{**row, "loss": number} for row in HISTORY])
    to = ("--to", "tensorboard", "--logdir", str(tmp_path / "tb"), "--run-name", "x")
    assert run(["export", str(tmp_path / "runs"), *to]) == 2
    told = capsys.readouterr().err
    assert "such as r0 and r1. Name the directory of one run, or leave --run-name out" in told
    assert not (tmp_path / "tb").exists()
    assert run(["export", str(tmp_path / "runs" / "r1"), *to]) == 0
    assert (tmp_path / "tb" / "x").is_dir()


def test_a_broken_file_beside_the_one_run(tmp_path: Path) -> None:
    put(tmp_path / "a", HISTORY)
    put(tmp_path / "b", HISTORY).write_text("{")
    report = bridges.export(tmp_path, to="memory", run_name="x")
    assert [(each.run, each.status) for each in report.runs if not each.failed] == [
        ("x", "exported")
    ]
    assert report.exit_code == 1


def test_several_locations_in_the_library(tmp_path: Path) -> None:
    places = [put(tmp_path / name, HISTORY) for name in "ab"]
    with pytest.raises(ConfigError, match="several sources"):
        bridges.export(places, to="memory", run_name="x")
