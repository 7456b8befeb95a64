"""Added rows: rows that a source found beside the history of a run, as in a results file.

The target keeps them where they were written. A history that goes on afterwards is written behind
them, and a row that its source holds no longer stays: so the rows of a run are put into the order
that the target has before they are compared or continued.
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
    """A row beside the history: its position among all rows, its `RowKind`, step and values."""

    row: int
    kind: int
    step: int
    values: Mapping[str, Any]

    def as_json(self) -> list[Any]:
        """The row as a target keeps it."""
        return [self.row, self.kind, self.step, dict(self.values)]

    @classmethod
    def parse(cls, found: Any) -> AddedRow:
        """The row that a target keeps. Raises ValueError or TypeError for anything else."""
        row, kind, step, values = found
        return cls(int(row), int(kind), int(step), dict(values))

    def holds(self, other: AddedRow) -> bool:
        """Whether it has every value of another row; the epoch may be missing."""
        missing = object()
        return all(
            key == "epoch" or _text(self.values.get(key, missing)) == _text(value)
            for key, value in other.values.items()
        )

    def equals(self, other: AddedRow) -> bool:
        """Whether another row has the same step and the same values."""
        return self.step == other.step and _text(self.values) == _text(other.values)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _masked(key: str, value: Any) -> Any:
    """A value for the target to keep: numbers of a log are no secrets."""
    return value if isinstance(value, (int, float)) else redact_value(key, value)


def rows_of(stream: MetricStream, rows: Sequence[int]) -> tuple[AddedRow, ...]:
    """Some rows of a stream, with the values that they hold."""
    if not rows:
        return ()
    found = []
    for row, values in zip(rows, stream.take(np.array(rows, np.int64)), strict=True):
        step = values.pop("step")
        masked = {redact_key(key): _masked(key, value) for key, value in values.items()}
        found.append(AddedRow(row, int(stream.kind[row]), step, masked))
    return tuple(found)


def joined(stream: MetricStream, rows: Sequence[AddedRow]) -> MetricStream:
    """The stream with these rows behind it, whatever their positions say."""
    series: dict[tuple[str, str], Series] = {(s.key, s.values.dtype.kind): s for s in stream.series}
    for part in behind(stream, rows):
        name = part.key, part.values.dtype.kind
        series[name] = _as_one(series[name], part) if name in series else part
    step = np.concatenate([stream.step, np.array([row.step for row in rows], np.int64)])
    kind = np.concatenate([stream.kind, np.array([row.kind for row in rows], np.uint8)])
    return MetricStream(step, kind, tuple(series.values()))


def behind(stream: MetricStream, rows: Sequence[AddedRow]) -> list[Series]:
    """The values of rows that follow those of a stream."""
    series, _ = series_from_rows([dict(row.values) for row in rows])
    return [Series(part.key, part.rows + len(stream), part.values) for part in series]


def _as_one(first: Series, second: Series) -> Series:
    rows = np.concatenate([first.rows, second.rows])
    return Series(first.key, rows, np.concatenate([first.values, second.values]))


def arranged(run: Run, held: Sequence[AddedRow]) -> Run:
    """The run with its rows in the order of a target that holds these added rows.

    The history fills the places between them; added rows that the target lacks come last.
    """
    mine = rows_of(run.stream, run.added)
    if _text([row.as_json() for row in mine]) == _text([row.as_json() for row in held]):
        return run
    known = {row.row: at for row in mine for at, other in enumerate(held) if other.holds(row)}
    count, fresh = len(run.stream), [row.row for row in mine if row.row not in known]
    history = np.setdiff1d(np.arange(count), run.added)
    order = np.full(len(history) + len(held) + len(fresh), -1, np.int64)
    order[[row.row for row in held]] = count + np.arange(len(held))
    order[order < 0] = [*history.tolist(), *fresh]
    place = np.full(count + len(held), -1, np.int64)
    place[order] = np.arange(len(order))
    place[[*known]] = place[[count + at for at in known.values()]]
    return replace(
        run,
        stream=joined(run.stream, held).take(order),
        added=tuple(sorted([*(row.row for row in held), *place[fresh].tolist()])),
        evidence=tuple(moved(one, place) for one in run.evidence),
    )


def moved(evidence: Evidence, place: Int64) -> Evidence:
    """The evidence for rows that have new places."""
    rows = place[evidence.rows]
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    return replace(evidence, rows=rows[order], time=evidence.time[order])
