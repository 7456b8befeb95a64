"""A finding: something a user should know about a run, as data and not as a log line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridges.stream.model import Int64


class Severity(str, Enum):
    """How much a finding matters.

    `info` is worth knowing, `warning` worth a look; `loss` means that the target holds less than
    a live run would have left there, and `error` that the run failed. The last two set exit code 1.
    """

    INFO = "info"
    WARNING = "warning"
    LOSS = "loss"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One kind of fact about a run: a stable `code`, where it was seen and how many times."""

    code: str
    severity: Severity
    where: str
    message: str
    count: int = 1

    @classmethod
    def at_rows(
        cls, code: str, severity: Severity, rows: Sequence[int] | Int64, message: str
    ) -> Finding:
        """A finding that names and counts the rows (positions from 0) that it is about."""
        return cls(code, severity, name_rows(rows), message, len(rows))

    @property
    def fails(self) -> bool:
        """Whether the exit code must tell of this finding."""
        return self.severity in (Severity.LOSS, Severity.ERROR)

    def as_dict(self) -> dict[str, str | int]:
        """The finding as the JSON document shows it."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "where": self.where,
            "message": self.message,
            "count": self.count,
        }


def name_rows(rows: Sequence[int] | Int64, limit: int = 5) -> str:
    """Row positions for people, counted from 0 as in the file: `rows 3, 8, 9 and 4 more`."""
    shown = ", ".join(str(int(row)) for row in rows[:limit])
    more = len(rows) - limit
    label = "row" if len(rows) == 1 else "rows"
    return f"{label} {shown}" + (f" and {more} more" if more > 0 else "")
