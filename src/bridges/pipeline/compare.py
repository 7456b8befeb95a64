"""Compare the points of a target with the points of a layout.

Steps and times must be equal, and values bit by bit as far as the target stores them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property

import numpy as np

from bridges.exporters.base import Exporter, Points, ReadsPieces, Recorded, as_stored
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64, MetricStream, Series, Values
from bridges.stream.redact import redact_value

PART = 1 << 16  # points compared at once
SHOWN = 3  # points that a finding names
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
Key = tuple[int, float, float]  # step, bits of the value, time


def expected_points(layout: Layout, exporter: Exporter) -> Mapping[str, Points]:
    """The points of each tag as the target stores them, in row order.

    Those of a large run are made when they are used, each time.
    """
    expected = _Expected(layout, exporter)
    return dict(expected) if layout.points <= PART else expected


class _Expected(Mapping[str, Points]):
    def __init__(self, layout: Layout, exporter: Exporter) -> None:
        self._stream, self._exporter = layout.stream, exporter
        self._series: dict[str, list[Series]] = {}
        for part in self._stream.numbers:
            if len(part.rows):
                self._series.setdefault(part.key, []).append(part)

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)

    def stored(self) -> Iterator[Values]:
        """The values of each series."""
        for parts in self._series.values():
            yield from (as_stored(self._exporter, part.values) for part in parts)

    def by_step(self, tag: str) -> _ByStep | None:
        """The points of a tag for a comparison in pieces; None if several series have them."""
        parts = self._series.get(tag, [])
        return _ByStep.of(self._stream, parts[0], self._exporter) if len(parts) == 1 else None

    def __getitem__(self, tag: str) -> Points:
        parts, stream = self._series[tag], self._stream
        values = [as_stored(self._exporter, part.values) for part in parts]
        if len(parts) == 1:
            (part,), (value,) = parts, values
            if part.time is None and len(part.rows) == len(stream):  # steps and times are shared
                return Points(stream.step, value, self._seconds)
            return Points(stream.step[part.rows], value, stream.times(part) / 1e6)
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows, kind="stable")
        time = np.concatenate([stream.times(part) for part in parts])[order]
        return Points(stream.step[rows[order]], np.concatenate(values)[order], time / 1e6)

    @cached_property
    def _seconds(self) -> Float64:
        """The times of all rows."""
        assert self._stream.time is not None
        return self._stream.time / 1e6


@dataclass(frozen=True)
class _ByStep:
    """The points of a series, sorted by step, and within a step as in the log.

    order: the positions in the series (int64, n); None: they are sorted by step
    """

    stream: MetricStream
    series: Series
    exporter: Exporter
    order: Int64 | None

    @classmethod
    def of(cls, stream: MetricStream, series: Series, exporter: Exporter) -> _ByStep:
        is_whole = len(series.rows) == len(stream)
        step = stream.step if is_whole else stream.step[series.rows]
        is_sorted = bool((step[1:] >= step[:-1]).all())
        order = None if is_sorted else np.argsort(step, kind="stable")
        return cls(stream, series, exporter, order)

    def equals(self, pieces: Iterable[Points]) -> bool:
        """Whether the pieces are these points in this order. Reads all pieces.

        Within a piece, the points of one step may have another order.
        """
        at, is_equal = 0, True
        for piece in pieces:
            is_equal = is_equal and _same(self._part(at, at + len(piece.step)), piece)
            at += len(piece.step)
        return is_equal and at == len(self.series.rows)

    def _part(self, start: int, stop: int) -> Points:
        part = self.series.only(
            slice(start, stop) if self.order is None else self.order[start:stop]
        )
        assert self.stream.time is not None
        time = self.stream.time[part.rows] if part.time is None else part.time
        return Points(
            self.stream.step[part.rows], as_stored(self.exporter, part.values), time / 1e6
        )


def stored_values(expected: Mapping[str, Points]) -> Iterator[Values]:
    """The values of the expected points, in parts."""
    if isinstance(expected, _Expected):
        return expected.stored()
    return (points.value for points in expected.values())


def compare(layout: Layout, recorded: Recorded, expected: Mapping[str, Points]) -> list[Finding]:
    """A finding for each tag with other points than expected; empty if the target is correct."""
    findings = []
    for tag in dict.fromkeys([*expected, *recorded.points]):
        if not _equal_in_pieces(tag, expected, recorded.points):
            findings += _compare_tag(tag, expected.get(tag), recorded.points.get(tag))
    findings += _compare_others(layout, recorded)
    return findings + _compare_summary(layout.summary, recorded.summary)


def holds_rows(layout: Layout, recorded: Recorded, exporter: Exporter) -> bool:
    """Whether the target has all points of the layout, and maybe others."""
    for tag, points in expected_points(layout, exporter).items():
        there = recorded.points.get(tag)
        if there is None or not (_begins(there, points) or not _counts(points) - _counts(there)):
            return False
    return not Counter(_other_values(layout)) - Counter(_canonical(recorded))


def holds_values(layout: Layout, recorded: Recorded, exporter: Exporter) -> bool:
    """Whether the target has all values of the layout, at any step."""
    for tag, points in expected_points(layout, exporter).items():
        there = recorded.points.get(tag)
        if there is None or not np.isin(bits(points.value), bits(there.value)).all():
            return False
    return not _compare_summary(layout.summary, recorded.summary)


def _equal_in_pieces(
    tag: str, expected: Mapping[str, Points], stored: Mapping[str, Points]
) -> bool:
    """Whether the points of a large run are equal and in the usual order, compared in pieces.

    False also if one side cannot be read in pieces.
    """
    if not isinstance(expected, _Expected) or not isinstance(stored, ReadsPieces):
        return False
    want = expected.by_step(tag) if tag in stored else None
    return want is not None and want.equals(stored.pieces(tag))


def _compare_tag(tag: str, want: Points | None, have: Points | None) -> list[Finding]:
    if want is not None and have is not None and _same(want, have):
        return []
    missing, extra = Counter(_keys(want)), Counter(_keys(have))
    missing, extra = missing - extra, extra - missing
    found = []
    if missing and want is not None:
        found.append(_differs("missing-points", tag, missing, want, "the target lacks"))
    if extra and have is not None:
        found.append(_differs("unexpected-points", tag, extra, have, "the target also holds"))
    return found


def _same(want: Points, have: Points) -> bool:
    """Whether points are equal bit by bit, in this order or sorted by step."""
    if len(want.step) != len(have.step):
        return False
    if _equal(want, have):
        return True
    return _equal(_by_step(want), _by_step(have))


def _equal(want: Points, have: Points) -> bool:
    """Whether points of one number are equal, compared in parts to need little memory."""
    return all(
        _equal_part(want, have, slice(at, at + PART)) for at in range(0, len(want.step), PART)
    )


def _equal_part(want: Points, have: Points, part: slice) -> bool:
    value, other = want.value[part], have.value[part]
    return (
        _alike(want.step[part], have.step[part])
        and (_alike(value, other) or _alike(bits(value), bits(other)))
        and _alike(want.time[part], have.time[part])
    )


def _alike(one: Values, other: Values) -> bool:
    """Whether all entries are equal; comparing the bytes first is faster."""
    return (one.dtype == other.dtype and one.tobytes() == other.tobytes()) or np.array_equal(
        one, other
    )


def _by_step(points: Points) -> Points:
    order = np.lexsort((bits(points.value), points.time, points.step))
    return Points(points.step[order], points.value[order], points.time[order])


def bits(values: Values) -> Values:
    """The bit patterns; all NaN have the same one."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind != "f":
        return values
    values = np.where(np.isnan(values), np.asarray(np.nan, values.dtype), values)
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


def _keys(points: Points | None) -> list[Key]:
    if points is None:
        return []
    columns = points.step.tolist(), bits(points.value).tolist(), points.time.tolist()
    return list(zip(*columns, strict=True))


def _begins(longer: Points, points: Points) -> bool:
    """Whether the first points are these, without their times: the usual case, and fast."""
    count = len(points.step)
    return bool(
        np.array_equal(longer.step[:count], points.step)
        and np.array_equal(bits(longer.value[:count]), bits(points.value))
    )


def _counts(points: Points) -> Counter[tuple[int, float]]:
    """The points without their times: another history of the run may have another clock."""
    values = bits(points.value).tolist()
    return Counter(zip(points.step.tolist(), values, strict=True))


def _differs(code: str, tag: str, keys: Counter[Key], points: Points, what: str) -> Finding:
    """The finding for the points with these keys, which are among `points`."""
    count = sum(keys.values())
    values = dict(zip(bits(points.value).tolist(), points.value.tolist(), strict=True))
    shown = "; ".join(
        f"{values[value]} at step {step}, {_utc(time)}" for step, value, time in list(keys)[:SHOWN]
    )
    more = " …" if len(keys) > SHOWN else ""
    message = f"{what} {count} point{'s' * (count != 1)}: {shown}{more}"
    return Finding(code, Severity.ERROR, f"tag {tag!r}", message, count)


def _utc(seconds: float) -> str:
    try:
        time = EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):  # before the year 1, after 9999, or no number
        return f"{seconds} s"
    return f"{time:%Y-%m-%d %H:%M:%S.%f} UTC"


def _other_values(layout: Layout) -> list[tuple[str, int, str]]:
    series = (*(s for s in layout.stream.series if not s.is_number), *layout.texts)
    return [
        (part.key, int(layout.stream.step[row]), _json(value))
        for part in series
        for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True)
    ]


def _canonical(recorded: Recorded) -> list[tuple[str, int, str]]:
    """The other values of the target, masked, because earlier releases did not mask them."""
    return [(tag, step, _json(redact_value(tag, value))) for tag, step, value in recorded.others]


def _json(value: object) -> str:
    return json.dumps(_by_value(value), sort_keys=True, default=repr)


def _by_value(value: object) -> object:
    """A value in which whole floats are integers: 1.0 equals 1 everywhere."""
    if isinstance(value, dict):
        return {key: _by_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_by_value(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _compare_others(layout: Layout, recorded: Recorded) -> list[Finding]:
    values = _other_values(layout)
    if not values and not recorded.others:
        return []
    want, have = Counter(values), Counter(_canonical(recorded))
    missing, extra = want - have, have - want
    if not missing and not extra:
        return []
    tag, step, _ = next(iter(missing or extra))
    message = f"{len(missing)} texts or objects missing and {len(extra)} unexpected"
    where = f"tag {tag!r}, step {step}"
    count = sum(missing.values()) + sum(extra.values())
    return [Finding("other-values-differ", Severity.ERROR, where, message, count)]


def _compare_summary(want: Mapping[str, object], have: Mapping[str, object]) -> list[Finding]:
    wrong = [key for key in want if _json(want[key]) != _json(redact_value(key, have.get(key)))]
    if not wrong:
        return []
    message = "the summary values differ"
    return [Finding("summary-differs", Severity.ERROR, ", ".join(wrong), message, len(wrong))]
