"""Event files beside a history: the wall time at which each row was written.

Event files are matched to a run by their values only. A row gets its time from a file that contains
all its numbers, bit by bit, at its step. After a crash and a resume, several files do; the row then
gets the latest time up to the next row's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bridges.errors import BridgeError
from bridges.huggingface.callback_naming import CallbackNaming
from bridges.sources.fetch import fetch
from bridges.sources.file_names import EVENTS_NAME
from bridges.sources.times.clocks import EVENTS
from bridges.sources.zero_bytes import zero_bytes
from bridges.stream.added import moved
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, Float64, Int64, MetricStream, Run, Series, Values
from bridges.stream.pace import MAX_TIME
from bridges.stream.tagging import tag_table

if TYPE_CHECKING:
    from bridges.formats.events.content import EventFile, ScalarPart

PROCESS = re.compile(r"tfevents\.\d+\.(.+\.\d+)\.\d+$")
SHARED = frozenset({"epoch", "learning_rate"})  # equal in all runs of one recipe
FINGERPRINT_POINTS = 64  # compared first, per file
MAX_KEPT_POINTS = 500_000  # of cached files; a point keeps its record, 25 to 60 bytes
MAX_TAGS = 50_000  # per file; a Trainer has a few hundred, and each takes memory
_NAN = np.uint32(0x7FC00000)


class EventFiles:
    """The event files of a tree, by the output directory of the runs that may have written them."""

    def __init__(self, files: Mapping[str, Sequence[str]], outputs: Collection[str]) -> None:
        homes = {*outputs, *(_above(output) for output in outputs)}
        self._owned: dict[str, list[str]] = {}
        self.unowned: dict[str, int] = {}  # the number of other files by directory
        for folder, paths in files.items():
            home = next((path for path in _upwards(folder) if path in homes), None)
            if home is not None:
                self._owned.setdefault(home, []).extend(paths)
            else:
                self.unowned[folder] = len(paths)
        self._kept: OrderedDict[str, EventFile | None] = OrderedDict()
        self._first: dict[str, Int64] = {}
        self._points = 0
        self.findings: list[Finding] = []

    def of(self, outputs: Sequence[str]) -> list[str]:
        """The files that runs of these output directories may have written, by start time."""
        found = self._owned.get(self._home(outputs), [])
        return sorted(found, key=lambda path: (started(path) or 0, path))

    def lie_in(self, outputs: Sequence[str]) -> bool:
        """Whether the files lie inside these directories; beside them, other runs may own them."""
        return self._home(outputs) in outputs

    def _home(self, outputs: Sequence[str]) -> str:
        """The directory of the files of these output directories: one of them, or a parent."""
        homes = [*outputs, *map(_above, outputs)]
        return next((home for home in homes if home in self._owned), "")

    def evidence(self, wanted: WantedPoints, paths: Sequence[str]) -> Evidence | None:
        """The times of a run's rows in these files; None if no file has a row of the run."""
        times, ends, used, starts = self._times(wanted, paths)
        return _chosen(np.array(times), np.array(ends), used, starts) if times else None

    def in_logged_order(self, run: Run, paths: Sequence[str]) -> Run:
        """The run with its added rows sorted by their times in these files, rows without last.

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
        """For each file with rows of the run: times of the first and of the last point of each
        row, path, and start.
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
        """The files with points of the run (all files if it `is_alone`), except bridges' own."""
        mine = [path for path in paths if is_alone or self._could_be(path, wanted)]
        files = {path: self._read(path) for path in mine}
        return {path: file for path, file in files.items() if file and not _is_ours(file)}

    def _could_be(self, path: str, wanted: WantedPoints) -> bool:
        """Whether one of the file's first points is a point of the run."""
        if path not in self._first:
            self._read(path)
        first, known = self._first[path], wanted.keys  # few and sorted; many and unsorted
        if not len(first):
            return False
        index = np.minimum(np.searchsorted(first, known), len(first) - 1)
        return bool((first[index] == known).any())

    def _read(self, path: str) -> EventFile | None:
        """The file; None if it cannot be read, which adds one finding."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        from bridges.formats.events.reader import decode  # most runs have no event files
        from bridges.formats.events.tfrecord import EventFileError

        try:
            data = fetch(path, expected="an event file")
            if data and not data.strip(b"\0"):
                raise EventFileError(path, f"found {zero_bytes(data)}; expected an event file")
            read = decode(path, data, complete=False, max_tags=MAX_TAGS, tensors=False)
            file: EventFile | None = read
            found = _without_odd_times(path, read)
        except (BridgeError, EventFileError) as error:
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
    """The start of an event file in seconds since 1970 UTC, from its name."""
    match = EVENTS_NAME.search(path.rpartition("/")[2])
    return int(match[1]) if match and int(match[1]) < MAX_TIME else None


def process_of(path: str) -> str:
    """The process that wrote an event file: host and process id, from its name."""
    match = PROCESS.search(path)
    return match[1] if match else path


def _without_odd_times(path: str, file: EventFile) -> list[Finding]:
    """Replace impossible wall times by NaN, in place; a finding counts them."""
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
    message = "wall times outside the years 1970 to 2099 are not used as a clock"
    return [Finding("times-out-of-range", Severity.WARNING, path, message, count)]


def _above(folder: str) -> str:
    return folder.rpartition("/")[0]


def _upwards(folder: str) -> list[str]:
    """A directory and its parents, innermost first."""
    parts = folder.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _is_ours(file: EventFile) -> bool:
    """Whether bridges wrote the file."""
    return any(text.tag.startswith("bridges/") for text in file.texts)


def _size(file: EventFile | None) -> int:
    return sum(len(part.step) for part in file.parts) if file else 0


def point_keys(step: Int64, value: Values) -> Int64:
    """One int64 per point, from its step and the bits of its value as float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        bits = value.astype(np.float32).view(np.uint32)
    bits = np.where(np.isnan(value.astype(np.float64)), _NAN, bits)
    with np.errstate(over="ignore"):
        return np.asarray((step << np.int64(32)) | bits.astype(np.int64), np.int64)


@dataclass(frozen=True)
class WantedPoints:
    """The points of a stream of `rows` rows as the live callback writes them.

    `tags`: for each tag the keys (`point_keys`) and rows of its points, and whether its values
    differ between runs of one recipe.
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
    """The sorted keys of a file's first points, without tags that runs of one recipe share."""
    shared = {CallbackNaming("tensorboard").tag(key) for key in SHARED}
    heads = [
        point_keys(part.step[:FINGERPRINT_POINTS], part.value[:FINGERPRINT_POINTS])
        for tag, parts in (file.scalars if file else {}).items()
        if tag not in shared
        for part in parts[:1]
    ]
    return np.sort(np.concatenate(heads)) if heads else np.empty(0, np.int64)


def _row_times(wanted: WantedPoints, file: EventFile) -> tuple[Float64, Float64]:
    """The times of the first and of the last point of each row in a file.

    Microseconds since 1970 UTC as float64; NaN for a row that the file does not contain completely.
    """
    rows = wanted.rows
    needed, got = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    distinctive = np.zeros(rows, bool)
    first, last = np.full(rows, np.inf), np.full(rows, -np.inf)
    for tag, (keys, at, is_distinctive) in wanted.tags.items():
        if tag not in file.scalars:
            continue
        hit, time = _looked_up(keys, file.scalars[tag])
        needed[at] += 1
        got[at[hit]] += 1
        distinctive[at[hit]] |= is_distinctive
        first[at[hit]] = np.minimum(first[at[hit]], time[hit])
        last[at[hit]] = np.maximum(last[at[hit]], time[hit])
    complete = distinctive & (got == needed)
    first, last = (np.where(complete, np.rint(time * 1e6), np.nan) for time in (first, last))
    return first, last


def _looked_up(keys: Int64, parts: Sequence[ScalarPart]) -> tuple[NDArray[np.bool_], Float64]:
    """Mask of the keys found among the points, and wall time (seconds) of the last equal point.

    The time is arbitrary where the mask is false.
    """
    known = np.concatenate([point_keys(part.step, part.value) for part in parts])
    time = np.concatenate([part.wall_time for part in parts])
    order = np.argsort(known, kind="stable")
    index = np.maximum(np.searchsorted(known[order], keys, side="right") - 1, 0)
    return known[order][index] == keys, time[order][index]


def _chosen(
    times: Float64, ends: Float64, files: Sequence[str], starts: Sequence[float]
) -> Evidence | None:
    """One time per row, that of its first point, from several files (the first axis)."""
    several = int((np.sum(~np.isnan(times), axis=0) > 1).sum())
    best = _latest_that_fit(times)
    rows = np.flatnonzero(~np.isnan(best))
    where = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    start = round(min(starts) * 1e6) if starts else None
    note = f"{several} rows were written twice and get the later time" if several else ""
    spread = int(np.max(np.where(times == best, ends - times, 0.0)))
    return Evidence(EVENTS, rows, best[rows].astype(np.int64), where, start, note, spread)


def _latest_that_fit(times: Float64) -> Float64:
    """The latest time of each row not after the time of the next row."""
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
