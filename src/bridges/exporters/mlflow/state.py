"""State in the tags of an MLflow run.

The tag `bridges.key` holds the run key. `bridges.state` holds row count and digest. During a write
it also holds row count and digest after the write, which lets the next export complete an
interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ExistingRun
from bridges.exporters.receipts import Receipt, RunReceipt
from bridges.exporters.state import NO_STATE, UNREADABLE, Pending, State
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    KEY_TAG,
    STATE_TAG,
    SUPERSEDED_TAG,
    RunHead,
)
from bridges.stream.clock import RECORDED
from bridges.stream.identity import Identity, prefix_digest
from bridges.stream.layout import RULES
from bridges.stream.model import MetricStream

RECEIPT_TAG = "bridges.mark"
OWN_TAGS = (KEY_TAG, STATE_TAG, RECEIPT_TAG, SUPERSEDED_TAG, "bridges.attached")  # of a target
RUNNING = "RUNNING"
_NO_ROWS = prefix_digest(MetricStream(np.empty(0, np.int64), np.empty(0, np.uint8), ()), 0)


@dataclass(frozen=True)
class MlflowRun:
    """A run of a tracking store: its id, name, life-cycle stage, status and state tag.

    A `superseded` run lost against a concurrent export and is ignored. `points` is counted for runs
    without a state, which bridges did not write. `experiment` is the id of its experiment.
    """

    run_id: str
    name: str
    stage: str
    status: str
    state: str
    superseded: bool = False
    points: int = 0
    experiment: str = ""

    @property
    def is_active(self) -> bool:
        """Whether the run is not deleted."""
        return self.stage == "active"


# the experiment (None if it does not exist) and its runs with a run key
RunsOf = Callable[[str], tuple[int | str | None, list[MlflowRun]]]


def state_of(text: str) -> State | None:
    """The state in the tag of a run; None if it is missing or unreadable."""
    try:
        return State.parse(text)
    except UNREADABLE:
        return None


def location_of(uri: str, experiment: int | str, run_id: str) -> str:
    """The location of a run; `uri` is the store's name in messages."""
    return f"{uri}#/experiments/{experiment}/runs/{run_id}"


def existing_runs(uri: str, identity: Identity, runs_of: RunsOf) -> list[ExistingRun]:
    """The runs with one of the keys of an identity. Raises ExportError as `existing_of` does."""
    found = []
    for key in identity.keys:
        experiment, runs = runs_of(key)
        if experiment is not None:
            made = [existing_of(run, key, uri, experiment) for run in runs]
            found += _settled_first(runs, made)
    return found


def existing_copies(uri: str, key: str, head: RunHead, runs: list[MlflowRun]) -> list[ExistingRun]:
    """The runs with the id or the key of a run of another store, as `find` returns them."""
    return _settled_first(runs, [existing_copy(run, key, uri, head) for run in runs])


def _settled_first(runs: list[MlflowRun], found: list[ExistingRun]) -> list[ExistingRun]:
    """The existing runs of a key, `found` from `runs`: young ones come last, by id, as all exports
    are to choose the same run, and beside others they count as incomplete.
    """
    if sum(run.is_active for run in runs) < 2:
        return found
    young = {run.run_id for run in runs if run.is_active and is_young(run)}
    settled = [existing for existing in found if existing.id not in young]
    rest = [incomplete(existing) for existing in found if existing.id in young]
    return [*settled, *sorted(rest, key=lambda existing: existing.id)]


def of_layout(runs: Iterable[MlflowRun], options: Mapping[str, str]) -> list[MlflowRun]:
    """The runs that bridges wrote with these layout options, and those of other programs.

    A run with other options is another run, even if it has the id of its original.
    """
    states = [(run, state_of(run.state)) for run in runs]
    return [run for run, state in states if state is None or dict(state.layout) == dict(options)]


def is_young(run: MlflowRun) -> bool:
    """Whether the first export of a run has not ended yet.

    The copy of a running run stays young.
    """
    state = state_of(run.state) if run.status == RUNNING else None
    return state is not None and not (state.append_rows if state.pending else state.append_rows[1:])


def begun(state: State) -> State:
    """The state of a first export before its end."""
    pending = state.pending or Pending(state.rows, state.digest, "")
    return replace(state, rows=0, digest=_NO_ROWS, append_rows=(), times="", pending=pending)


def incomplete(existing: ExistingRun) -> ExistingRun:
    """A young run as one whose first export has not ended."""
    return replace(existing, state=begun(existing.state), complete=False)


def existing_copy(run: MlflowRun, key: str, uri: str, head: RunHead) -> ExistingRun:
    """A run with the id or the key of a run of another store, as `find` returns it.

    Its state may be missing: then each of its points counts as a row. It may be deleted or running
    as the original is, so its completeness depends on its state alone.
    """
    is_deleted = not run.is_active and head.stage == ACTIVE
    state = state_of(run.state)
    if state is None:
        state = State(run.points, "", RECORDED.name, (run.points,), {}, rules=RULES)
    return ExistingRun(
        key=key,
        name=run.name or run.run_id,
        location=location_of(uri, run.experiment, run.run_id),
        state=NO_STATE if is_deleted else state,
        id=run.run_id,
        place=run.experiment,
        complete=state.pending is None,
        deleted=is_deleted,
    )


def existing_of(run: MlflowRun, key: str, uri: str, experiment: int | str) -> ExistingRun:
    """The run as `find` returns it. Raises ExportError for an unreadable state tag."""
    location = location_of(uri, experiment, run.run_id)
    state = state_of(run.state) if run.is_active else NO_STATE
    if state is None:
        raise ExportError(
            f"{location}: its tag {STATE_TAG} was changed, so its stored rows are unknown. "
            "Delete the run for good (mlflow gc) and export it again."
        )
    return ExistingRun(
        key=key,
        name=run.name,
        location=location,
        state=state,
        id=run.run_id,
        place=str(experiment),
        complete=state.pending is None and run.status != RUNNING,
        deleted=not run.is_active,
    )


def refuse_deleted(seen: Iterable[ExistingRun], key: str, force: bool) -> None:
    """Raises ExportError if the run was deleted in MLflow, unless `force` is set."""
    deleted = [run.id for run in seen if run.deleted and run.key == key]
    if deleted and not force:
        raise ExportError(
            f"this run was exported before and then deleted in MLflow ({deleted[0]}). "
            "Restore it in MLflow, or use --force to write it again."
        )


def receipt_in(
    run: MlflowRun, key: str, text: str, uri: str, experiment: int | str
) -> RunReceipt | None:
    """The receipt in a tag; None unless the run is complete and unchanged.

    The copy of a run of another store may be running, as its original is.
    """
    receipt = Receipt.parse(text)
    if receipt is None or not key or not run.is_active or run.superseded:
        return None
    state = state_of(run.state)
    is_over = run.status != RUNNING or (state is not None and state.style == "tags")
    if state is None or not is_over or not state.agrees_with(receipt):
        return None
    location = location_of(uri, experiment, run.run_id)
    return RunReceipt(key, run.name, location, receipt, run.run_id, str(experiment))
