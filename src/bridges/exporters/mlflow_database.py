"""What the direct writer needs of a database that holds MLflow's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from bridges.exporters.base import Points
from bridges.exporters.mlflow_rows import MetricColumn

TAGS_OF = (  # value and run of the tags of a name in an experiment
    "select tags.value, tags.run_uuid from tags join runs on runs.run_uuid = tags.run_uuid"
    " where tags.key = ? and runs.experiment_id = ?"
)
TAG_ORDER = " order by tags.run_uuid"


class Cursor(Protocol):
    """What a statement gives back."""

    def fetchone(self) -> Any:
        """The next row or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...


class Session(Protocol):
    """A connection within a transaction; statements have `?` for their values."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> object:
        """Run one statement for each row."""
        ...

    def lock(self, run_id: str) -> None:
        """Let no one else write the run until the transaction ends."""
        ...

    def tags_since(
        self, position: int | None, name: str, value: str, experiment: int
    ) -> tuple[list[Any], int]:
        """The tags of that name on the runs of an experiment, as rows of value and run id, and a
        position for the next call.

        With a position of an earlier call, at least those with that `value` that came since then.
        """
        ...

    def insert_points(self, run_id: str, columns: Iterable[MetricColumn]) -> None:
        """Add the points of a run, key by key, which is what the indexes like best."""
        ...

    def read_points(self, run_id: str) -> dict[str, Points]:
        """All points of a run by key, in the order of their times."""
        ...


class Database(Protocol):
    """A database with MLflow's tables, whose schema is one of those that tests cover."""

    has_workspaces: bool
    release: str | None  # of mlflow, whose schema it has; None before `check` and where it is new

    def check(self) -> None:
        """Raises UnknownSchemaError where there are tables that may not be written directly."""
        ...

    def exists(self) -> bool:
        """Whether it has tables."""
        ...

    def create(self) -> None:
        """Make the tables, as the installed mlflow does, if there are none."""
        ...

    def transaction(self, *, write: bool = False) -> AbstractContextManager[Session]:
        """One transaction. Raises ConflictError where a row is there already, ExportError else."""
        ...
