"""Runs as MLflow's API returns them: their state, and their points in a comparable form."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from bridges.exporters.base import ConflictError, Points
from bridges.exporters.mlflow import rows
from bridges.exporters.mlflow.api import Api, ApiRun
from bridges.exporters.mlflow.state import RUNNING, state_of
from bridges.formats.mlflow_store.records import ACTIVE, STATE_TAG
from bridges.stream.model import Float64, Int64

QUIET_SECONDS = 2.0  # without a change of the run, before its writer counts as gone
POLL_SECONDS = 0.25
Point = tuple[int, int, str]  # time in ms, step, value


def comparable(times: Int64, step: Int64, value: Float64) -> Iterator[Point]:
    """Comparable points from times (ms), steps and values (n each)."""
    texts = map(repr, rows.stored(value).tolist())
    return zip(times.tolist(), step.tolist(), texts, strict=True)


def normalized(points: Points) -> Points:
    """The points, sorted by time, as SQL stores hold them.

    File stores keep infinities, -0.0 and exact repeats, which a model's points make of a run's.
    """
    value = rows.stored(points.value)
    if (points.time[1:] > points.time[:-1]).all():
        return Points(points.step, value, points.time)
    bits = np.where(np.isnan(value), np.nan, value).view(np.int64)
    order = np.lexsort((bits, points.step, points.time))
    is_new = np.ones(len(order), bool)
    columns = np.stack([points.time.view(np.int64), points.step, bits])[:, order]
    is_new[1:] = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
    kept = np.sort(order[is_new])
    return Points(points.step[kept], value[kept], points.time[kept])


def writer_of(run: ApiRun) -> str | None:
    """The id of the writer of an interrupted write."""
    state = state_of(run.tags.get(STATE_TAG, ""))
    return state.pending.writer if state and state.pending else None


def when_quiet(api: Api, run: ApiRun) -> ApiRun:
    """Wait until the run stays unchanged for QUIET_SECONDS. Returns it as it is then.

    Raises ConflictError if another writer completes or deletes it.
    """
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS:
        time.sleep(POLL_SECONDS)
        before, run = run, api.get_run(run.run_id)
        if run.stage != ACTIVE or not (run.status == RUNNING or writer_of(run)):
            raise ConflictError
        if (run.latest, run.tags) != (before.latest, before.tags):
            quiet_since = time.monotonic()
    return run
