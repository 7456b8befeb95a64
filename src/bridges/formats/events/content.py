"""The content of an event file, and how it is put together from records in any order."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bridges.formats.events.hparams import SessionEnd, SessionStart
from bridges.formats.events.messages import (
    BARE_TENSOR,
    SCALARS_PLUGIN,
    SIMPLE,
    TENSOR_KIND,
    TENSOR_OF_SCALARS,
    Event,
)
from bridges.formats.events.proto import TEXT_PLUGIN
from bridges.formats.events.tensors import Column, as_floats, joined
from bridges.formats.events.tfrecord import EventFileError, damaged
from bridges.formats.protobuf import read_varint
from bridges.stream.model import Float64, Int64, Values

TEXT_SUFFIX = "/text_summary"  # of tags of texts without a plug-in
MIN_POINTS_PER_PIECE = 1024  # on average; interleaved parts with more pieces are merged
Key = tuple[str, str, str]  # tag, kind, origin
_double = struct.Struct("<d").unpack_from
# part and slice, or indices into all parts; offset, step, wall time
_Piece = tuple[tuple[int, slice] | Int64, Int64, Int64, Float64]


@dataclass(slots=True)
class ScalarPart:
    """Points of one tag: offsets of their records in the file, step, value, wall time (seconds).

    Values are float32, or float64 where float32 does not hold them.
    """

    offset: Int64
    step: Int64
    value: Values
    wall_time: Float64


class Text(NamedTuple):
    """A text of the text plug-in, and the offset of its record in the file."""

    offset: int
    tag: str
    step: int
    text: str
    wall_time: float


@dataclass
class EventFile:
    """The content of an event file.

    - `scalars`: the points by tag, as parts in file order; values of one record keep their order.
    - `texts`, `sessions` (of the hparams plug-in, with the offset of their record), `restarts`
      (offset and step of each SessionLog START), `versions` (offset and wall time of each
      file_version): in file order.
    - `others`: the count of everything else by kind and tag. The kind is a plug-in's name, that of
      the field (`histograms`, `images`, `audio`, `graph_def`, …), `tensor` (no plug-in), `metadata`
      (no value) or `unreadable` (not an event).
    - `start`: the wall time of the first file_version; `first_time`: the lowest finite wall time.
    - `torn`: bytes after the last complete record, 0 if they are zeros; `damaged`: the offsets of
      records left out by `salvage`; `rounded`: integers that float64 does not hold.
    """

    scalars: dict[str, list[ScalarPart]] = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)
    sessions: list[tuple[int, SessionStart | SessionEnd]] = field(default_factory=list)
    restarts: list[tuple[int, int]] = field(default_factory=list)
    versions: list[tuple[int, float]] = field(default_factory=list)
    others: Counter[tuple[str, str]] = field(default_factory=Counter)
    start: float | None = None
    other_times: list[float] = field(default_factory=list)  # of records without points
    torn: int = 0
    damaged: list[int] = field(default_factory=list)
    rounded: int = 0

    @property
    def parts(self) -> Iterator[ScalarPart]:
        """The points of all tags."""
        return (part for parts in self.scalars.values() for part in parts)

    @cached_property
    def first_time(self) -> float | None:
        """The lowest finite wall time of all records."""
        columns = {id(part.wall_time): part.wall_time for part in self.parts}
        return lowest([*columns.values(), np.array(self.other_times, np.float64)])

    def points(self, tag: str) -> ScalarPart:
        """All points of a tag as one part."""
        parts = self.scalars[tag]
        if len(parts) == 1:
            return parts[0]
        names = ("offset", "step", "value", "wall_time")
        return ScalarPart(
            *(np.concatenate([getattr(one, name) for one in parts]) for name in names)
        )


def lowest(columns: Iterable[Float64]) -> float | None:
    """The lowest finite number of some columns; None without any."""
    found = []
    for column in columns:
        low = float(column.min()) if len(column) else math.inf
        if not math.isfinite(low):
            low = float(column.min(where=np.isfinite(column), initial=math.inf))
        found.append(low)
    low = min(found, default=math.inf)
    return low if math.isfinite(low) else None


class EventBytes(NamedTuple):
    """An event file to decode: its path (for messages), its bytes, and its directory's plug-ins."""

    path: str
    data: bytes
    plugins: dict[str, str]


class Rules(NamedTuple):
    """The options of `decode`."""

    complete: bool
    salvage: bool
    max_tags: int | None
    tensors: bool


class Part(NamedTuple):
    """Points of one key; `raw` has the bytes of the values."""

    offset: Int64
    step: Int64
    raw: Column
    wall_time: Float64


@dataclass
class _Few:
    """Points of one key that were parsed one by one."""

    offset: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    wall_time: list[float] = field(default_factory=list)

    def part(self, kind: str) -> Part:
        return Part(
            np.array(self.offset, np.int64),
            np.array(self.step, np.int64),
            joined(self.raw, kind),
            np.array(self.wall_time),
        )


class Draft:
    """The content of a file while its records are decoded, in any order; `wrong` are damaged."""

    def __init__(self, source: EventBytes, rules: Rules, torn: int) -> None:
        self.source = source
        self.rules = rules
        self.file = EventFile(torn=torn)
        self.wrong: list[int] = []
        self.few: dict[Key, _Few] = {}
        self.parts: dict[Key, list[Part]] = {}
        self.plugins: list[tuple[int, str, str]] = []  # offset, tag, plug-in
        self.bare_texts: list[Text] = []
        self.ordered: dict[tuple[int, ...], list[_Piece]] = {}  # by ids of offsets

    def add(self, offset: int, data: bytes, event: Event) -> None:
        """Add a record that was parsed by itself."""
        file, time, step = self.file, _time_of(data, event), _step_of(data, event)
        if not event.scalars:
            file.other_times.append(time)
        for scalar in event.scalars:
            key = scalar[:3]
            few = self.few.get(key) or self.few.setdefault(key, _Few())
            few.offset.append(offset)
            few.step.append(step)
            few.raw.append(scalar.raw)
            few.wall_time.append(time)
        for tag, text, has_plugin in event.texts:
            texts = file.texts if has_plugin else self.bare_texts
            texts.append(Text(offset, tag, step, text, time))
        file.sessions += [(offset, session) for session in event.sessions]
        for other in event.others:
            file.others[other] += 1
        self.plugins += [(offset, tag, plugin) for tag, plugin in event.plugins]
        if event.file_version is not None:
            file.versions.append((offset, time))
        if event.is_restart:
            file.restarts.append((offset, step))

    def finished(self) -> EventFile | EventFileError:
        """The content, or the error for the first damaged record."""
        path = self.source.path
        if self.wrong and not self.rules.salvage:
            return damaged(path, self.source.data, min(self.wrong))
        for key, few in self.few.items():
            self.parts.setdefault(key, []).append(few.part(key[1]))
        self._resolve()
        file, limit = self.file, self.rules.max_tags
        if limit is not None and len(file.scalars) > limit:
            return too_many_tags(path, self.rules)
        file.damaged = sorted(self.wrong)
        for ordered in (file.texts, file.sessions, file.restarts, file.versions):
            ordered.sort(key=lambda one: one[0])
        file.start = file.versions[0][1] if file.versions else None
        return file

    def _resolve(self) -> None:
        """Name the kind of each tensor by its tag's plug-in, which any record may name."""
        plugins = self.source.plugins
        named = self.plugins + [
            (int(parts[0].offset[0]), tag, SCALARS_PLUGIN)
            for (tag, _, origin), parts in self.parts.items()
            if origin == TENSOR_OF_SCALARS
        ]
        for _, tag, plugin in sorted(named):
            plugins.setdefault(tag, plugin)
        for key, parts in self.parts.items():
            self._add_points(key, parts, plugins.get(key[0], ""))
        for tag, found in self.file.scalars.items():
            self.file.scalars[tag] = self._in_file_order(found)
        for text in self.bare_texts:
            plugin = plugins.get(text.tag, "")
            if plugin == TEXT_PLUGIN or (not plugin and text.tag.endswith(TEXT_SUFFIX)):
                self.file.texts.append(text)
            else:
                self.file.others[plugin or TENSOR_KIND, text.tag] += 1
        others = self.file.others
        for kind, tag in [key for key in others if not key[0]]:
            others[plugins.get(tag, TENSOR_KIND), tag] += others.pop((kind, tag))

    def _add_points(self, key: Key, parts: Sequence[Part], plugin: str) -> None:
        tag, kind, origin = key
        is_other = origin == BARE_TENSOR and plugin != SCALARS_PLUGIN
        if is_other or not (self.rules.tensors or origin == SIMPLE):
            count = sum(len(part.step) for part in parts)
            self.file.others[plugin or TENSOR_KIND, tag] += count
            self.file.other_times += [float(np.fmin.reduce(part.wall_time)) for part in parts]
            return
        found = self.file.scalars.setdefault(tag, [])
        for part in parts:
            value, rounded = as_floats(part.raw, kind)
            found.append(ScalarPart(part.offset, part.step, value, part.wall_time))
            self.file.rounded += rounded

    def _in_file_order(self, parts: list[ScalarPart]) -> list[ScalarPart]:
        """The parts of a tag in file order: interleaved parts are split, or merged.

        Tags of the same records share their offsets, steps and times.
        """
        if len(parts) == 1:
            return parts
        parts = sorted(parts, key=lambda part: int(part.offset[0]))
        if all(one.offset[-1] < other.offset[0] for one, other in pairwise(parts)):
            return parts
        key = tuple(id(part.offset) for part in parts)
        if key not in self.ordered:
            self.ordered[key] = _ordered(parts)
        return [
            ScalarPart(offset, step, _taken(parts, where), time)
            for where, offset, step, time in self.ordered[key]
        ]


def _taken(parts: Sequence[ScalarPart], where: tuple[int, slice] | Int64) -> Values:
    """The values of a slice of one part, or of indices into all parts."""
    if isinstance(where, tuple):
        return parts[where[0]].value[where[1]]
    return np.concatenate([part.value for part in parts])[where]


def _ordered(parts: Sequence[ScalarPart]) -> list[_Piece]:
    """Parts, sorted by their first offset, as pieces in file order."""
    most = sum(len(part.offset) for part in parts) // MIN_POINTS_PER_PIECE
    waiting = [(int(part.offset[0]), number, 0) for number, part in enumerate(parts)]
    pieces: list[_Piece] = []
    while waiting:
        _, number, low = heappop(waiting)
        offset = parts[number].offset
        high = len(offset)
        if waiting and offset[-1] >= waiting[0][0]:
            high = int(np.searchsorted(offset, waiting[0][0]))
            if high == low or len(pieces) >= most:
                return _merged(parts)
            heappush(waiting, (int(offset[high]), number, high))
        cut = slice(low, high)
        part = parts[number]
        pieces.append(((number, cut), offset[cut], part.step[cut], part.wall_time[cut]))
    return pieces


def _merged(parts: Sequence[ScalarPart]) -> list[_Piece]:
    """Parts as one piece; values of one record keep their order."""
    offset = np.concatenate([part.offset for part in parts])
    step = np.concatenate([part.step for part in parts])
    time = np.concatenate([part.wall_time for part in parts])
    order = np.argsort(offset, kind="stable")
    return [(order, offset[order], step[order], time[order])]


def too_many_tags(path: str, rules: Rules) -> EventFileError:
    """The error for a file with more tags than allowed."""
    return EventFileError(path, f"contains more than {rules.max_tags:,} tags")


def _time_of(data: bytes, event: Event) -> float:
    at = event.wall_time
    return float(_double(data, at)[0]) if at >= 0 else 0.0


def _step_of(data: bytes, event: Event) -> int:
    if event.step[0] < 0:
        return 0
    step, _ = read_varint(data, event.step[0])
    return step if step < 1 << 63 else (step + (1 << 63)) % (1 << 64) - (1 << 63)
