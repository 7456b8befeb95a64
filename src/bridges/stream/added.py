"""Added rows: rows that a source found beside the history of a run, for example in a results file.

A target keeps added rows at the position at which they were written. A growing history is written
after them, and rows that disappear from the source stay. So the rows of a run are put into the
order of the target before they are compared or appended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bridges.stream.columns import series_from_rows
from bridges.stream.model import Evidence, Int64, MetricStream, Run, Series
from bridges.stream.redact import redact_key, redact_value


@dataclass(frozen=True)
class AddedRow:
    """A row beside the history: its position among all rows, `RowKind`, step and values."""

    row: int
    kind: int
    step: int
    values: Mapping[str, Any]

    def as_json(self) -> list[Any]:
        """The row in the form that targets store."""
        return [self.row, self.kind, self.step, dict(self.values)]

    @classmethod
    def parse(cls, found: Any) -> AddedRow:
        """The row from its stored form. Raises ValueError or TypeError for anything else."""
        row, kind, step, values = found
        return cls(int(row), int(kind), int(step), dict(values))

    def contains(self, other: AddedRow) -> bool:
        """Whether it has every value of another row except the epoch."""
        missing = object()
        return all(
            key == "epoch" or _text(self.values.get(key, missing)) == _text(value)
            for key, value in other.values.items()
        )

    def equals(self, other: AddedRow) -> bool:
        """Whether another row has the same step and values."""
        return self.step == other.step and _text(self.values) == _text(other.values)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _masked(key: str, value: Any) -> Any:
    """The value to store, with secrets masked; numbers in a log are not secrets."""
    return value if isinstance(value, (int, float)) else redact_value(key, value)


def rows_of(stream: MetricStream, rows: Sequence[int]) -> tuple[AddedRow, ...]:
    """The given rows of a stream as added rows."""
    if not rows:
        return ()
    found = []
    for row, values in zip(rows, stream.take(np.array(rows, np.int64)), strict=True):
        step = values.pop("step")
        masked = {redact_key(key): _masked(key, value) for key, value in values.items()}
        found.append(AddedRow(row, int(stream.kind[row]), step, masked))
    return tuple(found)


def joined(stream: MetricStream, rows: Sequence[AddedRow]) -> MetricStream:
    """The stream followed by added rows; their positions are ignored."""
    series: dict[tuple[str, str], Series] = {(s.key, s.values.dtype.kind): s for s in stream.series}
    for part in following_series(stream, rows):
        name = part.key, part.values.dtype.kind
        series[name] = _as_one(series[name], part) if name in series else part
    step = np.concatenate([stream.step, np.array([row.step for row in rows], np.int64)])
    kind = np.concatenate([stream.kind, np.array([row.kind for row in rows], np.uint8)])
    return MetricStream(step, kind, tuple(series.values()))


def following_series(stream: MetricStream, rows: Sequence[AddedRow]) -> list[Series]:
    """The values of added rows as series that follow the rows of a stream."""
    series, _ = series_from_rows([dict(row.values) for row in rows])
    return [Series(part.key, part.rows + len(stream), part.values) for part in series]


def _as_one(first: Series, second: Series) -> Series:
    rows = np.concatenate([first.rows, second.rows])
    return Series(first.key, rows, np.concatenate([first.values, second.values]))


def arranged(run: Run, stored: Sequence[AddedRow]) -> Run:
    """The run with its rows in the order of a target that has stored these added rows.

    The history fills the positions between them; new added rows come last.
    """
    mine = rows_of(run.stream, run.added)
    if _text([row.as_json() for row in mine]) == _text([row.as_json() for row in stored]):
        return run
    known = {row.row: at for row in mine for at, other in enumerate(stored) if other.contains(row)}
    count, new = len(run.stream), [row.row for row in mine if row.row not in known]
    history = np.setdiff1d(np.arange(count), run.added)
    order = np.full(len(history) + len(stored) + len(new), -1, np.int64)
    order[[row.row for row in stored]] = count + np.arange(len(stored))
    order[order < 0] = [*history.tolist(), *new]
    position = np.full(count + len(stored), -1, np.int64)
    position[order] = np.arange(len(order))
    position[[*known]] = position[[count + at for at in known.values()]]
    return replace(
        run,
        stream=joined(run.stream, stored).take(order),
        added=tuple(sorted([*(row.row for row in stored), *position[new].tolist()])),
        evidence=tuple(moved(one, position) for one in run.evidence),
    )


def moved(evidence: Evidence, position: Int64) -> Evidence:
    """The evidence with each row at its new `position` (int64, one per row; -1: dropped)."""
    rows = position[evidence.rows]
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    return replace(evidence, rows=rows[order], time=evidence.time[order])
