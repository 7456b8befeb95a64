"""Names the files of targets that no source reads, for the message about such a location."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from bridges.errors import SourceError
from bridges.sources.place import is_sqlite

PARQUET_HEADER = b"PAR1"
TRACKIO_TABLES = {"metrics", "configs"}
EXPECTED = "a history of a Trainer, or a log of another tracker or logger"
NAME_SOURCE = "Targets of this kind are not read: name the source of its runs"
FOLDERS = ("metrics", "runs", "texts", "params", "wide")  # of tables
TABLES = (
    "tables of a target",
    f"{NAME_SOURCE}, which the column `source` in the folder `runs` has. "
    "DuckDB, Polars and pandas read the tables.",
)
PARQUET = ("a Parquet file", f"{NAME_SOURCE}. DuckDB, Polars and pandas read the file.")
TRACKIO = ("a project of Trackio", f"{NAME_SOURCE}. `bridge view` shows it.")


def named(error: SourceError, location: str) -> SourceError:
    """The error, or one of its class that names the target whose files are at the location."""
    kind = _kind(location) if error.source == location else None
    if kind is None:
        return error
    found, remedy = kind
    return type(error)(location, found=found, expected=EXPECTED, remedy=remedy)


def _kind(path: str) -> tuple[str, str] | None:
    if os.path.isdir(path):
        if _has_tables(path):
            return TABLES
        files = [os.path.join(path, name) for name in _names(path) if name.endswith(".db")]
        return TRACKIO if any(map(_is_trackio, files)) else None
    if _is_trackio(path):
        return TRACKIO
    return PARQUET if os.path.isfile(path) and _begins(path, PARQUET_HEADER) else None


def _has_tables(path: str) -> bool:
    """Whether an export wrote tables into a directory; `path` may be one of its folders."""
    whole = os.path.abspath(path)
    if os.path.basename(whole) in FOLDERS:
        whole = os.path.dirname(whole)
    both = _names(os.path.join(whole, "metrics")) & _names(os.path.join(whole, "runs"))
    return any(name.endswith((".parquet", ".csv")) for name in both)


def _names(path: str) -> set[str]:
    """The names in a directory; none if it cannot be listed."""
    with suppress(OSError):
        return {*os.listdir(path)}
    return set()


def _begins(path: str, header: bytes) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(len(header)) == header
    return False


def _is_trackio(path: str) -> bool:
    """Whether a file is a project of Trackio."""
    if not (os.path.isfile(path) and is_sqlite(path)):
        return False
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"  # writes nothing beside it
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as database:
        return {name for (name,) in database.execute(query)} >= TRACKIO_TABLES
    return False
