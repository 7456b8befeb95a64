"""Locations of MLflow stores: their forms, and the stores below a directory."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from bridges.errors import SourceError
from bridges.formats.mlflow_store.records import RunHead
from bridges.formats.mlflow_store.uri import shown_uri
from bridges.sources.place import (
    CLIENT_ONLY,
    DATABASE,
    DATABASE_FILES,
    SERVER,
    SQLITE,
    is_sqlite,
    local_path,
    without_page,
)
from bridges.sources.trainer.locations import GLOB

META, TRASH = "meta.yaml", ".trash"
HEAD_BYTES = 8192  # of a meta.yaml: enough for its ids
MAX_DEPTH = 12  # of directories in which stores are looked for
_RUN_LINE = re.compile(rb"^\s*(run_id|run_uuid)\s*:", re.MULTILINE)
_RUN_NAME = re.compile("[0-9a-f]{32}")
_EXPERIMENT_LINE = re.compile(rb"^\s*experiment_id\s*:", re.MULTILINE)


@dataclass(frozen=True)
class StoreLocation:
    """A store, or a part of it.

    kind: `files`, `sqlite`, `postgresql`, `server` or `client` (MLflow's own client)
    address: the root of a file store, the path of an SQLite file, or a URI
    given: the address as the user wrote it
    experiment, run: the only ones to read, by id or name of their directory
    """

    kind: str
    address: str
    given: str
    experiment: str | None = None
    run: str | None = None

    def source_of(self, head: RunHead) -> str:
        """The location of one of its runs, which can be read as well; without a password."""
        if self.kind == "files":
            return head.where
        given = self.given if self.kind == "sqlite" else shown_uri(self.given)
        return f"{given}#/experiments/{head.experiment.id}/runs/{head.run_id}"

    def files(self) -> Iterator[str] | None:
        """The files to read; None for other stores."""
        if self.kind == "sqlite":
            return iter((self.address, f"{self.address}-wal"))
        return files_of(self.address) if self.kind == "files" else None


def stores_at(location: str, unreadable: dict[str, str] | None = None) -> Iterator[StoreLocation]:
    """The store with this address, or all stores below a directory. Raises SourceError.

    `unreadable` gets each directory and database file that cannot be read, with the reason.
    """
    refused = {} if unreadable is None else unreadable
    given, experiment, run = _page_of(location)
    address = given.removeprefix(SQLITE)
    if found := SERVER.fullmatch(given):
        yield StoreLocation("server", found[1].rstrip("/"), given, experiment, run)
    elif CLIENT_ONLY.match(given):
        yield StoreLocation("client", given, given, experiment, run)
    elif given.startswith(SQLITE) or os.path.isfile(given):
        yield StoreLocation("sqlite", address, given, experiment, run)
    elif DATABASE.match(given):
        yield StoreLocation("postgresql", given, given, experiment, run)
    else:
        is_part = experiment or run
        for path in _matches(local_path(given)):
            for store in _local_stores(path, refused):
                yield replace(store, experiment=experiment, run=run) if is_part else store


def _matches(location: str) -> list[str]:
    """The files and directories of a pattern, or the location itself."""
    if not GLOB.search(location) or os.path.exists(location):
        return [location]
    from glob import glob

    return sorted(glob(location, recursive=True))


def _page_of(location: str) -> tuple[str, str | None, str | None]:
    """The address without a page of MLflow's UI, and experiment and run of that page.

    Such as `http://host/#/experiments/1/runs/abc`. Raises SourceError for other pages.
    """
    address, page = without_page(location)
    match page.partition("?")[0].removeprefix("#/").strip("/").split("/"):
        case ["" | "experiments"]:
            return address, None, None
        case ["experiments", experiment, "runs", run, *_]:
            return address, experiment, run
        case ["experiments", experiment, *_]:
            return address, experiment, None
        case ["runs", run, *_]:
            return address, None, run
    raise SourceError(
        location,
        found=f"the page {page!r}",
        expected="a page of an experiment or a run",
        remedy="Use #/experiments/ID, #/experiments/ID/runs/ID or #/runs/ID, or no page for all.",
    )


def _local_stores(folder: str, unreadable: dict[str, str]) -> Iterator[StoreLocation]:
    """The store of a root, experiment, run or database, else the stores below a directory."""
    folder = folder.rstrip("/") or folder
    kind = _kind(folder)
    if os.path.isfile(folder):
        yield from _databases([folder], unreadable)
    elif kind == "run":
        experiment, run = os.path.split(_with_parents(folder, 2))
        root, experiment = os.path.split(experiment)
        yield _of_files(_root(root), experiment, run)
    elif kind == "experiment":
        root, experiment = os.path.split(_with_parents(folder, 1))
        yield _of_files(_root(root), experiment)
    else:
        yield from _stores_below(folder, unreadable)


def _with_parents(folder: str, count: int) -> str:
    """The path with the names of so many parents: absolute, unless the given path has them."""
    names = folder.split(os.sep)[-count - 1 :]
    has_parents = len(names) > count and not {"", os.curdir, os.pardir}.intersection(names)
    return folder if has_parents else os.path.abspath(folder)


def _of_files(root: str, experiment: str | None = None, run: str | None = None) -> StoreLocation:
    return StoreLocation("files", root, root, experiment, run)


def _root(folder: str) -> str:
    """The root of an experiment's directory, which may lie in the trash."""
    outer, name = os.path.split(folder or os.curdir)
    return (outer or os.curdir) if name == TRASH else folder or os.curdir


def _stores_below(
    folder: str, unreadable: dict[str, str], depth: int = 0
) -> Iterator[StoreLocation]:
    """The file stores and SQLite stores at or below a directory, by path."""
    names = _names(folder, unreadable)
    if is_root(folder, names):
        yield _of_files(folder)
        return
    yield from _databases((os.path.join(folder, name) for name in names), unreadable)
    if depth < MAX_DEPTH:
        for name in names:
            path = os.path.join(folder, name)
            if name[0] != "." and os.path.isdir(path) and not os.path.islink(path):
                yield from _stores_below(path, unreadable, depth + 1)


def _databases(paths: Iterable[str], unreadable: dict[str, str]) -> Iterator[StoreLocation]:
    """The SQLite stores among some files."""
    for path in (path for path in paths if path.endswith(DATABASE_FILES)):
        if is_store_file(path):
            yield StoreLocation("sqlite", path, path)
        elif os.path.isfile(path) and not os.access(path, os.R_OK):
            unreadable[path] = os.strerror(errno.EACCES)


def is_root(folder: str, names: Sequence[str] | None = None) -> bool:
    """Whether a directory is the root of a file store: one of its directories, or one of those in
    its trash, is an experiment. `names`: the names in it, if known.
    """
    names = _names(folder) if names is None else names
    inside = [os.path.join(folder, name) for name in names]
    if TRASH in names:
        trash = os.path.join(folder, TRASH)
        inside += [os.path.join(trash, name) for name in _names(trash)]
    return any(_kind(path) == "experiment" for path in inside)


def is_part(folder: str, names: Sequence[str]) -> bool:
    """Whether a directory, with these names in it, is that of an experiment or a run of a store."""
    return (META in names or any(map(_is_run_name, names))) and bool(_kind(folder))


def is_store_file(path: str) -> bool:
    """Whether an SQLite file has the core tables of a store."""
    import sqlite3
    from contextlib import closing
    from urllib.parse import quote

    if not is_sqlite(path):
        return False
    query = "select count(*) from sqlite_master where name in ('runs', 'metrics', 'experiments')"
    with suppress(sqlite3.Error):
        uri = f"file:{quote(os.path.abspath(path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            return bool(database.execute(query).fetchone()[0] == 3)
    return False


def _kind(folder: str) -> str:
    """`run`, `experiment` or nothing, by the meta.yaml of a directory or of those inside."""
    head = _head(folder)
    if head is not None:
        if _RUN_LINE.search(head):
            return "run"
        return "experiment" if _EXPERIMENT_LINE.search(head) else ""
    names = _names(folder)
    heads = (_head(os.path.join(folder, name)) for name in names if _is_run_name(name))
    return "experiment" if any(head and _RUN_LINE.search(head) for head in heads) else ""


def _is_run_name(name: str) -> bool:
    return _RUN_NAME.fullmatch(name) is not None


def _head(folder: str) -> bytes | None:
    """The start of the meta.yaml in a directory; None without one."""
    path = os.path.join(folder, META)
    if not os.path.isfile(path):  # opening a named pipe may never end
        return None
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return None


def _names(folder: str, unreadable: dict[str, str] | None = None) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except PermissionError as error:
        if unreadable is not None:
            unreadable[folder] = error.strerror or str(error)
        return []
    except OSError:
        return []


def files_of(folder: str) -> Iterator[str]:
    """The files of a run in its directory, without artifacts, by path."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False) and entry.name != "artifacts":
                yield from files_of(entry.path)
            elif entry.is_file():
                yield entry.path
