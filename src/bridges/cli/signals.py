"""SIGINT and SIGTERM handling: report finished work before exiting."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Handles SIGINT and SIGTERM alike, by raising KeyboardInterrupt."""

    def __init__(self) -> None:
        self._holding = self._came = False

    def handle(self, number: int, frame: object) -> None:
        """The signal handler."""
        if not self._holding:
            raise KeyboardInterrupt
        self._came = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals until the end of the block, to complete its output."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._came:
                self._came = False
                raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle signals within the block, unless they are ignored, as in background jobs."""
    ours = Interrupts()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main:  # only the main thread handles signals
        yield ours
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    handled = [kind for kind in kinds if signal.getsignal(kind) is not signal.SIG_IGN]
    before = {kind: signal.signal(kind, ours.handle) for kind in handled}
    try:
        yield ours
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler or signal.SIG_DFL)
