"""What a worker does: small runs are read some ahead, and what comes of them is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridges.errors import ConfigError
from bridges.migration import worker
from bridges.migration.config.config import MigrationConfig
from bridges.migration.tasks import Task, plan
from bridges.migration.worker import carry_out, carry_out_all
from bridges.pipeline.small_runs import export_group
from bridges.report import RunReport
from bridges.stream.model import Run
from tests.support import state

RUNS = 40


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    """40 runs, each tenth of them broken, and among them a search with a broken trial."""
    for number in range(RUNS):
        folder = tmp_path / "runs" / f"run{number:02}"
        folder.mkdir(parents=True)
        good = state([{"loss": number + 0.5, "step": 1}, {"loss": 1.0, "step": 2}])
        (folder / "trainer_state.json").write_bytes(good[: None if number % 10 else 20])
    for trial in range(4):
        folder = tmp_path / "runs" / "run05" / f"trial{trial}" / "checkpoint-1"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_bytes(state([{"loss": -1.0 - trial, "step": 1}]))
    (folder / "trainer_state.json").write_bytes(b"{")
    logdir = str(tmp_path / "logs")
    said = {
        "sources": [str(tmp_path / "runs")],
        "targets": [{"to": "tensorboard", "logdir": logdir}],
    }
    planned, failed = plan(MigrationConfig.model_validate(said))
    assert not failed
    assert len(planned) == RUNS
    return planned


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read and what is exported, in this order."""
    happened: list[str] = []
    runs, export = worker._runs, export_group

    def read(task: Task) -> Iterator[Run]:
        happened.append("read")
        yield from runs(task)

    def exported(*each: Any) -> Iterator[RunReport]:
        for report in export(*each):
            happened.append("exported")
            yield report

    monkeypatch.setattr(worker, "_runs", read)
    monkeypatch.setattr(worker, "export_group", exported)
    return happened


def outcome(tasks: list[Task], *, dry_run: bool = False) -> list[Any]:
    done, _ = carry_out_all(tasks, dry_run=dry_run)
    return [
        [(report.source, report.status, report.digest, report.findings) for report in each.reports]
        for each in done
    ]


def is_single(task: Task) -> bool:
    """Whether it is one file."""
    assert not isinstance(task.place, str)
    return len(task.place.files) == 1


def test_small_runs_are_read_some_ahead(tasks: list[Task], events: list[str]) -> None:
    assert sum(map(len, outcome(tasks))) == RUNS + 4
    assert events[: worker.AHEAD] == ["read"] * worker.AHEAD
    assert events[worker.AHEAD] == "exported"
    assert events.count("read") == RUNS


def test_what_comes_of_them_is_the_same(tasks: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = outcome(tasks, dry_run=True)
    statuses = [status for each in ahead for _, status, *_ in each]
    assert (statuses.count("failed"), statuses.count("planned")) == (5, RUNS - 1)
    monkeypatch.setattr(worker, "AHEAD", 1)
    assert outcome(tasks, dry_run=True) == ahead


def test_no_more_is_read_ahead_than_there_is_room_for(
    tasks: list[Task], events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = [task for task in tasks if task.size > 20 and is_single(task)]
    monkeypatch.setattr(worker, "AHEAD_BYTES", 3 * max(task.size for task in sound))
    outcome(sound[:6])
    assert events == 2 * [*["read"] * 3, *["exported"] * 3]


@pytest.mark.parametrize("size", [0, worker.AHEAD_BYTES + 1])
def test_what_is_large_or_of_unknown_size_is_read_when_its_turn_comes(
    tasks: list[Task], events: list[str], size: int
) -> None:
    some = [Task(task.source, task.place, task.targets, size) for task in tasks if task.size > 20]
    outcome([task for task in some if is_single(task)][:3])
    assert events == ["read", "exported"] * 3


def test_an_error_of_the_config_comes_in_its_turn(
    tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = [task for task in tasks if task.size > 20][:3]
    runs = worker._runs

    def read(task: Task) -> Iterator[Run]:
        if task is sound[1]:
            raise ConfigError("no such source")
        yield from runs(task)

    monkeypatch.setattr(worker, "_runs", read)
    done, _ = carry_out_all(sound, dry_run=True)
    assert len(done) == 1  # the rest is given out again, and then it is the first
    with pytest.raises(ConfigError, match="no such source"):
        carry_out_all(sound[1:], dry_run=True)
    with pytest.raises(ConfigError, match="no such source"):
        carry_out(sound[1], dry_run=True)


def test_the_largest_come_first(tmp_path: Path) -> None:
    """So that no worker has a large one left when the others have nothing to do any more."""
    for number, rows in enumerate((1, 300, 20, 4_000)):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        history = [{"loss": number + 0.5, "step": step} for step in range(rows)]
        (folder / "trainer_state.json").write_bytes(state(history))
    said = {"sources": [str(tmp_path)], "targets": ["tensorboard"]}
    planned, _ = plan(MigrationConfig.model_validate(said))
    assert [Path(task.location).parent.name for task in planned] == ["run3", "run1", "run2", "run0"]
