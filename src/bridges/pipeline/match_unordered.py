"""Find the existing run to continue for a run whose rows have no order of their own.

New points of such a run may lie between known ones, so all points are compared, each as often as it
occurs, unless the rows of the target are the first rows of the run. If the target has some of the
points, these become the first rows of the run. Steps made from the order of time are not compared:
known points keep them, new ones follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ExportError
from bridges.exporters.base import (
    ExistingRun,
    Exporter,
    Points,
    Recorded,
    SettlesCompleteness,
    as_stored,
)
from bridges.pipeline.compare import bits
from bridges.pipeline.match import Known, Match
from bridges.pipeline.target import Target
from bridges.stream.added import moved
from bridges.stream.align import keys_without_steps, rows_without_steps, steps_from_order
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import Identity, prefix_digest
from bridges.stream.layout import Layout, Stored
from bridges.stream.model import Float64, Int64, MetricStream, RowKind, Run, Series, Values

Mask = NDArray[np.bool_]
_NO_POINTS = Points(np.empty(0, np.int64), np.empty(0), np.empty(0))


class Relation(Enum):
    """The points of a target, in relation to those of a run."""

    EQUAL = 0
    FEWER = 1
    MORE = 2
    OTHER = 3


def match_unordered(
    run: Run, identity: Identity, seen: Sequence[ExistingRun], target: Target
) -> Match:
    """The match with a run of equal points, of fewer or of more.

    A run with the same digest is taken unread, unless it was written in parts and may have steps in
    the order of these. Raises ExportError and VerifyError.
    """
    known = [_known(run, existing, target.exporter) for existing in seen if not existing.deleted]
    exact = [one for one in known if one.complete and one.state.digest == identity.digest]
    if exact and not _has_own_steps(run, exact[0]):
        is_same = bool(run.folded) and _has_equal_times(run, identity, exact[0], target)
        own = run if is_same else _as_written(run, exact[0], target)
        return _matched(own, identity, exact[0], Relation.EQUAL, alike=len(exact) - 1)
    known = exact[:1] or known
    shorter = [
        one for one in known if one.complete and _begins(run, one) and not _has_own_steps(run, one)
    ]
    if shorter:
        longest = max(shorter, key=lambda one: one.state.rows)
        return _matched(_as_written(run, longest, target), identity, longest, Relation.FEWER)
    runs = [_as_written(run, one, target) for one in known]
    pairs = zip(known, runs, strict=True)
    compared = [(_Comparison.of(own, identity, one, target), one, own) for one, own in pairs]
    compared.sort(key=lambda each: each[0].relation.value)
    for comparison, one, _ in compared[:1]:
        if one.complete and comparison.has_grown and "duplicates" in identity.options:
            raise _kept_points(one, identity)
    if not compared or compared[0][0].relation is Relation.OTHER:
        others = () if run.shares_identity else compared
        return Match(run, identity, findings=tuple(_another_history(one) for _, one, _ in others))
    first, one, own = compared[0]
    if own is not run:
        run, identity = own, target.identity(own)
    is_equal = first.relation is Relation.EQUAL
    if one.complete and (first.relation is Relation.FEWER or (is_equal and first.without_steps)):
        run = first.known_first(run, one)
    alike = max(0, len(exact) - 1)
    return _matched(run, identity, one, first.relation, alike)


def _as_written(run: Run, one: Known, target: Target) -> Run:
    """The run with the values and times that the target has of it, if logs are folded into it."""
    if not run.folded:
        return run
    from bridges.pipeline.match_folded import as_written

    tags = _tags(run, target.identity(run), target)
    return as_written(run, target.exporter.read_back(one.existing), tags, target.exporter)


def _has_equal_times(run: Run, identity: Identity, one: Known, target: Target) -> bool:
    """Whether the target has all points at the times of the run, by their digest."""
    layout = target.lay_out(run, identity, Stored(rules=one.state.rules))
    return layout.times_digest(layout.rows) == one.state.times != ""


def _has_own_steps(run: Run, one: Known) -> bool:
    """Whether the target may have made steps in the order of several writes."""
    return len(one.state.append_rows) > 1 and bool(keys_without_steps(run.stream))


def _begins(run: Run, one: Known) -> bool:
    """Whether the rows of an existing run are the first rows of the run."""
    rows = one.state.rows
    return rows < len(run.stream) and prefix_digest(run.stream, rows) == one.state.digest


def _known(run: Run, existing: ExistingRun, exporter: Exporter) -> Known:
    """An existing run; an interrupted write of any points is repeated."""
    complete = existing.complete
    if complete is None and isinstance(exporter, SettlesCompleteness):
        complete = exporter.is_complete(run, existing)
    return Known(replace(existing, complete=bool(complete)), existing.state, bool(complete))


def _matched(run: Run, identity: Identity, one: Known, relation: Relation, alike: int = 0) -> Match:
    """The match, with the number of stored rows in the order of this run."""
    rows = one.state.rows
    if relation is Relation.MORE:
        rows = max(rows, len(run.stream) + 1)
    elif not one.complete:
        rows = min(rows, len(run.stream))
    elif relation is Relation.EQUAL:
        rows = len(run.stream)
    one = replace(one, state=replace(one.state, rows=rows))
    return Match(run, replace(identity, key=one.existing.key), one, alike)


def _another_history(one: Known) -> Finding:
    message = (
        "the target holds a run of this id with other points, which is left as it is; this run is "
        "stored as another one"
    )
    return Finding("another-history", Severity.WARNING, one.existing.location, message)


def _kept_points(one: Known, identity: Identity) -> ExportError:
    policy = identity.options["duplicates"]
    return ExportError(
        f"{one.existing.location}: this run has new points, which cannot be added with "
        f"--duplicates {policy}: they lie between stored ones, which were chosen without them. "
        "Delete the run in the target and export it again, or export it with --duplicates all as "
        "another run."
    )


@dataclass(frozen=True)
class _Comparison:
    """The relation, and for the points of each series, whether the target has them, and at which
    steps. `without_steps`: the keys with steps in the target only. `has_grown`: the target lacks
    points, and all of its points are in the run, even if `--duplicates` drops them now.
    """

    relation: Relation
    known: Mapping[int, Mask]
    steps: Mapping[int, Int64]
    without_steps: Sequence[str]
    has_grown: bool

    @classmethod
    def of(cls, run: Run, identity: Identity, one: Known, target: Target) -> _Comparison:
        layout = target.lay_out(run, identity, Stored(rules=one.state.rules))
        recorded = target.exporter.read_back(one.existing)
        stored, tags = recorded.points, _tags(run, identity, target)
        makes_steps = any(note.code == "steps-from-order" for note in layout.findings)
        keys = keys_without_steps(run.stream) if makes_steps else []
        known = dict[int, Mask]()
        steps = {at: run.stream.step[part.rows] for at, part in enumerate(run.stream.series)}
        has_fewer = has_more = has_others = False
        for tag in dict.fromkeys([*tags.values(), *stored]):
            mine = [
                at
                for at, part in enumerate(run.stream.series)
                if part.is_number and tags.get(part.key) == tag
            ]
            parts = [run.stream.series[at] for at in mine]
            has_steps = all(part.key not in keys for part in parts)
            points = _TagPoints.of(layout, parts, tag, target, has_steps=has_steps)
            there = stored.get(tag, _NO_POINTS)
            masks, places, lacks, adds, is_other = points.against(there)
            has_others = has_others or is_other
            known |= dict(zip(mine, masks, strict=True))
            if not has_steps:
                steps |= dict(zip(mine, places, strict=True))
            has_fewer, has_more = has_fewer or lacks, has_more or adds
        for at, mask in _known_texts(run, layout, recorded, tags, one.state.rows):
            known[at] = mask
            has_fewer = has_fewer or not mask.all()
        if has_more:
            relation = Relation.OTHER if has_fewer else Relation.MORE
        else:
            relation = Relation.FEWER if has_fewer else Relation.EQUAL
        return cls(relation, known, steps, keys, has_grown=has_fewer and not has_others)

    def known_first(self, run: Run, one: Known) -> Run:
        """The run with as many rows of known points as the target has, then rows of new points."""
        stream, position = _known_first(run.stream, self, one)
        run = replace(run, evidence=tuple(moved(each, position) for each in run.evidence))
        if not self.without_steps:
            return replace(run, stream=stream)
        first = one.state.rows
        rows = rows_without_steps(stream, self.without_steps)
        known, new = rows[rows < first], rows[rows >= first]
        step = stream.step.copy()
        step[new] = np.arange(len(new)) + (step[known].max() + 1 if len(known) else 0)
        note = steps_from_order(self.without_steps, step[rows])
        return replace(run, stream=replace(stream, step=step), findings=(*run.findings, note))


def _known_texts(
    run: Run, layout: Layout, recorded: Recorded, tags: Mapping[str, str], rows: int
) -> Iterator[tuple[int, Mask]]:
    """The position of each series of texts or objects, with a mask of the stored ones.

    Without any place for them, the target counts those in its first `rows` rows.
    """
    stored = Counter((tag, step, repr(value)) for tag, step, value in recorded.others)
    kept = {part.key for part in (*layout.texts, *layout.stream.series) if not part.is_number}
    for at, part in enumerate(run.stream.series):
        if part.is_number:
            continue
        tag, known = tags[part.key], part.rows < rows
        if tag in kept:
            steps, values = run.stream.step[part.rows].tolist(), part.values.tolist()
            for index, (step, value) in enumerate(zip(steps, values, strict=True)):
                known[index] = stored[tag, step, repr(value)] > 0
                stored[tag, step, repr(value)] -= 1
        yield at, known


def _tags(run: Run, identity: Identity, target: Target) -> dict[str, str]:
    """The tag of each key: those of a layout with one row of all keys."""
    keys, zero = run.stream.keys, np.zeros(1, np.int64)
    series = tuple(Series(key, zero, np.array([float(at)])) for at, key in enumerate(keys))
    stream = MetricStream(zero, np.full(1, RowKind.CUSTOM, np.uint8), series, zero)
    layout = target.lay_out(replace(run, stream=stream), identity)
    return {keys[int(part.values[0])]: part.key for part in layout.stream.numbers}


@dataclass(frozen=True)
class _TagPoints:
    """The points of some series under one tag, as the target stores them.

    columns: step, bits of the value and bits of the time (int64, 3 x n)
    is_written: False for points merged with an equal one by the target (bool, n)
    ends: the number of points in each series and those before it
    has_steps: whether steps are compared; if not, they are 0 in `columns`
    """

    columns: Int64
    is_written: Mask
    ends: Int64
    has_steps: bool

    @classmethod
    def of(
        cls, layout: Layout, parts: list[Series], tag: str, target: Target, *, has_steps: bool
    ) -> _TagPoints:
        """The points; the rows of the layout are those of its run. Raises ExportError otherwise."""
        stream = layout.stream
        if len(stream) != layout.rows:
            raise ExportError(
                "the target holds other points of this run, and --duplicates merges rows, so new "
                "ones cannot be added. Delete the run in the target and export it again."
            )
        assert stream.time is not None
        rows = _joined([part.rows for part in parts])
        values = [as_stored(target.exporter, part.values) for part in parts]
        value = np.concatenate(values) if values else np.empty(0)
        numbers = [part for part in stream.numbers if part.key == tag]
        written = _joined([part.rows for part in numbers])
        time = stream.time.copy()
        for part in numbers:
            time[part.rows] = stream.times(part)
        step = stream.step[rows] if has_steps else np.zeros(len(rows), np.int64)
        columns = _columns(step, value, time[rows] / 1e6)
        ends = np.cumsum([len(part.rows) for part in parts])
        return cls(columns, np.isin(rows, written), ends, has_steps)

    def against(self, stored: Points) -> tuple[list[Mask], list[Int64], bool, bool, bool]:
        """For each series, a mask of its stored points and their steps in the target; whether the
        target lacks points; whether it has others than those to write, or than those of the run.
        """
        count = self.columns.shape[1]
        step = stored.step if self.has_steps else np.zeros(len(stored.step), np.int64)
        others = _columns(step, stored.value, stored.time)
        ids = _ids(np.concatenate([self.columns, others], axis=1))
        mine, size = ids[:count], len(ids)
        wanted = np.bincount(mine[self.is_written], minlength=size)
        held = np.bincount(ids[count:], minlength=size)
        known = held[mine] > 0
        rank = np.zeros(count, np.int64)
        rank[self.is_written] = _ranks(mine[self.is_written])
        known[self.is_written] &= rank[self.is_written] < held[mine[self.is_written]]
        order = np.lexsort((stored.step, ids[count:]))  # equal points by their stored steps
        place = np.searchsorted(ids[count:][order], mine[known]) + rank[known]
        steps = np.zeros(count, np.int64)
        steps[known] = stored.step[order[place]]
        masks: list[Mask] = np.split(known, self.ends)[:-1]
        places: list[Int64] = np.split(steps, self.ends)[:-1]
        is_other = held > np.bincount(mine, minlength=size)
        lacks, adds = bool((wanted > held).any()), bool((held > wanted).any())
        return masks, places, lacks, adds, bool(is_other.any())


def _columns(step: Int64, value: Values, time: Float64) -> Int64:
    return np.stack([step, bits(value).astype(np.int64), np.ascontiguousarray(time).view(np.int64)])


def _joined(parts: list[Int64]) -> Int64:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _ids(columns: Int64) -> Int64:
    """A number for each column, equal for equal ones (int64, n)."""
    order = np.lexsort(columns)
    ids = np.empty(columns.shape[1], np.int64)
    ids[order] = np.cumsum(_is_new(*columns[:, order])) - 1
    return ids


def _ranks(ids: Int64) -> Int64:
    """The number of equal ids before each one (int64, n)."""
    order = np.argsort(ids, kind="stable")
    index, ranks = np.arange(len(ids)), np.empty(len(ids), np.int64)
    start = np.maximum.accumulate(np.where(_is_new(ids[order]), index, 0))
    ranks[order] = index - start
    return ranks


def _is_new(*columns: NDArray[np.int64] | Mask) -> Mask:
    """Whether each row (n) differs from the row before it in any column."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return new


def _known_first(
    stream: MetricStream, compared: _Comparison, one: Known
) -> tuple[MetricStream, Int64]:
    """The stream with as many rows of known points as the target has, then rows of new points; and
    the new position of each row, or of its first point (int64, n).

    A row has points of one time and step, and one of each key, as when they were written.
    """
    part = np.repeat(np.arange(len(stream.series)), [len(each.rows) for each in stream.series])
    row = _joined([each.rows for each in stream.series])
    is_known = np.concatenate([compared.known[at] for at in range(len(stream.series))])
    step = _joined([compared.steps[at] for at in range(len(stream.series))])
    moment = _moments(stream)[row]
    turn = _ranks(_ids(np.stack([part, moment, step, is_known.astype(np.int64)])))
    order = np.lexsort((part, turn, step, moment, ~is_known))
    part, row, is_known, step = part[order], row[order], is_known[order], step[order]
    is_first = _is_new(moment[order], step, turn[order], is_known)
    spare = np.flatnonzero(is_known & ~is_first)
    lacking = one.state.rows - int((is_first & is_known).sum())
    if not 0 <= lacking <= len(spare):
        raise ExportError(
            f"{one.existing.location}: another program changed the points of this run, so new ones "
            "cannot be added. Delete the run in the target, and export it again."
        )
    is_first[spare[:lacking]] = True
    rows, first = np.cumsum(is_first) - 1, row[is_first]
    starts = np.cumsum([0, *(len(each.rows) for each in stream.series)])
    series = tuple(
        replace(each.only(order[mine] - start), rows=rows[mine])
        for at, (each, start) in enumerate(zip(stream.series, starts, strict=False))
        for mine in [np.flatnonzero(part == at)]
    )
    time = None if stream.time is None else stream.time[first]
    position = np.full(len(stream), -1, np.int64)
    position[row[::-1]] = rows[::-1]
    return MetricStream(step[is_first], stream.kind[first], series, time), position


def _moments(stream: MetricStream) -> Int64:
    """A number for each row, equal for rows of one time and step, rising as the rows do."""
    columns = [stream.step] if stream.time is None else [stream.step, stream.time]
    ids = _ids(np.stack(columns))
    _, first = np.unique(ids, return_index=True)
    return first[ids]
