"""The content of one event file, as columns in the order of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events.content import TEXT_SUFFIX, EventFile, ScalarPart, Text, lowest
from bridges.formats.events.hparams import SessionEnd, SessionStart
from bridges.sources.tensorboard.event_names import EXPORTED, name_of, process_of
from bridges.stream.finding import Finding
from bridges.stream.model import Float64, Int64, Provenance

# texts added by bridges: the state of the run, its params and its note
STATE, PARAMS, NOTE = (f"bridges/{name}{TEXT_SUFFIX}" for name in ("provenance", "params", "note"))
OWN_TEXTS = (STATE, PARAMS, NOTE)
MAX_INT16 = 2**15 - 1
MAX_SECONDS = 253_402_300_799  # the end of the year 9999
NOTHING = np.empty(0, np.int64)
EMPTY = ScalarPart(NOTHING, NOTHING, np.empty(0), np.empty(0))
Mask = NDArray[np.bool_]
Codes = NDArray[np.int16] | Int64


class Steps(NamedTuple):
    """The first, the lowest and the highest step of a tag; its first and its last value."""

    first: int
    low: int
    high: int
    first_value: float
    last_value: float


@dataclass(frozen=True)
class EventLog:
    """The points of one event file (n each), in the order of the file.

    path: its location
    tags: the tags; those from position `numbers` on have texts
    tag: positions in `tags` (int16 or int64)
    step: int64
    value: numbers, or positions in `texts` (float64)
    time: microseconds since 1970 UTC (int64)
    restarts: the number of points before each SessionLog START, and its step
    start: the lowest time of any event; None without any
    sessions: records of the hparams plug-in
    others: the count of everything else, by kind and tag
    bad_times: the number of points without a valid time, which have time 0
    torn: bytes after the last complete record
    own_texts: the texts added by bridges to its exports, by tag; they are not points
    findings: damage of the file
    """

    path: str
    tags: Sequence[str]
    numbers: int
    tag: Codes
    step: Int64
    value: Float64
    time: Int64
    texts: Sequence[str]
    restarts: Sequence[tuple[int, int]]
    start: int | None
    sessions: Sequence[SessionStart | SessionEnd]
    others: Mapping[tuple[str, str], int]
    bad_times: int
    torn: int
    own_texts: Mapping[str, str]
    findings: Sequence[Finding] = ()
    provenance: Provenance | None = None

    @classmethod
    def of(
        cls,
        path: str,
        file: EventFile,
        findings: Sequence[Finding] = (),
        provenance: Provenance | None = None,
    ) -> EventLog:
        """The columns of a decoded file."""
        texts = [text for text in file.texts if text.tag not in OWN_TEXTS]
        of_texts = _parts_of_texts(texts)
        by_tag = [*file.scalars.values(), *([part] for part in of_texts.values())]
        found = [(at, part) for at, parts in enumerate(by_tag) for part in parts]
        code, offset, step, value, seconds = _columns(found, len(by_tag))
        time, bad_times = _microseconds(seconds)
        order = offset.argsort(kind="stable")
        if of_texts and process_of(name_of(path)).startswith(EXPORTED):
            is_text = code[order] >= len(file.scalars)
            order = order[_texts_in_time(is_text, time[order])]
        start = lowest([seconds, np.array(file.other_times, np.float64)])
        return cls(
            path,
            (*file.scalars, *(tag.removesuffix(TEXT_SUFFIX) for tag in of_texts)),
            len(file.scalars),
            code[order],
            step[order],
            value[order],
            time[order],
            tuple(text.text for text in texts),
            _restarts(file, offset[order]) if file.restarts else (),
            None if start is None or abs(start) > MAX_SECONDS else round(start * 1e6),
            tuple(session for _, session in file.sessions),
            file.others,
            bad_times,
            file.torn,
            {text.tag: text.text for text in file.texts[::-1] if text.tag in OWN_TEXTS},
            findings,
            provenance,
        )

    def __len__(self) -> int:
        return len(self.step)

    @cached_property
    def bounds(self) -> Mapping[str, Steps]:
        """The steps of each tag with numbers."""
        order = np.argsort(self.tag, kind="stable")
        order = order[: int((self.tag < self.numbers).sum())]
        found, first = np.unique(self.tag[order], return_index=True)
        if not len(order):
            return {}
        step = self.step[order]
        value, last = self.value[order], np.append(first[1:], len(order)) - 1
        bounds = np.minimum.reduceat(step, first), np.maximum.reduceat(step, first)
        columns = step[first], *bounds, value[first], value[last]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return {self.tags[tag]: Steps(*row) for tag, row in zip(found.tolist(), rows, strict=True)}

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first and the last time of its points, or the time of its start without any."""
        if not len(self):
            return self.start or 0, self.start or 0
        return int(self.time.min()), int(self.time.max())

    @property
    def began(self) -> int:
        """The time of its first event."""
        return self.span[0] if self.start is None else min(self.start, self.span[0])

    @property
    def params(self) -> dict[str, bool | float | str]:
        """The params of its hparams sessions; later ones override earlier ones."""
        starts = [each for each in self.sessions if isinstance(each, SessionStart)]
        return {key: value for start in starts for key, value in start.params.items()}


def as_codes(numbers: Int64, count: int) -> Codes:
    """Numbers below `count` as int16 if they fit, as it is sorted much faster."""
    return numbers.astype(np.int16) if count <= MAX_INT16 else numbers


def _parts_of_texts(texts: Sequence[Text]) -> dict[str, ScalarPart]:
    """The texts of each tag as points whose values are their positions."""
    by_tag: dict[str, list[int]] = {}
    for at, text in enumerate(texts):
        by_tag.setdefault(text.tag, []).append(at)
    return {tag: _part_of_texts(texts, chosen) for tag, chosen in by_tag.items()}


def _part_of_texts(texts: Sequence[Text], chosen: Sequence[int]) -> ScalarPart:
    some = [texts[at] for at in chosen]
    return ScalarPart(
        np.array([text.offset for text in some], np.int64),
        np.array([text.step for text in some], np.int64),
        np.array(chosen, np.float64),
        np.array([text.wall_time for text in some]),
    )


def _texts_in_time(is_text: Mask, time: Int64) -> Int64:
    """The order (int64, n) in which texts, which bridges writes last, lie among the numbers."""
    latest = np.empty(len(time), np.int64)
    for kind in (is_text, ~is_text):
        latest[kind] = np.maximum.accumulate(time[kind])
    return np.lexsort((~is_text, latest))


def _restarts(file: EventFile, offset: Int64) -> tuple[tuple[int, int], ...]:
    before = np.searchsorted(offset, [at for at, _ in file.restarts]).tolist()
    return tuple((at, step) for at, (_, step) in zip(before, file.restarts, strict=True))


def _columns(
    found: Sequence[tuple[int, ScalarPart]], tags: int
) -> tuple[Codes, Int64, Int64, Float64, Float64]:
    """The codes, offsets, steps, values and wall times of the points of all parts (n each)."""
    parts = [part for _, part in found] or [EMPTY]
    counts = [len(part.step) for part in parts]
    return (
        as_codes(np.repeat([at for at, _ in found] or [0], counts), tags),
        np.concatenate([part.offset for part in parts]),
        np.concatenate([part.step for part in parts]),
        np.concatenate([part.value for part in parts], dtype=np.float64),
        np.concatenate([part.wall_time for part in parts]),
    )


def _microseconds(seconds: Float64) -> tuple[Int64, int]:
    """Times in microseconds (int64, n); 0 for invalid ones, and the number of these."""
    is_valid = np.abs(seconds) <= MAX_SECONDS  # false for NaN
    bad = len(seconds) - int(np.count_nonzero(is_valid))
    if bad:
        seconds = np.where(is_valid, seconds, 0.0)
    return np.rint(seconds * 1e6).astype(np.int64), bad
