"""An export of which the target would keep nothing fails, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.errors import SourceError
from tests.support import DATA, state

FAULTS = DATA / "faults"
TARGETS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tensorboard": lambda place: {"logdir": place},
    "mlflow": lambda place: {"tracking_uri": f"sqlite:///{place}.db"},
    "wandb": lambda place: {"wandb_dir": place},
    "parquet": lambda place: {"out": place},
    "trackio": lambda place: {"trackio_dir": place},
}


def test_rows_that_hold_objects_only_are_no_empty_success() -> None:
    path = FAULTS / "step_data.jsonl"
    with pytest.raises(SourceError, match="Move the entries of 'data' up into its row"):
        bridges.read(path)
    assert bridge(["export", str(path), "--to", "memory"]) == 1


@pytest.mark.parametrize("value", [{"a": 1.0}, [1.0], None])
def test_a_target_that_would_keep_nothing_of_a_state_fails(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_bytes(state([{"step": 1, "x": value}]))
    command = [str(path), "--to", "tensorboard", "--logdir", str(tmp_path / "tb")]
    assert bridge(["export", *command]) == 1
    assert not (tmp_path / "tb").exists()
    path.write_bytes(state([{"step": 1, "x": value}, {"step": 2, "loss": 1.0}]))
    assert bridge(["export", *command]) == 0


@pytest.mark.parametrize("target", TARGETS)
def test_results_beside_a_history_without_rows_are_kept(target: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([], max_steps=9))
    (tmp_path / "predict_results.json").write_text('{"predict_loss": 0.5}')
    (run,) = bridges.export(tmp_path, to=target, **TARGETS[target](tmp_path / "to")).runs
    assert (run.status, run.verified, run.rows, run.points) == ("exported", True, 1, 1)


@pytest.mark.parametrize("target", TARGETS)
def test_a_history_without_rows_and_results_is_no_success(target: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([], max_steps=9))
    report = bridges.export(tmp_path, to=target, **TARGETS[target](tmp_path / "to"))
    assert (report.exit_code, [run.status for run in report.runs]) == (2, ["failed"])
    assert "It was saved before anything was logged: use a later one." in (
        report.runs[0].findings[-1].message
    )
    assert not (tmp_path / "to").exists()
