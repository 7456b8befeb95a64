"""Collects log rows, added in batches, into the columns of one stream.

The format fixes the types of `step` (an int64) and `epoch` (a number), which pydantic checks. Other
keys may have values of any type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic_core import ValidationError

from bridges.errors import SourceError
from bridges.huggingface.trainer_keys import row_kinds
from bridges.sources.json_text import MAX_KEYS, too_many_keys
from bridges.sources.trainer.field_types import Int64, Number, expected_type, validator_of
from bridges.sources.trainer.not_a_history import describe, nested, stepless
from bridges.stream.align import fill_steps
from bridges.stream.columns import RowColumns, column_of
from bridges.stream.finding import Finding
from bridges.stream.model import MetricStream, Series

PlaceOf = Callable[[int], str]

_ROWS_PER_BATCH = 1000  # single rows wait until so many can become columns together
REMEDY_ROW = "Fix that row, or remove it from the file."
_FIXED = {"step": {"i"}, "epoch": {"i", "f"}}  # dtype kinds that need no check by pydantic
_fixed_columns = validator_of(
    {"step": list[Int64 | None], "epoch": list[Number | None]}, required=_FIXED
)


class LogRows:
    """The rows of one log, added in batches and stored as columns.

    `place_of` formats the position of a row for messages. The first invalid row sets `error`; later
    rows are ignored.
    """

    def __init__(self, location: str, place_of: PlaceOf = "log row {}".format) -> None:
        self.location = location
        self.error: SourceError | None = None
        self._place_of = place_of
        self._columns = RowColumns()
        self._first: Mapping[str, object] = {}
        self._waiting: list[object] = []

    def __len__(self) -> int:
        return self._columns.rows + len(self._waiting)

    def append(self, row: object) -> None:
        """Append one row, with the next batch."""
        self._waiting.append(row)
        if len(self._waiting) >= _ROWS_PER_BATCH:
            self._add_waiting()

    def add(self, rows: Sequence[object]) -> None:
        """Append rows at once."""
        self._add_waiting()
        if self.error or not rows:
            return
        try:
            if not _are_objects(rows):
                raise self._not_an_object(rows)
            if not self._columns.rows:
                self._first = rows[0]
            self._columns.add(rows)
            self._check_columns(rows)
        except SourceError as error:
            self.error = error

    def copy(self) -> LogRows:
        """An independent copy, to which other rows can be added."""
        self._add_waiting()
        other = LogRows(self.location, self._place_of)
        other.error, other._first, other._columns = self.error, self._first, self._columns.copy()
        return other

    def _add_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.add(waiting)

    def stream(self) -> tuple[MetricStream, list[Finding]]:
        """All rows as a stream, and its findings. Call it once. Raises SourceError."""
        self._add_waiting()
        if self.error:
            raise self.error
        rows = len(self)
        series, findings = self._columns.series()
        step, known = _steps(series, rows)
        step, missing = fill_steps(step, known)
        series = tuple(part for part in series if part.key != "step")
        stream = MetricStream(step, row_kinds(rows, series), series)
        return stream, [*missing, *findings]

    def refuse_other_files(self) -> None:
        """Raise SourceError if the rows are not log rows, as in a dataset file."""
        if self.error or not len(self):
            return
        if not self._columns.kinds("step"):
            raise stepless(self.location, self._first)
        if self._columns.is_nested(tuple(_FIXED)):
            raise nested(self.location, self._first)

    def _not_an_object(self, rows: Sequence[object]) -> SourceError:
        row = next(i for i, value in enumerate(rows) if type(value) is not dict)
        return SourceError(
            self.location,
            place=f"log row {self._columns.rows + row}",
            found=describe(rows[row]),
            expected="an object with the keys and values of one log row",
            remedy=REMEDY_ROW,
        )

    def _check_columns(self, rows: Sequence[dict[str, object]]) -> None:
        """Check the columns after `rows` were added."""
        keys = len(self._columns) - bool(self._columns.kinds("step"))
        if keys > MAX_KEYS:
            raise too_many_keys(self.location, keys)
        if any(self._columns.kinds(key) - kinds for key, kinds in _FIXED.items()):
            self._check_fixed(rows)

    def _check_fixed(self, rows: Sequence[dict[str, object]]) -> None:
        """Check `step` and `epoch` of the last added rows."""
        try:
            _fixed_columns.validate_python({key: column_of(rows, key) for key in _FIXED})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key, row = str(first["loc"][0]), self._columns.rows - len(rows) + int(first["loc"][1])
            raise SourceError(
                self.location,
                place=f"{self._place_of(row)}, key {key!r}",
                found=describe(first["input"]),
                expected="a number" if key == "epoch" else expected_type(key, [first["type"]]),
                remedy=REMEDY_ROW,
            ) from None


def _are_objects(rows: Sequence[object]) -> TypeGuard[Sequence[dict[str, object]]]:
    return not set(map(type, rows)) - {dict}


def _steps(series: Sequence[Series], rows: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The step of each row (int64), and a mask of the rows with a step."""
    step, known = np.zeros(rows, np.int64), np.zeros(rows, bool)
    for part in series:
        if part.key == "step" and part.values.dtype == np.int64:  # other values are null
            if len(part.rows) == rows:
                return part.values, np.ones(rows, bool)
            step[part.rows], known[part.rows] = part.values, True
    return step, known
