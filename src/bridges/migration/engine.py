"""The engine: tasks on processes, here or of a Dask cluster, through one seam.

The seam is `concurrent.futures.Executor`. A worker that is lost costs its tasks another try and
nothing else, because all state lies in the targets.
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
from bridges.migration.config import EngineSpec
from bridges.migration.executors import executor_of, is_loss
from bridges.migration.targets import TargetSpec
from bridges.migration.tasks import Done, Left, Task, failed
from bridges.migration.work import AllDone, carry_out_all

AHEAD = 2  # tasks, or bunches of small ones, for each worker that wait in its queue
STRETCH, MOST = 0.6, 128  # seconds that the tasks of a bunch take together, and how many there are
WEIGHT = 0.2  # of the last bunch in what is expected of the next one
LEAST = 1e-6  # seconds of a task
STRIKES = 3  # so often a run fails at a target that answers others before it is the run's fault


@dataclass(eq=False)
class Job:
    """A task on its way: how often its worker was lost, how often its target did not answer it
    though it had answered others since the last time, and how many answers it had given then.
    """

    task: Task
    lost: int = 0
    strikes: int = 0
    answers: int = -1


@dataclass
class InHand:
    """What is with the workers of an executor: jobs by their future, those of one together; and
    what they have done that was not told yet.

    Not `concurrent.futures.wait`: interrupted at the wrong moment it leaves its futures locked.
    """

    executor: Executor
    dry_run: bool
    jobs: dict[Future[AllDone], list[Job]] = field(default_factory=dict)
    untold: deque[tuple[Job, Done]] = field(default_factory=deque)
    _ended: SimpleQueue[Future[AllDone]] = field(default_factory=SimpleQueue)

    def submit(self, jobs: list[Job]) -> None:
        """Give them to a worker, one after the other. Raises BrokenExecutor."""
        tasks = [job.task for job in jobs]
        future = self.executor.submit(carry_out_all, tasks, dry_run=self.dry_run)
        self.jobs[future] = jobs
        future.add_done_callback(self._ended.put)

    def ended(self, timeout: float | None) -> Iterator[tuple[list[Job], Future[AllDone]]]:
        """What has ended, after at most so many seconds; the queue only wakes up."""
        if not any(future.done() for future in self.jobs):
            with suppress(Empty):
                self._ended.get(timeout=timeout)
        for future in [future for future in self.jobs if future.done()]:
            yield self.jobs.pop(future), future

    def take_back(self) -> None:
        """Take back what no worker has begun."""
        for future in [*self.jobs]:
            if future.cancel():
                del self.jobs[future]

    @property
    def all(self) -> list[Job]:
        """The jobs."""
        return [job for jobs in self.jobs.values() for job in jobs]

    @property
    def load(self) -> Counter[str]:
        """How many workers have or will have to do with each target."""
        return Counter(label for jobs in self.jobs.values() for label in _labels(jobs))


Queues = dict[str | None, deque[Job]]  # by the one target that may hold them back, if it is one


@dataclass
class Engine:
    """Carries out tasks; `on_done` is told of each, in the order in which they end.

    The targets of what it is told are those that are done with: a task ends in parts where a target
    does not answer. `on_wait` is told when one falls silent: its label, how it failed, and for how
    many seconds it is waited for at most.
    """

    spec: EngineSpec
    dry_run: bool = False
    on_done: Callable[[Task, Done], None] = lambda task, done: None
    on_wait: Callable[[str, str, float], None] = lambda label, why, seconds: None
    _backoffs: dict[str, Backoff] = field(default_factory=dict)
    _pace: dict[str, float] = field(default_factory=dict)  # seconds of a task of late, by targets

    def run(self, tasks: Sequence[Task]) -> None:
        """All tasks. On ConfigError and KeyboardInterrupt what was begun is finished first."""
        labels = {target.label for task in tasks for target in task.targets}
        self._backoffs = {label: Backoff(self.spec.patience) for label in labels}
        waiting = _queues(Job(task) for task in tasks)
        suspects: list[Job] = []
        while suspects or any(waiting.values()):
            with executor_of(self.spec) as (executor, workers):
                # of those that were lost together one is to blame: alone, it harms no other
                alone = _queues(suspects)
                lost = self._until_lost(executor, 1, alone, others=any(waiting.values()))
                suspects = [job for queue in alone.values() for job in queue]
                if not lost:
                    lost = self._until_lost(executor, AHEAD * workers, waiting)
            suspects = [*self._again(lost), *suspects]

    def _until_lost(
        self, executor: Executor, most: int, waiting: Queues, others: bool = False
    ) -> list[Job]:
        """Carry out tasks, so many at a time, until none is left or a worker is lost; those which
        were with workers then. Where there are `others` to do, no target is waited for.
        """
        hand = InHand(executor, self.dry_run)
        lost: list[Job] = []
        try:
            while (hand.jobs or any(waiting.values())) and not lost:
                self._submit(hand, most, waiting)
                if others and not hand.jobs:
                    break
                lost += self._collect(hand, waiting)
        except BrokenExecutor:  # while nothing, or nothing that has ended yet, was with workers
            return hand.all
        except (ConfigError, KeyboardInterrupt):
            self._finish(hand, waiting)
            raise
        return [*lost, *hand.all] if lost else []

    def _submit(self, hand: InHand, most: int, waiting: Queues) -> None:
        """Give out tasks of each queue in turn, as long as its target may have more."""
        load = hand.load
        names = deque(name for name, queue in waiting.items() if queue)
        while names and len(hand.jobs) < most:
            name = names.popleft()
            queue = waiting[name]
            if name is not None and not self._is_free(queue[0].task.targets[0], load):
                continue
            jobs = self._take(self._together(queue, most), queue, load, waiting)
            if jobs:
                try:
                    hand.submit(jobs)
                except BrokenExecutor:
                    queue.extendleft(reversed(jobs))
                    raise
                load.update(_labels(jobs))
                waiting[name] = waiting.pop(name)  # next time the others come first
            if queue:
                names.append(name)

    def _take(self, most: int, queue: deque[Job], load: Counter[str], waiting: Queues) -> list[Job]:
        """The next tasks of a queue that one worker is to do, one after the other; of a target that
        is down a single one.
        """
        jobs: list[Job] = []
        while queue and len(jobs) < most:
            backoffs = [self._backoffs[target.label] for target in queue[0].task.targets]
            down = any(backoff.is_down and not backoff.is_over for backoff in backoffs)
            if down and jobs:
                break
            job = self._open(queue.popleft(), load, waiting)
            jobs += [job] if job else []
            if down:
                break
        return jobs

    def _together(self, queue: deque[Job], most: int) -> int:
        """How many of the tasks of a queue are given out at once: small ones take longer to send
        than to do, but the last ones are shared among all workers.
        """
        pace = self._pace.get(_kind(queue[0]))
        if most == 1 or pace is None:
            return 1
        return max(min(MOST, len(queue) // most, int(STRETCH / pace)), 1)

    def _is_free(self, target: TargetSpec, load: Counter[str]) -> bool:
        """Whether a target may have one more task; one that is down gets a single one to try."""
        backoff = self._backoffs[target.label]
        if backoff.is_down and not backoff.is_over:
            return not load[target.label] and not backoff.seconds
        return target.limit is None or load[target.label] < target.limit or backoff.is_over

    def _open(self, job: Job, load: Counter[str], waiting: Queues) -> Job | None:
        """The part of a task whose targets may have it now; the others wait, or have failed."""
        targets = job.task.targets
        over = [to for to in targets if self._backoffs[to.label].is_over]
        held = [to for to in targets if to not in over and not self._is_free(to, load)]
        free = [to for to in targets if to not in over and to not in held]
        for target in over:
            self._give_up(job.task, target)
        first = next(iter((*free, *held)), None)  # it stands for the place, see Task.is_first
        for target in held:
            is_first = job.task.is_first and target is first
            part = replace(job.task, targets=(target,), is_first=is_first)
            waiting.setdefault(target.label, deque()).append(Job(part, job.lost))
        if len(free) == len(targets):
            return job
        return replace(job, task=replace(job.task, targets=tuple(free))) if free else None

    def _collect(self, hand: InHand, waiting: Queues) -> list[Job]:
        """Wait for the next tasks to end, and tell of them; those whose worker was lost."""
        lost = []
        pauses = [self._backoffs[name].seconds for name, queue in waiting.items() if name and queue]
        pause = min((seconds for seconds in pauses if seconds), default=None)
        if not hand.jobs:
            time.sleep(0.0 if hand.untold else pause or 0.0)
        for jobs, future in hand.ended(pause) if hand.jobs else ():
            try:
                done, seconds = future.result()
            except ConfigError:
                raise
            except Exception as error:  # deliberately broad: each engine has its own
                if is_loss(error):
                    lost += jobs
                    continue
                why = f"{type(error).__name__}: {error}"
                done, seconds = [failed(job.task, why) for job in jobs], 0.0
            kind, pace = _kind(jobs[0]), max(seconds / len(done), LEAST)
            self._pace[kind] = WEIGHT * pace + (1 - WEIGHT) * self._pace.get(kind, pace)
            hand.untold.extend(zip(jobs, done, strict=False))
            for job in reversed(jobs[len(done) :]):  # those after one that was not answered
                waiting.setdefault(_limited(job.task), deque()).appendleft(job)
        while hand.untold:  # an interrupt leaves the others to `_finish`
            self._ended(*hand.untold.popleft(), waiting)
        return lost

    def _ended(self, job: Job, done: Done, waiting: Queues) -> None:
        """Tell what a task did, and keep what is left of it."""
        for report in done.reports:
            if report.status != "failed":  # that need not come from the target
                self._backoffs[report.target].answered()
        silent = {left.report.target for left in done.left}
        self.on_done(job.task.without(silent) if silent else job.task, done)
        for left in done.left:
            self._keep(job, left, waiting)

    def _keep(self, job: Job, left: Left, waiting: Queues) -> None:
        """Put what is left of a task back, to be tried when its target answers again."""
        report, task = left.report, left.task
        backoff = self._backoffs[report.target]
        if backoff.failed(report.findings[-1].message, report.answered) and not backoff.is_over:
            self.on_wait(report.target, backoff.why, backoff.bound)
        is_strike = backoff.answers > job.answers
        again = Job(task, job.lost, job.strikes + is_strike, backoff.answers)
        if again.strikes >= STRIKES:
            self.on_done(replace(task, targets=()), Done((report,)))
            again = Job(replace(task, done=(*task.done, report.source)), job.lost)
        # not the first of its queue: another one tells more about the target
        waiting.setdefault(report.target, deque()).insert(1, again)

    def _give_up(self, task: Task, target: TargetSpec) -> None:
        """Tell what is missing in a target that is waited for no longer."""
        backoff = self._backoffs[target.label]
        why = (
            f"not written: {target.label} did not answer for {backoff.bound:g} s ({backoff.why}). "
            "The same command again does what is missing"
        )
        part = replace(task, targets=(target,), is_first=False)
        self.on_done(part, failed(part, why, "no-answer"))

    def _finish(self, hand: InHand, waiting: Queues) -> None:
        """Let what was begun end, and take back what was not."""
        hand.take_back()
        with suppress(KeyboardInterrupt):  # a second one stops at once
            while hand.jobs or hand.untold:
                with suppress(ConfigError):  # what is told already is enough
                    self._collect(hand, waiting)

    def _again(self, lost: Sequence[Job]) -> list[Job]:
        """The tasks that are tried again; the others have failed."""
        again = []
        for job in lost:
            job.lost += 1
            if job.lost <= self.spec.retries:
                again.append(job)
            else:
                why = f"its worker was lost {job.lost} times (out of memory, or killed)"
                self.on_done(job.task, failed(job.task, why))
        return again


def _queues(jobs: Iterable[Job]) -> Queues:
    """The tasks by what may hold them back, in their order."""
    queues: Queues = {}
    for job in jobs:
        queues.setdefault(_limited(job.task), deque()).append(job)
    return queues


def _limited(task: Task) -> str | None:
    """The target that holds a task back, if there is one."""
    first = task.targets[0]
    return first.label if first.limit is not None else None


def _labels(jobs: Iterable[Job]) -> set[str]:
    """The targets of some tasks."""
    return {target.label for job in jobs for target in job.task.targets}


def _kind(job: Job) -> str:
    """What a task has in common with those that take as long."""
    return " ".join(target.label for target in job.task.targets)
