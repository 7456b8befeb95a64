"""The pace: the elapsed seconds of each row since the start of the run.

It is computed from known durations, from the total duration spread over the steps, or with one
second per step. Rows of a prefix get the same seconds as in the longer log, except with a total,
which only a complete log has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridges.stream.model import Evidence, EvidenceKind, Float64, Int64, Knows, MetricStream
from bridges.stream.naming import KeyRules

MAX_RUN_SECONDS = 1e10
MAX_TIME = 4_102_444_800  # the year 2100; later times are invalid
MAX_STEP_SECONDS = 10_000.0  # of one row in a synthetic pace
SYNTHETIC = EvidenceKind(
    "synthetic", Knows.DURATIONS, 1000, "one second for each step", in_rows=True
)


@dataclass(frozen=True)
class Pace:
    """The seconds of each row since the start (float64, n).

    `session`: the process that wrote each row (int64, n), increasing by one at each known resume.
    """

    kind: EvidenceKind
    seconds: Float64
    session: Int64

    @property
    def is_real(self) -> bool:
        """Whether the seconds are real and not synthetic."""
        return self.kind is not SYNTHETIC


def pace_of(evidence: Evidence | None, stream: MetricStream, rules: KeyRules) -> Pace:
    """The pace from evidence of durations; without evidence, one second per step."""
    session = np.zeros(len(stream), np.int64)
    if evidence is None:
        kind, seconds = SYNTHETIC, _from_steps(stream)
    elif evidence.kind.knows is Knows.TOTAL:
        kind = evidence.kind
        seconds = _from_total(stream, evidence, rules.own_seconds(stream))
    else:
        kind = evidence.kind
        seconds, session = _through_known(evidence, rules.own_seconds(stream))
    return Pace(kind, np.minimum(np.maximum(seconds, 0.0), MAX_RUN_SECONDS), session)


def _through_known(evidence: Evidence, own_seconds: Float64) -> tuple[Float64, Int64]:
    """Seconds from known elapsed times; rows in between follow by their own durations.

    Also the session of each row.
    """
    own, rows, seconds = np.cumsum(own_seconds), evidence.rows, evidence.time / 1e6
    if not len(rows):
        return own, np.zeros(len(own), np.int64)
    fell = np.concatenate([[False], np.diff(seconds) < 0])  # a resume counts from zero again
    before = np.where(fell, np.concatenate([[0.0], seconds[:-1]]), 0.0)
    anchors = seconds + np.cumsum(before)
    index = np.searchsorted(rows, np.arange(len(own)), side="right") - 1
    base = np.where(index >= 0, anchors[index] - own[rows[index]], 0.0)
    session = np.where(index >= 0, np.cumsum(fell)[index], 0)
    return np.asarray(base + own), np.asarray(session, np.int64)


def _from_total(stream: MetricStream, total: Evidence, own_seconds: Float64) -> Float64:
    """The total duration spread over the steps before its row, minus the rows' own durations."""
    last, duration = int(total.rows[0]), float(total.time[0]) / 1e6
    own = np.cumsum(own_seconds)
    training = duration - own[last] if own[last] < duration else duration
    scale = 1.0 if own[last] < duration else 0.0
    steps = np.maximum(stream.step[: last + 1], 0).astype(np.float64)
    share = np.minimum(steps / max(steps.max(), 1.0), 1.0)
    elapsed = np.empty(len(stream))
    elapsed[: last + 1] = share * training + own[: last + 1] * scale
    elapsed[last + 1 :] = duration + own[last + 1 :] - own[last]
    return elapsed


def _from_steps(stream: MetricStream) -> Float64:
    """One second per step; a row with a lower step takes no time."""
    gained = stream.step.astype(np.float64)
    gained[1:] -= gained[:-1].copy()
    return np.asarray(np.cumsum(np.minimum(np.maximum(gained, 0.0), MAX_STEP_SECONDS)))
