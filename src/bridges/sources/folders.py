"""The directories of a tree, each with the source that reads it: the first of `CLAIMS` which
recognises it. No other source looks below a directory of a store or of a W&B run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from bridges.sources.remote import opened
from bridges.sources.trainer.discovery import natural
from bridges.sources.trainer.locations import GLOB

CLAIMS = {  # by source, the first claim counts: where its function `claims_of` is
    "mlflow": "bridges.sources.mlflow.claims",
    "wandb": "bridges.sources.wandb.claims",
    "tensorboard": "bridges.sources.tensorboard.claims",
    "tables": "bridges.sources.tables.claims",
}


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory: its path or URL, the names of its files and directories in natural order, and
    the source that reads it (None: no source).
    """

    path: str
    files: Sequence[str]
    folders: Sequence[str]
    source: str | None = None

    def join(self, name: str) -> str:
        """The path of a file or directory in it."""
        return joined(self.path, name)


# The directories inside a folder that belong to its source, too; None for another's folder.
Claim = Callable[[Folder], Collection[str] | None]


def folders(
    location: str,
    unlisted: dict[str, str] | None = None,
    claim: Mapping[str, Claim] | None = None,
) -> Iterator[Folder]:
    """The directories at and below a location (a path, URL or glob), outer before inner ones.

    Directories inside a claimed one that belong to the same source are left out. Each directory is
    visited once. One that cannot be listed is added to `unlisted` with the reason. The claimed
    directories of files that a glob matches come last, with these files only. `claim`: other
    claims than those of `CLAIMS`, by source.
    """
    own_claims = claim or {}
    claims = [
        (name, own_claims.get(name) or import_module(path).claims_of)
        for name, path in CLAIMS.items()
    ]
    missing = {} if unlisted is None else unlisted
    listed: Listing = _Remote(location, missing) if "://" in location else _Local(missing)
    roots, files = listed.matches(location)
    yield from _below(roots, listed, claims)
    for path, names in _by_directory(files).items():
        folder = listed.folder(path)
        if folder is not None:
            chosen = Folder(path, tuple(name for name in folder.files if name in names), ())
            source, _ = _claimed(chosen, claims)
            if source is not None:
                yield replace(chosen, source=source)


def _below(
    roots: Sequence[str], listed: Listing, claims: Sequence[tuple[str, Claim]]
) -> Iterator[Folder]:
    """The directories at and below some directories."""
    waiting = [*roots][::-1]
    while waiting:
        folder = listed.folder(waiting.pop())
        if folder is None:
            continue
        source, own = _claimed(folder, claims)
        yield Folder(folder.path, folder.files, folder.folders, source)
        waiting += [folder.join(name) for name in folder.folders if name not in own][::-1]


def _by_directory(files: Sequence[str]) -> dict[str, set[str]]:
    """The names of files by the path or URL of their directory."""
    found: dict[str, set[str]] = {}
    for path in files:
        folder, name = path.rsplit("/", 1) if "://" in path else os.path.split(path)
        found.setdefault(folder or os.curdir, set()).add(name)
    return found


def folder_at(path: str) -> Folder | None:
    """The listing of one directory; None if it cannot be listed."""
    return (_Remote(path, {}) if "://" in path else _Local({})).folder(path)


def _claimed(
    folder: Folder, claims: Sequence[tuple[str, Claim]]
) -> tuple[str | None, Collection[str]]:
    """The source of a folder, and the names of the directories in it of the same source."""
    for name, claims_of in claims:
        own = claims_of(folder)
        if own is not None:
            return name, own
    return None, ()


class _Local:
    """Lists local directories, each once: a link may lead back to an outer directory."""

    def __init__(self, unlisted: dict[str, str]) -> None:
        self._unlisted = unlisted
        self._visited: set[tuple[int, int]] = set()

    def matches(self, location: str) -> tuple[list[str], list[str]]:
        """The directories and the files that a path or pattern names."""
        if os.path.isdir(location) or not GLOB.search(location):
            return [location], []
        from glob import glob

        return _divided(sorted(glob(location, recursive=True), key=natural), os.path.isdir)

    def folder(self, path: str) -> Folder | None:
        """The listing of a directory; None if it was visited or cannot be listed."""
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in self._visited:
                return None
            self._visited.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return _folder(path, ((entry.name, _is_directory(entry)) for entry in entries))
        except OSError as error:
            self._unlisted[path] = error.strerror or str(error)
            return None


class _Remote:
    """Lists directories of an fsspec file system."""

    def __init__(self, location: str, unlisted: dict[str, str]) -> None:
        self._unlisted = unlisted
        self._files, self._path = opened(location)

    def matches(self, location: str) -> tuple[list[str], list[str]]:
        """The URLs of the directories and of the files that a URL or pattern names."""
        is_glob = GLOB.search(location) is not None
        found = sorted(self._files.glob(self._path), key=natural) if is_glob else [self._path]
        roots, files = _divided(found, self._files.isdir)
        urls = self._files.unstrip_protocol
        return [*map(urls, roots)], [*map(urls, files)] if is_glob else []

    def folder(self, path: str) -> Folder | None:
        """The listing of a directory; None if it cannot be listed."""
        try:
            own = self._files._strip_protocol(path)
            entries = [each for each in self._files.ls(own, detail=True) if each["name"] != own]
        except Exception as error:  # deliberately broad: every file system raises its own errors
            self._unlisted[path] = f"{type(error).__name__}: {error}"
            return None
        kinds = ((each["name"].rstrip("/"), each["type"]) for each in entries)
        return _folder(
            path, ((name.rpartition("/")[2], kind == "directory") for name, kind in kinds)
        )


Listing = _Local | _Remote


def _divided(
    paths: Sequence[str], is_directory: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """The directories among some paths, and the other paths."""
    found = list[str](), list[str]()
    for path in paths:
        found[0 if is_directory(path) else 1].append(path)
    return found


def _folder(path: str, entries: Iterator[tuple[str, bool]]) -> Folder:
    inside = [*entries]
    if len(inside) > 1:
        inside.sort(key=lambda entry: natural(entry[0]))
    files = tuple(name for name, is_folder in inside if not is_folder)
    return Folder(path, files, tuple(name for name, is_folder in inside if is_folder))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a directory; false for a link that is broken or circular."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def joined(folder: str, name: str) -> str:
    """The path or URL of a file or directory in another one."""
    if "://" in folder:
        return f"{folder.rstrip('/')}/{name}"
    return name if folder == os.curdir else os.path.join(folder, name)
