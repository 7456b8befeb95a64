"""The engine: runs tasks on local processes or a Dask cluster by a `concurrent.futures.Executor`.

If a worker is lost, its tasks are retried; nothing else is lost, as the targets hold all state.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue

from bridges.errors import ConfigError
from bridges.migration.backoff import Backoff
from bridges.migration.config.config import EngineSpec
from bridges.migration.config.targets import TargetSpec
from bridges.migration.executors import executor_of, is_loss
from bridges.migration.tasks import Done, Left, Task, failed
from bridges.migration.worker import AllDone, carry_out_all

AHEAD = 2  # batches submitted for each worker
BATCH_SECONDS, MAX_BATCH = 0.6, 128  # the intended duration of a batch, its largest size in tasks
EMA_WEIGHT = 0.2  # of the last batch in the moving average of seconds per task
MIN_TASK_SECONDS = 1e-6
MAX_STRIKES = 3  # failures of a run, at a target that answers other tasks, before the run fails


@dataclass(eq=False)
class Attempt:
    """A task in flight. `lost`: times its worker died. `strikes`: failures while the target was
    answering other tasks. `answers`: the target's answer count at the last failure.
    """

    task: Task
    lost: int = 0
    strikes: int = 0
    answers: int = -1


@dataclass
class InFlight:
    """The batches submitted to an executor, by future, and the unreported results.

    `concurrent.futures.wait` is not used, as it can leave futures locked when interrupted.
    """

    executor: Executor
    dry_run: bool
    attempts: dict[Future[AllDone], list[Attempt]] = field(default_factory=dict)
    unreported: deque[tuple[Attempt, Done]] = field(default_factory=deque)
    _ended: SimpleQueue[Future[AllDone]] = field(default_factory=SimpleQueue)

    def submit(self, attempts: list[Attempt]) -> None:
        """Submit a batch to one worker. Raises BrokenExecutor."""
        tasks = [attempt.task for attempt in attempts]
        future = self.executor.submit(carry_out_all, tasks, dry_run=self.dry_run)
        self.attempts[future] = attempts
        future.add_done_callback(self._ended.put)

    def ended(self, timeout: float | None) -> Iterator[tuple[list[Attempt], Future[AllDone]]]:
        """The finished batches; waits up to `timeout` seconds for the first."""
        if not any(future.done() for future in self.attempts):
            with suppress(Empty):
                self._ended.get(timeout=timeout)
        for future in [future for future in self.attempts if future.done()]:
            yield self.attempts.pop(future), future

    def take_back(self) -> None:
        """Cancel the batches without a worker."""
        for future in [*self.attempts]:
            if future.cancel():
                del self.attempts[future]

    @property
    def all(self) -> list[Attempt]:
        """All attempts in flight."""
        return [attempt for attempts in self.attempts.values() for attempt in attempts]

    @property
    def load(self) -> Counter[str]:
        """The number of batches in flight for each target."""
        return Counter(label for attempts in self.attempts.values() for label in _labels(attempts))


Queues = dict[str | None, deque[Attempt]]  # by limited target; None for tasks without a limit


@dataclass
class Engine:
    """Carries out tasks and calls `on_done` for each, in order of completion.

    If a target stops answering, the task is split: `on_done` gets the part with the finished
    targets, and the rest is retried. `on_wait` then gets the target's label, the failure and the
    maximum waiting time in seconds.
    """

    spec: EngineSpec
    dry_run: bool = False
    on_done: Callable[[Task, Done], None] = lambda task, done: None
    on_wait: Callable[[str, str, float], None] = lambda label, why, seconds: None
    _backoffs: dict[str, Backoff] = field(default_factory=dict)
    _pace: dict[str, float] = field(default_factory=dict)  # average seconds per task, by targets

    def run(self, tasks: Sequence[Task]) -> None:
        """Run all tasks. ConfigError and KeyboardInterrupt wait for the tasks in flight."""
        labels = {target.label for task in tasks for target in task.targets}
        self._backoffs = {label: Backoff(self.spec.patience) for label in labels}
        waiting = _queues(Attempt(task) for task in tasks)
        suspects: list[Attempt] = []
        while suspects or any(waiting.values()):
            with executor_of(self.spec) as (executor, workers):
                # one of the lost tasks killed the worker: retry each alone
                alone = _queues(suspects)
                lost = self._until_lost(executor, 1, alone, others=any(waiting.values()))
                suspects = [attempt for queue in alone.values() for attempt in queue]
                if not lost:
                    lost = self._until_lost(executor, AHEAD * workers, waiting)
            suspects = [*self._again(lost), *suspects]

    def _until_lost(
        self, executor: Executor, most: int, waiting: Queues, others: bool = False
    ) -> list[Attempt]:
        """Run tasks, at most `most` batches at a time, until all are done or a worker is lost.

        Returns the attempts in flight at the loss. With `others`, it does not wait for a silent
        target.
        """
        flight = InFlight(executor, self.dry_run)
        lost: list[Attempt] = []
        try:
            while (flight.attempts or any(waiting.values())) and not lost:
                self._submit(flight, most, waiting)
                if others and not flight.attempts:
                    break
                lost += self._collect(flight, waiting)
        except BrokenExecutor:  # raised by submit
            return flight.all
        except (ConfigError, KeyboardInterrupt):
            self._finish(flight, waiting)
            raise
        return [*lost, *flight.all] if lost else []

    def _submit(self, flight: InFlight, most: int, waiting: Queues) -> None:
        """Submit tasks from each queue in turn, up to the limits of the targets."""
        load = flight.load
        names = deque(name for name, queue in waiting.items() if queue)
        while names and len(flight.attempts) < most:
            name = names.popleft()
            queue = waiting[name]
            if name is not None and not self._is_free(queue[0].task.targets[0], load):
                continue
            attempts = self._take(self._together(queue, most), queue, load, waiting)
            if attempts:
                try:
                    flight.submit(attempts)
                except BrokenExecutor:
                    queue.extendleft(reversed(attempts))
                    raise
                load.update(_labels(attempts))
                waiting[name] = waiting.pop(name)  # round robin
            if queue:
                names.append(name)

    def _take(
        self, most: int, queue: deque[Attempt], load: Counter[str], waiting: Queues
    ) -> list[Attempt]:
        """The next batch of a queue; a single task if one of its targets is down."""
        attempts: list[Attempt] = []
        while queue and len(attempts) < most:
            backoffs = [self._backoffs[target.label] for target in queue[0].task.targets]
            down = any(backoff.is_down and not backoff.is_over for backoff in backoffs)
            if down and attempts:
                break
            attempt = self._open(queue.popleft(), load, waiting)
            attempts += [attempt] if attempt else []
            if down:
                break
        return attempts

    def _together(self, queue: deque[Attempt], most: int) -> int:
        """The batch size: small tasks are sent together, the last ones shared by all workers."""
        pace = self._pace.get(_kind(queue[0]))
        if most == 1 or pace is None:
            return 1
        return max(min(MAX_BATCH, len(queue) // most, int(BATCH_SECONDS / pace)), 1)

    def _is_free(self, target: TargetSpec, load: Counter[str]) -> bool:
        """Whether a target can take one more task; a target that is down gets one at a time."""
        backoff = self._backoffs[target.label]
        if backoff.is_down and not backoff.is_over:
            return not load[target.label] and not backoff.seconds
        return target.limit is None or load[target.label] < target.limit or backoff.is_over

    def _open(self, attempt: Attempt, load: Counter[str], waiting: Queues) -> Attempt | None:
        """The part of a task for its free targets. Queues the others, or reports them as failed."""
        targets = attempt.task.targets
        over = [to for to in targets if self._backoffs[to.label].is_over]
        held = [to for to in targets if to not in over and not self._is_free(to, load)]
        free = [to for to in targets if to not in over and to not in held]
        for target in over:
            self._give_up(attempt.task, target)
        first = next(iter((*free, *held)), None)  # see Task.is_first
        for target in held:
            is_first = attempt.task.is_first and target is first
            part = replace(attempt.task, targets=(target,), is_first=is_first)
            waiting.setdefault(target.label, deque()).append(Attempt(part, attempt.lost))
        if len(free) == len(targets):
            return attempt
        return replace(attempt, task=replace(attempt.task, targets=tuple(free))) if free else None

    def _collect(self, flight: InFlight, waiting: Queues) -> list[Attempt]:
        """Wait for the next batches and report them. Returns the attempts of lost workers."""
        lost = []
        pauses = [self._backoffs[name].seconds for name, queue in waiting.items() if name and queue]
        pause = min((seconds for seconds in pauses if seconds), default=None)
        if not flight.attempts:
            time.sleep(0.0 if flight.unreported else pause or 0.0)
        for attempts, future in flight.ended(pause) if flight.attempts else ():
            try:
                done, seconds = future.result()
            except ConfigError:
                raise
            except Exception as error:  # deliberately broad: each engine has its own
                if is_loss(error):
                    lost += attempts
                    continue
                why = f"{type(error).__name__}: {error}"
                done, seconds = [failed(attempt.task, why) for attempt in attempts], 0.0
            kind, pace = _kind(attempts[0]), max(seconds / len(done), MIN_TASK_SECONDS)
            self._pace[kind] = EMA_WEIGHT * pace + (1 - EMA_WEIGHT) * self._pace.get(kind, pace)
            flight.unreported.extend(zip(attempts, done, strict=False))
            for attempt in reversed(attempts[len(done) :]):  # not started after a silent target
                waiting.setdefault(_limited(attempt.task), deque()).appendleft(attempt)
        while flight.unreported:  # after an interrupt, `_finish` reports the others
            self._ended(*flight.unreported.popleft(), waiting)
        return lost

    def _ended(self, attempt: Attempt, done: Done, waiting: Queues) -> None:
        """Report a finished task, and queue its unfinished parts."""
        for report in done.reports:
            if report.status != "failed":  # failures may have other causes
                self._backoffs[report.target].answered()
        silent = {left.report.target for left in done.left}
        self.on_done(attempt.task.without(silent) if silent else attempt.task, done)
        for left in done.left:
            self._keep(attempt, left, waiting)

    def _keep(self, attempt: Attempt, left: Left, waiting: Queues) -> None:
        """Queue the rest of a task until its target answers again."""
        report, task = left.report, left.task
        backoff = self._backoffs[report.target]
        if backoff.failed(report.findings[-1].message, report.answered) and not backoff.is_over:
            self.on_wait(report.target, backoff.why, backoff.bound)
        is_strike = backoff.answers > attempt.answers
        again = Attempt(task, attempt.lost, attempt.strikes + is_strike, backoff.answers)
        if again.strikes >= MAX_STRIKES:
            self.on_done(replace(task, targets=()), Done((report,)))
            again = Attempt(replace(task, done=(*task.done, report.source)), attempt.lost)
        # second in its queue: the next try uses another task, in case this one is at fault
        waiting.setdefault(report.target, deque()).insert(1, again)

    def _give_up(self, task: Task, target: TargetSpec) -> None:
        """Report the runs that are missing in a target after the patience is used up."""
        backoff = self._backoffs[target.label]
        why = (
            f"not written: {target.label} did not answer for {backoff.bound:g} s ({backoff.why}). "
            "Rerun the same command to export the missing runs"
        )
        part = replace(task, targets=(target,), is_first=False)
        self.on_done(part, failed(part, why, "no-answer"))

    def _finish(self, flight: InFlight, waiting: Queues) -> None:
        """Cancel the waiting batches and finish the running ones."""
        flight.take_back()
        with suppress(KeyboardInterrupt):  # a second Ctrl-C stops at once
            while flight.attempts or flight.unreported:
                with suppress(ConfigError):  # the first one is reported
                    self._collect(flight, waiting)

    def _again(self, lost: Sequence[Attempt]) -> list[Attempt]:
        """The attempts to retry; the others are reported as failed."""
        again = []
        for attempt in lost:
            attempt.lost += 1
            if attempt.lost <= self.spec.retries:
                again.append(attempt)
            else:
                why = f"its worker was lost {attempt.lost} times (out of memory, or killed)"
                self.on_done(attempt.task, failed(attempt.task, why))
        return again


def _queues(attempts: Iterable[Attempt]) -> Queues:
    """The attempts by limited target, in their order."""
    queues: Queues = {}
    for attempt in attempts:
        queues.setdefault(_limited(attempt.task), deque()).append(attempt)
    return queues


def _limited(task: Task) -> str | None:
    """The label of the limited target of a task, if any."""
    first = task.targets[0]
    return first.label if first.limit is not None else None


def _labels(attempts: Iterable[Attempt]) -> set[str]:
    """The target labels of some attempts."""
    return {target.label for attempt in attempts for target in attempt.task.targets}


def _kind(attempt: Attempt) -> str:
    """The key for average durations: the target labels of a task."""
    return " ".join(target.label for target in attempt.task.targets)
