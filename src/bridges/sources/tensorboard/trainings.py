"""The trainings in the event files of one directory.

Files are compared in the order of their start. A file continues the training before it if it shares
no tag with it, if its steps follow, or if both were written at the same time. If it begins again
within the steps of the training, as after a resume, it supersedes the later points of the tags it
shares; a SessionLog START supersedes all points from its step on. If all shared tags begin again at
their first step, it is a training of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from bridges.sources.tensorboard.event_log import EventLog, Mask, Steps
from bridges.sources.tensorboard.event_names import EXPORTED, name_of, process_of
from bridges.sources.trainer.discovery import natural
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64, Selection


class Relation(Enum):
    """The relation of a file to the training before it."""

    FOLLOWS = "follows"
    RESUMES = "resumes"
    BEGINS_AGAIN = "begins again"


@dataclass(frozen=True)
class LogPart:
    """The points of a file in a run: `kept` is a mask (bool, n), None for all."""

    log: EventLog
    kept: Mask | None = None

    def __len__(self) -> int:
        return len(self.log) if self.kept is None else int(self.kept.sum())

    def without(self, superseded: Mask) -> LogPart:
        """The part without some points."""
        kept = ~superseded if self.kept is None else self.kept & ~superseded
        return LogPart(self.log, kept)


@dataclass
class Training:
    """A training: its parts in order of time.

    later_steps: the steps of each tag with numbers, once there are several files
    attempts: the parts before each resume with superseded points
    in_turns: files were written at the same time: their points are sorted by time
    """

    parts: list[LogPart] = field(default_factory=list)
    later_steps: dict[str, Steps] | None = None
    attempts: list[tuple[LogPart, ...]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    in_turns: bool = False

    @property
    def steps(self) -> dict[str, Steps]:
        """The steps of each tag with numbers."""
        if self.later_steps is None:
            self.later_steps = dict(self.parts[0].log.bounds) if self.parts else {}
        return self.later_steps

    @property
    def logs(self) -> list[EventLog]:
        """Its files."""
        return [part.log for part in self.parts]

    @property
    def began(self) -> int:
        """The time of its first event, in microseconds."""
        return min(log.began for log in self.logs)

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last time of its points, in microseconds."""
        spans = [log.span for log in self.logs if len(log)] or [log.span for log in self.logs]
        return min(first for first, _ in spans), max(last for _, last in spans)

    def relation(self, log: EventLog) -> Relation:
        """The relation of a later file."""
        if log.restarts or self._is_appended(log):
            return Relation.FOLLOWS
        shared = [
            (steps, self.steps[tag]) for tag, steps in log.bounds.items() if tag in self.steps
        ]
        is_later = all(steps.first > own.high for steps, own in shared)
        if is_later or self.overlaps(log):
            return Relation.FOLLOWS
        is_again = all(steps.first <= own.first for steps, own in shared)
        is_again &= not all(_goes_on(steps, own) for steps, own in shared)
        return Relation.BEGINS_AGAIN if is_again else Relation.RESUMES

    def overlaps(self, log: EventLog) -> bool:
        """Whether the file was written while another one was."""
        return bool(len(log)) and log.span[0] < self.span[1]

    def _is_appended(self, log: EventLog) -> bool:
        """Whether bridges appended the file to an export of this training."""
        process = process_of(name_of(log.path))
        names = (name_of(other.path) for other in self.logs)
        return process.startswith(EXPORTED) and any(process_of(name) == process for name in names)

    def add(self, log: EventLog, relation: Relation) -> None:
        """Add a file."""
        if not (self.parts or log.restarts):
            self.parts.append(LogPart(log))
            return
        before, count = tuple(self.parts), 0
        steps = self.steps if before else {}
        self.in_turns |= bool(before) and self.overlaps(log) and not self._is_appended(log)
        self.parts.append(LogPart(log))
        earlier = self.parts[:-1]
        if relation is not Relation.FOLLOWS:
            count = self._drop(log, [_from_steps_of(log, part.log) for part in earlier])
        for position, step in log.restarts:
            masks = [part.log.step >= step for part in self.parts]
            masks[-1] &= np.arange(len(log)) < position
            count += self._drop(log, masks)
        if count and any(map(len, before)):
            self.attempts.append(before)
        for tag, own in log.bounds.items() if before else ():
            known = steps.get(tag, own)
            high = max(known.high if relation is Relation.FOLLOWS else own.high, own.high)
            low = min(known.low, own.low)
            steps[tag] = Steps(known.first, low, high, known.first_value, own.last_value)

    def _drop(self, log: EventLog, masks: Sequence[Mask]) -> int:
        """Drop points by a mask for each part; adds a finding, and returns their number."""
        steps = []
        for at, mask in enumerate(masks):
            kept = self.parts[at].kept
            gone = mask if kept is None else mask & kept
            if gone.any():
                other = self.parts[at].log
                is_news = gone if other is log else gone & ~_repeated(other, log, gone)
                steps.append(other.step[is_news])
                self.parts[at] = self.parts[at].without(mask)
        changed = np.concatenate([np.empty(0, np.int64), *steps])
        if len(changed):
            self.findings.append(_superseded(log, changed))
        return len(changed)


def trainings(logs: Iterable[EventLog], *, is_one: bool = False) -> list[Training]:
    """The trainings of a directory, in the order of their start; `is_one` joins all files.

    Files without points belong to the training before them, else to the first one; alone,
    they are not a training.
    """
    found: list[Training] = []
    without_points: list[EventLog] = []
    in_order = [*logs]
    if len(in_order) > 1:
        in_order.sort(key=lambda log: (log.began, natural(log.path)))
    for log in in_order:
        if not len(log) and not (found and log.restarts):
            without_points.append(log)
            continue
        relation = found[-1].relation(log) if found else Relation.FOLLOWS
        if not found or (relation is Relation.BEGINS_AGAIN and not is_one):
            found.append(Training())
        found[-1].add(log, relation)
    for log in without_points:
        earlier = [training for training in found if training.began <= log.began] or found[:1]
        if earlier:
            earlier[-1].parts.append(LogPart(log))
    return found


def _goes_on(steps: Steps, own: Steps) -> bool:
    """Whether a file begins with the last known point of a tag, as an evaluation at the end may."""
    return (steps.first, steps.first_value) == (own.high, own.last_value)


def _from_steps_of(log: EventLog, other: EventLog) -> Mask:
    """Mask of the points of another file from the lowest step of their tag in a file on."""
    start = np.full(len(other.tags), np.iinfo(np.int64).max)
    for at, tag in enumerate(other.tags[: other.numbers]):
        if tag in log.bounds:
            start[at] = log.bounds[tag].low
    return np.asarray(other.step >= start[other.tag])


def _repeated(log: EventLog, later: EventLog, chosen: Mask) -> Mask:
    """Mask of the chosen points (bool, n) with equal tag, step and value in a later file,
    as the first points of a resume may.
    """
    found = np.zeros(len(log), bool)
    for at, tag in enumerate(log.tags[: log.numbers]):
        if tag in later.bounds:
            mine = np.flatnonzero(chosen & (log.tag == at))
            theirs = later.tag == later.tags.index(tag)
            found[mine] = np.isin(_points(log, mine), _points(later, theirs))
    return found


def _points(log: EventLog, chosen: Selection) -> NDArray[np.void]:
    """Step and value of some points, in one column."""
    points = np.empty(len(log.step[chosen]), [("step", "i8"), ("value", "i8")])
    points["step"], points["value"] = log.step[chosen], log.value[chosen].view(np.int64)
    return points


def _superseded(log: EventLog, steps: Int64) -> Finding:
    low, high = int(steps.min()), int(steps.max())
    where = f"step {low}" if low == high else f"steps {low} to {high}"
    message = (
        f"the training was resumed at an earlier step: its earlier points of {where} are left out "
        "(--superseded keep exports them as a run of their own)"
    )
    return Finding("points-superseded", Severity.INFO, log.path, message, len(steps))
