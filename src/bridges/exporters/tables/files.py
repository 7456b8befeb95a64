"""The files of the tables: one per run and table, each replaced as a whole.

    OUT/metrics/RUN.parquet  OUT/texts/…  OUT/params/…  OUT/wide/…  OUT/runs/…
    OUT/sources/RUN/NAME     attached files

Readers take a folder as one table, so nothing else lies in it, and unfinished files are hidden.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from bridges import Layout, VerifyError
from bridges.exporters.atomic_files import sync_directory, system_errors, unlink
from bridges.exporters.tables import content
from bridges.exporters.tables.table import Table

METRICS, OTHERS, PARAMS, WIDE, RUNS = "metrics", "texts", "params", "wide", "runs"
SOURCES = "sources"  # attached files, in a folder for each run
TYPES = {
    METRICS: content.METRICS,
    OTHERS: content.TEXTS,
    PARAMS: content.PARAMS,
    RUNS: content.RUNS,
}
KEY_CHARS = 8  # of the run key, in file names
MAX_NAME_BYTES = 150
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError)
_PLAIN = re.compile(r"[\w ,:=@%+./'*()-]*")  # no character has a meaning in double quotes
_UNSAFE = re.compile(r"""[\x00-\x20\x7f<>:"|?*\\/\[\]{}=%#&;$!`']+""")


class Format(Protocol):
    """A module that writes and reads tables as files with a suffix."""

    SUFFIX: str

    def write(self, path: str, table: Table) -> None:
        """Write and sync a file. Raises OSError."""
        ...

    def read(self, path: str, types: Mapping[str, str]) -> Table:
        """Read columns of these types. Raises OSError, ValueError and KeyError."""
        ...


class TableFiles(NamedTuple):
    """The files below a directory, in one format. A run is known by its name in file names."""

    out: str
    format: Format

    def path(self, table: str, run: str) -> str:
        """The path of a file."""
        return os.path.join(self.out, table, run + self.format.SUFFIX)

    def paths(self, run: str) -> list[str]:
        """The paths of the files that every run has."""
        return [self.path(METRICS, run), self.path(RUNS, run)]

    def has(self, table: str, run: str) -> bool:
        """Whether a file exists."""
        return os.path.exists(self.path(table, run))

    def runs(self) -> list[str]:
        """All runs, in order."""
        suffix, names = self.format.SUFFIX, self.names()
        runs = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
        return sorted(run for run in runs if run[:1] != ".")

    def names(self) -> list[str]:
        """The names in the folder of the runs."""
        try:
            return os.listdir(os.path.join(self.out, RUNS))
        except FileNotFoundError:
            return []

    def free_run(self, layout: Layout) -> str:
        """A new name for the files of a run: its name, and the beginning of its key."""
        name = f"{_file_name(layout.run.path)}-{layout.key[:KEY_CHARS]}"
        free, number, taken = name, 2, {*self.runs()}
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        return free

    def load(self, table: str, run: str) -> Table:
        """A table of a run. Raises OSError, and one of UNREADABLE for a damaged file."""
        return self.format.read(self.path(table, run), TYPES[table])

    @contextmanager
    def readable(self, table: str, run: str) -> Iterator[None]:
        """Raise errors of reading a table as VerifyError, or ExportError of the system."""
        path = self.path(table, run)
        try:
            with system_errors(path, "read"):
                yield
        except UNREADABLE as error:
            raise VerifyError(f"{path}: the file is damaged: {error}") from error

    def write(self, table: str, run: str, content: Table) -> None:
        """Write an unfinished file."""
        os.makedirs(os.path.join(self.out, table), exist_ok=True)
        self.format.write(self._partial(table, run), content)

    def publish(self, table: str, run: str) -> None:
        """Put an unfinished file in place; without one, remove the file."""
        folder = os.path.join(self.out, table)
        try:
            os.replace(self._partial(table, run), self.path(table, run))
        except FileNotFoundError:
            unlink(self.path(table, run))
        if os.path.isdir(folder):
            sync_directory(folder)

    @contextmanager
    def without_leftovers(self, run: str) -> Iterator[None]:
        """Remove unfinished files of a run: those of a killed export, and own ones after an error.

        They take space on a full disk, and those of a killed export must not be put in place.
        """
        self._remove_unfinished(run)
        try:
            yield
        except Exception:
            self._remove_unfinished(run)
            raise

    def _remove_unfinished(self, run: str) -> None:
        for table in (METRICS, OTHERS, PARAMS, WIDE, RUNS):
            unlink(self._partial(table, run))

    def _partial(self, table: str, run: str) -> str:
        """The path of an unfinished file. Under a lock, only one export writes it."""
        return os.path.join(self.out, table, f".{run}{self.format.SUFFIX}.partial")


def show_command(out: str, suffix: str) -> str:
    """The command of DuckDB that shows the points below a directory."""
    pattern = os.path.join(out, METRICS, f"*{suffix}").replace("'", "''")
    table = f"read_csv('{pattern}', header=true)" if suffix == ".csv" else f"'{pattern}'"
    query = f"FROM {table}"
    return "duckdb -c " + (f'"{query}"' if _PLAIN.fullmatch(query) else shlex.quote(query))


def _file_name(name: str) -> str:
    """A run's name in a file name: without separators, marks of patterns, and leading dots."""
    safe = _UNSAFE.sub("-", name.encode("utf-8", "replace").decode()).strip(" .-_")
    short = safe.encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    return short or "run"
