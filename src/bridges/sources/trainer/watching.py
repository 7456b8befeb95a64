"""Detects changes at a location by listing it; no file is read.

A local file has changed if its size, mtime (nanoseconds) or inode differs; a remote file, if the
size, times, etag or checksum in its listing differ.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from bridges.sources.mlflow.location import stores_at
from bridges.sources.place import tracker_of
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


def stamps(location: str, *, every: bool = False) -> Stamps | None:
    """The stamp of each readable file at a location by path; with `every`, of all files.

    A location that cannot be listed has a stamp, too, so nothing is raised. None if changes cannot
    be detected, for example with a server that sends neither times nor etags.
    """
    try:
        if tracker_of(location):
            return _of_stores(location)
        if "://" in location:
            return _remote(location, every)
        return {path: _stat(path) for path in _files(location, every)}
    except Exception as error:  # deliberately broad: reading the location reports the error
        return {location: Stamp(type(error).__name__)}


def _of_stores(location: str) -> Stamps | None:
    """The stamps of the files of MLflow's stores; None for servers and their databases."""
    found: dict[str, Stamp] = {}
    for store in stores_at(location):
        files = store.files()
        if files is None:
            return None
        found |= {path: _stat(path) for path in files}
    return found


def _files(location: str, every: bool) -> list[str]:
    if not is_tree(location):
        return [location]
    return [*walk(location)] if every else discover(location).readable


def _stat(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except FileNotFoundError:  # removed since it was listed
        return Stamp(MISSING)
    mark = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
    return Stamp(mark, status.st_mtime_ns)


def _remote(location: str, every: bool) -> Stamps | None:
    forget_listings([location])
    found = {}
    for url in _files(location, every):
        mark = described(url)
        if mark is None:
            return None
        found[url] = Stamp(mark)
    return found
