"""Event files beside a history: the wall time at which each of its rows was really written.

Which files are of a run is told by their values alone. A row has its time from a file that holds
all of its numbers, bit by bit, at its step; after a crash and a resume several do, and the latest
one counts that the rows after it allow.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bridges.errors import BridgeError, VerifyError
from bridges.formats.events.reader import EventFile, ScalarPart, decode
from bridges.huggingface.callback_naming import CallbackNaming
from bridges.sources.fetch import fetch
from bridges.sources.times.clocks import EVENTS
from bridges.sources.zero_bytes import zero_bytes
from bridges.stream.added import moved
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, Float64, Int64, MetricStream, Run, Series, Values
from bridges.stream.pace import MAX_TIME
from bridges.stream.tagging import tag_table

PROCESS = re.compile(r"tfevents\.\d+\.(.+\.\d+)\.\d+$")
EVENTS_NAME = re.compile(r"events\.out\.tfevents\.(\d{9,11})\.")
SHARED = frozenset({"epoch", "learning_rate"})  # equal in all runs of one recipe
FINGERPRINT_POINTS = 64  # points of a file that are compared first
# of files that were read and may be needed again; a point keeps its record, 25 to 60 bytes
MAX_KEPT_POINTS = 500_000
MAX_TAGS = 50_000  # of a file: a Trainer has a few hundred, and each takes memory
_NAN = np.uint32(0x7FC00000)


class EventFiles:
    """The event files below a place, by the output directory whose runs may have written them."""

    def __init__(self, files: Mapping[str, Sequence[str]], outputs: Collection[str]) -> None:
        homes = {*outputs, *(_above(output) for output in outputs)}
        self._owned: dict[str, list[str]] = {}
        for folder, paths in files.items():
            home = next((place for place in _upwards(folder) if place in homes), None)
            if home is not None:
                self._owned.setdefault(home, []).extend(paths)
        self._kept: OrderedDict[str, EventFile | None] = OrderedDict()
        self._first: dict[str, Int64] = {}
        self._points = 0
        self.findings: list[Finding] = []

    def of(self, outputs: Sequence[str]) -> list[str]:
        """The files that runs of these directories may have written, by their start."""
        found = self._owned.get(self._place(outputs), [])
        return sorted(found, key=lambda path: (started(path) or 0, path))

    def lie_in(self, outputs: Sequence[str]) -> bool:
        """Whether its files lie in these directories, and not beside them, as others' may too."""
        return self._place(outputs) in outputs

    def _place(self, outputs: Sequence[str]) -> str:
        """The place of the files of these directories: one of them, or the one above."""
        places = [*outputs, *map(_above, outputs)]
        return next((place for place in places if place in self._owned), "")

    def evidence(self, wanted: WantedPoints, paths: Sequence[str]) -> Evidence | None:
        """The times of a run's rows in these files; None if none of them is of the run."""
        times, ends, used, starts = self._times(wanted, paths)
        return _chosen(np.array(times), np.array(ends), used, starts) if times else None

    def in_logged_order(self, run: Run, paths: Sequence[str]) -> Run:
        """The run with its added rows sorted by their times in these files, those without last.

        Predictions, which no event file holds, stay behind the row before them.
        """
        added = np.array(run.added, np.int64)
        times = self._times(WantedPoints.of(run.stream), paths)[0] if len(added) > 1 else []
        if not times:
            return run
        latest = np.fmax.reduce(np.array(times), axis=0)[added]
        before = np.maximum.accumulate(np.where(np.isnan(latest), -np.inf, latest))
        is_prediction = np.isnan(latest) & np.isnan(run.stream.epoch[added])
        latest = np.where(is_prediction, before, latest)
        order = np.arange(len(run.stream))
        order[added] = added[np.argsort(latest, kind="stable")]
        evidence = tuple(moved(one, np.argsort(order)) for one in run.evidence)
        return replace(run, stream=run.stream.take(order), evidence=evidence)

    def _times(
        self, wanted: WantedPoints, paths: Sequence[str]
    ) -> tuple[list[Float64], list[Float64], list[str], list[float]]:
        """The times of first and last points of each row, the path and the start, for each of
        these files that has rows of the run.
        """
        times: list[Float64] = []
        ends: list[Float64] = []
        used: list[str] = []
        starts: list[float] = []
        for path in paths:
            file = self._read(path) if self._could_be(path, wanted) else None
            if file is None:
                continue
            first, last = _row_times(wanted, file)
            if not np.isnan(first).all():
                times.append(first)
                ends.append(last)
                used.append(path)
                starts += [] if file.start is None else [file.start]
        return times, ends, used, starts

    def live(
        self, wanted: WantedPoints, paths: Sequence[str], *, is_alone: bool
    ) -> dict[str, EventFile]:
        """The files that this run may have written, by their start: those with its points; all,
        where the run `is_alone`.
        """
        mine = [path for path in paths if is_alone or self._could_be(path, wanted)]
        files = {path: self._read(path) for path in mine}
        return {path: file for path, file in files.items() if file and not _is_ours(file)}

    def _could_be(self, path: str, wanted: WantedPoints) -> bool:
        """Whether one of a file's first points is one of the run."""
        if path not in self._first:
            self._read(path)
        first, known = self._first[path], wanted.keys  # sorted and few; unsorted and many
        if not len(first):
            return False
        place = np.minimum(np.searchsorted(first, known), len(first) - 1)
        return bool((first[place] == known).any())

    def _read(self, path: str) -> EventFile | None:
        """The file, None where it cannot be read, which is told once."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        try:
            data = fetch(path, expected="an event file")
            if data and not data.strip(b"\0"):
                raise VerifyError(f"{path}: found {zero_bytes(data)}; expected an event file")
            read = decode(path, data, whole=False, most_tags=MAX_TAGS)
            file: EventFile | None = read
            found = _without_odd_times(path, read)
        except BridgeError as error:
            message = f"not read as a clock: {error}"
            file, found = None, [Finding("beside-unreadable", Severity.WARNING, path, message)]
        if path not in self._first:
            self.findings += found
        self._first[path] = _first_points(file)
        self._kept[path] = file
        self._points += _size(file)
        while self._points > MAX_KEPT_POINTS and len(self._kept) > 1:
            self._points -= _size(self._kept.popitem(last=False)[1])
        return file


def started(path: str) -> int | None:
    """When an event file was begun, in seconds since 1970 UTC, as its name tells."""
    match = EVENTS_NAME.search(path.rpartition("/")[2])
    return int(match[1]) if match and int(match[1]) < MAX_TIME else None


def process_of(path: str) -> str:
    """What the files of one process have in common: its host and its number."""
    match = PROCESS.search(path)
    return match[1] if match else path


def _without_odd_times(path: str, file: EventFile) -> list[Finding]:
    """Make NaN of wall times that cannot be, and say how many these were."""
    count = 0
    for part in (part for parts in file.scalars.values() for part in parts):
        can_be = (part.wall_time > 0) & (part.wall_time < MAX_TIME)
        if not can_be.all():
            count += int((~can_be).sum())
            part.wall_time = np.where(can_be, part.wall_time, np.nan)
    if file.start is not None and not 0 < file.start < MAX_TIME:
        file.start = None
        count += 1
    if not count:
        return []
    message = "wall times outside of the years 1970 to 2099 are not used as a clock"
    return [Finding("times-out-of-range", Severity.WARNING, path, message, count)]


def _above(folder: str) -> str:
    return folder.rpartition("/")[0]


def _upwards(folder: str) -> list[str]:
    """A directory and those that it lies in."""
    parts = folder.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _is_ours(file: EventFile) -> bool:
    """Whether bridges wrote it."""
    return any(tag.startswith("bridges/") for _, tag, _, _ in file.texts)


def _size(file: EventFile | None) -> int:
    return sum(len(part.step) for part in file.parts) if file else 0


def point_keys(step: Int64, value: Values) -> Int64:
    """Step and value (as float32, bit by bit) in one number each."""
    with np.errstate(over="ignore", invalid="ignore"):
        bits = value.astype(np.float32).view(np.uint32)
    bits = np.where(np.isnan(value.astype(np.float64)), _NAN, bits)
    with np.errstate(over="ignore"):
        return np.asarray((step << np.int64(32)) | bits.astype(np.int64), np.int64)


@dataclass(frozen=True)
class WantedPoints:
    """The points that the live callback would have written of a stream of so many `rows`.

    `tags` has for each tag the keys (see `point_keys`) and the rows of its points, and whether
    these can tell runs of one recipe apart.
    """

    rows: int
    tags: dict[str, tuple[Int64, Int64, bool]]

    @classmethod
    def of(cls, stream: MetricStream) -> WantedPoints:
        """The points of a stream."""
        names, _ = tag_table(CallbackNaming("tensorboard"), stream.keys)
        series: dict[str, list[Series]] = {}
        for part in stream.numbers:
            series.setdefault(part.key, []).append(part)
        tags = {
            names[key]: (
                np.concatenate([point_keys(stream.step[part.rows], part.values) for part in parts]),
                np.concatenate([part.rows for part in parts]),
                key not in SHARED,
            )
            for key, parts in series.items()
        }
        return cls(len(stream), tags)

    @cached_property
    def keys(self) -> Int64:
        """The keys of all points, in no order."""
        return np.concatenate([np.empty(0, np.int64), *(keys for keys, *_ in self.tags.values())])


def _first_points(file: EventFile | None) -> Int64:
    """Keys of a file's first points that could be of one run only."""
    shared = {CallbackNaming("tensorboard").tag(key) for key in SHARED}
    heads = [
        point_keys(part.step[:FINGERPRINT_POINTS], part.value[:FINGERPRINT_POINTS])
        for tag, parts in (file.scalars if file else {}).items()
        if tag not in shared
        for part in parts[:1]
    ]
    return np.sort(np.concatenate(heads)) if heads else np.empty(0, np.int64)


def _row_times(wanted: WantedPoints, file: EventFile) -> tuple[Float64, Float64]:
    """Microseconds since 1970 at which a file has the first and the last point of each row
    (float64, NaN where it has not the whole row).
    """
    rows = wanted.rows
    needed, got = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    telling = np.zeros(rows, bool)
    first, last = np.full(rows, np.inf), np.full(rows, -np.inf)
    for tag, (keys, at, is_telling) in wanted.tags.items():
        if tag not in file.scalars:
            continue
        hit, time = _looked_up(keys, file.scalars[tag])
        needed[at] += 1
        got[at[hit]] += 1
        telling[at[hit]] |= is_telling
        first[at[hit]] = np.minimum(first[at[hit]], time[hit])
        last[at[hit]] = np.maximum(last[at[hit]], time[hit])
    whole = telling & (got == needed)
    first, last = (np.where(whole, np.rint(time * 1e6), np.nan) for time in (first, last))
    return first, last


def _looked_up(keys: Int64, parts: Sequence[ScalarPart]) -> tuple[NDArray[np.bool_], Float64]:
    """Which keys are among the points, and the wall time (seconds) of the last one that equals."""
    there = np.concatenate([point_keys(part.step, part.value) for part in parts])
    time = np.concatenate([part.wall_time for part in parts])
    order = np.argsort(there, kind="stable")
    place = np.maximum(np.searchsorted(there[order], keys, side="right") - 1, 0)
    return there[order][place] == keys, time[order][place]


def _chosen(
    times: Float64, ends: Float64, files: Sequence[str], starts: Sequence[float]
) -> Evidence | None:
    """One time for each row of those that its files (first axis) have: that of its first point."""
    several = int((np.sum(~np.isnan(times), axis=0) > 1).sum())
    best = _latest_that_fit(times)
    rows = np.flatnonzero(~np.isnan(best))
    where = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    start = round(min(starts) * 1e6) if starts else None
    note = f"{several} rows were written twice, and have the later time" if several else ""
    spread = int(np.max(np.where(times == best, ends - times, 0.0)))
    return Evidence(EVENTS, rows, best[rows].astype(np.int64), where, start, note, spread)


def _latest_that_fit(times: Float64) -> Float64:
    """The latest time of each row that is not after that of the next row."""
    latest = np.fmax.reduce(times, axis=0)
    known = latest[~np.isnan(latest)]
    if (np.diff(known) >= 0).all():
        return np.asarray(latest)
    following = np.inf
    for row in range(times.shape[1] - 1, -1, -1):
        fitting = times[:, row][times[:, row] <= following]  # false for NaN
        latest[row] = fitting.max() if len(fitting) else np.nan
        following = following if np.isnan(latest[row]) else latest[row]
    return np.asarray(latest)
