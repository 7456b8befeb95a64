"""The neutral model: a run and its metric stream, in columns, in the order of the log.

A stream keeps every value with its type: numbers of
one type of one key are one `Series`, so a key that mixes integers and floats has two of them, and
what is no number (text, list, dict, null) has one of dtype object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.stream.finding import Finding
from bridges.stream.naming import KeyRules, PlainRules
from bridges.stream.settings import Settings

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Values = NDArray[Any]
Chosen = slice | NDArray[Any]
NO_TIME = np.iinfo(np.int64).max


class RowKind(IntEnum):
    """What a row of a log is about; the source decides."""

    TRAIN = 0
    EVAL = 1
    TEST = 2
    SUMMARY = 3
    CUSTOM = 4


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one type under one key (or tag).

    `rows` (int64, n) are the positions of the rows that hold them, rising; `values` (n) has dtype
    float64, int64, bool or object. `time` (int64, n, microseconds since 1970 UTC) are the times of
    the values where these have times of their own; None: they have those of their rows.
    """

    key: str
    rows: Int64
    values: Values
    time: Int64 | None = None

    @property
    def is_number(self) -> bool:
        """Whether the values are float64, int64 or bool."""
        return self.values.dtype != object

    def slice(self, start: int, stop: int) -> Series:
        """The part whose rows lie in [start, stop), with its row positions unchanged."""
        if not len(self.rows) or (start <= self.rows[0] and self.rows[-1] < stop):
            return self
        low, high = np.searchsorted(self.rows, (start, stop))
        return self.only(slice(low, high))

    def only(self, chosen: Chosen) -> Series:
        """The values that a slice, a mask or positions choose."""
        time = None if self.time is None else self.time[chosen]
        return Series(self.key, self.rows[chosen], self.values[chosen], time)

    def under(self, key: str) -> Series:
        """The series under another key."""
        return Series(key, self.rows, self.values, self.time)

    def moved(self, place: Int64) -> Series:
        """The series with each row at its new `place` (int64, one a row; -1: left out)."""
        rows = place[self.rows]
        order = np.argsort(rows, kind="stable")
        order = order[np.searchsorted(rows[order], 0) :]
        time = None if self.time is None else self.time[order]
        return Series(self.key, rows[order], self.values[order], time)


@dataclass(frozen=True, slots=True)
class MetricStream:
    """The log of one run, column by column, rows in their original order.

    `step` (int64, n rows), `kind` (uint8, n, a `RowKind`), `time` (int64, n: microseconds since
    1970 UTC) or None where no clock was applied yet. Times that a clock gave rise strictly; those
    that a source recorded may be equal or fall.
    """

    step: Int64
    kind: NDArray[np.uint8]
    series: tuple[Series, ...]
    time: Int64 | None = None

    def __len__(self) -> int:
        return len(self.step)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict, for people; hot paths use the columns."""
        rows: list[dict[str, Any]] = [{} for _ in range(len(self))]
        for series in self.series:
            for row, value in zip(series.rows.tolist(), series.values.tolist(), strict=True):
                rows[row][series.key] = value
        for row, step in zip(rows, self.step.tolist(), strict=True):
            row["step"] = step
        return iter(rows)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of their first series."""
        return tuple(dict.fromkeys(series.key for series in self.series))

    @property
    def numbers(self) -> tuple[Series, ...]:
        """The series that hold numbers."""
        return tuple(series for series in self.series if series.is_number)

    @property
    def points(self) -> int:
        """How many numbers the stream holds."""
        return sum(len(series.rows) for series in self.numbers)

    def times(self, series: Series) -> Int64:
        """The times of the values of one of its series, in microseconds since 1970 UTC (int64)."""
        if series.time is not None:
            return series.time
        assert self.time is not None
        return self.time if len(series.rows) == len(self) else self.time[series.rows]

    def at(self, time: Int64) -> MetricStream:
        """The stream with these times of its rows, which its values have too."""
        series = tuple(s if s.time is None else replace(s, time=None) for s in self.series)
        return MetricStream(self.step, self.kind, series, time)

    def first_times(self) -> Int64:
        """The time of each row's first point (int64, n) by the times that values have of their own;
        `NO_TIME` for a row without such values.
        """
        first = np.full(len(self), NO_TIME)
        for part in self.series:
            if part.time is not None:
                np.minimum.at(first, part.rows, part.time)
        return first

    @property
    def epoch(self) -> Float64:
        """The epoch of each row (float64, n), NaN where a row has none."""
        epoch = np.full(len(self), np.nan)
        for series in self.numbers:
            if series.key == "epoch":
                epoch[series.rows] = series.values
        return epoch

    def take(self, rows: Int64) -> MetricStream:
        """The stream of these rows (int64, each at most once), in this order."""
        place = np.full(len(self), -1, np.int64)
        place[rows] = np.arange(len(rows))
        taken = (series.moved(place) for series in self.series)
        time = None if self.time is None else self.time[rows]
        series = tuple(part for part in taken if len(part.rows))
        return MetricStream(self.step[rows], self.kind[rows], series, time)

    def column(self, key: str) -> tuple[Int64, Float64]:
        """All numbers of one key as (row positions, float64 values), in row order."""
        parts = [series for series in self.series if series.key == key and series.is_number]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        if len(parts) == 1:
            return parts[0].rows, parts[0].values.astype(np.float64)
        rows = np.concatenate([part.rows for part in parts])
        values = np.concatenate([part.values.astype(np.float64) for part in parts])
        order = np.argsort(rows, kind="stable")
        return rows[order], values[order]

    def rows_with(self, key: str) -> NDArray[np.bool_]:
        """Which rows (bool, n) hold the key with any value."""
        mask = np.zeros(len(self), bool)
        for series in self.series:
            if series.key == key:
                mask[series.rows] = True
        return mask

    def map_keys(self, rename: Mapping[str, str]) -> MetricStream:
        """The same stream under other keys."""
        return replace(
            self,
            series=tuple(replace(s, key=rename.get(s.key, s.key)) for s in self.series),
        )


class Knows(Enum):
    """What a kind of evidence knows of the times of a run."""

    INSTANTS = "instants"  # when rows were written
    DURATIONS = "durations"  # how long after the start rows were written
    TOTAL = "total"  # how long the run took until one row, to be spread over the steps before it
    START = "start"  # when the run began


@dataclass(frozen=True, slots=True)
class EvidenceKind:
    """A kind of evidence: what it `knows`, and how good that is.

    `name` is the clock's name for users and in targets. Of several kinds the one of the lowest
    `rank` is the clock, if it has `least` rows. `words` name it in messages. The rows alone give
    evidence again that is `in_rows`.
    """

    name: str
    knows: Knows
    rank: int
    words: str
    in_rows: bool = False
    least: int = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a source found out about the times of a run's rows.

    `rows` (int64, n, rising) are the rows that it knows, `time` (n) their microseconds: since 1970
    UTC (int64) if the kind knows instants, else since the start (int64 or float64). `start` is when
    the run began, in microseconds since 1970 UTC, if that is known. `where` is the file or name
    that it is from, `note` what had to be assumed. `spread` is how many microseconds the points of
    one row lie apart at most, if each has a time of its own.
    """

    kind: EvidenceKind
    rows: Int64
    time: NDArray[Any]
    where: str
    start: int | None = None
    note: str = ""
    spread: int = 0

    @property
    def source(self) -> str:
        """The name of its kind."""
        return self.kind.name

    @property
    def is_clock(self) -> bool:
        """Whether it has the times of enough rows to be a clock."""
        return self.kind.knows is not Knows.START and len(self.rows) >= self.kind.least


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the times of a run come from.

    `source` is the name of a kind of evidence, or `synthetic`; `origin` says what fixes the first
    instant; `start` and `end` are microseconds since 1970 UTC. `in_rows`: the rows alone give these
    times again.
    """

    source: str
    origin: str
    start: int
    end: int
    in_rows: bool = False

    @property
    def name(self) -> str:
        """What a target remembers of it: the source, and what else fixes its first instant."""
        known = self.origin in (self.source, "synthetic")
        return self.source if known else f"{self.source} from {self.origin}"

    @property
    def is_synthetic(self) -> bool:
        """Whether no instant of the run is really known."""
        return self.origin == "synthetic"


@dataclass(frozen=True, slots=True)
class Provenance:
    """A file that the run was made from: its location, size in bytes and SHA-256."""

    location: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Log:
    """The rows of a log beside a history.

    `same` (int64, one a row of the log) are the rows of the history that are the same (-1: none).
    `identity` is that of a run of the log alone, as `Run.identity`.
    """

    stream: MetricStream
    same: Int64
    identity: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Run:
    """A metric stream and what is known of the run that made it.

    `params` are the settings (already free of secrets) and `param_files` says which file each is
    from, where that is not the source; `facts` are what the source says of the run's outcome,
    `writer` the releases of the library that may have written it (such as "4.41-4.49"). `evidence`
    is what the source found beside the log about the times of its rows. `saves` are the locations
    of all states that were folded into it, the longest first; `forked` is the location of another
    run that begins with the same rows, and how many these are. `trial` tells the trials of a search
    apart; `trial_name` and `trial_params` are what the search called and gave this one.

    `run_name` is the name that the training was started with, and `project` the one that its
    library sets for its trackers; None where there is none.

    `key_style` is `trainer` (keys that each target names by the rules of its live callback)
    or `tags` (a tracker's tags, which every target gets as they are). `key_rules`
    follow from it. `identity` are JSON values that make the run this one, such as an id; empty: its
    first row with a measured value does.

    `added` are the positions of rows that are not part of the history: the source found them beside
    it, as in a results file. They count neither for the run's key nor for its digest. `settings`
    tell runs with equal rows apart. `earlier_added` are the values of the rows that the first
    version added instead, as part of the history: runs that it exported are recognised by them.

    `logged` are the ranges of rows of the history that come from a log beside it (see
    `bridges.stream.logged`), and `logs` the logs that an earlier export may have taken rows from.
    """

    name: str
    stream: MetricStream
    source: str
    params: Mapping[str, Any] = field(default_factory=dict)
    param_files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    trial: str | None = None
    status: str = "unknown"
    writer: str | None = None
    provenance: tuple[Provenance, ...] = ()
    findings: tuple[Finding, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    saves: tuple[str, ...] = ()
    forked: tuple[str, int] | None = None
    trial_name: str | None = None
    trial_params: Mapping[str, Any] = field(default_factory=dict)
    run_name: str | None = None
    project: str | None = None
    key_style: str = "trainer"
    identity: tuple[Any, ...] = ()
    added: tuple[int, ...] = ()
    settings: Settings = field(default_factory=Settings)
    earlier_added: tuple[Mapping[str, Any], ...] = ()
    logged: tuple[tuple[int, int, int], ...] = ()
    logs: tuple[Log, ...] = ()
    key_rules: KeyRules = field(default_factory=PlainRules)

    @cached_property
    def history(self) -> MetricStream:
        """The stream without its added rows."""
        if not self.added:
            return self.stream
        return self.stream.take(np.setdiff1d(np.arange(len(self.stream)), self.added))

    @property
    def path(self) -> str:
        """Group and name, as in `group/name`, or the name alone."""
        return f"{self.group}/{self.name}" if self.group else self.name
