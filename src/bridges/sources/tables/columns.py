"""The roles of a table's columns: step, epoch, time, metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

from bridges.errors import ConfigError, SourceError
from bridges.sources.options import ReadOptions
from bridges.sources.tables.formats import Elapsed, TableFormat, Timestamp, Unit

_UNITS = (*get_args(Unit), "elapsed")
_TIME = re.compile(rf"(.+?)(?::({'|'.join(_UNITS)}))?", re.DOTALL)


@dataclass(frozen=True)
class Roles:
    """The columns of the step, the time and the time since the start; None: the table has none.

    epoch: the column of the epoch; None if it is that of the step
    """

    step: str | None
    epoch: str | None
    timestamp: Timestamp | None
    elapsed: Elapsed | None

    @property
    def columns(self) -> set[str]:
        """The names of these columns."""
        time = [self.timestamp.column] if self.timestamp else []
        elapsed = [*self.elapsed.columns] if self.elapsed and not self.elapsed.file else []
        return {*([self.step] if self.step is not None else []), *time, *elapsed}


def time_column(text: str) -> Timestamp | Elapsed:
    """The column in `NAME` or `NAME:UNIT`. Raises ConfigError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"--time-column {text!r}: expected NAME or NAME:UNIT, with a unit of "
            f"{', '.join(_UNITS)}"
        )
    name, unit = match[1], match[2] or "s"
    if unit == "elapsed":
        return Elapsed(columns=(name,))
    return Timestamp(column=name, unit=cast(Unit, unit))


def roles_of(
    location: str, columns: Sequence[str], format: TableFormat, options: ReadOptions
) -> Roles:
    """The roles of the columns, by the options or else by the format.

    Raises SourceError if a column named by the user is missing.
    """
    step = next((name for name in format.step if name in columns), None)
    timestamp, elapsed = format.timestamp, format.elapsed
    if options.step_column is not None:
        step = _existing(location, options.step_column, columns, "--step-column")
    if options.time_column is not None:
        chosen = time_column(options.time_column)
        if isinstance(chosen, Timestamp):
            timestamp, elapsed, name = chosen, None, chosen.column
        else:
            timestamp, elapsed, name = None, chosen, chosen.columns[0]
        _existing(location, name, columns, "--time-column")
    if timestamp is not None and timestamp.column not in columns:
        timestamp = None
    if elapsed is not None and not elapsed.file:
        known = tuple(name for name in elapsed.columns if name in columns)[:1]
        elapsed = replace(elapsed, columns=known) if known else None
    epoch = next((name for name in format.epoch if name in columns), "epoch")
    return Roles(step, None if epoch == step else epoch, timestamp, elapsed)


def _existing(location: str, name: str, columns: Sequence[str], option: str) -> str:
    if name not in columns:
        shown = ", ".join(columns[:10]) + (" …" if len(columns) > 10 else "")
        remedy = "Give the name as the first line has it."
        if option == "--time-column" and name.rpartition(":")[0] in columns:
            remedy = f"If {name.rpartition(':')[2]!r} is a unit: {', '.join(_UNITS)} are possible."
        raise SourceError(
            location,
            place=f"{option} {name}",
            found=f"the columns {shown}",
            expected="a column of this name",
            remedy=remedy,
        )
    return name
