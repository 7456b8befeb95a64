"""Reports on disk, grouped by run: the targets of a run may report at different times.

They lie in a temporary SQLite database, so memory does not grow with the runs.
"""

from __future__ import annotations

import os
import pickle
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter

from bridges.report import RunReport

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE runs (run INTEGER PRIMARY KEY, source_and_name BLOB UNIQUE);
CREATE TABLE reports (report INTEGER PRIMARY KEY, run INTEGER, pickled BLOB);
CREATE INDEX by_run ON reports (run);
BEGIN;
"""


class GroupedReports:
    """Writes reports into a directory and returns them by run. All methods raise OSError.

    A run is known by its source and name. The file is unlinked at once, so it never stays behind.
    """

    def __init__(self, directory: str) -> None:
        descriptor, path = tempfile.mkstemp(dir=directory)
        os.close(descriptor)
        try:
            with _os_errors():
                self._database = sqlite3.connect(path, isolation_level=None)
                self._database.executescript(_SCHEMA)
        finally:
            os.unlink(path)

    def add(self, report: RunReport) -> None:
        """Write a report."""
        key = _key(report)
        with _os_errors():
            self._database.execute("INSERT OR IGNORE INTO runs VALUES (NULL, ?)", (key,))
            self._database.execute(
                "INSERT INTO reports SELECT NULL, run, ? FROM runs WHERE source_and_name = ?",
                (pickle.dumps(report), key),
            )

    def __iter__(self) -> Iterator[list[RunReport]]:
        """The reports of each run, in the order of their arrival."""
        query = "SELECT run, pickled FROM reports ORDER BY run, report"
        with _os_errors(), closing(self._database.execute(query)) as rows:
            for _, group in groupby(rows, itemgetter(0)):
                yield [pickle.loads(pickled) for _, pickled in group]

    def close(self) -> None:
        """Delete the reports."""
        self._database.close()


def _key(report: RunReport) -> bytes:
    text = f"{report.source}\0{report.run}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@contextmanager
def _os_errors() -> Iterator[None]:
    """Translate errors of the database, such as a full disk."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
