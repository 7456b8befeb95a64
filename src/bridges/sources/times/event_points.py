"""Points of event files that no state holds: counted, and added as rows where that is asked for.

A training logs them after its last save, as in an evaluation at the end, or in an attempt that was
given up. Rows are told apart as the live callback writes them: one scalar after another, the epoch
last. Those of an attempt that the history does not go on from contradict it and are never added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events.reader import EventFile, ScalarPart
from bridges.huggingface.trainer_keys import row_kinds
from bridges.sources.times.events import SHARED, WantedPoints, point_keys, process_of
from bridges.stream.added import AddedRow, joined, moved
from bridges.stream.columns import series_from_rows
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, Float64, Int64, RowKind, Run, Values

EPOCH = "train/epoch"
# what the Trainer writes behind the epoch where it counts tokens
BEHIND_EPOCH = (
    "train/num_input_tokens_seen",
    "train/train_runtime",
    "train/train_tokens_per_second",
)
KEYS = {"train/": "", "eval/": "eval_", "test/": "test_"}  # a tag's first part, and the key's
Mask = NDArray[np.bool_]
_NOTHING = np.empty(0, np.int64)
_NONE = ScalarPart(_NOTHING, _NOTHING, np.empty(0, np.float32), np.empty(0, np.float64))


def with_event_rows(
    run: Run, files: Mapping[str, EventFile], wanted: WantedPoints, known: Evidence, *, fill: bool
) -> Run:
    """The run with a finding for the points that only its event files (by path, in the order of
    their starts) hold; with `fill`, also with those of their rows that do not contradict it.

    `wanted` are the points of the run, `known` the times of those of its rows that the files hold.
    """
    held = sum(len(part.step) for file in files.values() for part in file.parts)
    if len(known.rows) == len(run.stream) and held == run.stream.points:  # the usual case
        return run
    log = _Log.of(files, wanted)
    trained = np.unique(run.stream.step[run.stream.kind == RowKind.TRAIN])
    groups = [group for group in log.groups if _fits(group, log, trained)]
    rows = np.concatenate([_NOTHING, *groups])
    points = int(np.isin(log.row, rows).sum())  # of equal epochs any may be the one too many
    findings, where = [], next(iter(files), "")
    if len(rows):
        findings.append(_told(where, points, len(rows), fill=fill))
    if (others := int(log.extra.sum()) - points) > 0:
        findings.append(_contradict(where, others))
    if fill and len(rows):
        run = _filled(run, log, groups, known)
    return replace(run, findings=(*run.findings, *findings))


@dataclass(frozen=True)
class _Log:
    """The scalars of several event files, in the order in which they were written.

    Of each point (n): its row, the process that wrote it, its tag (an index of `tags`), step,
    value (float32), wall time (seconds), and whether it is `extra`: the run has no such point.
    """

    tags: tuple[str, ...]
    row: Int64
    process: Int64
    tag: Int64
    step: Int64
    value: Values
    time: Float64
    extra: Mask

    @classmethod
    def of(cls, files: Mapping[str, EventFile], wanted: WantedPoints) -> _Log:
        """The scalars of these files that a Trainer's callback may have written."""
        names = sorted({tag for file in files.values() for tag in file.scalars})
        tags = tuple(tag for tag in names if tag.startswith((*KEYS,)))
        processes = [*dict.fromkeys(map(process_of, files))]
        places: list[Int64] = [np.empty((0, 3), np.int64)]  # file, process, tag
        parts = [_NONE]
        for number, (path, file) in enumerate(files.items()):
            for index, tag in enumerate(tags):
                for part in file.scalars.get(tag, ()):
                    place = number, processes.index(process_of(path)), index
                    places.append(np.full((len(part.step), 3), place))
                    parts.append(part)
        offset = np.concatenate([part.offset for part in parts])
        place_of = np.concatenate(places)
        order = np.lexsort((offset, place_of[:, 0]))
        offset, (file_, process, tag_of) = offset[order], place_of[order].T
        step = np.concatenate([part.step for part in parts])[order]
        value = np.concatenate([part.value for part in parts])[order]
        time = np.concatenate([part.wall_time for part in parts])[order]
        extra = _extra(tags, tag_of, point_keys(step, value), wanted)
        row = _rows(tags, file_, tag_of, step, offset)
        return cls(tags, row, process, tag_of, step, value, time, extra)

    @cached_property
    def _telling(self) -> Mask:
        """Which points may be of one run only."""
        return ~np.isin(self.tag, [self.tags.index(tag) for tag in _SHARED if tag in self.tags])

    @cached_property
    def first(self) -> Int64:
        """The first point of each row."""
        return np.flatnonzero(np.diff(self.row, prepend=-1))

    @cached_property
    def row_process(self) -> Int64:
        """The process that wrote each row."""
        return self.process[self.first]

    @cached_property
    def row_step(self) -> Int64:
        """The step of each row."""
        return self.step[self.first]

    @cached_property
    def known_processes(self) -> frozenset[int]:
        """The processes that wrote rows which the run holds."""
        return frozenset(self.row_process[self.known].tolist())

    @cached_property
    def known(self) -> Int64:
        """The rows that the run holds: one of their points is one of its own."""
        return np.unique(self.row[self._telling & ~self.extra])

    @cached_property
    def groups(self) -> list[Int64]:
        """Rows that only the files hold, those together that follow one another in a process."""
        only = np.setdiff1d(self.row[self._telling], self.known)
        process = self.row_process[only]
        cuts = np.flatnonzero((np.diff(only) != 1) | (np.diff(process) != 0)) + 1
        return [group for group in np.split(only, cuts) if len(group)]

    def points(self, row: int) -> slice:
        """Where the points of a row lie."""
        start = self.first[row]
        following = self.first[row + 1] if row + 1 < len(self.first) else len(self.row)
        return slice(start, following)

    def values(self, row: int) -> dict[str, float]:
        """The values of a row by the Trainer's keys."""
        points = self.points(row)
        found = zip(self.tag[points].tolist(), self.value[points].tolist(), strict=True)
        return {_key(self.tags[tag]): value for tag, value in found}


_SHARED = tuple(f"train/{key}" for key in SHARED)


def _key(tag: str) -> str:
    """The Trainer's key of a tag."""
    first, _, rest = tag.partition("/")
    return KEYS[f"{first}/"] + rest


def _extra(tags: Sequence[str], tag: Int64, keys: Int64, wanted: WantedPoints) -> Mask:
    """Which points the run has not; of equal ones the earlier are those too many."""
    extra = np.ones(len(tag), bool)
    by_tag = np.argsort(tag, kind="stable")
    cuts = np.searchsorted(tag[by_tag], np.arange(1, len(tags)))
    for name, at in zip(tags, np.split(by_tag, cuts), strict=False):
        there = np.sort(wanted.tags[name][0]) if name in wanted.tags else np.empty(0, np.int64)
        order = np.argsort(keys[at], kind="stable")
        mine = keys[at][order]
        needed = np.searchsorted(there, mine, "right") - np.searchsorted(there, mine, "left")
        following = np.searchsorted(mine, mine, "right") - np.arange(len(mine))
        extra[at[order]] = following > needed
    return extra


def _rows(tags: Sequence[str], file: Int64, tag: Int64, step: Int64, offset: Int64) -> Int64:
    """The row of each point: one ends with its epoch and the counts behind it, where the step
    changes, and with its file.
    """
    is_last = np.zeros(len(tag), bool)  # the epoch, or a count behind it in this order
    in_order = tag == (tags.index(EPOCH) if EPOCH in tags else -1)
    follows = np.zeros(len(tag), bool)
    for name in BEHIND_EPOCH:
        is_last |= in_order
        here = tag == (tags.index(name) if name in tags else -1)
        in_order = here & np.concatenate([[False], in_order[:-1]])
        follows |= in_order
    is_last |= in_order
    new = (np.diff(file) != 0) | (np.diff(step) != 0) | (is_last[:-1] & ~follows[1:])
    new &= (np.diff(offset) != 0) | (np.diff(file) != 0)  # a record may hold several
    return np.cumsum(np.concatenate([[False], new])[: len(tag)])


def _fits(group: Int64, log: _Log, trained: Int64) -> bool:
    """Whether the rows of a group lie within the history: their process went on to the next row
    that the history holds, or it was the last one, no step goes back, and none of training is one
    of those that the history has (`trained`, rising).
    """
    at = int(np.searchsorted(log.known, group[0]))
    process = log.row_process
    if int(process[group[0]]) not in log.known_processes:
        return False
    around = [*log.known[at - 1 : at].tolist(), *group.tolist(), *log.known[at : at + 1].tolist()]
    if at < len(log.known) and process[log.known[at]] != process[group[0]]:
        return False
    if (np.diff(log.row_step[around]) < 0).any():
        return False
    losses = log.row_step[[row for row in group.tolist() if "loss" in log.values(row)]]
    return bool(
        (np.searchsorted(trained, losses, "right") == np.searchsorted(trained, losses)).all()
    )


def _filled(run: Run, log: _Log, groups: Sequence[Int64], known: Evidence) -> Run:
    """The run with these rows, each group where its times belong."""
    values, places = [], []
    timed = np.zeros(len(run.stream), bool)
    timed[known.rows] = True
    for group in groups:
        place = _place(group, log, run, known, timed)
        values += [log.values(row) for row in group.tolist()]
        places += [place] * len(group)
    count, rows = len(run.stream), np.concatenate(groups)
    steps = log.row_step[rows].tolist()
    series, _ = series_from_rows(values)
    kinds = row_kinds(len(values), series).tolist()
    added = [AddedRow(0, *one) for one in zip(kinds, steps, values, strict=True)]
    order = np.argsort([*np.arange(count) + 0.5, *places], kind="stable")
    moved_to = np.empty(len(order), np.int64)
    moved_to[order] = np.arange(len(order))
    mine = [*run.added, *range(count, len(order))]
    return replace(
        run,
        stream=joined(run.stream, added).take(order),
        added=tuple(sorted(moved_to[mine].tolist())),
        evidence=tuple(moved(one, moved_to) for one in run.evidence),
        status="finished" if RowKind.SUMMARY in kinds else run.status,
    )


def _place(group: Int64, log: _Log, run: Run, known: Evidence, timed: Mask) -> int:
    """The row of the run before which a group belongs: behind the row before it in time, and those
    behind that without a time (not `timed`) whose steps are not higher.
    """
    first = log.first[group[0]]
    earlier = int(np.searchsorted(known.time, np.rint(log.time[first] * 1e6)))
    place = int(known.rows[earlier - 1]) + 1 if earlier else 0
    steps = run.stream.step
    while place < len(steps) and not timed[place] and steps[place] <= log.step[first]:
        place += 1
    return place


def _told(where: str, points: int, rows: int, *, fill: bool) -> Finding:
    if fill:
        message = f"{points} points in {rows} rows come from event files, as float32"
        return Finding("rows-from-events", Severity.INFO, where, message, points)
    message = (
        f"event files hold {points} points in {rows} rows that no state holds; when the training "
        "has ended, --fill-from-events (in a config `fill_from_events: true`) adds them"
    )
    return Finding("rows-only-in-events", Severity.WARNING, where, message, points)


def _contradict(where: str, points: int) -> Finding:
    message = (
        f"event files hold {points} points of attempts that the history does not go on from, or "
        "that another callback wrote: they are left out"
    )
    return Finding("points-only-in-events", Severity.INFO, where, message, points)
