"""Runs written through MLflow's public API: servers, and databases that are not written directly.

The API has no transactions and gives run ids itself, so a run is made in this order, and an
interrupted one is finished by what is missing, never by sending it again:

    create     status RUNNING; tags say which run it is and what it is going to hold
    log        batches as large as MLflow takes, the tag with the whole state last
    look       who else wrote the same run: the complete one, else the lowest id, stays
    terminate  status and end time: the completion mark
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ConflictError, ExistingRun, Points, Recorded
from bridges.exporters.mlflow import artifacts, rows
from bridges.exporters.mlflow.api import Api, ApiRun, Batch, NewRun, UncertainError, batches
from bridges.exporters.mlflow.direct import TRAINING_PAGE, deleted_experiment, refuse_deleted
from bridges.exporters.mlflow.index import ApiRunIndex, receipts_in, save_receipts, stored
from bridges.exporters.mlflow.lookup import made_id
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.exporters.mlflow.state import (
    KEY_TAG,
    RUNNING,
    STATE_TAG,
    SUPERSEDED_TAG,
    StoredRun,
    existing_of,
    existing_runs,
    location_of,
)
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.state import UNREADABLE, State, begun_state, whole_state
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64

ATTEMPTS = 8  # how often to look and go on after a request whose outcome is unknown
SILENCE = 2.0  # seconds without a new value after which nobody writes a run any more
_Point = tuple[int, int, str]  # time in ms, step, value
GLANCE = 0.25  # seconds between two polls


class ClientWriter:
    """Finds, writes and reads runs of one experiment; `uri` is how the store is shown."""

    def __init__(self, api: Api, uri: str, experiment: str, force: bool) -> None:
        self._api = api
        self._uri = uri
        self._experiment = experiment
        self.limits = api.limits
        self._force = force
        self._id: str | None = None
        self._listing: ApiRunIndex | None = None

    def preload(self) -> None:
        """Ask once for all runs of the experiment; `find` answers from that."""
        experiment = self._find_experiment()
        self._listing = ApiRunIndex.load(self._api, experiment)

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the experiment with one of the keys, deleted ones too."""
        return existing_runs(self._uri, identity, self._found)

    def _found(self, key: str) -> tuple[str | None, list[StoredRun]]:
        """The experiment and its runs with that key."""
        if self._listing is not None:
            return self._listing.experiment, self._listing.with_key(key)
        experiment = self._find_experiment()
        return experiment, [*map(stored, self._search(experiment, key))] if experiment else []

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        save_receipts(self._api, runs)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of all experiments of the store."""
        return receipts_in(self._api, self._uri)

    def _search(self, experiment: str, key: str) -> list[ApiRun]:
        found = self._api.search([experiment], KEY_TAG, key)
        return [run for run in found if not stored(run).superseded]

    def _find_experiment(self) -> str | None:
        if self._id is None:
            found = self._api.find_experiment(self._experiment)
            if found is not None and found[1] != "active":
                raise deleted_experiment(self._experiment)
            self._id = found[0] if found else None
        return self._id

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Create the run, or append the points that it lacks."""
        if existing is None:
            experiment, run, columns = self._begin(layout, seen)
        else:
            experiment = existing.place
            run, columns = self._go_on(layout, existing)
        state = whole_state(layout, existing.state if existing else None)
        params = dict(layout.params) if existing is None or not existing.complete else {}
        try:
            self._fill(experiment, run, columns, layout, state, params)
        except ExportError as error:
            if not error.transient and self._is_gone(
                run
            ):  # another export of the same run has the better claim
                raise ConflictError from None
            raise
        location = location_of(self._uri, experiment, run.run_id)
        return ExistingRun(layout.key, run.name, location, state, run.run_id, experiment)

    def _fill(
        self,
        experiment: str,
        run: ApiRun,
        columns: list[MetricColumn],
        layout: Layout,
        state: State,
        params: dict[str, str],
    ) -> None:
        """Log what is missing, settle, and set the completion mark."""
        final = {STATE_TAG: state.text(self.limits.tag)}
        for batch in batches(columns, params, final, self.limits):
            self._log(run.run_id, batch)
        self._settle(experiment, run, layout)
        self._api.set_status(run.run_id, rows.STATUS[layout.run.status], rows.ended(layout))

    def _is_gone(self, run: ApiRun) -> bool:
        with suppress(ExportError):
            return self._api.get_run(run.run_id).stage != "active"
        return False

    def _begin(
        self, layout: Layout, seen: Sequence[ExistingRun]
    ) -> tuple[str, ApiRun, list[MetricColumn]]:
        """A new run, and what is to be logged into it."""
        refuse_deleted(seen, layout.key, self._force)
        experiment = self._find_experiment()
        if experiment is None:
            self._api.create_experiment(self._experiment, dict([TRAINING_PAGE]))
            experiment = self._find_experiment()
            assert experiment is not None
        run = self._create_run(experiment, layout)
        return experiment, run, list(rows.metric_columns(layout, 0))

    def _create_run(self, experiment: str, layout: Layout) -> ApiRun:
        """One new run, also where the answer to the request is lost."""
        writer = uuid.uuid4().hex
        begun = begun_state(layout, None, writer)
        tags = {**rows.tags(layout, self.limits), STATE_TAG: begun.text(self.limits.tag)}
        parent = self._parent(experiment, layout)
        if parent:
            tags[rows.PARENT_TAG] = parent
        new = NewRun(experiment, rows.run_name(layout, self.limits), rows.started(layout), tags)

        def made_by_me() -> ApiRun | None:
            runs = self._search(experiment, layout.key)
            return next((run for run in runs if _writer(run) == writer), None)

        return self._create_once(new, made_by_me)

    def _parent(self, experiment: str, layout: Layout) -> str | None:
        """The run that stands for the search of a trial, made with its first trial."""
        key = rows.parent_key(layout)
        if key is None:
            return None
        there = self._active(experiment, key)
        if not there:
            tags, start = rows.parent_tags(layout, self.limits), rows.started(layout)
            new = NewRun(experiment, tags[rows.NAME_TAG], start, tags)
            mine = self._create_once(new, lambda: next(iter(self._active(experiment, key)), None))
            there = self._active(experiment, key) or [mine]
            if mine.run_id != there[0].run_id:  # another export made one at the same time
                self._supersede(mine)
        end = max(there[0].end or 0, rows.ended(layout))
        if end != there[0].end:
            self._api.set_status(there[0].run_id, "FINISHED", end)
        return there[0].run_id

    def _active(self, experiment: str, key: str) -> list[ApiRun]:
        """The active runs with that key; the one that every writer takes comes first."""
        runs = [run for run in self._search(experiment, key) if run.stage == "active"]
        of_direct_writer = made_id(experiment, key, 0)  # which supersedes none
        return sorted(runs, key=lambda run: (run.run_id != of_direct_writer, run.run_id))

    def _create_once(
        self, new: NewRun, look: Callable[[], ApiRun | None], attempts: int = ATTEMPTS
    ) -> ApiRun:
        try:
            return self._api.create_run(new)
        except UncertainError:
            if attempts == 1:
                raise
        return look() or self._create_once(new, look, attempts - 1)

    def _go_on(self, layout: Layout, existing: ExistingRun) -> tuple[ApiRun, list[MetricColumn]]:
        """Set an existing run to RUNNING. Returns the run and the points that it lacks."""
        run = self._api.get_run(existing.id)
        if existing_of(stored(run), existing.key, self._uri, existing.place) != existing:
            raise ConflictError
        if not existing.complete:
            run = self._wait_for_silence(run)
            self._api.set_status(run.run_id, RUNNING, None)
            return run, self._missing(run, list(rows.metric_columns(layout, 0)))
        begun = begun_state(layout, existing.state, uuid.uuid4().hex)
        tags = {**rows.later_tags(layout, self.limits), STATE_TAG: begun.text(self.limits.tag)}
        self._tag(run.run_id, tags)
        self._api.set_status(run.run_id, RUNNING, None)
        return run, list(rows.metric_columns(layout, existing.state.rows))

    def _wait_for_silence(self, run: ApiRun) -> ApiRun:
        """The run, when nobody writes into it any more.

        Raises ConflictError where somebody has finished it, or given it up, meanwhile.
        """
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < SILENCE:
            time.sleep(GLANCE)
            before, run = run, self._api.get_run(run.run_id)
            if run.stage != "active" or not (run.status == RUNNING or _writer(run)):
                raise ConflictError
            if (run.latest, run.tags) != (before.latest, before.tags):
                quiet_since = time.monotonic()
        return run

    def _tag(self, run_id: str, tags: dict[str, str]) -> None:
        pairs = iter(tags.items())
        while part := dict(islice(pairs, self.limits.pairs)):
            self._log(run_id, Batch(tags=part))

    def _missing(self, run: ApiRun, columns: Sequence[MetricColumn]) -> list[MetricColumn]:
        """The points that the run lacks: no two of a key have equal time, step and value."""
        there = self._points(run.run_id, run.latest)
        lacking = []
        for column in columns:
            value = np.where(column.is_nan, np.nan, column.value)
            known = there.get(column.key, set())
            keep = np.array([p not in known for p in _points(column.time, column.step, value)])
            if keep.any():
                lacking.append(column.only(keep))
        return lacking

    def _points(self, run_id: str, keys: Iterable[str]) -> dict[str, set[_Point]]:
        """The points that a run has of these keys."""
        found = self._api.histories(run_id, keys)
        return {
            key: {*_points(np.rint(at.time * 1000).astype(np.int64), at.step, at.value)}
            for key, at in found.items()
        }

    def _log(self, run_id: str, batch: Batch, attempts: int = ATTEMPTS) -> None:
        """Log a batch; where the outcome is unknown, look, and log what is missing then."""
        try:
            return self._api.log_batch(run_id, batch)
        except UncertainError:
            if attempts == 1:
                raise
        keys = dict.fromkeys(key for key, *_ in batch.metrics)
        there = self._points(run_id, keys)
        lacking = [
            (key, value, time, step)
            for key, value, time, step in batch.metrics
            if (time, step, repr(value)) not in there[key]
        ]
        return self._log(run_id, replace(batch, metrics=lacking), attempts - 1)

    def _settle(self, experiment: str, mine: ApiRun, layout: Layout) -> None:
        """Let one run stay where several exports made it at the same time.

        Raises ConflictError where it is not this one.
        """
        rivals = [
            run
            for run in self._search(experiment, layout.key)
            if run.run_id != mine.run_id and _same_history(run, layout)
        ]
        for run in rivals:
            if run.status != RUNNING or run.run_id < mine.run_id:
                self._supersede(mine)
                raise ConflictError
        for run in rivals:
            self._supersede(run)

    def _supersede(self, run: ApiRun) -> None:
        try:
            self._log(run.run_id, Batch(tags={SUPERSEDED_TAG: "true"}))
            self._api.delete_run(run.run_id)
        except ExportError:
            if not self._is_gone(run):  # its own export was faster
                raise

    def read_back(self, existing: ExistingRun) -> Recorded:
        """Every point of the run."""
        run = self._api.get_run(existing.id)
        found = self._api.histories(run.run_id, run.latest)
        return Recorded({key: _as_stored(points) for key, points in found.items()})

    def stored_params(self, existing: ExistingRun) -> Mapping[str, str]:
        """The params of the run."""
        return self._api.get_run(existing.id).params

    def relabel(self, existing: ExistingRun, tags: Mapping[str, str]) -> ExistingRun:
        """The run with these tags, one of which may be that of its name."""
        run, name = self._api.get_run(existing.id), tags.get(rows.NAME_TAG, existing.name)
        if not tags.items() <= run.tags.items():
            self._tag(run.run_id, dict(tags))
        if name != run.name:
            self._api.rename(run, name)
        return replace(existing, name=name)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Keep the files as artifacts of the run, unless they are there."""
        run, digest = self._api.get_run(existing.id), artifacts.digest(files)
        if run.tags.get(artifacts.ATTACHED_TAG) != digest:
            for name, content in files.items():
                self._api.put_artifact(run, name, content)
            self._log(run.run_id, Batch(tags={artifacts.ATTACHED_TAG: digest}))


def _points(time: Int64, step: Int64, value: Float64) -> Iterator[_Point]:
    """Points by times (ms), steps and values, as they can be compared."""
    texts = map(repr, rows.stored(value).tolist())
    return zip(time.tolist(), step.tolist(), texts, strict=True)


def _as_stored(points: Points) -> Points:
    """What a store that keeps infinities and negative zeros has, as the others have it."""
    return Points(points.step, rows.stored(points.value), points.time)


def _state(run: ApiRun) -> State | None:
    try:
        return State.parse(run.tags[STATE_TAG])
    except UNREADABLE:
        return None


def _writer(run: ApiRun) -> str | None:
    state = _state(run)
    return state.pending.writer if state and state.pending else None


def _same_history(run: ApiRun, layout: Layout) -> bool:
    """Whether an active run holds, or is being given, exactly this history, and has settings that
    allow that it is this run.
    """
    state = _state(run)
    if state is None or run.stage != "active":
        return False
    goal = state.pending or state
    return goal.digest == layout.digest and not state.settings.contradict(layout.run.settings)
