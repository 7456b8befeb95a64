"""Points of event files missing from the states: counted, and added as rows on request.

A training logs them after its last save, for example in a final evaluation, or in an abandoned
attempt. Points are grouped into rows as the live callback writes them: the scalars of a row in
sequence, the epoch last. Rows of an abandoned attempt contradict the history and are never added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events.content import EventFile, ScalarPart
from bridges.huggingface.trainer_keys import row_kinds
from bridges.sources.times.events import SHARED, WantedPoints, point_keys, process_of
from bridges.stream.added import AddedRow, joined, moved
from bridges.stream.columns import series_from_rows
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, Float64, Int64, RowKind, Run, Values

EPOCH = "train/epoch"
# written after the epoch if the Trainer counts tokens
AFTER_EPOCH = (
    "train/num_input_tokens_seen",
    "train/train_runtime",
    "train/train_tokens_per_second",
)
KEY_PREFIXES = {"train/": "", "eval/": "eval_", "test/": "test_"}  # by tag prefix
Mask = NDArray[np.bool_]
_NOTHING = np.empty(0, np.int64)
_NONE = ScalarPart(_NOTHING, _NOTHING, np.empty(0, np.float32), np.empty(0, np.float64))


def with_event_rows(
    run: Run, files: Mapping[str, EventFile], wanted: WantedPoints, known: Evidence, *, fill: bool
) -> Run:
    """The run with findings for the points that only its event files contain.

    `fill` adds the rows that do not contradict the history. `files`: by path, in the order of their
    start; `wanted`: the points of the run; `known`: the times of its rows in the files.
    """
    points = sum(len(part.step) for file in files.values() for part in file.parts)
    if len(known.rows) == len(run.stream) and points == run.stream.points:  # the usual case
        return run
    log = _Log.of(files, wanted)
    trained = np.unique(run.stream.step[run.stream.kind == RowKind.TRAIN])
    groups = [group for group in log.groups if _fits(group, log, trained)]
    rows = np.concatenate([_NOTHING, *groups])
    points = int(np.isin(log.row, rows).sum())  # `extra` may mark any of several equal epochs
    findings, where = [], next(iter(files), "")
    if len(rows):
        findings.append(_rows_finding(where, points, len(rows), fill=fill))
    if (others := int(log.extra.sum()) - points) > 0:
        findings.append(_abandoned_finding(where, others))
    if fill and len(rows):
        run = _filled(run, log, groups, known)
    return replace(run, findings=(*run.findings, *findings))


@dataclass(frozen=True)
class _Log:
    """The scalars of several event files in the order of writing, one array entry per point.

    `row`: row number; `process`: number of the writing process; `tag`: index into `tags`; `value`:
    float32; `time`: wall time in seconds; `extra`: the point is missing from the run.
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
        """The scalars of files whose tags a Trainer's callback writes."""
        names = sorted({tag for file in files.values() for tag in file.scalars})
        tags = tuple(tag for tag in names if tag.startswith((*KEY_PREFIXES,)))
        processes = [*dict.fromkeys(map(process_of, files))]
        origins: list[Int64] = [np.empty((0, 3), np.int64)]  # file, process, tag
        parts = [_NONE]
        for number, (path, file) in enumerate(files.items()):
            for index, tag in enumerate(tags):
                for part in file.scalars.get(tag, ()):
                    origin = number, processes.index(process_of(path)), index
                    origins.append(np.full((len(part.step), 3), origin))
                    parts.append(part)
        offset = np.concatenate([part.offset for part in parts])
        origin_of = np.concatenate(origins)
        order = np.lexsort((offset, origin_of[:, 0]))
        offset, (file_, process, tag_of) = offset[order], origin_of[order].T
        step = np.concatenate([part.step for part in parts])[order]
        value = np.concatenate([part.value for part in parts])[order]
        time = np.concatenate([part.wall_time for part in parts])[order]
        extra = _extra(tags, tag_of, point_keys(step, value), wanted)
        row = _rows(tags, file_, tag_of, step, offset)
        return cls(tags, row, process, tag_of, step, value, time, extra)

    @cached_property
    def _distinctive(self) -> Mask:
        """The points with tags that differ between runs of one recipe."""
        return ~np.isin(self.tag, [self.tags.index(tag) for tag in _SHARED if tag in self.tags])

    @cached_property
    def first(self) -> Int64:
        """The first point of each row."""
        return np.flatnonzero(np.diff(self.row, prepend=-1))

    @cached_property
    def row_process(self) -> Int64:
        """The process of each row."""
        return self.process[self.first]

    @cached_property
    def row_step(self) -> Int64:
        """The step of each row."""
        return self.step[self.first]

    @cached_property
    def known_processes(self) -> frozenset[int]:
        """The processes that wrote at least one row of the run."""
        return frozenset(self.row_process[self.known].tolist())

    @cached_property
    def known(self) -> Int64:
        """The rows with at least one point of the run."""
        return np.unique(self.row[self._distinctive & ~self.extra])

    @cached_property
    def groups(self) -> list[Int64]:
        """The rows missing from the run, with consecutive rows of a process as one group."""
        only = np.setdiff1d(self.row[self._distinctive], self.known)
        process = self.row_process[only]
        bounds = np.flatnonzero((np.diff(only) != 1) | (np.diff(process) != 0)) + 1
        return [group for group in np.split(only, bounds) if len(group)]

    def points(self, row: int) -> slice:
        """The slice of a row's points."""
        start = self.first[row]
        following = self.first[row + 1] if row + 1 < len(self.first) else len(self.row)
        return slice(start, following)

    def values(self, row: int) -> dict[str, float]:
        """The values of a row by Trainer key."""
        points = self.points(row)
        found = zip(self.tag[points].tolist(), self.value[points].tolist(), strict=True)
        return {_key(self.tags[tag]): value for tag, value in found}


_SHARED = tuple(f"train/{key}" for key in SHARED)


def _key(tag: str) -> str:
    """The Trainer's key of a tag."""
    first, _, rest = tag.partition("/")
    return KEY_PREFIXES[f"{first}/"] + rest


def _extra(tags: Sequence[str], tag: Int64, keys: Int64, wanted: WantedPoints) -> Mask:
    """Mask of the points missing from the run; of surplus equal points, the earlier."""
    extra = np.ones(len(tag), bool)
    by_tag = np.argsort(tag, kind="stable")
    bounds = np.searchsorted(tag[by_tag], np.arange(1, len(tags)))
    for name, at in zip(tags, np.split(by_tag, bounds), strict=False):
        known = np.sort(wanted.tags[name][0]) if name in wanted.tags else np.empty(0, np.int64)
        order = np.argsort(keys[at], kind="stable")
        mine = keys[at][order]
        needed = np.searchsorted(known, mine, "right") - np.searchsorted(known, mine, "left")
        following = np.searchsorted(mine, mine, "right") - np.arange(len(mine))
        extra[at[order]] = following > needed
    return extra


def _rows(tags: Sequence[str], file: Int64, tag: Int64, step: Int64, offset: Int64) -> Int64:
    """The row number of each point.

    A row ends with its epoch and the counts after it, when the step changes, and with its file.
    """
    is_last = np.zeros(len(tag), bool)  # the epoch, or a count after it in this order
    in_order = tag == (tags.index(EPOCH) if EPOCH in tags else -1)
    follows = np.zeros(len(tag), bool)
    for name in AFTER_EPOCH:
        is_last |= in_order
        here = tag == (tags.index(name) if name in tags else -1)
        in_order = here & np.concatenate([[False], in_order[:-1]])
        follows |= in_order
    is_last |= in_order
    new = (np.diff(file) != 0) | (np.diff(step) != 0) | (is_last[:-1] & ~follows[1:])
    new &= (np.diff(offset) != 0) | (np.diff(file) != 0)  # a record may contain several points
    return np.cumsum(np.concatenate([[False], new])[: len(tag)])


def _fits(group: Int64, log: _Log, trained: Int64) -> bool:
    """Whether a group of rows fits into the history.

    Their process must also have written the next known row, or be the last one; no step may go
    back; and no training row may have a step of the history's training rows (`trained`, sorted).
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
    """The run with the rows of these groups, inserted by time."""
    values, positions = [], []
    timed = np.zeros(len(run.stream), bool)
    timed[known.rows] = True
    for group in groups:
        position = _position(group, log, run, known, timed)
        values += [log.values(row) for row in group.tolist()]
        positions += [position] * len(group)
    count, rows = len(run.stream), np.concatenate(groups)
    steps = log.row_step[rows].tolist()
    series, _ = series_from_rows(values)
    kinds = row_kinds(len(values), series).tolist()
    added = [AddedRow(0, *one) for one in zip(kinds, steps, values, strict=True)]
    order = np.argsort([*np.arange(count) + 0.5, *positions], kind="stable")
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


def _position(group: Int64, log: _Log, run: Run, known: Evidence, timed: Mask) -> int:
    """The row of the run before which a group is inserted.

    It follows the last row with an earlier time, and rows after that without a time (not `timed`)
    and with no higher step.
    """
    first = log.first[group[0]]
    earlier = int(np.searchsorted(known.time, np.rint(log.time[first] * 1e6)))
    row = int(known.rows[earlier - 1]) + 1 if earlier else 0
    steps = run.stream.step
    while row < len(steps) and not timed[row] and steps[row] <= log.step[first]:
        row += 1
    return row


def _rows_finding(where: str, points: int, rows: int, *, fill: bool) -> Finding:
    if fill:
        message = f"{points} points in {rows} rows come from event files, as float32"
        return Finding("rows-from-events", Severity.INFO, where, message, points)
    message = (
        f"event files contain {points} points in {rows} rows that are missing from the states; "
        "after the training has ended, --fill-from-events adds them"
    )
    return Finding("rows-only-in-events", Severity.WARNING, where, message, points)


def _abandoned_finding(where: str, points: int) -> Finding:
    message = (
        f"event files contain {points} points of abandoned attempts, or of another callback: they "
        "are left out"
    )
    return Finding("points-only-in-events", Severity.INFO, where, message, points)
