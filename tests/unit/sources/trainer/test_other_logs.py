"""Notes about logs of other sources in a tree of the Trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridges
from tests.support import state
from tests.unit.sources.mlflow.test_location import make_store

WANDB_RUN = "offline-run-20260101_120000-abc/run-abc.wandb"
EVENTS = "events.out.tfevents.1700000000.host.1.0"


def notes(tree: Path) -> list[tuple[str, int, str]]:
    found = [note for run in bridges.read(tree) for note in run.findings]
    return [
        (note.where, note.count, note.message.rpartition("source ")[2])
        for note in found
        if note.code == "other-store"
    ]


def write(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("runs", [1, 3])
def test_each_place_with_other_logs_is_named_once(tmp_path: Path, runs: int) -> None:
    for number in range(runs):
        row = {"loss": float(number), "step": 1}
        write(tmp_path / "outputs" / f"run{number}" / "trainer_state.json", state([row]))
        write(tmp_path / "outputs" / f"run{number}" / "runs" / "Nov30" / EVENTS)
    make_store(tmp_path / "mlruns", "0")
    write(tmp_path / "wandb" / WANDB_RUN)
    write(tmp_path / "wandb" / WANDB_RUN.replace("abc", "def"))
    write(tmp_path / "other" / "logs" / EVENTS)
    assert notes(tmp_path) == [
        (str(tmp_path / "mlruns"), 1, "mlflow exports them"),
        (str(tmp_path / "wandb"), 2, "wandb exports them"),
        (str(tmp_path / "other" / "logs"), 1, "tensorboard exports them"),
    ]


def test_event_files_of_the_trainer_are_evidence(tmp_path: Path) -> None:
    write(tmp_path / "trainer_state.json", state([{"loss": 1.0, "step": 1}]))
    write(tmp_path / "runs" / EVENTS)
    assert notes(tmp_path) == []
