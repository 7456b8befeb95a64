"""The neutral model: a run and its metric stream, in columns, in the order of the log.

A stream keeps the type of every value. The numbers of one type under one key are one `Series`, so a
key with integers and floats has two; its other values (text, list, dict, null) are one of dtype
object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridges.stream.finding import Finding
from bridges.stream.naming import KeyRules, PlainRules
from bridges.stream.settings import Settings

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Values = NDArray[Any]
Selection = slice | NDArray[Any]
NO_TIME = np.iinfo(np.int64).max


class RowKind(IntEnum):
    """The kind of a log row, set by the source."""

    TRAIN = 0
    EVAL = 1
    TEST = 2
    SUMMARY = 3
    CUSTOM = 4


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one type under one key (or tag).

    rows: row positions (int64, n), increasing
    values: float64, int64, bool or object (n)
    time: times of the values in microseconds since 1970 UTC (int64, n); None: the times of the rows
    """

    key: str
    rows: Int64
    values: Values
    time: Int64 | None = None

    def __repr__(self) -> str:
        return f"<Series {self.key!r}: {len(self.rows)} values of {self.values.dtype}>"

    @property
    def is_number(self) -> bool:
        """Whether the values are float64, int64 or bool."""
        return self.values.dtype != object

    def slice(self, start: int, stop: int) -> Series:
        """The part with rows in [start, stop); row positions are unchanged."""
        if not len(self.rows) or (start <= self.rows[0] and self.rows[-1] < stop):
            return self
        low, high = np.searchsorted(self.rows, (start, stop))
        return self.only(slice(low, high))

    def only(self, chosen: Selection) -> Series:
        """The values selected by a slice, a mask or positions."""
        time = None if self.time is None else self.time[chosen]
        return Series(self.key, self.rows[chosen], self.values[chosen], time)

    def under(self, key: str) -> Series:
        """The series under another key."""
        return Series(key, self.rows, self.values, self.time)

    def moved(self, position: Int64) -> Series:
        """The series with each row at its new `position` (int64, one per row; -1: dropped)."""
        rows = position[self.rows]
        order = np.argsort(rows, kind="stable")
        order = order[np.searchsorted(rows[order], 0) :]
        time = None if self.time is None else self.time[order]
        return Series(self.key, rows[order], self.values[order], time)


@dataclass(frozen=True, slots=True)
class MetricStream:
    """The log of one run in columns, with rows in their original order.

    step: int64, n
    kind: a `RowKind` (uint8, n)
    time: microseconds since 1970 UTC (int64, n); None before a clock is applied. Times from a clock
        are strictly increasing; recorded times may be equal or decrease
    """

    step: Int64
    kind: NDArray[np.uint8]
    series: tuple[Series, ...]
    time: Int64 | None = None

    def __len__(self) -> int:
        return len(self.step)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict, for display; hot paths use the columns."""
        rows: list[dict[str, Any]] = [{} for _ in range(len(self))]
        for series in self.series:
            for row, value in zip(series.rows.tolist(), series.values.tolist(), strict=True):
                rows[row][series.key] = value
        for row, step in zip(rows, self.step.tolist(), strict=True):
            row["step"] = step
        return iter(rows)

    def __repr__(self) -> str:
        from bridges.stream.show import stream_line

        return f"<MetricStream: {stream_line(self)}>"

    def _repr_html_(self) -> str:
        from bridges.stream.show import stream_table

        return stream_table(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of their first series."""
        return tuple(dict.fromkeys(series.key for series in self.series))

    @property
    def numbers(self) -> tuple[Series, ...]:
        """The series of numbers."""
        return tuple(series for series in self.series if series.is_number)

    @property
    def points(self) -> int:
        """The number of numeric values."""
        return sum(len(series.rows) for series in self.numbers)

    def times(self, series: Series) -> Int64:
        """The times of the values of a series in microseconds since 1970 UTC (int64)."""
        if series.time is not None:
            return series.time
        assert self.time is not None
        return self.time if len(series.rows) == len(self) else self.time[series.rows]

    def at(self, time: Int64) -> MetricStream:
        """The stream with these times for its rows and values."""
        series = tuple(s if s.time is None else replace(s, time=None) for s in self.series)
        return MetricStream(self.step, self.kind, series, time)

    def first_times(self) -> Int64:
        """The time of each row's first point (int64, n); `NO_TIME` if its values have no times."""
        first = np.full(len(self), NO_TIME)
        for part in self.series:
            if part.time is not None:
                np.minimum.at(first, part.rows, part.time)
        return first

    @property
    def epoch(self) -> Float64:
        """The epoch of each row (float64, n); NaN if absent."""
        epoch = np.full(len(self), np.nan)
        for series in self.numbers:
            if series.key == "epoch":
                epoch[series.rows] = series.values
        return epoch

    def take(self, rows: Int64) -> MetricStream:
        """The stream of these rows (int64, each at most once), in this order."""
        position = np.full(len(self), -1, np.int64)
        position[rows] = np.arange(len(rows))
        taken = (series.moved(position) for series in self.series)
        time = None if self.time is None else self.time[rows]
        series = tuple(part for part in taken if len(part.rows))
        return MetricStream(self.step[rows], self.kind[rows], series, time)

    def column(self, key: str) -> tuple[Int64, Float64]:
        """All numbers of a key as (row positions, float64 values), in row order."""
        parts = [series for series in self.series if series.key == key and series.is_number]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        if len(parts) == 1:
            return parts[0].rows, parts[0].values.astype(np.float64, copy=False)
        rows = np.concatenate([part.rows for part in parts])
        values = np.concatenate([part.values.astype(np.float64) for part in parts])
        order = np.argsort(rows, kind="stable")
        return rows[order], values[order]

    def map_keys(self, rename: Mapping[str, str]) -> MetricStream:
        """The stream with renamed keys."""
        return replace(
            self,
            series=tuple(replace(s, key=rename.get(s.key, s.key)) for s in self.series),
        )


@dataclass(frozen=True, slots=True)
class EarlierValues:
    """Other values of some points of a key: at `step` (int64, n), `value` was `earlier` (float64,
    n each).
    """

    step: Int64
    value: Float64
    earlier: Float64


class Knows(Enum):
    """The content of a kind of evidence."""

    INSTANTS = "instants"  # times at which rows were written
    DURATIONS = "durations"  # elapsed times of rows since the start
    TOTAL = "total"  # elapsed time at one row, to be spread over the steps before it
    START = "start"  # the start of the run


@dataclass(frozen=True, slots=True)
class EvidenceKind:
    """A kind of evidence, with its content and quality.

    name: name of the clock for users and in targets
    rank: the kind with the lowest rank is used as the clock
    words: description for messages
    in_rows: the rows of the log contain the evidence
    least: minimum number of rows to be a clock
    """

    name: str
    knows: Knows
    rank: int
    words: str
    in_rows: bool = False
    least: int = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence of the times of a run's rows.

    rows: row positions (int64, n), increasing
    time: microseconds (n): since 1970 UTC (int64) for instants, else since the start (int64 or
        float64)
    where: the file or name of its origin
    start: start of the run in microseconds since 1970 UTC, if known
    note: assumptions, for a warning
    spread: the longest time between points of one row in microseconds, if points have own times
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
        """Whether it has times for enough rows to be a clock."""
        return self.kind.knows is not Knows.START and len(self.rows) >= self.kind.least


@dataclass(frozen=True, slots=True)
class Clock:
    """The source of a run's times.

    source: name of a kind of evidence, or `synthetic`
    origin: name of the evidence that fixes the first instant, or `synthetic`
    start, end: microseconds since 1970 UTC
    in_rows: the times can be recomputed from the rows alone
    """

    source: str
    origin: str
    start: int
    end: int
    in_rows: bool = False

    @property
    def name(self) -> str:
        """The stored name: the source, and the origin if it is another one."""
        known = self.origin in (self.source, "synthetic")
        return self.source if known else f"{self.source} from {self.origin}"

    @property
    def is_synthetic(self) -> bool:
        """Whether no real instant of the run is known."""
        return self.origin == "synthetic"


@dataclass(frozen=True, slots=True)
class Provenance:
    """A file that the run was read from: its location, size in bytes and SHA-256."""

    location: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Log:
    """The rows of a log beside a history.

    `same`: the equal row of the history for each row (int64; -1: none). `identity`: the
    `Run.identity` of a run of the log alone.
    """

    stream: MetricStream
    same: Int64
    identity: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Run:
    """A metric stream with the metadata of its run.

    name: default name of the run in targets
    start, end: microseconds since 1970 UTC, as its tracker recorded them
    parents: names of the runs around it, the outermost first
    has_children: other runs are nested in it
    note: the user's description, in Markdown
    record: all that its tracker stored of it, for targets of the same kind, which keep more of it
        than the stream has a place for
    folders: by key, its directory inside the directory of the run; the key begins with it
    append_only: new rows always follow known ones; False: a tracker's rows, which have no order of
        their own, so that new ones may lie between known ones
    source: location that the run was read from
    params: settings, with secrets masked
    param_files: the file of each param that is not from the source
    settings_texts: the keys of texts whose content is also in the params
    facts: outcome and properties of the run, as stored by the source
    trial: identifies a trial of a search; `trial_name` and `trial_params` are set by the search
    writer: releases of the library that may have written it, such as "4.41-4.49"
    evidence: evidence of row times found beside the log
    saves: locations of all states folded into the run, the longest first
    forked: location of another run with the same first rows, and the number of these rows
    run_name: name given at the start of the training, if any
    project: project that the logging library sets for its trackers, if any
    own_projects: by target, the project that the training's arguments name for this target only
    key_style: `trainer` (keys that each target names by the rules of its live callback) or `tags`
        (a tracker's tags, which all targets use unchanged)
    key_rules: the meaning of the keys
    identity: JSON values that identify the run, such as an id; if empty, its first row with a
        measured value does
    folded: logs of the same training that are part of the run, each as a run of its own
    earlier_values: by key, the values that it had before other logs were folded into it
    epoch_key: the metric with the epoch of each row; None if the steps are epochs
    shares_identity: other runs of its source have this identity, as attempts before a resume do
    key: the run key stored by an earlier export, if the run was read from its target
    added: positions of rows that are not part of the history, for example from a results file;
        they affect neither the run key nor the digest
    settings: distinguish runs with equal rows
    earlier_added: rows that the first version added to the history; they identify its exports
    logged: ranges of history rows from a log beside it (see `bridges.stream.logged`)
    logs: logs from which an earlier export may have taken rows
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
    own_projects: Mapping[str, str] = field(default_factory=dict)
    key_style: str = "trainer"
    identity: tuple[Any, ...] = ()
    shares_identity: bool = False
    key: str | None = None
    added: tuple[int, ...] = ()
    settings: Settings = field(default_factory=Settings)
    earlier_added: tuple[Mapping[str, Any], ...] = ()
    logged: tuple[tuple[int, int, int], ...] = ()
    logs: tuple[Log, ...] = ()
    start: int | None = None
    end: int | None = None
    parents: tuple[str, ...] = ()
    has_children: bool = False
    note: str = ""
    record: object = None
    append_only: bool = True
    folders: Mapping[str, str] = field(default_factory=dict)
    epoch_key: str | None = "epoch"
    settings_texts: frozenset[str] = frozenset()
    folded: tuple[Run, ...] = ()
    earlier_values: Mapping[str, EarlierValues] = field(default_factory=dict)
    key_rules: KeyRules = field(default_factory=PlainRules)

    @cached_property
    def history(self) -> MetricStream:
        """The stream without its added rows."""
        if not self.added:
            return self.stream
        return self.stream.take(np.setdiff1d(np.arange(len(self.stream)), self.added))

    @property
    def path(self) -> str:
        """Group, parents and name, separated by slashes."""
        return "/".join([*([self.group] if self.group else []), *self.parents, self.name])

    def __repr__(self) -> str:
        from bridges.stream.show import run_line

        return run_line(self)

    def _repr_html_(self) -> str:
        from bridges.stream.show import run_table

        return run_table(self)

    def to_pandas(self, *, long: bool = False) -> pandas.DataFrame:
        """The rows as a pandas DataFrame, a column a metric; `long`: a row for each number.

        `bridges.stream.frames` describes the columns. Raises MissingDependencyError.
        """
        from bridges.stream import frames

        return frames.to_pandas(self, long=long)

    def to_polars(self, *, long: bool = False) -> polars.DataFrame:
        """The rows as a Polars DataFrame; see `to_pandas`."""
        from bridges.stream import frames

        return frames.to_polars(self, long=long)

    def to_arrow(self, *, long: bool = False) -> pyarrow.Table:
        """The rows as an Arrow table; see `to_pandas`."""
        from bridges.stream import frames

        return frames.to_arrow(self, long=long)
