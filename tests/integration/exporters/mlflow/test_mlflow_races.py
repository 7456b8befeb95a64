"""Exports of one run at the same time, each stopped between any two requests: one run stays.

The store is a database written by mlflow's client. Exports run in threads, one at a time: a
schedule says whose turn it is, and a killed export makes no more requests.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.mlflow import api_runs, search_parents
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions, MlflowWriter
from bridges.exporters.receipts import Receipt, RunReceipt
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.identity import identity_of
from bridges.stream.model import Run
from tests import mlflow_records
from tests.integration.exporters.mlflow.support import MlflowClient, ViewType, codes_of, long_rows
from tests.support import make_run

# the requests that another export can see, and those that look for it
REQUESTS = ("create_run", "log_batch", "search", "set_status", "delete_run", "get_run")
TURN_TIMEOUT = 60.0


class KilledError(BaseException):
    """Stands for the end of a process."""


class Turns:
    """Lets one export at a time make a request; the others wait before their next one."""

    def __init__(self, schedule: Sequence[int]) -> None:
        self._schedule = list(schedule)
        self._changed = threading.Condition()
        self._ended: set[int] = set()

    def take(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._next(number), TURN_TIMEOUT)

    def _next(self, number: int) -> bool:
        while self._schedule and self._schedule[0] in self._ended:
            del self._schedule[0]
        return not self._schedule or self._schedule[0] == number

    def taken(self) -> None:
        with self._changed:
            del self._schedule[:1]
            self._changed.notify_all()

    def end(self, number: int) -> None:
        with self._changed:
            self._ended.add(number)
            self._changed.notify_all()


class Export:
    """An export whose requests wait for their turn; it dies before its request `kill`."""

    def __init__(self, uri: str, run: Run, number: int, turns: Turns, kill: int | None) -> None:
        self.exporter = MlflowExporter(MlflowOptions(uri, mlflow_writer="client"))
        self.run, self.number, self.turns, self.kill = run, number, turns, kill
        self.made = 0
        self.report: RunReport | None = None
        api: Any = self.exporter._writer
        for name in REQUESTS:
            setattr(api._api, name, self._in_turn(getattr(api._api, name)))

    def _in_turn(self, request: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **more: Any) -> Any:
            self.turns.take(self.number)
            if self.made == self.kill:
                raise KilledError
            self.made += 1
            try:
                answer = request(*arguments, **more)
                return [*answer] if isinstance(answer, Iterator) else answer
            finally:
                self.turns.taken()

        return one

    def __call__(self) -> None:
        try:
            self.report = export_run(self.run, self.exporter, ExportOptions())
        except KilledError:
            pass
        finally:
            self.turns.end(self.number)


def together(
    uri: str, runs: Sequence[Run], schedule: Sequence[int], kills: Sequence[int | None]
) -> list[Export]:
    """The exports of these runs, which make their requests in the order of the schedule."""
    turns = Turns(schedule)
    exports = [
        Export(uri, run, number, turns, kill)
        for number, (run, kill) in enumerate(zip(runs, kills, strict=True))
    ]
    threads = [threading.Thread(target=export) for export in exports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TURN_TIMEOUT)
        assert not thread.is_alive()
    return exports


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api_runs, "QUIET_SECONDS", 0.0)
    for module in (api_runs, search_parents):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    return f"sqlite:///{tmp_path}/mlflow.db"


def training(number: int) -> Callable[[int], Run]:
    """A training's run with its first rows."""
    return lambda rows: make_run([{**row, "loss": row["loss"] + number} for row in long_rows(rows)])


def copy_of(number: int, status: str = "FINISHED") -> Callable[[int], Run]:
    """A run of another MLflow store with its first steps."""

    def copied(rows: int) -> Run:
        head = mlflow_records.head(number, status=status)
        curve = [(step, step * 10, 1 / (step + 1)) for step in range(rows)]
        return mlflow_records.run(mlflow_records.record(head), {"loss": curve, "acc": curve[::2]})

    return copied


def stored(uri: str, key: str) -> list[Any]:
    """The active runs with a key, by mlflow's client."""
    return runs_with(uri, f"tags.`bridges.key` = '{key}'")


def runs_with(uri: str, condition: str) -> list[Any]:
    """The active runs of a condition, by mlflow's client."""
    client = MlflowClient(uri)
    places = [each.experiment_id for each in client.search_experiments()]
    return [*client.search_runs(places, condition, ViewType.ACTIVE_ONLY)]


def check(uri: str, run: Run, status: str = "FINISHED") -> None:
    """The next export leaves exactly one complete run, and one more changes nothing."""
    exporter = MlflowExporter(MlflowOptions(uri, mlflow_writer="client"))
    report = export_run(run, exporter, ExportOptions())
    assert report.verified, report.findings
    (found,) = stored(uri, str(report.key))
    assert (found.info.status, found.info.run_id) == (status, report.run_id)
    assert "pending" not in found.data.tags["bridges.state"]
    points = MlflowClient(uri).get_metric_history(found.info.run_id, "loss")
    losses = next(part for part in run.stream.series if part.key.endswith("loss"))
    assert sorted(point.value for point in points) == sorted(losses.values.tolist())
    again = export_run(run, exporter, ExportOptions())
    assert (again.status, codes_of([again]).count("leftovers-removed")) == ("unchanged", 0)


Kind = tuple[Callable[[int], Callable[[int], Run]], str]
KINDS: dict[str, Kind] = {
    "training": (training, "FINISHED"),
    "copy": (copy_of, "FINISHED"),
    "running copy": (lambda n: copy_of(n, "RUNNING"), "RUNNING"),
}


def requests_of(uri: str, make: Callable[[int], Run]) -> int:
    """The number of requests of an export alone, of a run of its own."""
    (alone,) = together(uri, [make(5)], [], [None])
    assert alone.report is not None
    assert alone.report.verified, alone.report.findings
    return alone.made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [(5, 5), (3, 5)], ids=["equal", "grown"])
def test_a_killed_export_beside_another(uri: str, kind: str, rows: tuple[int, int]) -> None:
    """The other one begins and ends at any moment of the killed one."""
    make, status = KINDS[kind]
    count, number = requests_of(uri, make(1)), itertools.count(2)
    for begin, kill in itertools.combinations_with_replacement(range(count + 1), 2):
        of = make(next(number))
        schedule = [0] * begin + [1] * 100
        together(uri, [of(rows[0]), of(rows[1])], schedule, [kill, None])
        check(uri, of(rows[1]), status)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_exports_killed_at_random_moments(uri: str, kind: str) -> None:
    """Two or three exports of a run, which grows, in any order of their requests."""
    make, status = KINDS[kind]
    count, chance = requests_of(uri, make(1)), random.Random(5)
    for number in range(2, 202):
        of, exports = make(number), chance.choice([2, 2, 3])
        rows = [chance.choice([3, 5, 5]) for _ in range(exports)]
        kills = [chance.choice([None, chance.randint(0, 2 * count)]) for _ in range(exports)]
        schedule = [chance.randrange(exports) for _ in range(count * exports * 2)]
        together(uri, [*map(of, rows)], schedule, kills)
        check(uri, of(5), status)


@pytest.mark.slow
def test_trials_of_one_search_at_the_same_time_have_one_parent(uri: str) -> None:
    def trial(number: int, at: int) -> Run:
        rows = [{**row, "loss": row["loss"] + at + 10 * number} for row in long_rows(3)]
        return make_run(rows, name=f"t{at}", trial=str(at), group=f"search {number}")

    chance = random.Random(6)
    for number in range(20):
        trials = [trial(number, at) for at in range(3)]
        kills = [chance.choice([None, None, chance.randint(0, 12)]) for _ in trials]
        together(uri, trials, [chance.randrange(3) for _ in range(60)], kills)
        exporter = MlflowExporter(MlflowOptions(uri, mlflow_writer="client"))
        for each in [*trials, trial(number, 3)]:
            assert export_run(each, exporter, ExportOptions()).verified
        (parent,) = runs_with(uri, f"tags.`mlflow.runName` = 'search {number}'")
        under = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        names = [run.info.run_name for run in runs_with(uri, under)]
        assert sorted(names) == ["t0", "t1", "t2", "t3"]
        assert parent.info.status == "FINISHED"


def left_behind(uri: str, of: Callable[[int], Run]) -> None:
    """A complete run, and beside it the run of an export killed before it could see that one."""
    requests_of(uri, training(1))  # makes the experiments
    requests_of(uri, copy_of(1))
    search_first, create_and_log = [0], 3
    killed, other = together(
        uri, [of(5), of(5)], [*search_first, *[1] * 100], [create_and_log, None]
    )
    assert killed.report is None
    assert other.report is not None
    statuses = [run.info.status for run in stored(uri, str(other.report.key))]
    assert sorted(statuses) == ["FINISHED", "RUNNING"]


@pytest.mark.parametrize("kind", ["training", "copy"])
@pytest.mark.parametrize("writer", ["direct", "client"])
def test_what_a_killed_export_left_beside_a_complete_run_is_deleted(
    uri: str, kind: str, writer: MlflowWriter
) -> None:
    of = KINDS[kind][0](2)
    left_behind(uri, of)
    exporter = MlflowExporter(MlflowOptions(uri, mlflow_writer=writer))
    planned = export_run(of(5), exporter, ExportOptions(dry_run=True))
    assert (planned.plan, codes_of([planned]).count("leftovers-removed")) == ("unchanged", 0)
    report = export_run(of(5), exporter, ExportOptions())
    (found,) = (each for each in report.findings if each.code == "leftovers-removed")
    assert (report.status, report.verified, found.count) == ("unchanged", True, 1)
    assert not found.fails
    check(uri, of(5))


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_the_receipt_of_a_run_with_a_leftover_is_not_used(uri: str, writer: MlflowWriter) -> None:
    of = training(2)
    left_behind(uri, of)
    exporter = MlflowExporter(MlflowOptions(uri, mlflow_writer=writer))
    (complete,) = [run for run in exporter.find(identity_of(of(5))) if run.complete]
    rows, digest = complete.state.rows, complete.state.digest
    receipt = Receipt("content", 1, 0, "state", digest, rows, points=2 * rows)
    exporter.save_receipts(
        [RunReceipt(complete.key, complete.name, complete.location, receipt, complete.id, "1")]
    )
    assert [*exporter.receipts()] == []
    export_run(of(5), exporter, ExportOptions())
    assert [each.id for each in exporter.receipts()] == [complete.id]
