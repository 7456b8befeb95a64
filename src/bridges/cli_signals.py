"""Ctrl-C and a polite kill, for commands that tell what was done before they end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Ctrl-C and a polite kill, which is like it: what was done is told, what was begun cleaned."""

    def __init__(self) -> None:
        self._holding = self._came = False

    def handle(self, number: int, frame: object) -> None:
        """The handler of both signals."""
        if not self._holding:
            raise KeyboardInterrupt
        self._came = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it they wait until the end: what is begun to be told is whole."""
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
    """Within it the signals are handled so, unless they are ignored (those of a job in the
    background often are).
    """
    ours = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
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
