"""Detects changes at a location by listing it; no file is read.

A local file has changed if its size, mtime (nanoseconds) or inode differs; a remote file, if the
size, times, etag or checksum in its listing differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bridges.pipeline.read_runs import source_of
from bridges.sources.base import Watched
from bridges.sources.options import ReadOptions
from bridges.sources.remote import MISSING, described, forget_listings
from bridges.sources.trainer.discovery import discover, walk
from bridges.sources.trainer.locations import is_tree


class Stamp(NamedTuple):
    """The metadata of a file as text; `changed` is its mtime in nanoseconds since 1970 UTC (0:
    unknown).
    """

    mark: str
    changed: int = 0


Stamps = Mapping[str, Stamp]


def stamps(
    location: str, source: str | None = None, options: ReadOptions | None = None
) -> Stamps | None:
    """The stamp of each readable file at a location by path; of all files if a source is named and
    does not list them.

    A location that cannot be listed has a stamp, too, so nothing is raised. None if changes cannot
    be detected, for example with a server that sends neither times nor etags.
    """
    try:
        forget_listings([location])
        reader = source_of(location, source, options)
        if isinstance(reader, Watched):
            paths = reader.files(location)
        else:
            paths = _files(location, every=source is not None)
        return None if paths is None else _of_files(paths)
    except Exception as error:  # deliberately broad: reading the location reports the error
        return {location: Stamp(type(error).__name__)}


def _files(location: str, every: bool) -> list[str]:
    if not is_tree(location):
        return [location]
    return [*walk(location)] if every else discover(location).readable


def _of_files(paths: Iterable[str]) -> Stamps | None:
    """The stamps of local and remote files; None if one of them has none."""
    found = {}
    for path in paths:
        stamp = _remote(path) if "://" in path else _stat(path)
        if stamp is None:
            return None
        found[path] = stamp
    return found


def _stat(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except FileNotFoundError:  # removed since it was listed
        return Stamp(MISSING)
    mark = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
    return Stamp(mark, status.st_mtime_ns)


def _remote(url: str) -> Stamp | None:
    mark = described(url)
    return None if mark is None else Stamp(mark)
