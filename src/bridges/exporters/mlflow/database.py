"""The interface of a database with MLflow's tables, for the direct writer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from bridges.errors import ExportError
from bridges.exporters.base import Points
from bridges.exporters.mlflow.rows import MetricColumn

TAGS_OF = (  # value and run id of the tags with one name in an experiment
    "select tags.value, tags.run_uuid from tags join runs on runs.run_uuid = tags.run_uuid"
    " where tags.key = ? and runs.experiment_id = ?"
)
TAG_ORDER = " order by tags.run_uuid"


Row = tuple[Any, ...]  # one value a column


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

    def lock(self, run_id: str) -> None:
        """Lock the run for other writers until the transaction ends."""
        ...

    def tags_since(
        self, position: int | None, name: str, value: str, experiment: int
    ) -> tuple[list[Any], int]:
        """The tags called `name` in an experiment (rows of value and run id), and a position.

        With the position of an earlier call, the answer may omit older tags and other values.
        """
        ...

    def insert_points(self, run_id: str, columns: Iterable[MetricColumn]) -> None:
        """Insert the points of a run key by key, the fastest order for the indexes."""
        ...

    def read_points(self, run_id: str) -> dict[str, Points]:
        """All points of a run by key, sorted by time."""
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
        raise ExportError("the run or its experiment was deleted during the export; export again")
    return row
