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
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ConflictError, ExistingRun, Recorded, RecordGaps
from bridges.exporters.mlflow import artifacts, rows
from bridges.exporters.mlflow.api import Api, ApiRun, Batch, NewRun, UncertainError, batches
from bridges.exporters.mlflow.api_runs import (
    Point,
    comparable,
    normalized,
    when_quiet,
    writer_of,
)
from bridges.exporters.mlflow.details import (
    UNENDED,
    Details,
    carried_experiment,
    carried_inputs,
    details_of,
    orphan,
    parent_details,
    record_of,
)
from bridges.exporters.mlflow.experiments import (
    deleted_experiment,
    experiment_tags,
    wanted_experiment,
)
from bridges.exporters.mlflow.gaps import StoredDetails, gaps_between
from bridges.exporters.mlflow.index import ApiRunIndex, receipts_in, save_receipts, stored
from bridges.exporters.mlflow.links import Links, parent_keys
from bridges.exporters.mlflow.lookup import made_id
from bridges.exporters.mlflow.model_copies import ModelCopies
from bridges.exporters.mlflow.rivals import Settlement
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.exporters.mlflow.search_parents import SearchParents
from bridges.exporters.mlflow.settling import Settling
from bridges.exporters.mlflow.state import (
    RUNNING,
    MlflowRun,
    existing_copies,
    existing_copy,
    existing_of,
    existing_runs,
    incomplete,
    location_of,
    of_layout,
    refuse_deleted,
)
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.state import State, begun_state, whole_state
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    DELETED,
    STATE_TAG,
    SUPERSEDED_TAG,
    Experiment,
    RunRecord,
)
from bridges.stream.finding import Finding
from bridges.stream.identity import Identity, key_of
from bridges.stream.layout import Layout

if TYPE_CHECKING:
    from bridges.exporters.mlflow.artifact_copy.homes import Homes

ATTEMPTS = 8  # of a request with an unknown outcome; the store is checked before each repetition
MAX_NAME = 500  # of an experiment, in SQLite
ASK_AGAIN = 60.0  # seconds, if the experiment has no runs from logs
# tags of runs from the logs of tools, and of runs that hold rows of one
OF_LOGS = (("mlflow.source.name", "%.jsonl%"), (STATE_TAG, "%logged%"))


class ClientWriter:
    """Finds, writes and reads runs; `uri` is the store's name in messages.

    `named` is the experiment of all runs, as for the direct writer.
    """

    def __init__(self, api: Api, uri: str, named: str | None, force: bool) -> None:
        self._api = api
        self._uri = uri
        self._named = named
        self.limits = api.limits
        self._force = force
        self._experiments: dict[str, str] = {}  # id by name
        self._listings: dict[str, ApiRunIndex] | None = None  # by name of the experiment
        self._has_logs, self._logs_asked = False, -math.inf
        self._read: dict[str, ApiRun] = {}  # runs as read last, by id, until they are written
        self._settling = Settling(api, self._log)
        self._links = Links()
        self._models = ModelCopies(api, self._copy_of)

    def preload(self) -> None:
        """List the runs of an experiment once; later `find` calls use that listing."""
        self._listings = {}

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the experiment with one of the keys, including deleted ones."""
        if isinstance(identity.record, RunRecord):
            return self._find_copies(identity, identity.record)
        return existing_runs(self._uri, identity, self._found)

    def _find_copies(self, identity: Identity, record: RunRecord) -> list[ExistingRun]:
        head, (experiment, runs) = record.head, self._found(identity.key, record)
        for key in identity.aliases:
            runs = runs or self._found(key, record)[1]
        runs = runs or of_layout(self._by_id(head.run_id), identity.options)
        if self._links.is_open(head) and experiment is not None:
            self._links.found(head.parent_id, self._parents(experiment, record, identity))
        self._links.seek(head)
        return existing_copies(self._uri, identity.key, head, runs)

    def _parents(self, experiment: str, record: RunRecord, identity: Identity) -> list[str]:
        """The ids of the possible parents, active ones only, of a run from MLflow."""
        found = (self._active(experiment, key) for key in parent_keys(record, identity))
        return [run.run_id for run in next(filter(None, found), [])]

    def _found(self, key: str, record: object = None) -> tuple[str | None, list[MlflowRun]]:
        """The experiment of a run and its runs with a run key."""
        wanted = self._wanted(record)
        experiment = self._find_experiment(wanted)
        if self._listings is not None:
            if wanted.name not in self._listings:
                self._listings[wanted.name] = ApiRunIndex.load(self._api, experiment)
            return experiment, self._listings[wanted.name].with_key(key)
        found = self._settling.search(experiment, key) if experiment else []
        self._read |= {run.run_id: run for run in found if record is not None}
        return experiment, [*map(stored, found)]

    def _by_id(self, run_id: str) -> list[MlflowRun]:
        """The run with the id in the source: of a store which holds the source's own runs."""
        run = self._api.find_run(run_id)
        if run is None:
            return []
        self._read[run_id] = run
        return [self._counted(run)]

    def _counted(self, run: ApiRun) -> MlflowRun:
        """The run, with the number of its points unless it has a state."""
        if STATE_TAG in run.tags:
            return stored(run)
        points = self._api.histories(run.run_id, run.latest)
        return replace(stored(run), points=sum(len(part.step) for part in points.values()))

    def findings(self, layout: Layout) -> list[Finding]:
        """Findings about the place of a run in the target."""
        record = record_of(layout)
        if record is None:
            return []
        found = [orphan(record.head)] if self._links.is_orphan(record.head) else []
        own, wanted = wanted_experiment(self._named, record), self._wanted(record)
        is_whole = own.name == wanted.name  # a stored one may have a name beyond the limits
        shorter = replace(own, name=wanted.name[:1]) if is_whole else own
        found += carried_experiment(shorter, self.limits)[1]
        experiment = self._experiments.get(wanted.name)
        return [*found, *self._models.findings(layout, experiment)]

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the experiment may have a run from a tool's log with one of these keys.

        An experiment without any run from a log is asked again after a while.
        """
        if self._listings is not None:
            return any(self._found(key)[1] for key in keys)
        wanted = self._wanted(None)
        is_due = time.monotonic() > self._logs_asked + ASK_AGAIN
        if is_due and (found := self._find_experiment(wanted)):
            self._has_logs = any(self._api.has_like(found, *log) for log in OF_LOGS)
            self._logs_asked = time.monotonic()
        return self._has_logs

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        save_receipts(self._api, runs)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of all experiments of the store."""
        return receipts_in(self._api, self._uri)

    def _wanted(self, record: object) -> Experiment:
        """The experiment of a run: that of a name beyond the limits if it exists, else with a cut
        name.
        """
        own = wanted_experiment(self._named, record)
        fitted = carried_experiment(own, self.limits)[0]
        is_cut = len(own.name) > len(fitted.name) and len(own.name) <= MAX_NAME
        return replace(fitted, name=own.name) if is_cut and self._find_experiment(own) else fitted

    def _find_experiment(self, wanted: Experiment) -> str | None:
        """The id of an experiment; None if it does not exist. Raises ExportError if deleted."""
        if wanted.name not in self._experiments:
            found = self._api.find_experiment(wanted.name)
            if found is None:
                return None
            if found[1] != ACTIVE:
                raise deleted_experiment(wanted.name)
            self._experiments[wanted.name] = found[0]
        return self._experiments[wanted.name]

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Create the run, or append the missing points to the existing one."""
        details, record = self._details(layout, is_new=existing is None), record_of(layout)
        if existing is None:
            run, columns = self._begin(layout, details, seen)
        else:
            run, columns = self._resume(layout, details, existing)
        state = whole_state(layout, existing.state if existing else None)
        self._has_logs = self._has_logs or bool(state.logged)
        is_first = existing is None or not existing.complete
        params = {key: str(value) for key, value in layout.params.items()} if is_first else {}
        if record is not None:
            params = {k: str(v) for k, v in layout.params.items() if k not in run.params}
        try:
            if record is not None and record.inputs:
                self._api.log_inputs(run.run_id, carried_inputs(record, self.limits)[0])
            self._fill(run, columns, params, state)
            self._settling.settle(run, Settlement.of(layout, seen, existing))
            self._models.put(run, layout)
            self._end(run, details, is_copy=record is not None)
        except ExportError as error:
            if error.transient or not self._settling.is_deleted(run.run_id):
                raise
            raise ConflictError from None  # a concurrent export of the run won
        self._read.pop(run.run_id, None)
        self._links.made(record, run.run_id, self._set_parent)
        if record is not None:
            self._models.arrived(record.head.run_id)
        location = location_of(self._uri, run.experiment, run.run_id)
        return ExistingRun(layout.key, run.name, location, state, run.run_id, run.experiment)

    def _copy_of(self, experiment: str, run_id: str) -> str | None:
        """The copy of a run of the source in an experiment."""
        known = self._links.copy_of(run_id)
        if known is None:
            copies = self._active(experiment, key_of(["mlflow", run_id], None, None))
            known = copies[0].run_id if copies else None
        return known

    def _details(self, layout: Layout, *, is_new: bool) -> Details:
        """The details of a run, with its parent in the target."""
        details, record = details_of(layout, self.limits), record_of(layout)
        if record is None:
            return details
        return details.under(self._links.parent_of(record.head, is_new=is_new))

    def _set_parent(self, run_id: str, parent: str) -> None:
        self._log(run_id, Batch(tags={rows.PARENT_TAG: parent}))

    def _end(self, run: ApiRun, details: Details, *, is_copy: bool) -> None:
        """Set status and end, which an ended copy keeps, and delete the copy of a deleted run."""
        wanted = details.status, details.end
        if not is_copy or (run.status in UNENDED and wanted != (run.status, run.end)):
            self._api.set_status(run.run_id, *wanted)
        if is_copy and details.stage == DELETED:
            self._api.delete_run(run.run_id)

    def _fill(
        self, run: ApiRun, columns: list[MetricColumn], params: dict[str, str], state: State
    ) -> None:
        """Log params and points, then the state."""
        final = {STATE_TAG: state.text(self.limits.tag)}
        for batch in batches(columns, params, final, self.limits):
            self._log(run.run_id, batch)

    def remove_leftovers(self, settlement: Settlement) -> int:
        """Delete unfinished copies of a complete run. Returns their number."""
        return self._settling.remove_leftovers(settlement)

    def _begin(
        self, layout: Layout, details: Details, seen: Sequence[ExistingRun]
    ) -> tuple[ApiRun, list[MetricColumn]]:
        """Create a run. Returns it, and the points to log."""
        refuse_deleted(seen, layout.key, self._force)
        wanted = self._wanted(layout.run.record)
        experiment = self._find_experiment(wanted)
        if experiment is None:
            self._api.create_experiment(wanted.name, experiment_tags(wanted))
            experiment = self._find_experiment(wanted)
            assert experiment is not None
        run = self._create_run(experiment, layout, details)
        return run, list(rows.metric_columns(layout, 0))

    def _create_run(self, experiment: str, layout: Layout, details: Details) -> ApiRun:
        """Create exactly one run, even if the answer to the request is lost."""
        writer = uuid.uuid4().hex
        begun = begun_state(layout, None, writer)
        tags = {**details.tags, STATE_TAG: begun.text(self.limits.tag)}
        parent = self._parent(experiment, layout)
        if parent:
            tags[rows.PARENT_TAG] = parent
        name = details.name or layout.run.name  # the server makes one up otherwise
        new = NewRun(experiment, name, details.start, tags, details.user)

        def made_by_me() -> ApiRun | None:
            runs = self._settling.search(experiment, layout.key)
            return next((run for run in runs if writer_of(run) == writer), None)

        return self._create_once(new, made_by_me)

    def _parent(self, experiment: str, layout: Layout) -> str | None:
        """The id of the search's run, the parent of its trials; the first trial creates it."""
        key = rows.parent_key(layout)
        if key is None:
            return None
        its = parent_details(layout, self.limits)
        new = NewRun(experiment, its.name, its.start, its.tags, its.user)
        active = partial(self._active, experiment, key)
        parents = SearchParents(self._api, self._settling, key, active)
        create = partial(self._create_once, new, lambda: next(iter(active()), None))
        return parents.get(create, rows.ended(layout))

    def _active(self, experiment: str, key: str) -> list[ApiRun]:
        """The active runs with a run key; all writers agree on the first one."""
        runs = [run for run in self._settling.search(experiment, key) if run.stage == ACTIVE]
        direct_id = made_id(experiment, key, 0)  # the direct writer does not supersede runs
        return sorted(
            runs, key=lambda run: (run.run_id != direct_id, run.status == RUNNING, run.run_id)
        )

    def _create_once(
        self, new: NewRun, look: Callable[[], ApiRun | None], attempts: int = ATTEMPTS
    ) -> ApiRun:
        try:
            return self._api.create_run(new)
        except UncertainError:
            if attempts == 1:
                raise
        return look() or self._create_once(new, look, attempts - 1)

    def _resume(
        self, layout: Layout, details: Details, existing: ExistingRun
    ) -> tuple[ApiRun, list[MetricColumn]]:
        """Begin to write an existing run. Returns the run and its missing points."""
        run, record = self._api.get_run(existing.id), record_of(layout)
        now = self._as_found(run, existing, record)
        if SUPERSEDED_TAG in run.tags or existing not in (now, incomplete(now)):
            raise ConflictError
        if run.stage != ACTIVE:  # as in its own store
            self._api.restore_run(run.run_id)
        if not existing.complete:
            run = when_quiet(self._api, run)
            if record is None:
                self._api.set_status(run.run_id, RUNNING, None)
            else:
                self._tag(run.run_id, _lacking(details, run))
            return run, self._missing(run, list(rows.metric_columns(layout, 0)))
        begun = begun_state(layout, existing.state, uuid.uuid4().hex)
        tags = {**details.updates, STATE_TAG: begun.text(self.limits.tag)}
        if record is not None:
            tags |= _lacking(details, run)
        self._tag(run.run_id, tags)
        if record is None:
            self._api.set_status(run.run_id, RUNNING, None)
        return run, list(rows.metric_columns(layout, existing.state.rows))

    def _as_found(
        self, run: ApiRun, existing: ExistingRun, record: RunRecord | None
    ) -> ExistingRun:
        if record is not None:
            return existing_copy(self._counted(run), existing.key, self._uri, record.head)
        return existing_of(stored(run), existing.key, self._uri, existing.place)

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
            keep = np.array([p not in known for p in comparable(column.time, column.step, value)])
            if keep.any():
                missing.append(column.only(keep))
        return missing

    def _points(self, run_id: str, keys: Iterable[str]) -> dict[str, set[Point]]:
        """The stored points of a run for these keys."""
        found = self._api.histories(run_id, keys)
        return {
            key: {*comparable(np.rint(at.time * 1000).astype(np.int64), at.step, at.value)}
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

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        run = self._read[existing.id] = self._api.get_run(existing.id)
        found = self._api.histories(run.run_id, run.latest)
        points = {key: normalized(part) for key, part in found.items()}
        return Recorded(points, params=run.params)

    def record_gaps(self, layout: Layout, existing: ExistingRun) -> RecordGaps:
        """The gaps of an existing run."""
        run, record = self._read.pop(existing.id, None), record_of(layout)
        if record is None:  # of another tracker
            return RecordGaps()
        if run is None or record.links:  # a search leaves out links to models that a run read
            run = self._api.get_run(existing.id)
        self._links.found(record.head.run_id, [existing.id])
        there = StoredDetails(run.name, run.status, run.end, run.stage, run.tags, run.params)
        of_models = self._models.gaps(run, layout)
        details = self._details(layout, is_new=False)
        return gaps_between(details, layout.params, there, of_models)

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

    def artifact_homes(self, record: RunRecord, existing: ExistingRun) -> Homes:
        """The artifact locations of the run and its logged models."""
        from bridges.exporters.mlflow.artifact_copy.api_homes import ApiHomes

        return ApiHomes(self._api, record, existing)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files as artifacts of the run, once."""
        run, digest = self._api.get_run(existing.id), artifacts.digest(files)
        if run.tags.get(artifacts.ATTACHED_TAG) != digest:
            for name, content in files.items():
                self._api.put_artifact(run, name, content)
            self._log(run.run_id, Batch(tags={artifacts.ATTACHED_TAG: digest}))


def _lacking(details: Details, run: ApiRun) -> dict[str, str]:
    return {key: text for key, text in details.tags.items() if key not in run.tags}
