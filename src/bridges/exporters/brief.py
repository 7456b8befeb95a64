"""Whether requests are to be brief. Apart from `http`, which is slow to import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

BRIEF = 2.0  # seconds after which a brief request is tried no more
IS_BRIEF: ContextVar[bool] = ContextVar("is_brief", default=False)


@contextmanager
def briefly() -> Iterator[None]:
    """Requests within the block are tried again for seconds only: the caller waits by itself."""
    token = IS_BRIEF.set(True)
    try:
        yield
    finally:
        IS_BRIEF.reset(token)
