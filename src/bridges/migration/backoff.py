"""Backoff for a target that stops answering, shared by all of its tasks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

FIRST_PAUSE = 1.0  # seconds; doubled after each failure, and shortened at random
MAX_PAUSE = 30.0  # seconds
UNKNOWN_SHARE = 0.1  # of the patience, for a target without any answer: its name may be wrong


class Backoff:
    """The state of one target: whether it answers, and the time of the next try.

    `patience` is in seconds. `answers` counts the successful requests, `why` is the last failure,
    and `is_over` is true once the patience is used up.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.answers = 0
        self.why = ""
        self.is_over = False
        self._patience, self._clock = patience, clock
        self._is_known = False  # any request was answered
        self._down_since: float | None = None
        self._next = 0.0
        self._pause = FIRST_PAUSE

    @property
    def bound(self) -> float:
        """The maximum waiting time in seconds."""
        return self._patience * (1.0 if self._is_known else UNKNOWN_SHARE)

    @property
    def is_down(self) -> bool:
        """Whether the last request failed. Such a target gets one task at a time, with pauses."""
        return self._down_since is not None

    @property
    def seconds(self) -> float:
        """Seconds until the next try."""
        return max(self._next - self._clock(), 0.0) if self.is_down else 0.0

    def answered(self) -> None:
        """Record a successful request."""
        self.answers += 1
        self._is_known = True
        self.is_over, self._down_since, self._pause = False, None, FIRST_PAUSE

    def failed(self, why: str, answered: bool = False) -> bool:
        """Record a failed request. Returns whether the target was up before.

        `answered`: the target answered an earlier request of the same task.
        """
        self._is_known = self._is_known or answered
        now, is_news, self.why = self._clock(), not self.is_down, why
        if not is_news and now < self._next:
            return False  # the task was submitted before the pause
        self._down_since = now if self._down_since is None else self._down_since
        left = self._down_since + self.bound - now
        self.is_over = left <= 0
        self._next = now + min(self._pause * random.uniform(0.5, 1.0), max(left, 0.0))
        self._pause = min(2 * self._pause, MAX_PAUSE)
        return is_news
