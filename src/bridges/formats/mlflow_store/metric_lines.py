"""Parses the metric files of a file store: lines of `time value step`, in the order of logging.

Lines of two fields are those of MLflow 0.x, without a step. Further fields name a dataset. Plain
lines are parsed as one JSON list, some thousand at a time, all others line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from bridges.stream.columns import join_parts
from bridges.stream.model import Float64, Int64

PIECE_BYTES = 1 << 17  # the lists of parsed numbers stay in the processor's cache
MAX_LINE_BYTES = 1 << 20  # the rest of a longer line is ignored
MAX_ENDLESS_BYTES = (
    1 << 28
)  # reading ends in such a line: a hole in the file, or another kind of file
FIRST_LINES = 5  # numbers of odd lines kept
FEW_BYTES = 150  # fewer are parsed faster line by line
SECONDS_BELOW = 10**11  # times of MLflow 0.x in seconds; in milliseconds this is 1973
MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1
_COMMAS = bytes.maketrans(b" \n", b",,")
_DIGITS = b"0123456789+-"
_NUMBER = _DIGITS + b".eENaInfity"  # with the letters of NaN and Infinity
_LINE, _FLOAT_LINE = b"  \n", b" . \n"  # a line without its digits
# as MLflow 0.x and 1.0 wrote them
_BOOLEANS: dict[bytes | str, float] = {b"True": 1.0, b"False": 0.0}

Columns = tuple[Int64, Float64, Int64]  # time (ms), value, step


class LineKind(Enum):
    """Kinds of odd lines.

    DAMAGED: not a point, left out. FURTHER: has further fields, which name a dataset or a run.
    CUT: the last line, without an end and left out. UNENDED: the last line, without an end, but a
    point.
    """

    BLANK = "blank"
    DAMAGED = "damaged"
    FURTHER = "further"
    CUT = "cut"
    UNENDED = "unended"


@dataclass
class LineNumbers:
    """The numbers of some lines of a file: how many, and the first ones."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        """Add a line."""
        self.count += 1
        if self.count <= FIRST_LINES:
            self.first.append(number)

    def __str__(self) -> str:
        """Such as `line 3` or `lines 3, 8 and 2 more`."""
        more = f" and {self.count - FIRST_LINES:,} more" if self.count > FIRST_LINES else ""
        return f"line{'s'[: self.count > 1]} {', '.join(map(str, self.first))}{more}"


@dataclass
class MetricLines:
    """The points of a metric file (n each), and its odd lines by kind.

    is_seconds: the times were seconds, and were multiplied by 1000
    """

    time: Int64
    value: Float64
    step: Int64
    odd: dict[LineKind, LineNumbers]
    is_seconds: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the file has no line but blank ones."""
        return not len(self.time) and self.odd.keys() <= {LineKind.BLANK}


def parse_lines(pieces: Iterable[bytes], *, is_growing: bool = False) -> MetricLines:
    """The points of a file, given as pieces of any size.

    `is_growing`: a last line without an end is still being written, so it is left out.
    """
    parser = _Parser()
    tail, endless = b"", 0
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            parser.add(tail + piece[:end])
            tail, endless = piece[end:], 0
        elif len(tail) < MAX_LINE_BYTES:
            tail += piece
        elif (endless := endless + len(piece)) > MAX_ENDLESS_BYTES:
            tail = b""
            parser.add(b"\0\n")
            break
    if tail.strip() and not is_growing:
        parser.add_tail(tail)
    return parser.result()


class _Parser:
    """Collects the columns of pieces of whole lines."""

    def __init__(self) -> None:
        self._columns: list[Columns] = []
        self._odd: dict[LineKind, LineNumbers] = {}
        self._lines = 0
        self._has_steps = False

    def add(self, data: bytes) -> None:
        """Parse whole lines."""
        columns = _as_json(data) if len(data) >= FEW_BYTES else None
        if columns is None:
            self._columns.append(self._line_by_line(data))
            self._lines += data.count(b"\n")
        else:
            self._has_steps = True
            self._columns.append(columns)
            self._lines += len(columns[0])

    def add_tail(self, tail: bytes) -> None:
        """Parse a last line without an end: fewer than three fields are not all of it."""
        self._lines += 1
        point = None if len(tail.split()) < 3 else parse_point(tail.split())
        if point is None:
            self._note(LineKind.CUT, self._lines)
            return
        self._note(LineKind.UNENDED, self._lines)
        self._has_steps = True
        time, value, step = point
        self._columns.append(_columns([time], [value], [step]))

    def _note(self, kind: LineKind, number: int) -> None:
        self._odd.setdefault(kind, LineNumbers()).add(number)

    def _line_by_line(self, data: bytes) -> Columns:
        times: list[int] = []
        values: list[float] = []
        steps: list[int] = []
        for number, line in enumerate(data[:-1].split(b"\n"), self._lines + 1):
            fields = line.split()
            point = parse_point(fields)
            if point is None:
                self._note(LineKind.DAMAGED if fields else LineKind.BLANK, number)
                continue
            if len(fields) > 3:
                self._note(LineKind.FURTHER, number)
            self._has_steps |= len(fields) > 2
            times.append(point[0])
            values.append(point[1])
            steps.append(point[2])
        return _columns(times, values, steps)

    def result(self) -> MetricLines:
        """All columns."""
        columns = self._columns or [_columns([], [], [])]
        time, value, step = columns[0]
        if len(columns) > 1:
            parts = [*map(list, zip(*columns, strict=True))]
            columns.clear()
            time, value, step = map(join_parts, parts)
        is_seconds = not self._has_steps and _are_seconds(time)
        return MetricLines(time * 1000 if is_seconds else time, value, step, self._odd, is_seconds)


def _are_seconds(time: Int64) -> bool:
    """Whether times are seconds since 1970 instead of milliseconds."""
    return bool(len(time) and time.min() >= 0 and time.max() < SECONDS_BELOW)


def _columns(times: Sequence[float], values: Sequence[float], steps: Sequence[float]) -> Columns:
    return np.array(times, np.int64), np.array(values, np.float64), np.array(steps, np.int64)


def parse_point(fields: Sequence[bytes | str]) -> tuple[int, float, int] | None:
    """Time, value and step of a line; two fields have step 0. None for a line without a point."""
    try:
        time = int(fields[0])
        value = _BOOLEANS[fields[1]] if fields[1] in _BOOLEANS else float(fields[1])
        step = int(fields[2]) if len(fields) > 2 else 0
    except (ValueError, IndexError):
        return None
    in_range = MIN_INT64 <= time <= MAX_INT64 and MIN_INT64 <= step <= MAX_INT64
    return (time, value, step) if in_range else None


def _as_json(data: bytes) -> Columns | None:
    """The columns, if each line has two integers around a float, as MLflow writes it; else None."""
    rest = data.translate(None, _DIGITS)
    line_count = len(rest) // len(_FLOAT_LINE)
    if rest != _FLOAT_LINE * line_count:
        rest = rest.replace(b".e", b".").replace(b" e ", b" . ")
        line_count = len(rest) // len(_FLOAT_LINE)
        if rest != _FLOAT_LINE * line_count:
            return _as_json_of_any(data)
    try:
        found = _numbers(data)
        return _columns(found[0::3], found[1::3], found[2::3])
    except (ValueError, OverflowError):
        return None


def _as_json_of_any(data: bytes) -> Columns | None:
    """The columns, if each line has two integers around any number; else None."""
    data = data.replace(b"\r\n", b"\n").replace(b" nan ", b" NaN ").replace(b"inf ", b"Infinity ")
    rest = data.translate(None, _NUMBER)
    # as an integer, -0 would lose its sign
    if rest != _LINE * (len(rest) // len(_LINE)) or b"-0 " in data:
        return None
    try:
        found = _numbers(data)
        times, steps = np.array(found[0::3]), np.array(found[2::3])
        values = np.array(found[1::3], np.float64)
    except (ValueError, OverflowError):
        return None
    are_integers = times.dtype == np.int64 and steps.dtype == np.int64
    return (times, values, steps) if are_integers else None


def _numbers(data: bytes) -> list[float]:
    """All fields of whole lines of numbers. Raises ValueError."""
    from pydantic_core import from_json  # slow to import, and not needed for metrics of few points

    found: list[float] = from_json(b"[%b]" % data.translate(_COMMAS)[:-1])
    return found
