"""A tracking store in an SQLite file, read without any change to the file or its directory.

A plain connection creates files beside a database in WAL mode, and has to write to recover one
from its journal. So the file is opened

- as a temporary copy, with its log, if a `-wal` file has content, or a write was never finished;
- `immutable` if it is in WAL mode without a `-wal` file, as no other process has it open then;
- else with `mode=ro`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bridges.errors import SourceError
from bridges.formats.mlflow_store.records import Metric
from bridges.sources.fetch import LFS_POINTER, MissingSourceError
from bridges.sources.mlflow.columns import ROWS_PER_CHUNK, ColumnBuilder, infinities
from bridges.sources.mlflow.database import DamagedError, Row, Schema, Session
from bridges.stream.finding import Finding

MAGIC = b"SQLite format 3\0"
WAL_MODE = b"\x02\x02"  # bytes 18 and 19 of the file
WAL_HEADER_BYTES = 32
BUSY_SECONDS = 20.0  # wait for a writer, as mlflow does
CACHE_KIB = 65_536
ATTEMPTS = 3  # if another process changes the file in the meantime
COPY_NAME = "mlflow.db"
ARTIFACT_FOLDERS = ("mlruns", "mlartifacts")
EXPECTED = "an MLflow tracking store in an SQLite file"
T = TypeVar("T")


class SqliteSession:
    """An open transaction."""

    def __init__(self, database: sqlite3.Connection, schema: Schema) -> None:
        self._database = database
        self._schema = schema
        self._replaced = 0

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        return self._decoded(lambda: self._database.execute(statement, values).fetchall())

    def metrics(self, run_id: str) -> tuple[list[Metric], list[Finding]]:
        """The points of a run by key, in the order of the file, and findings."""
        builder = self._decoded(lambda: self._points(run_id))
        metrics = builder.metrics()
        return metrics, [*infinities(metrics), *builder.findings()]

    def _points(self, run_id: str) -> ColumnBuilder:
        there, builder = self._schema["metrics"], ColumnBuilder()
        value = "case when is_nan then null else value end" if "is_nan" in there else "value"
        step = "step" if "step" in there else "0"  # MLflow 0.8 has none
        statement = f"select key, {value}, timestamp, {step} from metrics where run_uuid = ?"
        cursor = self._database.execute(statement, (run_id,))
        while rows := cursor.fetchmany(ROWS_PER_CHUNK):
            builder.add(rows)
        return builder

    def _decoded(self, query: Callable[[], T]) -> T:
        """The result of a query. Counts texts in another encoding than UTF-8."""
        self._database.text_factory = str
        try:
            return query()
        except sqlite3.OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise
        self._database.text_factory = self._decode
        return query()

    def _decode(self, data: bytes) -> str:
        text = data.decode(errors="replace")
        self._replaced += text.encode() != data
        return text

    def replaced(self) -> int:
        """The number of texts in which bytes were replaced, as they are not UTF-8."""
        return self._replaced


class SqliteDatabase:
    """The database in the file at `path`. Raises SourceError if it cannot be read."""

    def __init__(self, path: str) -> None:
        self.location = path
        self._path = os.path.realpath(path)
        self._connection: sqlite3.Connection | None = None
        self._schema: Schema = {}
        self._seen: _FileState | None = None  # of a file read without locks
        self._copied: _FileState | None = None  # of the original of a copy
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        _check_file(path)

    def schema(self) -> Schema:
        """The columns of all tables."""
        return self.read(lambda _: self._schema)

    def folders(self) -> Sequence[str]:
        """The usual directories of artifacts beside the file."""
        return [os.path.join(os.path.dirname(self._path), name) for name in ARTIFACT_FOLDERS]

    def refresh(self) -> None:
        """Make a new copy for the next read if the file has changed since it was copied."""
        with _translated_errors(self.location):
            if self._copied is not None and self._copied != _FileState.of(self._path):
                self.close()

    def read(self, work: Callable[[Session], T]) -> T:
        """The result of `work` in a transaction, repeated if another process changed the file."""
        with _translated_errors(self.location):
            for _ in range(ATTEMPTS):
                if found := self._read_once(work):
                    return found[0]
        raise _in_use(self.location)

    def _read_once(self, work: Callable[[Session], T]) -> tuple[T] | None:
        """The result of `work`; None if another process changed the file in the meantime."""
        try:
            with self._transaction() as session:
                found = work(session)
        except sqlite3.DatabaseError:
            if not self._has_changed():
                raise
            return None
        return None if self._has_changed() else (found,)

    @contextmanager
    def _transaction(self) -> Iterator[SqliteSession]:
        if self._connection is None or self._has_changed():
            self.close()
            self._connection = self._connect()
        connection = self._connection
        connection.execute("begin")
        try:
            self._schema = self._schema or _schema_of(connection)
            yield SqliteSession(connection, self._schema)
        finally:
            connection.rollback()

    def _has_changed(self) -> bool:
        """Whether a file read without locks has changed."""
        return self._seen is not None and self._seen != _FileState.of(self._path)

    def _connect(self) -> sqlite3.Connection:
        for _ in range(ATTEMPTS):
            state = _FileState.of(self._path)
            if state.is_wal_mode and state.wal_size and self._make_copy("-wal"):
                return _open(self._copy_path, "rw")
            if state.is_wal_mode and not state.wal_size:
                self._seen = state
                return _open(self._path, "ro&immutable=1")
            if not state.is_wal_mode:
                return self._open_with_journal()
        return _open(self._path, "ro")  # a busy writer, whose `-shm` file is there already

    def _open_with_journal(self) -> sqlite3.Connection:
        """A read-only connection; to a copy if the journal of an unfinished write is beside it."""
        try:
            return _open(self._path, "ro")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error) or not self._make_copy("-journal"):
                raise
        return _open(self._copy_path, "rw")

    @property
    def _copy_path(self) -> str:
        assert self._copy is not None
        return os.path.join(self._copy.name, COPY_NAME)

    def _make_copy(self, suffix: str) -> bool:
        """Copy the file and its log; whether both belong to one moment.

        A log only grows, and readers ignore an incomplete end. A checkpoint changes the file, and
        the write after it the header of the log.
        """
        before = _FileState.of(self._path)
        self._copy, self._copied = tempfile.TemporaryDirectory(prefix="bridges-"), before
        try:
            shutil.copyfile(self._path, self._copy_path)
            shutil.copyfile(self._path + suffix, self._copy_path + suffix)
        except FileNotFoundError:  # its last user closed it
            return False
        return before.is_same_base(_FileState.of(self._path))

    def close(self) -> None:
        """Close the connection and remove the copy."""
        if self._connection is not None:
            self._connection.close()
        if self._copy is not None:
            self._copy.cleanup()
        self._connection = self._copy = self._seen = self._copied = None
        self._schema = {}


@dataclass(frozen=True)
class _FileState:
    """Inode, size and time of change (ns) of the file, and size and header of its `-wal` file."""

    file: tuple[int, int, int]
    is_wal_mode: bool
    wal_size: int
    wal_header: bytes

    @classmethod
    def of(cls, path: str) -> _FileState:
        with open(path, "rb") as file:
            status, mode = os.fstat(file.fileno()), file.read(20)[18:]
        size, header = _log_of(f"{path}-wal")
        return cls(
            (status.st_ino, status.st_size, status.st_mtime_ns), mode == WAL_MODE, size, header
        )

    def is_same_base(self, other: _FileState) -> bool:
        """Whether the log has only grown from one state to the other."""
        return (self.file, self.wal_header) == (other.file, other.wal_header)


def _log_of(path: str) -> tuple[int, bytes]:
    """Size and header of a `-wal` file; (0, b"") without one."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size, file.read(WAL_HEADER_BYTES)
    except FileNotFoundError:
        return 0, b""


def _open(path: str, mode: str) -> sqlite3.Connection:
    uri = f"{Path(path).as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
    try:
        connection.execute(f"pragma cache_size = -{CACHE_KIB}")  # also reads the file
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _schema_of(connection: sqlite3.Connection) -> Schema:
    tables = connection.execute("select name from sqlite_master where type in ('table', 'view')")
    return {
        name: frozenset(
            column
            for (column,) in connection.execute("select name from pragma_table_info(?)", (name,))
        )
        for (name,) in tables.fetchall()
    }


def _check_file(path: str) -> None:
    """Raise SourceError for other paths than SQLite files."""
    if not os.path.isfile(path):
        kind = "no such file" if not os.path.exists(path) else "a directory or device"
        raise MissingSourceError(
            path, found=kind, expected=EXPECTED, remedy="Check the path and its spelling."
        )
    with _translated_errors(path), open(path, "rb") as file:
        start = file.read(max(len(MAGIC), len(LFS_POINTER)))
    if start.startswith(MAGIC):
        return
    if not start:
        raise MissingSourceError(
            path,
            found="an empty file",
            expected=EXPECTED,
            remedy="Remove it, or name the database of mlflow.",
        )
    is_pointer = start.startswith(LFS_POINTER)
    raise SourceError(
        path,
        found="a git-LFS pointer, not the file itself" if is_pointer else "a file of another type",
        expected=EXPECTED,
        remedy="Run `git lfs pull` in its repository."
        if is_pointer
        else "Check which file this is.",
    )


@contextmanager
def _translated_errors(path: str) -> Iterator[None]:
    """Raise errors of SQLite and of the system as SourceError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise _in_use(path) from error
        raise _unreadable(path, error) from error
    except sqlite3.DatabaseError as error:
        raise DamagedError(
            path,
            found=f"a damaged database ({error})",
            expected=EXPECTED,
            remedy="Restore it from a backup, or with the command `.recover` of `sqlite3`.",
        ) from error
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from error


def _unreadable(path: str, why: object) -> SourceError:
    return SourceError(
        path,
        found=f"an unreadable database ({why})",
        expected=EXPECTED,
        remedy="Check its permissions, and the free space of the temporary directory.",
    )


def _in_use(path: str) -> SourceError:
    return SourceError(
        path,
        found="a database in use: another program is writing to it",
        expected="a moment without a write",
        remedy="Run the command again when the other program is done.",
    )
