"""Writes runs through MLflow's public API: to servers, and to databases with an unknown schema.

The API has no transactions and assigns run ids itself. A run is written in four steps, and an
interrupted run is completed with its missing points:

    create     status RUNNING; tags hold the run key and the state after the write
    log        batches of the largest legal size; the last one sets the tag of the state
    settle     of concurrent exports of the run, the complete one wins, else the lowest id
    terminate  status and end time, which mark the run as complete
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ConflictError, ExistingRun, Points, Recorded
from bridges.exporters.mlflow import artifacts, rows
from bridges.exporters.mlflow.api import Api, ApiRun, Batch, NewRun, UncertainError, batches
from bridges.exporters.mlflow.direct import TRAINING_TAG, deleted_experiment, refuse_deleted
from bridges.exporters.mlflow.index import ApiRunIndex, receipts_in, save_receipts, stored
from bridges.exporters.mlflow.lookup import made_id
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.exporters.mlflow.state import (
    KEY_TAG,
    RUNNING,
    STATE_TAG,
    SUPERSEDED_TAG,
    MlflowRun,
    existing_of,
    existing_runs,
    location_of,
)
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.state import UNREADABLE, State, begun_state, whole_state
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64

ATTEMPTS = 8  # of a request with an unknown outcome; the store is checked before each repetition
QUIET_SECONDS = 2.0  # without a change of the run, before its writer counts as gone
POLL_SECONDS = 0.25
ASK_AGAIN = 60.0  # seconds, if the experiment has no runs from logs
# tags of runs from the logs of tools, and of runs that hold rows of one
OF_LOGS = (("mlflow.source.name", "%.jsonl%"), (STATE_TAG, "%logged%"))
_Point = tuple[int, int, str]  # time in ms, step, value


class ClientWriter:
    """Finds, writes and reads the runs of one experiment; `uri` is the store's name in messages."""

    def __init__(self, api: Api, uri: str, experiment: str, force: bool) -> None:
        self._api = api
        self._uri = uri
        self._experiment = experiment
        self.limits = api.limits
        self._force = force
        self._id: str | None = None
        self._listing: ApiRunIndex | None = None
        self._has_logs, self._logs_asked = False, -math.inf

    def preload(self) -> None:
        """List the runs of the experiment once; later `find` calls use that listing."""
        experiment = self._find_experiment()
        self._listing = ApiRunIndex.load(self._api, experiment)

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the experiment with one of the keys, including deleted ones."""
        return existing_runs(self._uri, identity, self._found)

    def _found(self, key: str) -> tuple[str | None, list[MlflowRun]]:
        """The experiment and its runs with a run key."""
        if self._listing is not None:
            return self._listing.experiment, self._listing.with_key(key)
        experiment = self._find_experiment()
        return experiment, [*map(stored, self._search(experiment, key))] if experiment else []

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the experiment may have a run from a tool's log with one of these keys.

        An experiment without any run from a log is asked again after a while.
        """
        if self._listing is not None:
            return any(self._listing.with_key(key) for key in keys)
        if time.monotonic() > self._logs_asked + ASK_AGAIN and (found := self._find_experiment()):
            self._has_logs = any(self._api.has_like(found, *log) for log in OF_LOGS)
            self._logs_asked = time.monotonic()
        return self._has_logs

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
        """Create the run, or append the missing points to the existing one."""
        if existing is None:
            experiment, run, columns = self._begin(layout, seen)
        else:
            experiment = existing.place
            run, columns = self._resume(layout, existing)
        state = whole_state(layout, existing.state if existing else None)
        self._has_logs = self._has_logs or bool(state.logged)
        is_first = existing is None or not existing.complete
        params = {key: str(value) for key, value in layout.params.items()} if is_first else {}
        try:
            self._fill(experiment, run, columns, layout, state, params, seen)
        except ExportError as error:
            if error.transient or not self._is_deleted(run):
                raise
            raise ConflictError from None  # a concurrent export of the run won
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
        seen: Sequence[ExistingRun],
    ) -> None:
        """Log the points, settle concurrent exports, and terminate the run."""
        final = {STATE_TAG: state.text(self.limits.tag)}
        for batch in batches(columns, params, final, self.limits):
            self._log(run.run_id, batch)
        self._settle(experiment, run, layout, seen)
        self._api.set_status(run.run_id, rows.STATUS[layout.run.status], rows.ended(layout))

    def _is_deleted(self, run: ApiRun) -> bool:
        with suppress(ExportError):
            return self._api.get_run(run.run_id).stage != "active"
        return False

    def _begin(
        self, layout: Layout, seen: Sequence[ExistingRun]
    ) -> tuple[str, ApiRun, list[MetricColumn]]:
        """Create a run. Returns its experiment, the run, and the points to log."""
        refuse_deleted(seen, layout.key, self._force)
        experiment = self._find_experiment()
        if experiment is None:
            self._api.create_experiment(self._experiment, dict([TRAINING_TAG]))
            experiment = self._find_experiment()
            assert experiment is not None
        run = self._create_run(experiment, layout)
        return experiment, run, list(rows.metric_columns(layout, 0))

    def _create_run(self, experiment: str, layout: Layout) -> ApiRun:
        """Create exactly one run, even if the answer to the request is lost."""
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
        """The id of the search's run, the parent of its trials; the first trial creates it."""
        key = rows.parent_key(layout)
        if key is None:
            return None
        parents = self._active(experiment, key)
        if not parents:
            tags, start = rows.parent_tags(layout, self.limits), rows.started(layout)
            new = NewRun(experiment, tags[rows.NAME_TAG], start, tags)
            mine = self._create_once(new, lambda: next(iter(self._active(experiment, key)), None))
            parents = self._active(experiment, key) or [mine]
            if mine.run_id != parents[0].run_id:  # a concurrent export created one too
                self._supersede(mine)
        end = max(parents[0].end or 0, rows.ended(layout))
        if end != parents[0].end:
            self._api.set_status(parents[0].run_id, "FINISHED", end)
        return parents[0].run_id

    def _active(self, experiment: str, key: str) -> list[ApiRun]:
        """The active runs with a run key; all writers agree on the first one."""
        runs = [run for run in self._search(experiment, key) if run.stage == "active"]
        direct_id = made_id(experiment, key, 0)  # the direct writer does not supersede runs
        return sorted(runs, key=lambda run: (run.run_id != direct_id, run.run_id))

    def _create_once(
        self, new: NewRun, look: Callable[[], ApiRun | None], attempts: int = ATTEMPTS
    ) -> ApiRun:
        try:
            return self._api.create_run(new)
        except UncertainError:
            if attempts == 1:
                raise
        return look() or self._create_once(new, look, attempts - 1)

    def _resume(self, layout: Layout, existing: ExistingRun) -> tuple[ApiRun, list[MetricColumn]]:
        """Set an existing run to RUNNING. Returns the run and its missing points."""
        run = self._api.get_run(existing.id)
        if existing_of(stored(run), existing.key, self._uri, existing.place) != existing:
            raise ConflictError
        if not existing.complete:
            run = self._wait_until_quiet(run)
            self._api.set_status(run.run_id, RUNNING, None)
            return run, self._missing(run, list(rows.metric_columns(layout, 0)))
        begun = begun_state(layout, existing.state, uuid.uuid4().hex)
        tags = {**rows.later_tags(layout, self.limits), STATE_TAG: begun.text(self.limits.tag)}
        self._tag(run.run_id, tags)
        self._api.set_status(run.run_id, RUNNING, None)
        return run, list(rows.metric_columns(layout, existing.state.rows))

    def _wait_until_quiet(self, run: ApiRun) -> ApiRun:
        """Wait until the run stays unchanged for QUIET_SECONDS. Returns it as it is then.

        Raises ConflictError if another writer completes or deletes it.
        """
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_SECONDS:
            time.sleep(POLL_SECONDS)
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
        """The missing points of a run; points of a key differ in time, step or value."""
        stored_points = self._points(run.run_id, run.latest)
        missing = []
        for column in columns:
            value = np.where(column.is_nan, np.nan, column.value)
            known = stored_points.get(column.key, set())
            keep = np.array([p not in known for p in _points(column.time, column.step, value)])
            if keep.any():
                missing.append(column.only(keep))
        return missing

    def _points(self, run_id: str, keys: Iterable[str]) -> dict[str, set[_Point]]:
        """The stored points of a run for these keys."""
        found = self._api.histories(run_id, keys)
        return {
            key: {*_points(np.rint(at.time * 1000).astype(np.int64), at.step, at.value)}
            for key, at in found.items()
        }

    def _log(self, run_id: str, batch: Batch, attempts: int = ATTEMPTS) -> None:
        """Log a batch. After an unknown outcome, log the points that are missing in the store."""
        try:
            return self._api.log_batch(run_id, batch)
        except UncertainError:
            if attempts == 1:
                raise
        keys = dict.fromkeys(key for key, *_ in batch.metrics)
        stored_points = self._points(run_id, keys)
        missing = [
            (key, value, time, step)
            for key, value, time, step in batch.metrics
            if (time, step, repr(value)) not in stored_points[key]
        ]
        return self._log(run_id, replace(batch, metrics=missing), attempts - 1)

    def _settle(
        self, experiment: str, mine: ApiRun, layout: Layout, seen: Sequence[ExistingRun]
    ) -> None:
        """Keep one of the runs that concurrent exports of a run created; those `seen` before are
        other runs.

        Raises ConflictError if another one wins.
        """
        known = {mine.run_id, *(run.id for run in seen)}
        rivals = [
            run
            for run in self._search(experiment, layout.key)
            if run.run_id not in known and _same_history(run, layout)
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
            if not self._is_deleted(run):  # if it is, its own export was faster
                raise

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        run = self._api.get_run(existing.id)
        found = self._api.histories(run.run_id, run.latest)
        points = {key: _normalized(part) for key, part in found.items()}
        return Recorded(points, params=run.params)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, str]:
        """The params of the run."""
        return self._api.get_run(existing.id).params

    def relabel(self, existing: ExistingRun, tags: Mapping[str, str]) -> ExistingRun:
        """Set tags of the run; the tag of the name renames it."""
        run, name = self._api.get_run(existing.id), tags.get(rows.NAME_TAG, existing.name)
        if not tags.items() <= run.tags.items():
            self._tag(run.run_id, dict(tags))
        if name != run.name:
            self._api.rename(run, name)
        return replace(existing, name=name)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files as artifacts of the run, once."""
        run, digest = self._api.get_run(existing.id), artifacts.digest(files)
        if run.tags.get(artifacts.ATTACHED_TAG) != digest:
            for name, content in files.items():
                self._api.put_artifact(run, name, content)
            self._log(run.run_id, Batch(tags={artifacts.ATTACHED_TAG: digest}))


def _points(time: Int64, step: Int64, value: Float64) -> Iterator[_Point]:
    """Comparable points from times (ms), steps and values (n each)."""
    texts = map(repr, rows.stored(value).tolist())
    return zip(time.tolist(), step.tolist(), texts, strict=True)


def _normalized(points: Points) -> Points:
    """The points as SQL stores hold them; file stores keep infinities and -0.0."""
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
    """Whether an active run has, or is being given, this history, and its settings agree."""
    state = _state(run)
    if state is None or run.stage != "active":
        return False
    goal = state.pending or state
    return goal.digest == layout.digest and not state.settings.contradict(layout.run.settings)
