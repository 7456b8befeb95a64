"""The layout: the data of a run as one target stores them: tags, steps, values and times.

It is computed from the neutral stream by alignment, naming and clock. An exporter only writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from bridges.stream.align import apply_duplicates, epoch_axis, steps_in_order
from bridges.stream.clock import (
    MILLISECOND,
    StoredTimes,
    apply_clock,
    clocked,
    require_clock,
    times_digest,
)
from bridges.stream.columns import as_array
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.identity import Identity, identity_of
from bridges.stream.model import Clock, MetricStream, Run, Series
from bridges.stream.naming import Naming, Place, PlainNaming, encodable
from bridges.stream.options import LayoutChoices
from bridges.stream.redact import redact_stream
from bridges.stream.tagging import distinct_tags, named, renamed, tag_table, under_tags

# versions of the layout rules: a stored run keeps the version of its first write
EARLIEST_RULES, RULES = 1, 2


def tick_of(rules: int) -> int:
    """The resolution, in microseconds, of the times of a run written by a version of the rules."""
    return MILLISECOND if rules == EARLIEST_RULES else 1


@dataclass(frozen=True)
class Layout:
    """The data of `run` for a target.

    stream: the series of numbers, with tags as keys, the x-axis as steps, and times
    texts: the series of text
    summary: values without a step, by tag
    rules: the version of the layout rules
    params: the params to write
    naming: the rules of the tags
    replaces: the layout replaces the complete run in the target
    """

    run: Run
    identity: Identity
    stream: MetricStream
    texts: tuple[Series, ...]
    summary: Mapping[str, object]
    clock: Clock
    findings: tuple[Finding, ...]
    rules: int = RULES
    params: Mapping[str, object] = field(default_factory=dict)
    naming: Naming = field(default_factory=PlainNaming)
    replaces: bool = False

    @property
    def key(self) -> str:
        """The run key under which the target stores the run."""
        return self.identity.key

    @property
    def digest(self) -> str:
        """The prefix digest of the complete history."""
        return self.identity.digest

    @property
    def rows(self) -> int:
        """The number of rows, added rows included."""
        return len(self.run.stream)

    @property
    def history(self) -> int:
        """The number of rows in the history."""
        return len(self.run.stream) - len(self.run.added)

    @property
    def points(self) -> int:
        """The number of values, summary values included."""
        return self.points_from(0) + len(self.summary)

    def points_from(self, row: int) -> int:
        """The number of values in the rows from `row` on."""
        start, series = self.position(row), (*self.stream.series, *self.texts)
        return sum(len(part.slice(start, len(self.stream)).rows) for part in series)

    def times_digest(self, row: int) -> str:
        """A digest of the times of points before `row`; empty if the log alone determines them."""
        if self.clock.in_rows:
            return ""
        assert self.stream.time is not None
        timed = np.zeros(len(self.stream), bool)
        for series in self.stream.numbers:
            timed[series.rows] = True
        end = self.position(row)
        of_rows = self.stream.time[:end]
        if not timed[:end].all():
            of_rows = of_rows[timed[:end]]
        own = [part.slice(0, end).time for part in self.stream.numbers]
        times = [of_rows, *(time for time in own if time is not None)]
        joined = np.concatenate(times) if len(times) > 1 else of_rows  # may be large
        return times_digest(joined, tick_of(self.rules))

    def position(self, row: int) -> int:
        """The position of a row of the history in `stream`, which differs if steps are merged."""
        if row == 0 or len(self.stream) == self.rows:
            return row
        last = int(self.run.stream.step[:row].max())
        return int(np.searchsorted(self.stream.step, last, side="right"))


def with_steps(layout: Layout) -> Layout:
    """The layout of a tracker's run for a target of charts, which need steps (see `--steps`).

    Sources without records of a tracker, such as event files, have the steps of charts.
    """
    run = layout.run
    if run.key_style != "tags" or run.record is None or "steps" in layout.identity.options:
        return layout
    stream, found = steps_in_order(layout.stream)
    return replace(layout, stream=stream, findings=(*layout.findings, *found)) if found else layout


@dataclass(frozen=True)
class Stored:
    """The parts of a layout that an existing run fixes.

    clock: name of the clock of its times, if they can be recomputed from the rows alone
    times: its times, if they came from files that may have changed
    append_rows: its row count after each write
    rules: the version of the layout rules of its first write
    """

    clock: str | None = None
    times: StoredTimes | None = None
    append_rows: tuple[int, ...] = ()
    rules: int = RULES


def lay_out(
    run: Run,
    target: str,
    options: LayoutChoices,
    *,
    identity: Identity | None = None,
    stored: Stored | None = None,
) -> Layout:
    """The layout of a run for the target with a name.

    `identity`: computed if not given; `stored`: for an existing run. Raises SourceError if the run
    does not have the clock in `options`.
    """
    stored = stored or Stored()
    clock, rules = stored.clock, stored.rules
    naming = run.key_rules.naming(target, options.naming, options.release)
    stream, secrets = redact_stream(run.stream, keys=rules > EARLIEST_RULES)
    findings: list[Finding] = []
    if options.x_axis == "epoch" and not naming.any_axis:
        stream, findings = epoch_axis(stream, run.epoch_key)
    stream, dropped = apply_duplicates(stream, options.duplicates, stored.append_rows)
    if clock is None and options.clock is not None:
        require_clock(options.clock, run)
    if clock is None:
        timed, used_clock, notes = clocked(run, stream, options.clock, stored.times, tick_of(rules))
    else:
        timed, used_clock, notes = apply_clock(
            stream, run.key_rules, (), clock, stored.times, tick_of(rules)
        )
    placed = _Placed.of(timed, naming, rules, run)
    identity = identity or identity_of(run, options.identity(run.key_style))
    params, left_out = _chosen_params(run.params, options.params)
    return Layout(
        run=run,
        identity=identity,
        stream=replace(timed, series=tuple(placed.numbers)),
        texts=tuple(placed.texts),
        summary=placed.summary,
        clock=used_clock,
        findings=(*secrets, *findings, *dropped, *notes, *placed.findings, *left_out),
        rules=rules,
        params=params,
        naming=naming,
    )


def _chosen_params(
    params: Mapping[str, object], patterns: Sequence[str]
) -> tuple[Mapping[str, object], list[Finding]]:
    """The params that match a pattern (no patterns: all), and a finding about the others."""
    if not patterns:
        return params, []
    taken = {k: v for k, v in params.items() if any(fnmatchcase(k, each) for each in patterns)}
    left = [key for key in params if key not in taken]
    if not left:
        return params, []
    message = f"these params are left out: --params chooses {', '.join(patterns)}"
    return taken, [Finding("params-left-out", Severity.INFO, named(left), message, len(left))]


@dataclass
class _Placed:
    """The series of a stream by their place in the target."""

    numbers: list[Series]
    texts: list[Series]
    summary: dict[str, object]
    summary_rows: dict[str, int]
    findings: list[Finding]
    run: Run

    @classmethod
    def of(cls, stream: MetricStream, naming: Naming, rules: int, run: Run) -> _Placed:
        placed = cls([], [], {}, {}, [], run)
        for series in stream.series:
            for place, part in _by_place(series, naming):
                placed._add(place, part)
        if rules == EARLIEST_RULES:
            tags, found = tag_table(naming, stream.keys)
            placed.findings = [*found, *placed.findings]
            placed._name(lambda series: ([replace(s, key=tags[s.key]) for s in series], []))
        elif run.key_style == "tags":
            tags = distinct_tags(stream.keys, encodable)
            placed._name(lambda series: ([part.under(tags[part.key]) for part in series], []))
            changed = [key for key, tag in tags.items() if key != tag]
            message = "UTF-8 cannot encode these keys: lone surrogates are written as escapes"
            placed.findings += [renamed(changed, stream.series, message)] if changed else []
        else:
            tags = {key: encodable(naming.tag(key)) for key in stream.keys}
            placed._name(lambda series: under_tags(series, tags))
        return placed

    def _add(self, place: Place, series: Series) -> None:
        if place is Place.SERIES:
            self.numbers.append(series)
        elif place is Place.TEXT:
            texts = [encodable(text) for text in series.values.tolist()]
            self.texts.append(replace(series, values=as_array(texts, object)))
        elif place is Place.SUMMARY:
            row, value = int(series.rows[-1]), series.values.tolist()[-1]
            if row >= self.summary_rows.get(series.key, 0):  # the value of the last row is kept
                self.summary[series.key], self.summary_rows[series.key] = value, row
        else:
            self.findings.append(_not_kept(series, self.run))

    def _name(self, tagged: Callable[[list[Series]], tuple[list[Series], list[Finding]]]) -> None:
        """Rename the series to their tags."""
        self.numbers, of_numbers = tagged(self.numbers)
        self.texts, of_texts = tagged(self.texts)
        self.findings = [*of_numbers, *of_texts, *self.findings]


def _by_place(series: Series, naming: Naming) -> list[tuple[Place, Series]]:
    """A series with its place in the target; a series of objects is split by type."""
    if series.is_number:
        kind = {"f": float, "i": int, "b": bool}[series.values.dtype.kind]
        return [(naming.place(series.key, kind), series)]
    places = [naming.place(series.key, type(value)) for value in series.values.tolist()]
    parts = []
    for place in dict.fromkeys(places):
        keep = [index for index, other in enumerate(places) if other is place]
        parts.append((place, series.only(np.array(keep))))
    return parts


def _not_kept(series: Series, run: Run) -> Finding:
    kinds = {str: "text", list: "lists", dict: "objects", type(None): "null"}
    values = series.values.tolist()
    names = ", ".join(dict.fromkeys(kinds.get(type(v), type(v).__name__) for v in values))
    severity, why = Severity.INFO, "the live callback does not send it either"
    if series.key in run.settings_texts:
        why = "the params contain its settings"
    elif run.key_style == "tags":
        severity, why = Severity.LOSS, "the target cannot store it"
    return Finding(
        "value-not-kept",
        severity,
        f"{name_rows(series.rows)}, key {series.key!r}",
        f"{names}: {why}",
        len(values),
    )
