"""The engine: tasks on processes, here or of a Dask cluster, through one seam.

The seam is `concurrent.futures.Executor`. A worker that is lost costs its tasks another try and
nothing else, because all state lies in the targets.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bridges.errors import ConfigError
from bridges.migration.backoff import Backoff
from bridges.migration.config import EngineSpec
from bridges.migration.executors import executor_of, is_loss
from bridges.migration.targets import TargetSpec
from bridges.migration.tasks import Done, Left, Task, carry_out
from bridges.report import failure

AHEAD = 2  # tasks for each worker that wait in its queue
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

    def run(self, tasks: Sequence[Task]) -> None:
        """All tasks. Raises ConfigError; on KeyboardInterrupt what was begun is finished first."""
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
        running: dict[Future[Done], Job] = {}
        lost: list[Job] = []
        try:
            while (running or any(waiting.values())) and not lost:
                self._submit(executor, most, waiting, running)
                if others and not running:
                    break
                lost += self._collect(waiting, running)
        except BrokenExecutor:  # while nothing, or nothing that has ended yet, was with workers
            return [*running.values()]
        except KeyboardInterrupt:
            self._finish(waiting, running)
            raise
        return [*lost, *running.values()] if lost else []

    def _submit(
        self, executor: Executor, most: int, waiting: Queues, running: dict[Future[Done], Job]
    ) -> None:
        """Give out tasks of each queue in turn, as long as its target may have more."""
        load = Counter(to.label for job in running.values() for to in job.task.targets)
        names = deque(name for name, queue in waiting.items() if queue)
        while names and len(running) < most:
            name = names.popleft()
            queue = waiting[name]
            if name is not None and not self._is_free(queue[0].task.targets[0], load):
                continue
            job = self._open(queue.popleft(), load, waiting)
            if job is not None:
                try:
                    future = executor.submit(carry_out, job.task, dry_run=self.dry_run)
                except BrokenExecutor:
                    queue.appendleft(job)
                    raise
                running[future] = job
                load.update(target.label for target in job.task.targets)
                waiting[name] = waiting.pop(name)  # next time the others come first
            if queue:
                names.append(name)

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
        return replace(job, task=replace(job.task, targets=tuple(free))) if free else None

    def _collect(self, waiting: Queues, running: dict[Future[Done], Job]) -> list[Job]:
        """Wait for the next tasks to end, and tell of them; those whose worker was lost."""
        lost = []
        pauses = [self._backoffs[name].seconds for name, queue in waiting.items() if name and queue]
        pause = min((seconds for seconds in pauses if seconds), default=None)
        if not running:
            time.sleep(pause or 0.0)
        ended, _ = wait(running, timeout=pause, return_when=FIRST_COMPLETED)
        for future in ended:
            job = running.pop(future)
            try:
                done = future.result()
            except ConfigError:
                raise
            except Exception as error:  # deliberately broad: each engine has its own
                if not is_loss(error):
                    done = _failed(job.task, f"{type(error).__name__}: {error}")
                else:
                    lost.append(job)
                    continue
            self._ended(job, done, waiting)
        return lost

    def _ended(self, job: Job, done: Done, waiting: Queues) -> None:
        """Tell what a task did, and keep what is left of it."""
        for report in done.reports:
            if report.status != "failed":  # that need not come from the target
                self._backoffs[report.target].answered()
        silent = {left.report.target for left in done.left}
        targets = tuple(target for target in job.task.targets if target.label not in silent)
        self.on_done(replace(job.task, targets=targets), done)
        for left in done.left:
            self._keep(job, left, waiting)

    def _keep(self, job: Job, left: Left, waiting: Queues) -> None:
        """Put what is left of a task back, to be tried when its target answers again."""
        report, task = left.report, left.task
        backoff = self._backoffs[report.target]
        if backoff.failed(report.findings[-1].message) and not backoff.is_over:
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
        self.on_done(part, _failed(part, why, "no-answer"))

    def _finish(self, waiting: Queues, running: dict[Future[Done], Job]) -> None:
        """Let what was begun end, and take back what was not."""
        for future in [*running]:
            if future.cancel():
                del running[future]
        with suppress(KeyboardInterrupt):  # a second one stops at once
            while running:
                self._collect(waiting, running)

    def _again(self, lost: Sequence[Job]) -> list[Job]:
        """The tasks that are tried again; the others have failed."""
        again = []
        for job in lost:
            job.lost += 1
            if job.lost <= self.spec.retries:
                again.append(job)
            else:
                why = f"its worker was lost {job.lost} times (out of memory, or killed)"
                self.on_done(job.task, _failed(job.task, why))
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


def _failed(task: Task, why: str, code: str = "worker") -> Done:
    return Done(
        tuple(failure(task.location, target.label, why, code=code) for target in task.targets)
    )
