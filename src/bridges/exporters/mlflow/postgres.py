"""An MLflow tracking store in PostgreSQL, through psycopg and binary COPY, without mlflow."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ExportError
from bridges.exporters.base import ConflictError, Points
from bridges.exporters.mlflow.database import (
    TAG_ORDER,
    TAGS_OF,
    on_conflict,
    piece_of,
    points_by_key,
)
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.exporters.mlflow.schema import COLUMNS, check_schema, make_tables, needed_release
from bridges.formats.mlflow_store.postgres import SCHEME, connect, message_of
from bridges.log import log
from bridges.stream.redact import redact_text

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import Buffer

UNREACHABLE = (  # in messages of libpq, psycopg and servers that start, stop or are full
    "refused",
    "timeout",
    "timed out",
    "unreachable",
    "No route",
    "reset by peer",
    "closed the connection",
    "resolve host",
    "translate host",
    "starting up",
    "shutting down",
    "not yet accepting",
    "recovery mode",
    "too many clients",
    "connection slots",
)
WIDTHS = {  # of mlflow 3.17, for a database without tables
    "datasets.dataset_source_type": 36,
    "datasets.digest": 36,
    "datasets.name": 500,
    "experiment_tags.key": 250,
    "experiment_tags.value": 5000,
    "experiments.artifact_location": 256,
    "experiments.name": 256,
    "input_tags.name": 255,
    "input_tags.value": 500,
    "logged_model_metrics.metric_name": 500,
    "logged_model_params.param_key": 255,
    "logged_model_tags.tag_key": 255,
    "logged_models.artifact_location": 1000,
    "logged_models.model_type": 500,
    "logged_models.name": 500,
    "logged_models.status_message": 1000,
    "params.key": 250,
    "params.value": 8000,
    "runs.artifact_uri": 200,
    "runs.entry_point_name": 50,
    "runs.name": 250,
    "runs.run_uuid": 32,
    "runs.source_name": 500,
    "runs.source_version": 50,
    "runs.user_id": 256,
    "tags.key": 250,
    "tags.value": 8000,
}
CREATION_LOCK = 0x62726964676573  # "bridges": one process at a time creates the tables
# binary COPY: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
BUFFER_BYTES = 1 << 20  # read before they are decoded
_ARRAYS = {str: "text[]", int: "int8[]", float: "float8[]", bool: "bool[]"}
_TRAILER = struct.pack(">h", -1)
_READ = np.dtype(
    [
        ("fields", ">i2"),
        *((("l0", ">i4"), ("step", ">i8"), ("l1", ">i4"), ("value", ">f8"))),
        *((("l2", ">i4"), ("is_nan", "u1"), ("l3", ">i4"), ("time", ">i8"))),
    ]
)


def encode_points(run_id: str, column: MetricColumn) -> bytes:
    """The points of one key as tuples of binary COPY: key, value, is_nan, timestamp, step, run.

    All tuples of a key have the same length, so they form one array.
    """
    key, run = column.key.encode(), run_id.encode()
    fields = (
        ("key", f"S{len(key)}", key),
        ("value", ">f8", column.value),
        ("is_nan", "u1", column.is_nan),
        ("time", ">i8", column.time),
        ("step", ">i8", column.step),
        ("run", f"S{len(run)}", run),
    )
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind, _ in fields:
        layout += [(f"length of {name}", ">i4"), (name, kind)]
    tuples = np.empty(len(column.value), np.dtype(layout))
    tuples["fields"] = len(fields)
    for name, kind, values in fields:
        tuples[f"length of {name}"] = np.dtype(kind).itemsize
        tuples[name] = values
    return tuples.tobytes()


def decode_points(blocks: Iterable[Buffer]) -> Iterator[Points]:
    """The points in a binary COPY of step, value, is_nan and timestamp, in pieces."""
    return map(piece_of, _tuples(blocks))


def _tuples(blocks: Iterable[Buffer]) -> Iterator[NDArray[np.void]]:
    data, is_first = bytearray(), True
    for block in blocks:
        data += block
        if len(data) > BUFFER_BYTES:
            yield _taken(data, is_first=is_first)
            is_first = False
    yield _taken(data, is_first=is_first)


def _taken(data: bytearray, *, is_first: bool) -> NDArray[np.void]:
    """The complete tuples in the data, which lacks them then."""
    start = len(_HEADER) if is_first else 0
    count = max(0, len(data) - start) // _READ.itemsize
    end = start + count * _READ.itemsize
    tuples = np.frombuffer(bytes(data[start:end]), _READ)
    del data[:end]
    return tuples


class PostgresSession:
    """An open connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Run one statement."""
        log("sql", statement)
        return self._connection.execute(_placed(statement), values or None)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> object:
        """Run one statement for each row."""
        log("sql", "%s; for each row", statement)
        with self._connection.cursor() as cursor:
            cursor.executemany(_placed(statement), rows)
        return None

    def upsert(self, table: str, run_id: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Insert rows of a run, in place of those with the same `key`."""
        self._insert(table, run_id, columns, on_conflict(columns))

    def _insert(
        self, table: str, run_id: str, columns: Mapping[str, Sequence[object]], rest: str = ""
    ) -> None:
        """Insert rows by one statement. Each column is one parameter, an array."""
        arrays = (f"%s::{_ARRAYS[type(values[0])]}" for values in columns.values())
        statement = (
            f"insert into {table} ({', '.join(columns)}, run_uuid)"
            f" select *, %s::text from unnest({', '.join(arrays)}) {rest}"
        )
        log("sql", statement)
        lists = [list(values) for values in columns.values()]
        self._connection.execute(statement.encode(), (run_id, *lists))

    def together(self) -> AbstractContextManager[object]:
        """Inside, statements are sent without waiting for the one before; the end raises errors."""
        import psycopg

        is_supported = psycopg.Pipeline.is_supported()  # not by a libpq before 14
        return self._connection.pipeline() if is_supported else nullcontext()

    def lock(self, run_id: str) -> None:
        """Lock the run for other writers until the transaction ends."""
        self.execute("select 1 from runs where run_uuid = ? for update", (run_id,))

    def tags_since(
        self, position: int | None, name: str, values: Sequence[str], experiment: int
    ) -> tuple[list[Any], int]:
        """The tags called `name`; after the first call, those with `values`, old and new."""
        where, given = ("", []) if position is None else (" and tags.value = any(?)", [[*values]])
        found = self.execute(f"{TAGS_OF}{where}{TAG_ORDER}", (name, experiment, *given))
        return found.fetchall(), 0

    def insert_points(self, run_id: str, columns: Iterable[MetricColumn]) -> None:
        """Insert the points of a run, key by key; without COPY inside of `together`."""
        if self._connection.info.pipeline_status:
            self._insert_few(run_id, columns)
            return
        order = "key, value, is_nan, timestamp, step, run_uuid"
        statement = f"copy metrics ({order}) from stdin (format binary)"
        log("sql", statement)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(_HEADER)
            for column in columns:
                copy.write(encode_points(run_id, column))
            copy.write(_TRAILER)

    def _insert_few(self, run_id: str, columns: Iterable[MetricColumn]) -> None:
        """Insert points by one statement: COPY waits for several answers of the server."""
        points: dict[str, list[object]] = {
            name: [] for name in ("key", "value", "is_nan", "timestamp", "step")
        }
        for column in columns:
            points["key"] += [column.key] * len(column.value)
            points["value"] += column.value.tolist()
            points["is_nan"] += column.is_nan.tolist()
            points["timestamp"] += column.time.tolist()
            points["step"] += column.step.tolist()
        if points["key"]:
            self._insert("metrics", run_id, points)

    def keys(self, run_id: str) -> list[tuple[str, int]]:
        """The keys of a run, and the number of points of each."""
        statement = "select key, count(*) from metrics where run_uuid = ? group by key"
        return [(key, count) for key, count in self.execute(statement, (run_id,)).fetchall()]

    def read_points(self, run_id: str, limit: int) -> dict[str, Points] | None:
        """All points of a run by key, sorted by time; None for more points than the limit."""
        statement = (
            "select key, step, value, is_nan, timestamp from metrics where run_uuid = ? limit ?"
        )
        rows = self.execute(statement, (run_id, limit + 1)).fetchall()
        return points_by_key(rows) if len(rows) <= limit else None

    def read_key(self, run_id: str, key: str) -> Iterator[Points]:
        """The points of a key in pieces, at least one, by step, time and value."""
        statement = (
            "copy (select step, value, is_nan, timestamp from metrics where run_uuid = %s"
            " and key = %s order by step, timestamp, is_nan, value) to stdout (format binary)"
        )
        with self._connection.cursor() as cursor, cursor.copy(statement, (run_id, key)) as copy:
            yield from decode_points(copy)


def _placed(statement: str) -> Any:
    return statement.replace("?", "%s")


class PostgresDatabase:
    """The tracking store at a `postgresql://` URI."""

    keeps_ids = takes_nul = False

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.widths: dict[str, int] = {**WIDTHS}
        self.has_workspaces = False
        self.release: str | None = None
        self.columns: dict[str, set[str]] = {}
        self._connection: psycopg.Connection[Any] | None = None
        self._batch: psycopg.Connection[Any] | None = None  # with the transaction of a batch
        self._answered = False

    @property
    def artifact_root(self) -> str:
        """The URI of the directory for copied artifacts: here, with the name of the database."""
        name = self._open().info.dbname.replace("/", "_")
        return Path(f"{name}-artifacts").absolute().as_uri()

    def exists(self) -> bool:
        """Whether the database has tables."""
        if self.release is not None:  # the schema was checked: one query less for each run
            return True
        with self._errors():
            found = self._open().execute(
                "select 1 from pg_class join pg_namespace n on n.oid = relnamespace"
                " where n.nspname = current_schema() and relkind = 'r' limit 1"
            )
            return found.fetchone() is not None

    def check(self) -> None:
        """Check the schema. Raises UnknownSchemaError if it is unknown."""
        if self.exists():
            with self._errors():
                self._check_schema()

    def create(self) -> None:
        """Create missing tables with the installed mlflow."""
        if self.exists():
            return
        with self._errors():
            self._open().execute("select pg_advisory_lock(%s)", (CREATION_LOCK,))
            try:
                if not self.exists():
                    needed_release()
                    make_tables(SCHEME.sub("postgresql+psycopg://", self.uri, 1), "./mlruns")
            finally:
                self._open().execute("select pg_advisory_unlock(%s)", (CREATION_LOCK,))
            self._check_schema()

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[PostgresSession]:
        """One transaction. Raises ConflictError for a duplicate row, and ExportError."""
        with self._errors():
            connection = self._batch or self._open()
            is_part = self._batch is not None and not write
            with nullcontext() if is_part else connection.transaction():
                yield PostgresSession(connection)

    @contextmanager
    def batch(self) -> Iterator[PostgresSession]:
        """One transaction around several. If it raises an error, nothing was written."""
        import psycopg

        with self.transaction(write=True) as session:
            self._batch = connection = self._open()
            try:
                yield session
            finally:
                self._batch = None
            # the server would end a failed transaction without an error
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
                raise psycopg.OperationalError("the transaction was rolled back")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of psycopg as ConflictError or ExportError, without the password."""
        import psycopg

        try:
            yield
        except psycopg.errors.UniqueViolation:
            raise ConflictError from None
        except psycopg.Error as error:
            text = message_of(error)
            message = f"{redact_text(self.uri)}: {text}"
            if self._connection is None:  # the server may not exist
                away = any(word in text for word in UNREACHABLE)
                known = self._answered
                raise ExportError(message, transient=away, waited=away, answered=known) from None
            broken = self._connection.closed  # a retry reconnects
            if broken:
                self._connection = None
            raise ExportError(message, transient=broken, answered=True) from None

    def _open(self) -> psycopg.Connection[Any]:
        """The connection, opened once for all runs."""
        if self._connection is None:
            self._connection = connect(self.uri)
            self._answered = True
        return self._connection

    def _check_schema(self) -> None:
        columns: dict[str, set[str]] = {table: set() for table in (*COLUMNS, "alembic_version")}
        found = self._open().execute(
            "select table_name, column_name, character_maximum_length from"
            " information_schema.columns where table_schema = current_schema()"
        )
        for table, column, width in found.fetchall():
            columns.setdefault(table, set()).add(column)
            if width is not None:
                self.widths[f"{table}.{column}"] = width
        revision = None
        if columns["alembic_version"]:
            row = self._open().execute("select version_num from alembic_version").fetchone()
            revision = row[0] if row else ""
        self.release = check_schema(redact_text(self.uri), revision, columns)
        self.columns = {table: found for table, found in columns.items() if found}
        self.has_workspaces = "workspace" in columns["experiments"]
