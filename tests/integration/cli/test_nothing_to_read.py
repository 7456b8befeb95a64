"""Exit code 2: a location that was named has nothing to read, though all others are exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.cli.main import run
from tests.support import state
from tests.unit.sources.trainer.test_run_directory import HISTORY, put

PROGRESS = '{"current_steps": 0, "total_steps": 9, "elapsed_time": "0:00:00"}\n'
PLACES = ["none", "none*.json", "empty", "other", "zero.json", "zero", "log", "progress"]


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "other", "zero", "log", "progress", "broken"):
        Path(name).mkdir()
    Path("other/a.txt").write_text("nothing of a Trainer")
    Path("zero.json").touch()
    Path("zero/trainer_state.json").touch()
    Path("log/trainer_log.jsonl").touch()
    Path("progress/trainer_log.jsonl").write_text(PROGRESS)
    Path("broken/trainer_state.json").write_bytes(state(HISTORY)[:300])
    put(Path("good"), HISTORY)


def codes(*places: str) -> dict[str, int]:
    """The exit code of each command for these places."""
    listed = ", ".join(f'"{place}"' for place in places)
    Path("c.yaml").write_text(f"sources: [{listed}]\ntargets: [{{to: tensorboard, logdir: m}}]\n")
    to = ("--to", "tensorboard", "--logdir", "e")
    return {
        "export": run(["export", *places, *to]),
        "verify": run(["verify", *places, *to]),
        "migrate": run(["migrate", "c.yaml", "--workers", "1"]),
        "inspect": run(["inspect", *places]),
    }


@pytest.mark.parametrize("place", PLACES)
def test_a_location_with_nothing_to_read(place: str) -> None:
    assert set(codes(place).values()) == {2}


def test_states_without_rows_are_nothing_to_read() -> None:
    Path("out/checkpoint-1").mkdir(parents=True)
    Path("out/checkpoint-1/trainer_state.json").write_bytes(state([]))
    told = codes("good", "out")
    assert told.pop("inspect") == 0  # it shows them
    assert set(told.values()) == {2}
    assert [path.name for path in Path("e").iterdir() if path.is_dir()] == ["good"]


def test_all_others_are_exported() -> None:
    assert set(codes("good", "empty").values()) == {2}
    assert Path("e/good").is_dir()
    assert Path("m/good").is_dir()


def test_what_cannot_be_read_is_a_failure() -> None:
    assert set(codes("good", "empty", "broken").values()) == {1}


def test_an_empty_save_of_a_run_that_is_there_is_a_failure() -> None:
    Path("good/checkpoint-3").mkdir()
    Path("good/checkpoint-3/trainer_state.json").touch()
    assert set(codes("good").values()) == {1}
