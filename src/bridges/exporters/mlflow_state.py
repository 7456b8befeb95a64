"""What the tags of an MLflow run tell the next export: which run it is, and what it holds.

The tag `bridges.key` names the run; `bridges.state` says how many rows of which history it holds,
and, while a write is under way, what it will hold then. A write that was interrupted is found by
that and finished.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from bridges.errors import ExportError
from bridges.exporters.base import ExistingRun
from bridges.exporters.marks import Receipt, RunReceipt
from bridges.exporters.state import NO_STATE, UNREADABLE, State

KEY_TAG = "bridges.key"
STATE_TAG = "bridges.state"
RECEIPT_TAG = "bridges.mark"
SUPERSEDED_TAG = "bridges.superseded"  # of a run that lost against another export of the same
RUNNING = "RUNNING"


@dataclass(frozen=True)
class StoredRun:
    """A run of a tracking store: its id, name, life-cycle stage, status and state tag, and whether
    it lost against another export of the same run, so that it does not count.
    """

    run_id: str
    name: str
    stage: str
    status: str
    state: str
    superseded: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it is not deleted."""
        return self.stage == "active"


def location_of(uri: str, experiment: int | str, run_id: str) -> str:
    """Where a run is, in a store that is shown as `uri`."""
    return f"{uri}#/experiments/{experiment}/runs/{run_id}"


def run_id_of(location: str) -> str:
    """The run id at the end of a location."""
    return location.rpartition("/")[2]


def existing_of(run: StoredRun, key: str, location: str, experiment: int | str) -> ExistingRun:
    """The run as `find` gives it. Raises ExportError if its state tag is not one of ours."""
    try:
        state = State.parse(run.state) if run.is_active else NO_STATE
    except UNREADABLE:
        raise ExportError(
            f"{location}: its tag {STATE_TAG} was changed, so it cannot be told what it "
            "holds. Delete the run for good (mlflow gc) and export again."
        ) from None
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


def receipt_in(run: StoredRun, key: str, text: str, location: str) -> RunReceipt | None:
    """The receipt in a tag, if the run is complete and unchanged since; else None."""
    receipt = Receipt.parse(text)
    if receipt is None or not key or not run.is_active or run.superseded or run.status == RUNNING:
        return None
    with suppress(*UNREADABLE):
        if State.parse(run.state).agrees_with(receipt):
            return RunReceipt(key, run.name, location, receipt)
    return None
