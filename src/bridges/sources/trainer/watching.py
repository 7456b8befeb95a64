"""Watching: has anything changed at a location? Told by listing it, never by reading a file.

A file has changed if its size, its time of change (nanoseconds) or its inode has; a remote one, if
what its file system says of it has: size, times, etag, whatever it knows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from bridges.sources.remote import MISSING, described, forget_listings
from bridges.sources.trainer.discovery import discover, is_place, walk


class Stamp(NamedTuple):
    """What a file looks like from outside; `changed` is its time of change in nanoseconds since
    1970 UTC, 0 where that is not known.
    """

    mark: str
    changed: int = 0


Stamps = Mapping[str, Stamp]


def stamps(location: str, *, every: bool = False) -> Stamps | None:
    """The stamp of each file at a location that may be read, by its path; with `every`, of each.

    What cannot be looked at has a stamp, too, so nothing is raised. None where nothing tells
    whether a file has changed, as of a server that knows neither times nor etags.
    """
    try:
        if "://" in location:
            return _remote(location, every)
        return {path: _stat(path) for path in _files(location, every)}
    except Exception as error:  # deliberately broad: reading the location tells what is wrong
        return {location: Stamp(type(error).__name__)}


def _files(location: str, every: bool) -> list[str]:
    if not is_place(location):
        return [location]
    return [*walk(location)] if every else discover(location).kept


def _stat(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except FileNotFoundError:  # perhaps rotated away since it was listed
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
