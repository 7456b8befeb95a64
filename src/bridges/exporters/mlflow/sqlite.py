"""An MLflow tracking store in an SQLite file, through `sqlite3`, without importing mlflow."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from itertools import chain, repeat
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.atomic_files import publish_once, system_errors, unlink
from bridges.exporters.base import ConflictError, Points
from bridges.exporters.mlflow.database import (
    POINT,
    TAG_ORDER,
    TAGS_OF,
    Row,
    on_conflict,
    piece_of,
    points_by_key,
)
from bridges.exporters.mlflow.related import KEYS
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.exporters.mlflow.schema import (
    COLUMNS,
    UnknownSchemaError,
    check_schema,
    make_tables,
    needed_release,
)
from bridges.log import log

CACHE_KIB = 65_536  # page cache of a connection
ROWS_PER_CHUNK = 4_096  # read at once
BUSY_SECONDS = 20.0  # wait for another writer, as mlflow does
INDEXES = ("index_metrics_run_uuid_key_step", "index_metrics_run_uuid")  # best first


class SqliteSession:
    """An open database."""

    def __init__(self, database: sqlite3.Connection, index: str) -> None:
        self._database = database
        self._index = index

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        log("sql", statement)
        return self._database.execute(statement, values)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> object:
        """Run one statement for each row."""
        log("sql", "%s; for each row", statement)
        return self._database.executemany(statement, rows)

    def upsert(self, table: str, run_id: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Insert rows of a run, in place of those with the same `key`."""
        names = [*columns, "run_uuid"]
        statement = (
            f"insert into {table} ({', '.join(names)}) values ({', '.join('?' * len(names))})"
            f" {on_conflict(columns)}"
        )
        self.executemany(statement, zip(*columns.values(), repeat(run_id)))

    def together(self) -> AbstractContextManager[object]:
        """A context without effect: SQLite has no server."""
        return nullcontext()

    def lock(self, run_id: str) -> None:
        """Do nothing: SQLite allows one writer at a time."""

    def tags_since(
        self, position: int | None, name: str, values: Sequence[str], experiment: int
    ) -> tuple[list[Row], int]:
        """The tags called `name`, of any value, after a position, which is a row id."""
        newest = int(self.execute("select coalesce(max(rowid), 0) from tags").fetchone()[0])
        if newest == position:
            return [], newest
        is_later = position is not None and newest > position
        where, after = (" and tags.rowid > ?", [position]) if is_later else ("", [])
        found = self.execute(f"{TAGS_OF}{where}{TAG_ORDER}", (name, experiment, *after))
        return found.fetchall(), newest

    def insert_points(self, run_id: str, columns: Iterable[MetricColumn]) -> None:
        """Insert the points of a run, key by key."""
        statement = (
            "insert into metrics (key, value, is_nan, timestamp, step, run_uuid)"
            " values (?, ?, ?, ?, ?, ?)"
        )
        log("sql", "%s; for each point", statement)
        rows = chain.from_iterable(_rows(run_id, column) for column in columns)
        self._database.executemany(statement, rows)

    def keys(self, run_id: str) -> list[tuple[str, int]]:
        """The keys of a run, and the number of points of each."""
        found = self.execute(
            f"select key, count(*) from metrics indexed by {self._index} where run_uuid = ?"
            " group by key",
            (run_id,),
        )
        return [(key, count) for key, count in found.fetchall()]

    def read_points(self, run_id: str, limit: int) -> dict[str, Points] | None:
        """All points of a run by key, sorted by time; None for more points than the limit."""
        rows = self.execute(
            "select key, step, value, is_nan, timestamp from metrics"
            f" indexed by {self._index} where run_uuid = ? limit ?",
            (run_id, limit + 1),
        ).fetchall()
        return points_by_key(rows) if len(rows) <= limit else None

    def read_key(self, run_id: str, key: str) -> Iterator[Points]:
        """The points of a key in pieces, at least one, by step and row id."""
        # without the hint SQLite scans this key's points of all runs
        rows = self._database.execute(  # not logged, as it is the same for each key
            "select step, value, is_nan, timestamp from metrics"
            f" indexed by {self._index} where run_uuid = ? and key = ? order by step",
            (run_id, key),
        )
        yield piece_of(np.empty(0, POINT))
        while some := rows.fetchmany(ROWS_PER_CHUNK):
            yield piece_of(np.array(some, POINT))


def _rows(run_id: str, column: MetricColumn) -> Iterator[Row]:
    count = len(column.value)
    return zip(
        repeat(column.key, count),
        column.value.tolist(),
        column.is_nan.tolist(),
        column.time.tolist(),
        column.step.tolist(),
        repeat(run_id, count),
        strict=True,
    )


class SqliteDatabase:
    """The tracking store in the file at `path`. SQLite enforces no widths of columns."""

    keeps_ids = takes_nul = True
    widths: Mapping[str, int] = MappingProxyType({})

    def __init__(self, path: str) -> None:
        self.path = path
        self.has_workspaces = False
        self.release: str | None = None
        self.columns: dict[str, set[str]] = {}
        self._database: sqlite3.Connection | None = None
        self._index = INDEXES[0]
        self._is_batch = False

    def exists(self) -> bool:
        """Whether the file exists and is not empty."""
        return os.path.exists(self.path) and os.path.getsize(self.path) > 0

    def check(self) -> None:
        """Check the schema. Raises UnknownSchemaError if it is unknown."""
        if self.exists():
            with self.transaction():
                pass

    @property
    def artifact_root(self) -> str:
        """The URI of the directory for copied artifacts: beside the file, with its name."""
        path, _ = os.path.splitext(os.path.abspath(self.path))
        return Path(f"{path}-artifacts").as_uri()

    def create(self) -> None:
        """Create missing tables with the installed mlflow."""
        if self.exists():
            return
        template = _template()
        with system_errors(self.path), self._database_errors():
            os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
            path = os.path.realpath(self.path)  # resolves links
            if os.path.exists(path):
                _fill(path, template)
            else:
                _put(path, template)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[SqliteSession]:
        """One transaction. Raises ConflictError for a duplicate row, and ExportError."""
        with self._database_errors():
            database = self._connect()
            session = SqliteSession(database, self._index)
            if self._is_batch:
                with _savepoint(session, database) if write else nullcontext():
                    yield session
                return
            session.execute("begin immediate" if write else "begin")
            try:
                yield session
                session.execute("commit")
            finally:
                if database.in_transaction:
                    database.execute("rollback")

    @contextmanager
    def batch(self) -> Iterator[SqliteSession]:
        """One transaction around several. If it raises an error, nothing was written."""
        with self._savepoints_in_memory(), self.transaction(write=True) as session:
            self._is_batch = True
            try:
                yield session
            finally:
                self._is_batch = False

    @contextmanager
    def _savepoints_in_memory(self) -> Iterator[None]:
        """Keep the pages that savepoints change in memory: a file of them costs a third of a write.

        Batches have small runs only, and sorting a large one needs files.
        """
        with self._database_errors():
            database = self._connect()
            database.execute("pragma temp_store = memory")
        try:
            yield
        finally:
            database.execute("pragma temp_store = default")

    @contextmanager
    def _database_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            if "UNIQUE" in str(error):
                raise ConflictError from None
            raise ExportError(f"{self.path}: {error}") from error
        except sqlite3.Error as error:
            raise ExportError(f"{self.path}: {error}", transient="locked" in str(error)) from error

    def _connect(self) -> sqlite3.Connection:
        """The connection, opened once for all runs, which keeps index pages cached."""
        if self._database is None:
            database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            database.execute("pragma foreign_keys = on")
            database.execute(f"pragma cache_size = -{CACHE_KIB}")
            self._check_schema(database)
            # as safe as the default journal, but its file is reused
            database.execute("pragma journal_mode = persist")
            weakref.finalize(self, _close, database)
            self._database = database
        return self._database

    def _check_schema(self, database: sqlite3.Connection) -> None:
        names = {row[0] for row in database.execute("select name from sqlite_master")}
        columns = {
            table: {row[1] for row in database.execute(f"pragma table_info({table})")}
            for table in (*COLUMNS, *KEYS)
        }
        revision = None
        if "alembic_version" in names:
            row = database.execute("select version_num from alembic_version").fetchone()
            revision = row[0] if row else ""
        self.release = check_schema(self.path, revision, columns)
        self.columns = {table: found for table, found in columns.items() if found}
        indexes = [index for index in INDEXES if index in names]
        if not indexes:
            raise UnknownSchemaError("its table metrics has no index on run_uuid")
        self._index, self.has_workspaces = indexes[0], "workspace" in columns["experiments"]


@contextmanager
def _savepoint(session: SqliteSession, database: sqlite3.Connection) -> Iterator[None]:
    """A part of a transaction that is undone by itself.

    Raises sqlite3.OperationalError if SQLite has ended the transaction, as on a full disk.
    """
    if not database.in_transaction:  # a savepoint would begin a transaction of its own
        raise sqlite3.OperationalError("the transaction was rolled back")
    session.execute("savepoint run")
    try:
        yield
        session.execute("release run")
    except BaseException:
        if database.in_transaction:
            database.execute("rollback to run")
            database.execute("release run")
        raise


def _close(database: sqlite3.Connection) -> None:
    """Close the connection and remove its journal file."""
    with suppress(sqlite3.Error):
        database.execute("pragma journal_mode = delete")
    database.close()


def _template() -> Path:
    """An empty database of the installed mlflow, created once in the user's cache."""
    name = f"mlflow-{needed_release()}.db"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bridges"
    template = cache / name
    with system_errors(str(cache)):
        if not template.exists():
            cache.mkdir(parents=True, exist_ok=True)
            fresh = cache / f"{template.name}.{os.urandom(4).hex()}"
            make_tables(f"sqlite:///{fresh}", str(cache / "mlruns"))
            os.replace(fresh, template)
    return template


def _put(path: str, template: Path) -> None:
    """Publish a copy of the template, unless another process was faster."""
    folder, name = os.path.split(path)
    fresh = os.path.join(folder, f".{name}.bridges-{os.urandom(4).hex()}")
    try:
        Path(fresh).write_bytes(template.read_bytes())
        with closing(sqlite3.connect(fresh, isolation_level=None)) as database:
            _adopt(database)
        with suppress(FileExistsError):
            publish_once(fresh, path)
    finally:
        unlink(fresh)


def _fill(path: str, template: Path) -> None:
    """Create the template's tables in an empty file, unless another process was faster."""
    with (
        closing(sqlite3.connect(path, BUSY_SECONDS, isolation_level=None)) as database,
        closing(sqlite3.connect(template)) as source,
    ):
        database.execute("begin immediate")
        if not database.execute("select 1 from sqlite_master").fetchone():
            for statement in source.iterdump():
                if statement not in ("BEGIN TRANSACTION;", "COMMIT;"):
                    database.execute(statement)
            _adopt(database)
        database.execute("commit")


def _adopt(database: sqlite3.Connection) -> None:
    """Set the artifact location of the default experiment, as mlflow does."""
    location = os.path.abspath(os.path.join("mlruns", "0"))
    database.execute("update experiments set artifact_location = ?", (location,))
