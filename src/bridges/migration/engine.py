"""The engine: tasks on processes, here or of a Dask cluster, through one seam.

The seam is `concurrent.futures.Executor`. A worker that is lost costs its tasks another try and
nothing else, because all state lies in the targets.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from bridges.errors import ConfigError, MissingDependencyError
from bridges.migration.config import EngineSpec
from bridges.migration.tasks import Done, Task, carry_out
from bridges.report import failure

AHEAD = 2  # tasks for each worker that wait in its queue
Queues = dict[str | None, deque[int]]  # tasks by the target whose limit holds them back
CHECK = 1.0  # seconds after which a worker sees that the migration is gone


@dataclass
class Engine:
    """Carries out tasks; `on_done` is told of each, in the order in which they end."""

    spec: EngineSpec
    dry_run: bool = False
    on_done: Callable[[Task, Done], None] = lambda task, done: None
    _tries: Counter[int] = field(default_factory=Counter)

    def run(self, tasks: Sequence[Task]) -> None:
        """All tasks. Raises ConfigError; on KeyboardInterrupt what was begun is finished first."""
        waiting = _queues(tasks, range(len(tasks)))
        suspects: list[int] = []
        while suspects or any(waiting.values()):
            with _executor(self.spec) as (executor, workers):
                # of those that were lost together one is to blame: alone, it harms no other
                alone = _queues(tasks, suspects)
                lost = self._until_lost(executor, 1, tasks, alone)
                suspects = [index for queue in alone.values() for index in queue]
                if not lost:
                    lost = self._until_lost(executor, AHEAD * workers, tasks, waiting)
            suspects = [*self._again(tasks, lost), *suspects]

    def _until_lost(
        self, executor: Executor, most: int, tasks: Sequence[Task], waiting: Queues
    ) -> list[int]:
        """Carry out tasks, so many at a time, until none is left or a worker is lost; those which
        were with workers then.
        """
        running: dict[Future[Done], int] = {}
        lost: list[int] = []
        try:
            while (running or any(waiting.values())) and not lost:
                self._submit(executor, most, tasks, waiting, running)
                lost += self._collect(tasks, running)
        except KeyboardInterrupt:
            self._finish(tasks, running)
            raise
        return [*lost, *running.values()] if lost else []

    def _submit(
        self,
        executor: Executor,
        most: int,
        tasks: Sequence[Task],
        waiting: Queues,
        running: dict[Future[Done], int],
    ) -> None:
        """Give out tasks of each queue in turn, as long as its target may have more."""
        load = Counter(_limited(tasks[index]) for index in running.values())
        free = deque(name for name, queue in waiting.items() if queue)
        while free and len(running) < most:
            name = free.popleft()
            limit = tasks[waiting[name][0]].targets[0].limit
            if limit is not None and load[name] >= limit:
                continue
            index = waiting[name].popleft()
            load[name] += 1
            running[executor.submit(carry_out, tasks[index], dry_run=self.dry_run)] = index
            if waiting[name]:
                free.append(name)

    def _collect(self, tasks: Sequence[Task], running: dict[Future[Done], int]) -> list[int]:
        """Wait for the next tasks to end, and tell of them; those whose worker was lost."""
        lost = []
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            index = running.pop(future)
            try:
                done = future.result()
            except ConfigError:
                raise
            except Exception as error:  # deliberately broad: each engine has its own
                if not _is_loss(error):
                    done = _failed(tasks[index], f"{type(error).__name__}: {error}")
                else:
                    lost.append(index)
                    continue
            self.on_done(tasks[index], done)
        return lost

    def _finish(self, tasks: Sequence[Task], running: dict[Future[Done], int]) -> None:
        """Let what was begun end, and take back what was not."""
        for future in [*running]:
            if future.cancel():
                del running[future]
        with suppress(KeyboardInterrupt):  # a second one stops at once
            while running:
                self._collect(tasks, running)

    def _again(self, tasks: Sequence[Task], lost: Sequence[int]) -> list[int]:
        """The tasks that are tried again; the others have failed."""
        again = []
        for index in lost:
            self._tries[index] += 1
            if self._tries[index] <= self.spec.retries:
                again.append(index)
            else:
                why = f"its worker was lost {self._tries[index]} times (out of memory, or killed)"
                self.on_done(tasks[index], _failed(tasks[index], why))
        return again


def _queues(tasks: Sequence[Task], indices: Iterable[int]) -> Queues:
    """The tasks by what holds them back, in their order."""
    queues: Queues = {}
    for index in indices:
        queues.setdefault(_limited(tasks[index]), deque()).append(index)
    return queues


def _limited(task: Task) -> str | None:
    """The target that holds a task back, if there is one."""
    first = task.targets[0]
    return first.label if first.limit is not None else None


def _is_loss(error: Exception) -> bool:
    return type(error).__name__ in ("BrokenProcessPool", "KilledWorker")


def _failed(task: Task, why: str) -> Done:
    return Done(
        tuple(failure(task.location, target.label, why, code="worker") for target in task.targets)
    )


@contextmanager
def _executor(spec: EngineSpec) -> Iterator[tuple[Executor, int]]:
    """An executor, and how many workers it has. Raises ConfigError and MissingDependencyError."""
    if spec.kind == "dask":
        with _dask(spec) as found:
            yield found
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    workers = spec.workers or _cores()
    spawn = get_context("spawn")  # a fork would share locks and connections
    with ProcessPoolExecutor(workers, spawn, _begin, (os.getpid(),)) as pool:
        yield pool, workers


@contextmanager
def _dask(spec: EngineSpec) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError("distributed", "dask") from None
    try:
        client = Client(spec.scheduler, timeout=10)
    except OSError as error:
        message = f"the Dask scheduler {spec.scheduler} cannot be reached: {error}"
        raise ConfigError(message) from None
    with client:
        workers = sum(client.nthreads().values()) or 1
        yield client.get_executor(pure=False, retries=spec.retries), workers


def _cores() -> int:
    """How many processors we may use; macOS and Windows only tell how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(parent: int) -> None:
    """In a worker: Ctrl-C is the parent's affair, and without a parent there is no work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK)
    os._exit(1)
