"""Units: the smallest parts of a tree whose runs are certain without reading the rest.

Saves of one run begin with the same row. So output directories are one unit if they lie in each
other, have a first row in common, or event files that several of them may have written. First rows
are read from the heads of the files; a tree with a file whose head does not show one is one unit,
and so is a remote tree.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.trainer.discovery import Found
from bridges.sources.trainer.partitions import Bundle, bundles

HEAD = 16_384  # bytes of a state that hold its first row


def units(location: str, found: Found) -> list[Bundle]:
    """The units of a tree, in the order of their paths; none where it is a single one."""
    parts = bundles(location, found)
    if len(parts) < 2 or "://" in location:
        return []
    groups: dict[str, int] = {}
    joined = [*range(len(parts))]
    try:
        for number, part in enumerate(parts):
            for mark in _marks(part):
                _join(joined, groups.setdefault(mark, number), number)
    except (SourceError, OSError):  # reading it tells what is wrong
        return []
    members: dict[int, list[Bundle]] = {}
    for number, part in enumerate(parts):
        members.setdefault(_root(joined, number), []).append(part)
    return [_merged(some) for some in members.values()] if len(members) > 1 else []


def _root(joined: list[int], number: int) -> int:
    while joined[number] != number:
        number = joined[number]
    return number


def _join(joined: list[int], one: int, other: int) -> None:
    roots = sorted((_root(joined, one), _root(joined, other)))
    joined[roots[1]] = roots[0]


def _marks(part: Bundle) -> Iterator[str]:
    """What a part may have in common with another one that holds saves of the same run."""
    found = part.found
    for paths in found.events.values():
        yield from paths
    for path in [*found.states, *(path for logs in found.logs.values() for path in logs)]:
        mark = _first_row(path)
        if mark:
            yield mark


def _first_row(path: str) -> str:
    """The first log row in the head of a file, equal for equal rows; empty where it has no row.

    Raises SourceError if the file goes on behind a head without a whole row.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        return ""
    head = _head(path)
    try:
        row = json_text.first_row(path, head)
    except SourceError:
        if len(head) == HEAD:
            raise
        return ""
    if not isinstance(row, dict):
        return ""
    return repr(sorted((key, _plain(value)) for key, value in row.items()))


def _head(path: str) -> bytes:
    """The first bytes of a file, unpacked."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD)
    return head.removeprefix(b"\xef\xbb\xbf")


def _plain(value: object) -> str:
    if isinstance(value, (int, float)) and abs(value) < 2**53:
        return repr(float(value))
    return repr(value)


def _merged(parts: Sequence[Bundle]) -> Bundle:
    """Several parts as one."""
    return Bundle(
        parts[0].location,
        tuple(dict.fromkeys(file for part in parts for file in part.files)),
        tuple(dict.fromkeys(path for part in parts for path in part.checkpoints)),
        tuple(dict(pair for part in parts for pair in part.depths).items()),
        next((part.neighbour for part in parts if part.neighbour), None),
        max(part.size for part in parts),
        next((part.others for part in parts if part.others), ()),
        next((part.unlisted for part in parts if part.unlisted), ()),
    )
