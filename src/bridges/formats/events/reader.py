"""Reads event files into columns and checks the CRCs of every record.

The reader makes no assumption about the writer. It parses one record as protobuf, and decodes as
columns all records that differ from it only in wall time, step and values (`shapes.py`). Many small
files are joined, so that records with the same tags are decoded together whatever their file.

`decode` reads one file, `decode_many` many. Both raise or give EventFileError for damage, and take
`plugins`, the plug-in of each tag of a directory, as only the first event of a tag must name it:
pass the same dict for all files of a directory, in their order.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, groupby, pairwise

import numpy as np

from bridges.formats.events.content import (
    TEXT_SUFFIX,
    Draft,
    EventBytes,
    EventFile,
    Key,
    Part,
    Rules,
    too_many_tags,
)
from bridges.formats.events.messages import first_tag, parse_event
from bridges.formats.events.shapes import Rows, Shape
from bridges.formats.events.tfrecord import (
    FOOTER,
    HEADER,
    MAX_SHORT_BYTES,
    Cycle,
    EventFileError,
    Frames,
    crc_fits,
    find_records,
    is_record_header,
    record_header,
    records_fit,
)
from bridges.stream.model import Int64

BLOCK_RECORDS, BLOCK_BYTES = 8192, 1 << 21  # of a block that is decoded at once: fits the cache
MIN_CYCLES = 2048  # of repeated records; fewer are decoded with the other records
MIN_MIXED_RECORDS = 24  # of any lengths; fewer are parsed one by one
MIN_COLUMNAR_RECORDS = 8  # of one length; parsing fewer one by one is faster
# with so many groups of fewer short records of one length than this, these are decoded together
MIN_MIXED_GROUPS, MAX_MIXED_GROUP = 4, 128
BYTES_PER_PEER = 64  # long records need one record of their length for so many bytes
SINGLES_AFTER_MISS = 32  # records parsed one by one after a shape had few; doubles each time
MAX_SHAPES = 64  # of equal share; records of rarer shapes are parsed one by one
MANY_RECORDS = 1024  # of one length and rare shapes, which are grouped by tag
Group = tuple[int, bytes]  # of records that may be alike: data length, first tag if known
JOINED_BYTES, MAX_SMALL_BYTES = 1 << 23, 1 << 21  # of files decoded together, and of one of them


def is_event_file(head: bytes) -> bool:
    """Whether the first bytes of a file (12 are needed) are the header of a record."""
    return is_record_header(head)


def first_texts(path: str, records: int = 2) -> list[tuple[str, str]]:
    """The texts of the first records, as (tag, text); fast for a file of any size.

    Raises OSError, and EventFileError if one of these records is damaged.
    """
    offset = 0
    texts: list[tuple[str, str]] = []
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(records):
            header = file.read(HEADER)
            if not header:
                break
            length = int.from_bytes(header[:8], "little")
            if header != record_header(length):
                raise EventFileError(path, "the CRC of its length is wrong", offset)
            data = file.read(min(length, size))
            if not crc_fits(data, file.read(FOOTER)):
                raise EventFileError(path, "the CRC of its data is wrong", offset)
            texts += [
                (tag, text)
                for tag, text, has_plugin in parse_event(data).texts
                if has_plugin or tag.endswith(TEXT_SUFFIX)
            ]
            offset = file.tell()
    return texts


def decode(
    path: str,
    data: bytes,
    *,
    plugins: dict[str, str] | None = None,
    complete: bool = True,
    salvage: bool = False,
    max_tags: int | None = None,
    tensors: bool = True,
) -> EventFile:
    """The content of an event file. Raises EventFileError if damaged, or for more than `max_tags`.

    A file that may still be written (`complete` is False) may end inside a record, or with zero
    bytes after a power cut. `salvage` leaves out records whose data have a wrong CRC, and all
    records from a wrong length on, whose bytes count as `torn`. Without `tensors`, scalars stored
    as tensors are counted only.
    """
    file = EventBytes(path, data, {} if plugins is None else plugins)
    (found,) = _decode_joined([file], Rules(complete, salvage, max_tags, tensors))
    if isinstance(found, EventFileError):
        raise found
    return found


def decode_many(
    files: Iterable[EventBytes],
    *,
    complete: bool = True,
    salvage: bool = False,
    max_tags: int | None = None,
    tensors: bool = True,
) -> Iterator[EventFile | EventFileError]:
    """As `decode`, for many files: the content of each, or its error, in their order.

    Small files take a fraction of the time. At most 8 MiB of files are in memory at a time, or one
    larger file.
    """
    rules = Rules(complete, salvage, max_tags, tensors)
    waiting: list[EventBytes] = []
    size = 0
    for file in files:
        size += len(file.data)
        if waiting and (size > JOINED_BYTES or len(file.data) > MAX_SMALL_BYTES):
            yield from _decode_joined(waiting, rules)
            waiting, size = [], len(file.data)
        waiting.append(file)
    if waiting:
        yield from _decode_joined(waiting, rules)


def _decode_joined(
    files: Sequence[EventBytes], rules: Rules
) -> Iterator[EventFile | EventFileError]:
    """Decode files together."""
    frames = _frames(files, complete=rules.complete)
    drafts = [Draft(file, rules, found.torn) for file, found in zip(files, frames, strict=True)]
    for draft, found in zip(drafts, frames, strict=True):
        if found.torn and (not found.is_cut or (rules.complete and not rules.salvage)):
            draft.wrong.append(found.stop)
    limit = None if rules.max_tags is None else rules.max_tags * len(files)
    try:
        _Decoder(drafts, limit).decode(frames)
    except _TooManyTagsError:
        if len(files) > 1:
            for file in files:
                yield from _decode_joined([file], rules)
        else:
            yield too_many_tags(files[0].path, rules)
        return
    for draft in drafts:
        yield _salvaged(draft, rules) if rules.salvage else draft.finished()


def _frames(files: Sequence[EventBytes], *, complete: bool) -> list[Frames]:
    """The records of each file. Runs of one program often have the same, found once."""
    frames: list[Frames] = []
    for _, data, _ in files:
        if frames and frames[-1].fit(data):
            frames.append(frames[-1])
        else:
            frames.append(find_records(data, complete=complete))
    return frames


def _salvaged(draft: Draft, rules: Rules) -> EventFile | EventFileError:
    """The content before a record with a wrong length, as no record can be found after it."""
    data = draft.source.data
    lengths = [at for at in draft.wrong if not is_record_header(data[at : at + HEADER])]
    stop = min(lengths, default=len(data))
    if stop >= len(data) - draft.file.torn:
        return draft.finished()
    (found,) = _decode_joined([draft.source._replace(data=data[:stop])], rules)
    if isinstance(found, EventFile):
        found.torn = len(data) - stop
        found.damaged.append(stop)
    return found


class _TooManyTagsError(Exception):
    """The files have more tags than allowed."""


class _Decoder:
    """Decodes the records of joined files into their drafts."""

    def __init__(self, drafts: Sequence[Draft], max_tags: int | None) -> None:
        self._drafts = drafts
        self._max_tags = max_tags
        self._tags: set[str] = set()
        datas = [draft.source.data for draft in drafts]
        self._data = datas[0] if len(datas) == 1 else b"".join(datas)
        self._bases = np.cumsum([0, *map(len, datas)]).tolist()
        self._columns: dict[Key, list[Part]] = {}

    def decode(self, frames: Sequence[Frames]) -> None:
        """Decode the records of each file. Raises _TooManyTagsError."""
        loose: dict[Group, list[Int64]] = {}
        pairs = zip(frames, self._bases, strict=False)
        for _, alike in groupby(pairs, key=lambda pair: id(pair[0])):
            (found, first), *others = alike
            bases = np.array([first, *(base for _, base in others)])
            for length, offsets in found.others.items():
                where = _repeated(np.array(offsets, np.int64), bases)
                loose.setdefault((length, b""), []).append(where)
            for cycle in found.cycles:
                if cycle.repeats < MIN_CYCLES:
                    self._add_cycle(bases, cycle, loose)
                else:
                    self._decode_cycles(bases, cycle, loose)
        groups = [*_merged_groups(loose)]
        few = [_is_few(*group) for group in groups]
        are_mixed = sum(few) >= MIN_MIXED_GROUPS
        singles = [
            where if are_mixed and is_few else self._groups(length, where)
            for is_few, (length, where) in zip(few, groups, strict=True)
        ]
        if singles:
            self._singles(np.sort(np.concatenate(singles)))
        self._share_columns()

    def _add_cycle(self, bases: Int64, cycle: Cycle, loose: dict[Group, list[Int64]]) -> None:
        """Add repeated records of equal files, to be decoded with those of other cycles."""
        at, lengths, repeats, size = cycle
        firsts = accumulate((length + HEADER + FOOTER for length in lengths[:-1]), initial=at)
        places = np.array([*firsts])[:, None] + np.arange(0, repeats * size, size)
        rows = (places[:, None] + bases[:, None]).reshape(len(lengths), -1)
        for length, where in zip(lengths, rows, strict=True):
            tag = first_tag(self._data, int(where[0]) + HEADER)
            loose.setdefault((length, tag), []).append(where)

    def _decode_cycles(self, bases: Int64, cycle: Cycle, loose: dict[Group, list[Int64]]) -> None:
        """Decode repeated records of equal files, in regions that stay in the cache."""
        for base in bases.tolist():
            self._decode_cycle(base + cycle.offset, cycle, loose)

    def _decode_cycle(self, first: int, cycle: Cycle, loose: dict[Group, list[Int64]]) -> None:
        size = cycle.size
        alike: dict[tuple[int, Shape | None], list[int]] = {}  # first records of equal shape
        for length in cycle.lengths:
            alike.setdefault((length, self._shape(first, length)), []).append(first)
            first += length + HEADER + FOOTER
        at_once = max(1024, BLOCK_BYTES // size)
        for start in range(0, cycle.repeats, at_once):
            starts = np.arange(start, min(start + at_once, cycle.repeats)) * size
            for (length, shape), at in alike.items():
                where = (starts[:, None] + np.array(at)).ravel()
                stride = size if len(at) == 1 else 0
                rows = Rows.at(self._data, where, length + HEADER + FOOTER, stride)
                rest = self._read(shape, where, rows) if shape else where
                if len(rest):
                    loose.setdefault((length, b""), []).append(rest)

    def _shape(self, at: int, length: int) -> Shape | None:
        """The shape of the record at an offset; None if it has more than scalars."""
        record = self._data[at : at + length + HEADER + FOOTER]
        event = parse_event(record[HEADER:-FOOTER])
        self._count_tags([scalar.tag for scalar in event.scalars])
        return Shape.of(event, record) if event.is_columnar() else None

    def _count_tags(self, tags: Collection[str]) -> None:
        if self._max_tags is not None:
            self._tags.update(tags)
            if max(len(self._tags), len(tags)) > self._max_tags:
                raise _TooManyTagsError

    def _groups(self, length: int, where: Int64, *, is_one_tag: bool = False) -> Int64:
        """Decode records of one length shape by shape; the offsets of those to parse one by one."""
        singles, misses = [where[:0]], SINGLES_AFTER_MISS
        while len(where) >= max(MIN_COLUMNAR_RECORDS, length // BYTES_PER_PEER):
            shape = self._shape(int(where[0]), length)
            rest = self._read_blocks(shape, where) if shape else where
            is_common = len(where) - len(rest) >= max(SINGLES_AFTER_MISS, len(where) // MAX_SHAPES)
            where = rest
            if is_common:
                continue
            if len(where) > MANY_RECORDS and not is_one_tag:
                groups = self._by_tag(where)
                singles += [self._groups(length, group, is_one_tag=True) for group in groups]
                return np.concatenate(singles)
            singles.append(where[:misses])
            where, misses = where[misses:], 2 * misses
        return np.concatenate([*singles, where])

    def _by_tag(self, where: Int64) -> list[Int64]:
        """Offsets of records, grouped by their first tag."""
        groups: dict[bytes, list[int]] = {}
        for offset in where.tolist():
            groups.setdefault(first_tag(self._data, offset + HEADER), []).append(offset)
        return [np.array(group) for group in groups.values()]

    def _read_blocks(self, shape: Shape, where: Int64) -> Int64:
        count = max(1, min(BLOCK_RECORDS, BLOCK_BYTES // shape.size))
        rest = [where[:0]]
        for start in range(0, len(where), count):
            block = where[start : start + count]
            rest.append(self._read(shape, block, Rows.at(self._data, block, shape.size)))
        return np.concatenate(rest)

    def _read(self, shape: Shape, where: Int64, rows: Rows) -> Int64:
        """Decode the records of this shape; the offsets of the others."""
        same, points = shape.read(rows)
        if points is None:
            return where
        time, step, values, is_sound = points
        rest = where[:0]
        if same is not None:
            rest, where = where[~same], where[same]
        if np.count_nonzero(is_sound) < len(where):
            self._wrong(where[~is_sound])
            where, time, step = where[is_sound], time[is_sound], step[is_sound]
            values = [value[is_sound] for value in values]
            if not len(where):
                return rest
        for key, value in zip(shape.keys, values, strict=True):
            self._columns.setdefault(key, []).append(Part(where, step, value, time))
        return rest

    def _draft(self, offset: int) -> tuple[Draft, int]:
        """The file with a record, and its base in the joined data."""
        number = bisect_right(self._bases, offset) - 1
        return self._drafts[number], self._bases[number]

    def _wrong(self, where: Iterable[int]) -> None:
        for offset in map(int, where):
            draft, base = self._draft(offset)
            draft.wrong.append(offset - base)

    def _singles(self, where: Int64) -> None:
        """Parse records one by one."""
        length = np.ndarray(len(self._data) - 7, "<i8", self._data, 0, (1,))[where]
        fit = records_fit(self._data, where, length)
        self._wrong(where[~fit])
        where, length = where[fit], length[fit]
        if len(where) >= MIN_MIXED_RECORDS:
            from bridges.formats.events.mixed import read_mixed  # not needed for most files

            parts, is_read = read_mixed(self._data, where, length)
            for key, part in parts:
                self._columns.setdefault(key, []).append(part)
            self._count_tags({tag for (tag, _, _), _ in parts})
            where, length = where[~is_read], length[~is_read]
        for at, size in zip(where.tolist(), length.tolist(), strict=True):
            draft, base = self._draft(at)
            body = self._data[at + HEADER : at + HEADER + size]
            event = parse_event(body)
            self._count_tags([scalar.tag for scalar in event.scalars])
            draft.add(at - base, body, event)

    def _share_columns(self) -> None:
        """Give each file its part of the columns."""
        if len(self._drafts) == 1:
            self._drafts[0].parts = self._columns
            return
        bases = np.array(self._bases)
        for key, parts in self._columns.items():
            offset, step, raw, time = _sorted(parts)
            bounds = np.searchsorted(offset, bases)
            offset = offset - np.repeat(bases[:-1], np.diff(bounds))
            for draft, (low, high) in zip(self._drafts, pairwise(bounds.tolist()), strict=True):
                if low < high:
                    own = slice(low, high)
                    draft.parts[key] = [Part(offset[own], step[own], raw[own], time[own])]


def _merged_groups(groups: dict[Group, list[Int64]]) -> Iterator[tuple[int, Int64]]:
    """The data length and the increasing offsets of each group.

    Records whose tag is not known, and few records, join a group of their length, if any.
    """
    minor: dict[int, list[Int64]] = {}
    major: dict[int, list[list[Int64]]] = {}
    for (length, tag), found in groups.items():
        if tag and sum(map(len, found)) >= MIN_COLUMNAR_RECORDS:
            major.setdefault(length, []).append(found)
        else:
            minor.setdefault(length, []).extend(found)
    for length, several in major.items():
        several[-1] = [*several[-1], *minor.pop(length, ())]
        yield from ((length, _joined(found)) for found in several)
    yield from ((length, _joined(found)) for length, found in minor.items())


def _is_few(length: int, where: Int64) -> bool:
    """Whether a group has few short records, though enough to decode them by column."""
    return length <= MAX_SHORT_BYTES and MIN_COLUMNAR_RECORDS <= len(where) < MAX_MIXED_GROUP


def _repeated(offsets: Int64, bases: Int64) -> Int64:
    """Offsets within a file, for each file that begins at one of the bases."""
    return (offsets + bases[:, None]).ravel()


def _joined(found: Sequence[Int64]) -> Int64:
    """Offsets as one sorted array."""
    return np.sort(np.concatenate(found)) if len(found) > 1 else found[0]


def _sorted(parts: Sequence[Part]) -> Part:
    """The points of parts by offset; those of one record keep their order."""
    offset, step, raw, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not (offset[1:] >= offset[:-1]).all():
        order = np.argsort(offset, kind="stable")
        offset, step, raw, time = offset[order], step[order], raw[order], time[order]
    return Part(offset, step, raw, time)
