"""Findings: facts about a run for the user, as data instead of log lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridges.stream.model import Int64


class Severity(str, Enum):
    """The severity of a finding.

    `info`: for information; `warning`: should be checked; `loss`: the target has less data than a
    live run would have logged; `error`: the run failed. `loss` and `error` set exit code 1.
    """

    INFO = "info"
    WARNING = "warning"
    LOSS = "loss"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """A fact about a run: a stable `code`, its location, and the number of occurrences."""

    code: str
    severity: Severity
    where: str
    message: str
    count: int = 1

    @classmethod
    def at_rows(
        cls, code: str, severity: Severity, rows: Sequence[int] | Int64, message: str
    ) -> Finding:
        """A finding that lists and counts its rows (positions from 0)."""
        return cls(code, severity, name_rows(rows), message, len(rows))

    @property
    def fails(self) -> bool:
        """Whether the finding sets exit code 1."""
        return self.severity in (Severity.LOSS, Severity.ERROR)

    def as_dict(self) -> dict[str, str | int]:
        """The finding in the JSON document."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "where": self.where,
            "message": self.message,
            "count": self.count,
        }


def name_rows(rows: Sequence[int] | Int64, limit: int = 5) -> str:
    """Row positions for messages, counted from 0: `rows 3, 8, 9 and 4 more`."""
    shown = ", ".join(str(int(row)) for row in rows[:limit])
    more = len(rows) - limit
    label = "row" if len(rows) == 1 else "rows"
    return f"{label} {shown}" + (f" and {more} more" if more > 0 else "")
