"""The interface of a database with MLflow's tables, for the direct writer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ExportError
from bridges.exporters.base import Points
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.stream.columns import join_parts
from bridges.stream.model import Float64, Int64

TAGS_OF = (  # value and run id of the tags with one name in an experiment
    "select tags.value, tags.run_uuid from tags join runs on runs.run_uuid = tags.run_uuid"
    " where tags.key = ? and runs.experiment_id = ?"
)
TAG_ORDER = " order by tags.run_uuid"


FEW_POINTS = 500  # of a run: they are read and written with as few statements as possible
FEW_OF_KEY = 50  # points on average: one query for all keys is faster
Row = tuple[Any, ...]  # one value a column
POINT = np.dtype(
    [("step", np.int64), ("value", np.float64), ("is_nan", np.bool_), ("time", np.int64)]
)


class Cursor(Protocol):
    """The result of a statement."""

    def fetchone(self) -> Row | None:
        """The next row or None."""
        ...

    def fetchall(self) -> list[Row]:
        """The remaining rows."""
        ...


class Session(Protocol):
    """A connection in a transaction; `?` stands for a value in statements."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> object:
        """Run one statement for each row."""
        ...

    def upsert(self, table: str, run_id: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Insert rows of a run, given by column, in place of those with the same `key`.

        The values of a column have one type, and the keys differ.
        """
        ...

    def together(self) -> AbstractContextManager[object]:
        """Inside, statements are sent without waiting for the one before; the end raises errors.

        For runs of few points.
        """
        ...

    def lock(self, run_id: str) -> None:
        """Lock the run for other writers until the transaction ends."""
        ...

    def tags_since(
        self, position: int | None, name: str, values: Sequence[str], experiment: int
    ) -> tuple[list[Any], int]:
        """The tags called `name` in an experiment (rows of value and run id), and a position.

        With the position of an earlier call, the answer may omit older tags and other values.
        """
        ...

    def insert_points(self, run_id: str, columns: Iterable[MetricColumn]) -> None:
        """Insert the points of a run key by key, the fastest order for the indexes."""
        ...

    def keys(self, run_id: str) -> list[tuple[str, int]]:
        """The keys of a run, and the number of points of each."""
        ...

    def read_points(self, run_id: str, limit: int) -> dict[str, Points] | None:
        """All points of a run by key, sorted by time; None for more points than the limit."""
        ...

    def read_key(self, run_id: str, key: str) -> Iterator[Points]:
        """The points of a key in pieces, at least one, sorted by step.

        Those of one step are usually in the order of writing.
        """
        ...


class Database(Protocol):
    """A database with MLflow's tables in a known schema (see `schema.py`).

    `keeps_ids`: it takes any 64-bit id of an experiment. `widths`: the widths of the columns, by
    `table.column`, as far as it enforces them. `takes_nul`: its texts may have NUL characters.
    """

    keeps_ids: bool
    takes_nul: bool
    has_workspaces: bool
    release: str | None  # the newest mlflow with its schema; None if new, and before `check`

    @property
    def widths(self) -> Mapping[str, int]:
        """The widths of columns."""
        ...

    @property
    def columns(self) -> Mapping[str, Collection[str]]:
        """The columns of each table; empty if it has no tables, and before `check`."""
        ...

    @property
    def artifact_root(self) -> str:
        """The URI of the directory for copied artifacts of runs from other stores."""
        ...

    def check(self) -> None:
        """Check the schema. Raises UnknownSchemaError if it is unknown."""
        ...

    def exists(self) -> bool:
        """Whether the database has tables."""
        ...

    def create(self) -> None:
        """Create missing tables with the installed mlflow."""
        ...

    def transaction(self, *, write: bool = False) -> AbstractContextManager[Session]:
        """One transaction. Raises ConflictError for a duplicate row, and ExportError.

        In a `batch`, a write is a savepoint, and a read is a part of the batch.
        """
        ...

    def batch(self) -> AbstractContextManager[Session]:
        """One transaction around several. If it raises an error, nothing was written."""
        ...


def one_row(session: Session, statement: str, values: Sequence[object]) -> Row:
    """The only row of a statement. Raises ExportError if another program deleted it."""
    row = session.execute(statement, values).fetchone()
    if row is None:
        raise deleted_meanwhile()
    return row


def deleted_meanwhile() -> ExportError:
    """The error for a run or an experiment that another program deleted."""
    return ExportError("the run or its experiment was deleted during the export; export again")


def on_conflict(columns: Iterable[str]) -> str:
    """The end of an insertion that replaces rows of a run with the same `key`."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "key")
    return f"on conflict (key, run_uuid) do update set {changes}"


def put_pairs(session: Session, table: str, run_id: str, pairs: Mapping[str, object]) -> None:
    """Set params or tags of a run."""
    if pairs:
        session.upsert(table, run_id, {"key": [*pairs], "value": [*pairs.values()]})


def points_of(pieces: Iterable[Points]) -> Points:
    """The points in some pieces, at least one, sorted by time."""
    steps, values, times = [], [], []
    for piece in pieces:
        steps.append(piece.step)
        values.append(piece.value)
        times.append(piece.time)
    return _by_time(Points(*map(join_parts, (steps, values, times))))


def piece_of(rows: NDArray[np.void]) -> Points:
    """The points in rows with the fields of POINT."""
    value = np.where(rows["is_nan"], np.nan, rows["value"]) + 0.0  # without -0.0
    return Points(rows["step"].astype(np.int64), value, rows["time"] / 1000.0)


def points_by_key(rows: Iterable[Row]) -> dict[str, Points]:
    """The points in rows of key, step, value, is_nan and time, sorted by time."""
    by_key: dict[str, list[Row]] = {}
    for key, *point in rows:
        by_key.setdefault(key, []).append(tuple(point))
    ends = [*accumulate(map(len, by_key.values()), initial=0)]
    points = np.array([*chain.from_iterable(by_key.values())], POINT)
    step: Int64 = np.ascontiguousarray(points["step"])
    value: Float64 = np.where(points["is_nan"], np.nan, points["value"]) + 0.0  # without -0.0
    time: Float64 = points["time"] / 1000.0
    parts = map(slice, ends, ends[1:])
    return {
        key: _by_time(Points(step[part], value[part], time[part]))
        for key, part in zip(by_key, parts, strict=True)
    }


def _by_time(points: Points) -> Points:
    if len(points.time) == 1 or not (points.time[1:] < points.time[:-1]).any():
        return points
    order = np.argsort(points.time, kind="stable")
    return Points(points.step[order], points.value[order], points.time[order])


class PointsByKey(Mapping[str, Points]):
    """The points of a run, read from the database key by key, each time when they are asked for."""

    def __init__(self, database: Database, run_id: str, keys: Sequence[str]) -> None:
        self._database, self._run_id, self._keys = database, run_id, dict.fromkeys(keys)

    def __getitem__(self, key: str) -> Points:
        return points_of(self.pieces(key))

    def pieces(self, key: str) -> Iterator[Points]:
        """The points of a key in pieces; see `ReadsPieces`."""
        if key not in self._keys:
            raise KeyError(key)
        with self._database.transaction() as session:
            yield from session.read_key(self._run_id, key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def stored_points(database: Database, run_id: str) -> Mapping[str, Points]:
    """The points of a run by key; those of many points are read key by key when they are used."""
    with database.transaction() as session:
        points = session.read_points(run_id, FEW_POINTS)
        if points is not None:
            return points
        keys = session.keys(run_id)
        count = sum(of_key for _, of_key in keys)
        points = session.read_points(run_id, count) if count < FEW_OF_KEY * len(keys) else None
    return PointsByKey(database, run_id, [key for key, _ in keys]) if points is None else points
