"""An export that would keep nothing of what the source holds fails, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli import run as bridge
from bridges.errors import SourceError
from tests.support import state

FAULTS = Path(__file__).parent.parent / "data" / "faults"


def test_rows_that_hold_objects_only_are_no_empty_success() -> None:
    path = FAULTS / "step_data.jsonl"
    with pytest.raises(SourceError, match="Move what is under 'data' up into its row"):
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


def test_results_alone_that_are_left_out_are_no_success(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([], max_steps=9))
    (tmp_path / "predict_results.json").write_text('{"predict_loss": 0.5}')
    (run,) = bridges.export(tmp_path, to="tensorboard", logdir=tmp_path / "tb").runs
    assert run.status == "failed" or run.points
    assert (tmp_path / "tb").exists() == (run.status != "failed")
