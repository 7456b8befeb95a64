"""A list of runs that shows itself as a table."""

from __future__ import annotations

from bridges.stream.model import Run
from bridges.stream.show import MOST_ROWS, runs_table


class Runs(list[Run]):
    """Runs: a list whose text has a line for each run, and in a notebook a table."""

    def __repr__(self) -> str:
        lines = [repr(run) for run in self[:MOST_ROWS]]
        more = [f"… and {len(self) - MOST_ROWS} more"] if len(self) > MOST_ROWS else []
        return "[" + ",\n ".join([*lines, *more]) + "]"

    def _repr_html_(self) -> str:
        return runs_table(self)
