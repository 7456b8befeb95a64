"""The SQLite file of a Trackio project: its tables, and transactions beside a live training.

The tables are those of Trackio 0.24 to 0.43 (`user_version` up to 2). Other versions are refused
and not touched. Runs of bridges have a row in `project_metadata`, which holds their state: Trackio
replaces the config of a run that a training resumes, but not these rows.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bridges import ConflictError, ExportError
from bridges.exporters.atomic_files import (
    locked,
    publish_once,
    sync_directory,
    sync_file,
    system_errors,
    unlink,
)

NEWEST = 2  # known `user_version`
BUSY_SECONDS = 30.0  # Trackio's own
CACHE_KIB = 65_536  # holds the pages of a transaction
TABLES = {
    "metrics": """
        CREATE TABLE IF NOT EXISTS metrics (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,
            run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL,
            log_id TEXT, space_id TEXT
        )""",
    "configs": """
        CREATE TABLE IF NOT EXISTS configs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL,
            config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id)
        )""",
    "project_metadata": """
        CREATE TABLE IF NOT EXISTS project_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL)""",
}
INDEXES = (  # Trackio adds others, for its dashboard, when it opens the file
    "CREATE INDEX IF NOT EXISTS idx_metrics_run_step ON metrics(run_id, step)",
    "CREATE UNIQUE INDEX IF NOT EXISTS idx_metrics_log_id ON metrics(log_id)"
    " WHERE log_id IS NOT NULL",
)
NEEDED = {
    "metrics": {"run_id", "timestamp", "run_name", "step", "metrics", "log_id"},
    "configs": {"run_id", "run_name", "config", "created_at"},
}


class ProjectFile:
    """The file of a project in the directory of the projects."""

    def __init__(self, directory: str, project: str) -> None:
        self.project = project
        self._directory = directory
        self.path = os.path.join(directory, f"{project}.db")
        self._lock = os.path.join(directory, f"{project}.lock")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection that only reads; None if the file is missing or has no rows of bridges.

        Raises ExportError.
        """
        if not self.exists:
            yield None
            return
        with self._errors("read"), closing(self._connect_to_read()) as database:
            database.execute("PRAGMA query_only = ON")
            tables = _tables(database)
            self._check(database, tables)
            yield database if tables >= TABLES.keys() else None

    def _connect_to_read(self) -> sqlite3.Connection:
        """A connection for reading; SQLite cannot make its `-shm` file in a read-only directory."""
        is_closed = not os.access(self._directory, os.W_OK)
        if not is_closed or os.path.exists(f"{self.path}-wal"):
            return _connect(self.path)
        uri = f"{Path(self.path).absolute().as_uri()}?mode=ro&immutable=1"  # nobody can write it
        return sqlite3.connect(uri, uri=True, isolation_level=None)

    @property
    def exists(self) -> bool:
        """Whether the project has a file."""
        return os.path.exists(self.path)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction in the existing file, under Trackio's lock of the project.

        Trackio waits 10 seconds for the lock, so a transaction must be short. Raises ExportError.
        """
        with (
            system_errors(self._directory),
            locked(self._lock),
            self._errors("written"),
            closing(_connect(self.path)) as database,
            _transaction(database),
        ):
            self._check(database, _tables(database))
            _execute(database, *TABLES.values(), *INDEXES)
            yield database

    @contextmanager
    def creating(self) -> Iterator[sqlite3.Connection]:
        """The database of a new project, which gets its name at the end.

        Its indexes are made last, and it has no journal: twice as fast. Raises ExportError, and
        ConflictError if the project has a file by then.
        """
        partial = os.path.join(self._directory, f".{self.project}-{os.urandom(4).hex()}.partial")
        with system_errors(self._directory), self._errors("written"):
            os.makedirs(self._directory, exist_ok=True)
            try:
                with closing(_connect(partial)) as database:
                    _execute(database, "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF")
                    with _transaction(database):
                        _execute(database, *TABLES.values())
                        yield database
                        _execute(database, *INDEXES, f"PRAGMA user_version = {NEWEST}")
                    database.execute("PRAGMA journal_mode = WAL")
                sync_file(partial)
                with locked(self._lock):
                    publish_once(partial, self.path)
                sync_directory(self._directory)
            except FileExistsError:
                raise ConflictError from None
            finally:
                unlink(partial)

    def _check(self, database: sqlite3.Connection, tables: set[str]) -> None:
        """Raises ExportError for tables of an unknown version or of another program."""
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > NEWEST:
            raise ExportError(
                f"{self.path}: found version {version} of Trackio's tables; expected at most "
                f"{NEWEST}, of Trackio 0.43. Use another --project or a newer release of bridges."
            )
        if tables and not tables >= NEEDED.keys():
            raise ExportError(f"{self.path}: this database is not a project of Trackio")
        for table, needed in NEEDED.items():
            found = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            if found and not needed <= found:
                raise ExportError(
                    f"{self.path}: found tables of Trackio before 0.24. Start `trackio show` of "
                    "release 0.41 or later once: it converts them. Then export again."
                )

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Raise errors of SQLite as ExportError."""
        try:
            yield
        except sqlite3.Error as error:
            is_busy = "locked" in str(error)
            raise ExportError(
                f"{self.path}: cannot be {done}: {error}", transient=is_busy, waited=is_busy
            ) from error


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    database.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
    return database


def _execute(database: sqlite3.Connection, *statements: str) -> None:
    for statement in statements:
        database.execute(statement)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """A transaction that writes; any error rolls it back."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _tables(database: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return {name for (name,) in database.execute(query)}
