"""The log of what an export does: its reading, requests, statements, and matches.

It goes to the loggers of the standard library below `bridges`, at level DEBUG.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

ENVIRONMENT = "BRIDGES_LOG"  # set to 1 in the workers of a migration to show the log
SHOWN = ("bridges", "urllib3")  # the loggers that `show` prints


def log(topic: str, message: str, *values: object, exc_info: bool = False) -> None:
    """Log a message of `logging`, with a logger of this topic.

    If nobody imported `logging`, nobody reads the log, and the import of 2 ms is saved.
    """
    if logger := _logger(topic):
        logger.debug(message, *values, exc_info=exc_info)


def is_read(topic: str) -> bool:
    """Whether anyone reads the log of this topic."""
    logger = _logger(topic)
    return logger is not None and logger.isEnabledFor(10)


def show(redacted: Callable[[str], str]) -> None:
    """Print the log on stderr, without secrets and without characters that rewrite the screen."""
    import logging

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            text = redacted(super().format(record))
            return "".join(
                char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}"
                for char in text
            )

    handler = logging.StreamHandler()
    seconds = "{relativeCreated:9.1f} ms  {name}  {message}"
    handler.setFormatter(Formatter(seconds, style="{"))
    for name in SHOWN:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.DEBUG)


def _logger(topic: str) -> logging.Logger | None:
    found = sys.modules.get("logging")
    return found.getLogger(f"bridges.{topic}") if found else None
