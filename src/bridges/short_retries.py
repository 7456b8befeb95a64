"""A flag that limits HTTP retries to 2 seconds. Separate from `http`, whose import is slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SHORT_RETRY_SECONDS = 2.0
HAS_SHORT_RETRIES: ContextVar[bool] = ContextVar("has_short_retries", default=False)


@contextmanager
def short_retries() -> Iterator[None]:
    """Limit the retries of requests within the block, for callers with their own backoff."""
    token = HAS_SHORT_RETRIES.set(True)
    try:
        yield
    finally:
        HAS_SHORT_RETRIES.reset(token)
