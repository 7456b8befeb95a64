"""Connections to PostgreSQL: the form of their URIs, and their errors as messages."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from bridges.stream.redact import redact_text

if TYPE_CHECKING:
    import psycopg

SCHEME = re.compile(r"postgres(ql)?(\+psycopg2?)?://")
CONNECT_SECONDS = 30
_ANY_DRIVER = re.compile(r"postgres(ql)?(\+\w+)?://")
# a failed pipeline also warns of the error that it raises
logging.getLogger("psycopg").addHandler(logging.NullHandler())


def connect(uri: str) -> psycopg.Connection[Any]:
    """A connection in autocommit mode. Raises psycopg.Error."""
    import psycopg

    libpq = _ANY_DRIVER.sub("postgresql://", uri, count=1)
    return psycopg.connect(libpq, autocommit=True, connect_timeout=CONNECT_SECONDS)


def message_of(error: psycopg.Error) -> str:
    """The message of an error in one line, without passwords."""
    return redact_text(" ".join(str(error).replace("\n\t", ". ").split()))
