"""A tracking store in PostgreSQL, read through psycopg in read-only transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from bridges.errors import MissingDependencyError, SourceError
from bridges.formats.mlflow_store.postgres import connect, message_of
from bridges.formats.mlflow_store.records import Metric
from bridges.formats.mlflow_store.uri import quoted_uri, shown_uri
from bridges.sources.mlflow.columns import ROWS_PER_CHUNK, ColumnBuilder, infinities
from bridges.sources.mlflow.database import Row, Schema, Session, schema_of
from bridges.stream.finding import Finding

if TYPE_CHECKING:
    import psycopg

EXPECTED = "an MLflow tracking store in PostgreSQL"
POINTS = (
    "select key, case when is_nan then 'NaN'::float8 else value end, timestamp, step from metrics"
    " where run_uuid = %s"
)
COLUMNS = (
    "select table_name, column_name from information_schema.columns"
    " where table_schema = current_schema()"
)
T = TypeVar("T")


class PostgresSession:
    """A transaction with a consistent view."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        placed = statement.replace("?", "%s").encode()
        return self._connection.execute(placed, values or None).fetchall()

    def metrics(self, run_id: str) -> tuple[list[Metric], list[Finding]]:
        """The points of a run by key, in the order of the table, and findings."""
        builder = ColumnBuilder()
        with self._connection.cursor(binary=True) as cursor:
            for rows in _chunks(cursor, run_id):
                builder.add(rows)
        metrics = builder.metrics()
        return metrics, [*infinities(metrics), *builder.findings()]

    def replaced(self) -> int:
        """0, as all texts are UTF-8."""
        return 0


def _chunks(cursor: psycopg.Cursor[Row], run_id: str) -> Iterator[list[Row]]:
    """The points of a run in small lists, while the server sends more, if libpq can do that."""
    import psycopg

    if psycopg.pq.version() >= 170_000 and psycopg.__version__ >= "3.2":
        rows = cursor.stream(POINTS, (run_id,), size=ROWS_PER_CHUNK)
    else:
        rows = iter(cursor.execute(POINTS, (run_id,)))
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        yield chunk


class PostgresDatabase:
    """The database at a `postgresql://` URI."""

    def __init__(self, uri: str) -> None:
        self.location = shown_uri(uri)
        self._uri = quoted_uri(uri)
        self._connection: psycopg.Connection[Row] | None = None

    def schema(self) -> Schema:
        """The columns of all tables in the current schema."""
        return schema_of(self.read(lambda session: session.rows(COLUMNS)))

    def refresh(self) -> None:
        """Do nothing: every transaction reads the newest state."""

    def folders(self) -> Sequence[str]:
        """No directories."""
        return ()

    def read(self, work: Callable[[Session], T]) -> T:
        """The result of `work`; called again if an open connection was lost."""
        is_new = self._connection is None
        try:
            return self._read(work)
        except _LostError:
            if is_new:
                raise
        return self._read(work)

    def _read(self, work: Callable[[Session], T]) -> T:
        with self._errors():
            connection = self._open()
            with connection.transaction():
                return work(PostgresSession(connection))

    def _open(self) -> psycopg.Connection[Row]:
        """The connection; all of its transactions are read-only and see one state."""
        import psycopg

        if self._connection is None:
            connection = connect(self._uri)
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection = connection
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of psycopg as SourceError, without the password."""
        try:
            import psycopg
        except ImportError:
            raise MissingDependencyError("psycopg", "postgresql") from None
        try:
            yield
        except psycopg.Error as error:
            kind: type[SourceError] = SourceError
            if self._connection is not None and self._connection.closed:
                self._connection, kind = None, _LostError
            raise kind(
                self.location,
                found=f"an error of the server ({message_of(error)})",
                expected=EXPECTED,
                remedy="Check the URI, the login and its right to read, and that the server runs.",
            ) from None
        except UnicodeDecodeError:
            raise SourceError(
                self.location,
                found="texts with another encoding than UTF-8",
                expected=EXPECTED,
                remedy="Convert them in the database, or create it again with the encoding UTF8.",
            ) from None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _LostError(SourceError):
    """The connection was lost."""
