"""A few threads for work that waits for a network; the results come in the order of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Crew(Generic[T]):
    """At most `jobs` pieces of work at the same time, and twice as many results that wait."""

    def __init__(self, jobs: int) -> None:
        self._jobs = max(1, jobs)
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[T]] = deque()

    def take(self, work: Callable[[], T], is_parallel: bool) -> Iterator[T]:
        """Do the work, now or meanwhile; the results that are there by then."""
        if is_parallel and self._jobs > 1:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._jobs)
            self._waiting.append(self._pool.submit(work))
            while len(self._waiting) > 2 * self._jobs or (
                self._waiting and self._waiting[0].done()
            ):
                yield self._waiting.popleft().result()
        else:
            yield from self.rest()
            yield work()

    def rest(self) -> Iterator[T]:
        """The results that were not there yet."""
        while self._waiting:
            yield self._waiting.popleft().result()

    def close(self) -> None:
        """Begin nothing more, and wait for what was begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
