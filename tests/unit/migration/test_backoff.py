"""The pause that all tasks of a target share, and what the engine makes of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.errors import ConfigError, ExportError, VerifyError
from bridges.exporters.base import ExistingRun
from bridges.exporters.memory import MemoryExporter
from bridges.exporters.wandb.server import _translated_errors
from bridges.http import Connection, NoAnswerError
from bridges.migration import backoff as backoff_module
from bridges.migration import engine as engine_module
from bridges.migration import worker as work_module
from bridges.migration.backoff import MAX_PAUSE, Backoff
from bridges.migration.config.config import EngineSpec, MigrationConfig, SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.migration.engine import MAX_STRIKES, Engine
from bridges.migration.tasks import Done, Left, Task, plan
from bridges.migration.tasks import _together as together
from bridges.migration.worker import carry_out
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport, failure
from bridges.short_retries import SHORT_RETRY_SECONDS, short_retries
from bridges.stream.layout import Layout
from tests.bounds import HANGS
from tests.servers import free_port
from tests.support import make_run, state


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def outage(backoff: Backoff, clock: Clock) -> list[float]:
    """The pauses of a target that never answers again."""
    pauses = []
    backoff.failed("away")
    while not backoff.is_over:
        pauses.append(backoff.seconds)
        clock.now += backoff.seconds
        backoff.failed("away")
    return pauses


def test_pauses_grow_up_to_a_bound(clock: Clock) -> None:
    backoff = Backoff(300, clock)
    backoff.answered()
    began = clock.now
    pauses = outage(backoff, clock)
    assert clock.now - began == pytest.approx(300)
    assert 0.5 <= pauses[0] <= 1
    assert max(pauses) <= MAX_PAUSE
    assert all(after <= 4 * before for before, after in pairwise(pauses))
    assert 10 < len(pauses) < 30


def test_a_target_that_never_answered_gets_a_tenth_of_the_patience(clock: Clock) -> None:
    began = clock.now
    outage(Backoff(300, clock), clock)
    assert clock.now - began == pytest.approx(30)


def test_a_target_that_answered_a_run_in_hand_gets_all_of_the_patience(clock: Clock) -> None:
    backoff, began = Backoff(300, clock), clock.now
    assert backoff.failed("away", answered=True)
    assert backoff.bound == 300
    outage(backoff, clock)
    assert clock.now - began == pytest.approx(300)


def test_no_patience_is_over_at_once(clock: Clock) -> None:
    backoff = Backoff(0, clock)
    backoff.answered()
    assert outage(backoff, clock) == []


def test_an_answer_resets_all(clock: Clock) -> None:
    backoff = Backoff(300, clock)
    backoff.answered()
    for _ in range(6):
        clock.now += backoff.seconds
        backoff.failed("away")
    assert backoff.seconds > 10
    backoff.answered()
    assert (backoff.is_down, backoff.seconds) == (False, 0)
    clock.now += 10_000  # nothing was asked meanwhile: the outage begins with the next failure
    assert backoff.failed("away")
    assert backoff.seconds <= 1
    assert not backoff.is_over


def test_failures_of_tasks_that_were_given_out_before_count_once(clock: Clock) -> None:
    backoff = Backoff(300, clock)
    assert backoff.failed("away")
    pause = backoff.seconds
    assert not any(backoff.failed(f"away {number}") for number in range(8))
    assert backoff.seconds == pause
    assert backoff.why == "away 7"
    clock.now += pause
    assert backoff.seconds == 0
    assert backoff.is_down
    assert not backoff.failed("still away")
    assert backoff.seconds >= 1


# --- the engine, with threads instead of processes --------------------------------------------

SOURCE = SourceSpec(location="x")
TARGETS = TargetSpec(to="tensorboard", label="tb"), TargetSpec(to="mlflow", label="ml")
Answers = Callable[[str, str], bool]  # location and label


class World:
    """Targets that answer as a test says; each task has three runs."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: Counter[tuple[str, str]] = Counter()
        self.done: list[tuple[Task, Done]] = []
        self.waits: list[tuple[str, str, float]] = []

    def carry_out(self, reading: Any, dry_run: bool) -> Done:
        """As in `work`, without runs."""
        task = reading.task
        reports: list[RunReport] = []
        left: list[Left] = []
        for target in task.targets:
            for number in range(len(task.done), 3):
                run = f"{task.location}/{number}"
                self.asked[run, target.label] += 1
                if not self.answers(run, target.label):
                    seen = tuple(f"{task.location}/{n}" for n in range(number))
                    failed = failure(run, target.label, "it is away")
                    report = replace(failed, transient=True)
                    rest = replace(task, targets=(target,), is_first=False, done=seen)
                    left.append(Left(rest, report))
                    break
                reports.append(RunReport(run, run, target.label, "exported"))
        return Done(tuple(reports), (("a run", "a filter"),), tuple(left))

    def tell(self, task: Task, done: Done) -> None:
        """What the engine tells."""
        self.done.append((task, done))

    def migrate(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tasks: int,
        patience: int = 300,
        pool: type[ThreadPoolExecutor] = ThreadPoolExecutor,
        targets: tuple[TargetSpec, ...] = TARGETS,
        workers: int = 2,
    ) -> None:
        @contextmanager
        def threads(spec: EngineSpec) -> Iterator[tuple[ThreadPoolExecutor, int]]:
            with pool(workers) as executor:
                yield executor, workers

        monkeypatch.setattr(engine_module, "executor_of", threads)
        monkeypatch.setattr(work_module, "_carry_out", self.carry_out)
        monkeypatch.setattr(backoff_module, "FIRST_PAUSE", 0.01)
        engine = Engine(
            EngineSpec(patience=patience),
            on_done=self.tell,
            on_wait=lambda *each: self.waits.append(each),
        )
        engine.run(
            [
                Task(SOURCE, f"place{number}", group)
                for number in range(tasks)
                for group in together(targets)
            ]
        )

    @property
    def told(self) -> Counter[tuple[str, str, str]]:
        """How often what was told of each run and target."""
        reports = [report for _, done in self.done for report in done.reports]
        return Counter((report.source, report.target, report.status) for report in reports)


def every(tasks: int, label: str, status: str = "exported") -> Counter[tuple[str, str, str]]:
    return Counter((f"place{t}/{r}", label, status) for t in range(tasks) for r in range(3))


def test_other_targets_go_on_and_each_run_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(lambda run, label: True)
    back = Event()

    def answers(run: str, label: str) -> bool:
        written = sum(asked for (_, to), asked in world.asked.items() if to == "tb")
        if written == 60:
            back.set()
        return label == "tb" or world.asked.total() < 20 or back.is_set()

    world.answers = answers
    world.migrate(monkeypatch, 20)
    assert world.told == every(20, "tb") + every(20, "ml")
    assert [(label, why, seconds) for label, why, seconds in world.waits] == [
        ("ml", "it is away", 300)
    ]
    ended = Counter(to.label for task, _ in world.done for to in task.targets)
    assert ended == {"tb": 20, "ml": 20}
    assert sum(len(done.left_out) for task, done in world.done if task.is_first) == 20


@pytest.mark.parametrize("limit", [1, 2, None])
def test_no_more_workers_have_to_do_with_a_target_than_its_limit(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock = Lock()
    wanted = {"tb": 3, "ml": limit or 3}
    met = {label: Event() for label in wanted}

    def answers(run: str, label: str) -> bool:
        with lock:
            busy[label] += 1
            most[label] = max(most[label], busy[label])
            if busy[label] == wanted[label]:
                met[label].set()
        met[label].wait(HANGS)
        with lock:
            busy[label] -= 1
        return True

    world = World(answers)
    limited = TargetSpec(to="mlflow", label="ml", limit=limit)
    world.migrate(monkeypatch, 30, targets=(TARGETS[0], limited), workers=4)
    assert world.told == every(30, "tb") + every(30, "ml")
    assert most["tb"] > 2
    assert most["ml"] == limit if limit else most["ml"] > 2


def test_one_task_at_a_time_asks_a_target_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(lambda run, label: label == "tb")
    world.migrate(monkeypatch, 10, patience=3)  # never answered: 0.3 s
    asked = sum(count for (_, label), count in world.asked.items() if label == "ml")
    assert asked < 20  # 4 that were given out at once, and one for each pause
    assert {label for label, _, _ in world.waits} == {"ml"}


def test_a_target_that_is_given_up_is_told_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(lambda run, label: label == "tb" or run == "place0/0")
    world.migrate(monkeypatch, 10, patience=1)
    missing = Counter((f"place{number}", "ml", "failed") for number in range(10))
    assert world.told == every(10, "tb") + missing + Counter([("place0/0", "ml", "exported")])
    findings = [
        report.findings[-1]
        for _, done in world.done
        for report in done.reports
        if report.status == "failed"
    ]
    assert {finding.code for finding in findings} == {"no-answer"}
    assert {finding.message for finding in findings} == {
        "not written: ml did not answer for 1 s (it is away). "
        "Rerun the same command to export the missing runs"
    }


def test_a_run_that_its_target_never_takes_gives_up_itself_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(lambda run, label: label == "tb" or run != "place2/1")
    world.migrate(monkeypatch, 10)
    bad = Counter([("place2/1", "ml", "failed")])
    good = every(10, "ml")
    del good["place2/1", "ml", "exported"]
    assert world.told == every(10, "tb") + good + bad
    assert world.asked["place2/1", "ml"] >= MAX_STRIKES


def test_workers_that_are_lost_while_nothing_is_done_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Breaking(ThreadPoolExecutor):
        left = 3

        def submit(self, *arguments: Any, **named: Any) -> Any:
            Breaking.left -= 1
            if not Breaking.left:
                raise BrokenProcessPool
            return super().submit(*arguments, **named)

    world = World(lambda run, label: True)
    world.migrate(monkeypatch, 5, pool=Breaking)
    assert world.told == every(5, "tb") + every(5, "ml")


def test_small_tasks_go_out_in_bunches(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first one by one, in the end so that all workers have as much to do."""
    sizes: list[int] = []
    submit = engine_module.InFlight.submit

    def counting(hand: engine_module.InFlight, jobs: list[engine_module.Attempt]) -> None:
        sizes.append(len(jobs))
        submit(hand, jobs)

    monkeypatch.setattr(engine_module.InFlight, "submit", counting)
    world = World(lambda run, label: True)
    world.migrate(monkeypatch, 1_000)
    assert world.told == every(1_000, "tb") + every(1_000, "ml")
    assert sizes[:2] == [1, 1]
    assert max(sizes) == engine_module.MAX_BATCH
    assert sizes[-1] == 1
    assert len(sizes) < 200


class Interrupted(World):
    def tell(self, task: Task, done: Done) -> None:
        super().tell(task, done)
        if len(self.done) == 300:
            raise KeyboardInterrupt


def test_an_interrupt_ends_what_is_in_hand_and_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Interrupted(lambda run, label: True)
    with pytest.raises(KeyboardInterrupt):
        world.migrate(monkeypatch, 10_000)
    assert set(world.told.values()) == {1}
    assert {source for source, *_ in world.told} == {run for run, _ in world.asked}
    assert 300 <= len(world.done) < 300 + 6 * engine_module.MAX_BATCH


# --- what a task leaves of itself ---------------------------------------------------------------


def test_what_is_left_of_a_task_is_done_later_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, place in enumerate(["", "trial-1", "trial-2", "trial-3"]):
        folder = tmp_path / "out" / place / "checkpoint-1"
        folder.mkdir(parents=True)
        rows = [{"loss": 1.0 + number, "step": 1}]
        (folder / "trainer_state.json").write_bytes(state(rows))
    broken = tmp_path / "out" / "trial-4" / "checkpoint-1"
    broken.mkdir(parents=True)
    (broken / "trainer_state.json").write_bytes(b"{")
    targets = [{"to": "tensorboard", "label": to, "logdir": to} for to in ("one", "two")]
    config = MigrationConfig.model_validate({"sources": [str(tmp_path)], "targets": targets})
    exporters = {"one": MemoryExporter(), "two": Failing(3)}
    monkeypatch.setattr(work_module, "_exporter", lambda to, *_: exporters[to.label])
    (task,), _ = plan(config)
    first = carry_out(task, dry_run=False)
    assert Counter((report.target, report.status) for report in first.reports) == {
        ("one", "exported"): 4,
        ("one", "failed"): 1,
        ("two", "exported"): 2,
    }
    (left,) = first.left
    assert (left.report.target, left.report.transient) == ("two", True)
    second = carry_out(left.task, dry_run=False)
    assert not second.left
    assert Counter((report.target, report.status) for report in second.reports) == {
        ("two", "exported"): 2,
        ("two", "failed"): 1,
    }
    told = [report.source for report in (*first.reports, *second.reports) if report.target == "two"]
    assert len(told) == len(set(told)) == 5


def test_a_wrong_config_is_told_after_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(run: str, label: str) -> bool:
        if int(run.removeprefix("place").partition("/")[0]) >= 500:
            raise ConfigError("it is wrong")
        return True

    world = World(answers)
    with pytest.raises(ConfigError):
        world.migrate(monkeypatch, 1_000)
    assert world.told == every(500, "tb") + every(500, "ml")


def test_a_project_that_wandb_refuses_is_the_fault_of_its_run(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    source = SourceSpec(location=str(tmp_path), experiment="a/{name}")
    targets = (
        {"to": "tensorboard", "label": "tb", "logdir": str(tmp_path / "tb")},
        {"to": "wandb", "label": "wb", "wandb_dir": str(tmp_path)},
    )
    (task,), _ = plan(MigrationConfig.model_validate({"sources": [source], "targets": targets}))
    good, bad = carry_out(task, dry_run=False).reports
    assert (good.target, good.status) == ("tb", "exported")
    assert (bad.target, bad.status, bad.findings[-1].code) == ("wb", "failed", "config")


def test_a_worker_takes_nothing_of_a_target_for_granted_from_one_migration_to_the_next(
    tmp_path: Path,
) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    targets = [{"to": "tensorboard", "logdir": str(tmp_path / "tb")}]
    config = MigrationConfig.model_validate({"sources": [str(tmp_path)], "targets": targets})

    def migrated() -> RunReport:
        (task,), _ = plan(config)
        (report,) = carry_out(task, dry_run=False).reports
        return report

    first = migrated()
    assert first.status == "exported"
    assert first.location is not None
    Path(first.location).rename(tmp_path / "tb" / "renamed")
    again = migrated()
    assert (again.status, again.run) == ("unchanged", "renamed")


def test_threads_of_one_worker_do_not_disturb_each_other(tmp_path: Path) -> None:
    for number in range(40):
        folder = tmp_path / "tree" / f"run{number}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_bytes(state([{"loss": 1.0 + number, "step": 1}]))
    targets = [
        {"to": "tensorboard", "logdir": str(tmp_path / "tb")},
        {"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/m.db"},
        {"to": "wandb", "wandb_dir": str(tmp_path)},
    ]
    said = {"sources": [str(tmp_path / "tree")], "targets": targets}
    tasks, _ = plan(MigrationConfig.model_validate(said))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(partial(carry_out, dry_run=False), tasks))
    told = Counter((report.target, report.status) for each in done for report in each.reports)
    assert told == {(to, "exported"): 40 for to in ("tensorboard", "mlflow", "wandb")}


class Failing(MemoryExporter):
    """A target that does not answer at one write, counted from 1."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        self._left -= 1
        if not self._left:
            raise ExportError("away", transient=True, waited=True)
        return super().write(layout, seen, existing)


# --- what makes a failure one of an outage ----------------------------------------------------


class Silent(MemoryExporter):
    """A target that fails at one call."""

    def __init__(self, call: str, error: Exception) -> None:
        super().__init__()
        self.calls = 0

        def fail(*arguments: object) -> object:
            self.calls += 1
            raise error

        setattr(self, call, fail)


@pytest.mark.parametrize("call", ["find", "write", "read_back"])
def test_reports_tell_of_a_target_that_does_not_answer(call: str) -> None:
    run = make_run([{"loss": 1.0, "step": 1}])
    away = ExportError("away", transient=True, waited=True)
    silent = Silent(call, away)
    assert export_run(run, silent, ExportOptions()).transient
    assert silent.calls == 1  # it has waited itself
    assert not export_run(run, Silent(call, ExportError("no")), ExportOptions()).transient
    wrapped = VerifyError("unreadable")
    wrapped.__cause__ = away
    assert export_run(run, Silent(call, wrapped), ExportOptions()).transient
    tried = Silent(call, ExportError("away", transient=True))
    assert export_run(run, tried, ExportOptions(retries=0)).transient
    assert tried.calls == 1


class AuthenticationError(Exception):
    """As the client of W&B raises it, whatever went wrong."""


class RefusalError(Exception):
    """As it tells of an answer."""

    def __init__(self, status: int | None) -> None:
        self.response = SimpleNamespace(http_status=status)


@pytest.mark.parametrize(("status", "is_away"), [(None, True), (503, True), (401, False)])
def test_wandb_takes_no_silence_for_a_wrong_key(status: int | None, is_away: bool) -> None:
    with pytest.raises(ExportError) as caught, _translated_errors("find"):
        raise AuthenticationError("cannot be verified") from RefusalError(status)
    assert (caught.value.transient, caught.value.waited) == (is_away, is_away)
    assert ("no valid API key" in str(caught.value)) != is_away


def test_a_brief_request_waits_for_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        clock.now += seconds

    connection = Connection(f"http://127.0.0.1:{free_port()}", {}, pause=pause)
    for is_short in (False, True):
        waited.clear()
        connection._answers = True  # as it did once
        with short_retries() if is_short else nullcontext(), pytest.raises(NoAnswerError):
            connection.request("GET", "/")
        assert (sum(waited) <= SHORT_RETRY_SECONDS) == is_short
        assert sum(waited) >= 0.875  # three pauses, each half as long as it may be at least
