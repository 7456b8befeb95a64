"""Several connections to one tracking server, for requests at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

from bridges.formats.mlflow_store.rest import RestClient

CONNECTIONS = 4
T = TypeVar("T")
R = TypeVar("R")


class Connections:
    """Connections to the server at `url`, opened on first use; `option`: see RestClient."""

    def __init__(self, url: str, option: str) -> None:
        self._url, self._option = url, option
        self._idle: SimpleQueue[RestClient] = SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[RestClient, T], R], items: Sequence[T]) -> list[R]:
        """The result of `work` for each item, in order. Raises its first error."""
        if len(items) < 2:
            return [self._done(work, item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(CONNECTIONS)
        waiting = [self._pool.submit(copy_context().run, self._done, work, each) for each in items]
        try:
            return [each.result() for each in waiting]
        finally:
            for each in waiting:
                each.cancel()

    def _done(self, work: Callable[[RestClient, T], R], item: T) -> R:
        """The result of `work` for an item, over an idle or a new connection."""
        client = RestClient(self._url, self._option) if self._idle.empty() else self._idle.get()
        try:
            return work(client, item)
        finally:
            self._idle.put(client)
