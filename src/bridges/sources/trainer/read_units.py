"""Read units: the smallest parts of a tree whose runs do not depend on the rest of the tree.

All saves of a run have the same first row. So output directories form one unit if they are nested,
share a first row, or share event files. First rows are read from the head of each file. A remote
tree, or a tree with a file whose head lacks a complete row, is one unit.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

from bridges.errors import SourceError
from bridges.sources.json_salvage import first_row
from bridges.sources.trainer.discovery import FoundFiles
from bridges.sources.trainer.partitions import Partition, partitions

HEAD_BYTES = 16_384  # read of each state to find its first row


def read_units(location: str, found: FoundFiles) -> list[Partition]:
    """The units of a tree, in the order of their paths; empty if the tree is a single unit."""
    parts = partitions(location, found)
    if len(parts) < 2 or "://" in location:
        return []
    groups: dict[str, int] = {}
    joined = [*range(len(parts))]
    try:
        for number, part in enumerate(parts):
            for trait in _shared_traits(part):
                _join(joined, groups.setdefault(trait, number), number)
    except (SourceError, OSError):  # reading the file reports the error
        return []
    members: dict[int, list[Partition]] = {}
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


def _shared_traits(part: Partition) -> Iterator[str]:
    """The event files and first rows of a part; parts of one unit have one of them in common."""
    found = part.found
    for paths in found.events.values():
        yield from paths
    for path in [*found.states, *(path for logs in found.logs.values() for path in logs)]:
        if row := _first_row(path):
            yield row


def _first_row(path: str) -> str:
    """The first log row of a file as text, equal for equal rows; empty if it has no row.

    Raises SourceError if the file is longer than its head and the head has no complete row.
    """
    if not os.path.isfile(path):  # reading a pipe would block
        return ""
    head = _head(path)
    try:
        row = first_row(path, head)
    except SourceError:
        if len(head) == HEAD_BYTES:
            raise
        return ""
    if not isinstance(row, dict):
        return ""
    return repr(sorted((key, _plain(value)) for key, value in row.items()))


def _head(path: str) -> bytes:
    """The first bytes of a file, decompressed."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if head[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    return head.removeprefix(b"\xef\xbb\xbf")


def _plain(value: object) -> str:
    if isinstance(value, (int, float)) and abs(value) < 2**53:
        return repr(float(value))
    return repr(value)


def _merged(parts: Sequence[Partition]) -> Partition:
    """Several partitions as one."""
    return Partition(
        parts[0].location,
        tuple(dict.fromkeys(file for part in parts for file in part.files)),
        tuple(dict.fromkeys(path for part in parts for path in part.checkpoints)),
        tuple(dict(pair for part in parts for pair in part.depths).items()),
        next((part.neighbour for part in parts if part.neighbour), None),
        max(part.size for part in parts),
        next((part.others for part in parts if part.others), ()),
        next((part.unlisted for part in parts if part.unlisted), ()),
        next((part.notes for part in parts if part.notes), ()),
    )
