"""A tracking store in MySQL or MariaDB, read through SQLAlchemy in read-only transactions.

SQLAlchemy is a part of mlflow, and knows the drivers in tracking URIs. mlflow's own client is not
used: it demands the tables of its own release, and creates missing ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from bridges.errors import MissingDependencyError, SourceError
from bridges.formats.mlflow_store.client import message_of
from bridges.formats.mlflow_store.records import Metric
from bridges.formats.mlflow_store.uri import check_driver, quoted_uri, shown_uri
from bridges.sources.mlflow.columns import ROWS_PER_CHUNK, ColumnBuilder, infinities
from bridges.sources.mlflow.database import Row, Schema, Session, schema_of
from bridges.stream.finding import Finding

EXPECTED = "an MLflow tracking store in MySQL"
SETTINGS = (
    "set names utf8mb4",
    "set session sql_mode = 'ANSI_QUOTES'",  # "key" is the name of a column
    "set session transaction isolation level repeatable read",
    "set session transaction read only",
)
POINTS = (
    'select "key", case when is_nan then null else value end, timestamp, step from metrics'
    " where run_uuid = %s"
)
COLUMNS = (
    "select table_name, column_name from information_schema.columns where table_schema = database()"
)
T = TypeVar("T")


class MysqlSession:
    """A transaction with a consistent view."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        placed = statement.replace("?", "%s")
        found = self._connection.exec_driver_sql(placed, tuple(values))
        return [tuple(row) for row in found]

    def metrics(self, run_id: str) -> tuple[list[Metric], list[Finding]]:
        """The points of a run by key, and findings."""
        builder = ColumnBuilder()
        options = {"stream_results": True}
        points = self._connection.exec_driver_sql(POINTS, (run_id,), execution_options=options)
        while rows := points.fetchmany(ROWS_PER_CHUNK):
            builder.add(rows)
        metrics = builder.metrics()
        return metrics, [*infinities(metrics), *builder.findings()]

    def replaced(self) -> int:
        """0, as all texts arrive as UTF-8."""
        return 0


class MysqlDatabase:
    """The database at a `mysql://` or `mysql+DRIVER://` URI."""

    def __init__(self, uri: str) -> None:
        self.location = shown_uri(uri)
        check_driver(uri)
        try:
            import sqlalchemy
        except ImportError:
            raise MissingDependencyError("sqlalchemy", "mlflow") from None
        with self._errors():
            self._engine = sqlalchemy.create_engine(quoted_uri(uri), pool_pre_ping=True)
        sqlalchemy.event.listen(self._engine, "connect", _set_up)

    def schema(self) -> Schema:
        """The columns of all tables."""
        return schema_of(self.read(lambda session: session.rows(COLUMNS)))

    def refresh(self) -> None:
        """Do nothing: every transaction reads the newest state."""

    def folders(self) -> Sequence[str]:
        """No directories."""
        return ()

    def read(self, work: Callable[[Session], T]) -> T:
        """The result of `work` in a transaction; a lost connection is opened again before it."""
        with self._errors(), self._engine.connect() as connection:
            return work(MysqlSession(connection))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of SQLAlchemy as SourceError, without the password."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            raise SourceError(
                self.location,
                found=f"an error of the server ({message_of(error)})",
                expected=EXPECTED,
                remedy="Check the URI, the login and its right to read, and that the server runs.",
            ) from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _set_up(connection: Any, _: object) -> None:
    """Make the transactions of a new connection read-only and consistent."""
    with connection.cursor() as cursor:
        for setting in SETTINGS:
            cursor.execute(setting)
