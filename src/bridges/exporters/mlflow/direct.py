"""Writes runs directly into the tables of an MLflow database, each as a whole or not at all.

A run's id is derived from its run key, so the primary key rejects a second copy. A killed export
leaves nothing behind. Runs of the client writer are found by their key tag. All statements here run
on SQLite and PostgreSQL; the differences are behind the `Session` of `database.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING
from weakref import ref

from bridges.exporters.base import ConflictError, ExistingRun, Recorded, RecordGaps
from bridges.exporters.mlflow import artifacts, rows
from bridges.exporters.mlflow.database import (
    FEW_POINTS,
    Database,
    Session,
    one_row,
    put_pairs,
    stored_points,
)
from bridges.exporters.mlflow.details import (
    CarriedExperiment,
    Details,
    details_of,
    orphan,
    parent_details,
    record_of,
    related_of,
)
from bridges.exporters.mlflow.experiments import SqlExperiments, wanted_experiment
from bridges.exporters.mlflow.gaps import gaps_between, status_to_set, stored_details
from bridges.exporters.mlflow.latest_points import LatestPoints
from bridges.exporters.mlflow.limits import Limits, limits_of
from bridges.exporters.mlflow.links import Links, parent_keys
from bridges.exporters.mlflow.lookup import (
    SET_END,
    SET_STAGE,
    FindRun,
    SqlRunIndex,
    SqlRuns,
    copied_ids,
    counted,
    delete_leftovers,
    find_run,
    made_ids,
)
from bridges.exporters.mlflow.receipts import receipts_in, save_receipts
from bridges.exporters.mlflow.related import (
    Related,
    Row,
    missing_rows,
    stored_id,
    with_stored_models,
)
from bridges.exporters.mlflow.rivals import Settlement
from bridges.exporters.mlflow.schema import installed_release
from bridges.exporters.mlflow.state import (
    MlflowRun,
    existing_copies,
    existing_copy,
    existing_of,
    existing_runs,
    incomplete,
    location_of,
    refuse_deleted,
)
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.state import State, whole_state
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    PARENT_TAG,
    STATE_TAG,
    Experiment,
    RunRecord,
)
from bridges.stream.finding import Finding
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout

if TYPE_CHECKING:
    from bridges.exporters.mlflow.artifact_copy.homes import Homes

REWRITTEN_TABLES = ("latest_metrics", "metrics", "params")  # for an incomplete or replaced run
_RUN = (
    "insert into runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
    " start_time, end_time, deleted_time, source_version, lifecycle_stage, artifact_uri,"
    " experiment_id) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True)
class _Made:
    """A new run, and the ids of the runs with its key: its own, and those that `find` saw."""

    experiment: int
    layout: Layout
    seen: frozenset[str]


class DirectWriter:
    """Finds, writes and reads runs; `uri` is the database in messages.

    All runs go into the `named` experiment; None: a run of an MLflow store goes into the experiment
    of its own name, and the others into DEFAULT_EXPERIMENT.
    """

    def __init__(
        self,
        database: Database,
        uri: str,
        named: str | None,
        force: bool,
        *,
        copies_artifacts: bool = False,
    ) -> None:
        self._database = database
        self._uri = uri
        self._named = named
        self._release = database.release or installed_release()  # the latter makes a new database
        self._force = force
        self._copies_artifacts = copies_artifacts
        self._experiments = SqlExperiments(database, copies_artifacts=copies_artifacts)
        self._runs = SqlRuns()
        self._rows_beside = Related()
        self._listing: SqlRunIndex | None = None
        self._links = Links()
        self._limits = Limits()
        self._detailed: tuple[ref[Layout], Details] | None = None
        self._experiment_of = CarriedExperiment()
        self._unchecked: list[_Made] | None = None  # of the runs in a batch

    @property
    def limits(self) -> Limits:
        """The limits of the database, made once its columns are known."""
        own, limits = self._database, self._limits
        if not limits.columns:
            limits = replace(
                limits_of(self._release) if self._release else Limits(),
                widths=own.widths,
                takes_nul=own.takes_nul,
                columns=own.columns,
                copies_artifacts=self._copies_artifacts,
            )
            self._limits = limits
        return limits

    def _wanted(self, record: object) -> tuple[Experiment, list[Finding]]:
        """The experiment of a run with this record, and findings about it."""
        return self._experiment_of(wanted_experiment(self._named, record), self.limits)

    def preload(self) -> None:
        """List the runs of the experiment; later `find` calls use that listing."""
        listing = SqlRunIndex(None, {}, {})
        if self._database.exists():
            with self._database.transaction() as session:
                found = self._experiments.find(session, self._wanted(None)[0])
                listing = SqlRunIndex.load(session, found)
        self._listing = listing

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the experiment with one of the keys, including deleted ones.

        A run of an MLflow store is found by its id in all experiments.
        """
        if isinstance(identity.record, RunRecord):
            return self._find_copies(identity, identity.record)
        return existing_runs(self._uri, identity, self._found)

    def _find_copies(self, identity: Identity, record: RunRecord) -> list[ExistingRun]:
        head, options, found = record.head, identity.options, []
        if self._database.exists():
            with self._database.transaction() as session:
                experiment = self._experiments.find(session, self._wanted(record)[0])
                ids = copied_ids(head.run_id, identity.digest)
                found = self._runs.copies(session, experiment, identity.keys, ids, options)
                found = [counted(session, run) for run in found]
                if self._links.is_open(head):
                    parents = self._parents(session, experiment, record, identity)
                    self._links.found(head.parent_id, parents)
        self._links.seek(head)
        return existing_copies(self._uri, identity.key, head, found)

    def _parents(
        self, session: Session, experiment: int | None, record: RunRecord, identity: Identity
    ) -> list[str]:
        """The ids of the possible parents of a run from MLflow, active ones first."""
        ids, keys = filter(None, [record.head.parent_id]), parent_keys(record, identity)
        found = self._runs.copies(session, experiment, keys, ids, identity.options)
        return [run.run_id for run in sorted(found, key=lambda run: run.is_active)][::-1]

    def findings(self, layout: Layout) -> list[Finding]:
        """Findings about the place of a run in the target."""
        record = record_of(layout)
        found = [orphan(record.head)] if record and self._links.is_orphan(record.head) else []
        return [*found, *self._wanted(record)[1]]

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether a run may have one of these keys, according to the tags read so far."""
        if self._listing is not None:
            return not self._listing.tagged.keys().isdisjoint(keys)
        return self._runs.may_hold(keys)

    def _found(self, key: str) -> tuple[int | None, list[MlflowRun]]:
        """The experiment and its runs with a run key."""
        if self._listing is not None:
            return self._listing.experiment, self._listing.with_key(key)
        if not self._database.exists():
            return None, []
        with self._database.transaction() as session:
            experiment = self._experiments.find(session, self._wanted(None)[0])
            if experiment is None:
                return None, []
            return experiment, self._runs.with_key(session, experiment, key)

    def batch(self) -> AbstractContextManager[None] | None:
        """One transaction for several runs; None for a new database, which the first run creates.

        Raises ConflictError or ExportError at its end, if nothing was written.
        """
        return self._batch() if self._database.exists() else None

    @contextmanager
    def _batch(self) -> Iterator[None]:
        with self._rereads_tags(), self._experiments.cached(), self._database.batch() as session:
            self._unchecked = []
            try:
                yield
                self._check_all(session, self._unchecked)
            finally:
                self._unchecked = None

    def _check_all(self, session: Session, made: Sequence[_Made]) -> None:
        """Raises ConflictError if another writer created one of these runs since `find`.

        Called last in the transaction, as a client may create its run before its end.
        """
        # of the ids of a run its own is in use, and the next one is not
        ids = [id for one in made for id in islice(self._ids(one.experiment, one.layout), 2)]
        keys = [(one.experiment, one.layout.key) for one in made]
        find = self._runs.refresh(session, keys, ids)
        for one in made:
            self._check_seen(session, one, find)

    @contextmanager
    def _rereads_tags(self) -> Iterator[None]:
        """After an error, read all tags again: those read so far may have been rolled back."""
        try:
            yield
        except BaseException:
            self._runs = SqlRuns()
            self._experiments.forget()
            raise

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the new rows of an existing one, in one transaction."""
        self._database.create()
        with self._rereads_tags(), self._database.transaction(write=True) as session:
            if existing is None:
                written = self._create(session, layout, seen)
            else:
                written = self._append(session, layout, existing)
        self._links.made(record_of(layout), written.id, self._set_parent)
        return written

    def remove_leftovers(self, settlement: Settlement) -> int:
        """Delete unfinished copies of a complete run, which clients left. Returns their number."""
        if len(settlement.seen) < 2:
            return 0
        with self._database.transaction(write=True) as session:
            return delete_leftovers(session, settlement)

    def _set_parent(self, run_id: str, parent: str) -> None:
        with self._database.transaction(write=True) as session:
            put_pairs(session, "tags", run_id, {PARENT_TAG: parent})

    def _details(self, layout: Layout, *, is_new: bool) -> Details:
        """The details of a run, with its parent in the target."""
        details, record = self._own_details(layout), record_of(layout)
        parent = self._links.parent_of(record.head, is_new=is_new) if record else None
        return details.under(parent) if record else details

    def _own_details(self, layout: Layout) -> Details:
        """The details of a run without its new parent, kept for the next call."""
        if self._detailed is None or self._detailed[0]() is not layout:
            self._detailed = ref(layout), details_of(layout, self.limits)
        return self._detailed[1]

    def _create(self, session: Session, layout: Layout, seen: Sequence[ExistingRun]) -> ExistingRun:
        experiment = self._experiments.ensure(session, self._wanted(layout.run.record)[0])
        refuse_deleted(seen, layout.key, self._force)
        run_id = self._runs.free_id(session, self._ids(experiment, layout))
        details = self._details(layout, is_new=True)
        state = whole_state(layout)
        with session.together() if layout.points <= FEW_POINTS else nullcontext():
            self._insert_run(session, experiment, run_id, details)
            put_pairs(session, "params", run_id, layout.params)
            parent = self._parent(session, experiment, layout)
            tags = {**details.tags, **({rows.PARENT_TAG: parent} if parent else {})}
            put_pairs(session, "tags", run_id, tags)
            self._write_rows(session, run_id, layout, 0, state)
            self._put_related(session, layout, experiment, run_id)
        location = location_of(self._uri, experiment, run_id)
        name, place = details.name or run_id, str(experiment)
        new = _Made(experiment, layout, frozenset([run_id, *(run.id for run in seen)]))
        if self._unchecked is None:
            self._check_all(session, [new])
        else:
            self._unchecked.append(new)
        return ExistingRun(layout.key, name, location, state, run_id, place)

    def _insert_run(self, session: Session, experiment: int, run_id: str, details: Details) -> None:
        uri = details.artifact_uri or self._experiments.location_of_run(session, experiment, run_id)
        row = (
            *(run_id, details.name, details.source_type, details.source_name, details.entry_point),
            *(details.user, details.status, details.start, details.end, details.deleted),
            *(details.source_version, details.stage, uri, experiment),
        )
        session.execute(_RUN, row)

    def _ids(self, experiment: int, layout: Layout) -> Iterator[str]:
        if (record := record_of(layout)) is None:
            return made_ids(experiment, layout.key)
        width = self.limits.width("runs.run_uuid")
        ids = copied_ids(record.head.run_id, layout.digest)
        return ids if width is None else (each for each in ids if 0 < len(each) <= width)

    def _parent(self, session: Session, experiment: int, layout: Layout) -> str | None:
        """The id of the search's run, the parent of its trials; the first trial creates it."""
        key = rows.parent_key(layout)
        if key is None:
            return None
        self._runs.refresh(session, [(experiment, key)])
        found = self._runs.with_key(session, experiment, key)
        parents = [run for run in found if run.is_active]
        if parents:
            run_id = parents[0].run_id
        else:
            run_id = self._runs.free_id(session, made_ids(experiment, key))
            details = parent_details(layout, self.limits)
            self._insert_run(session, experiment, run_id, details)
            put_pairs(session, "tags", run_id, details.tags)
        statement = "update runs set end_time = ? where run_uuid = ? and end_time < ?"
        session.execute(statement, (rows.ended(layout), run_id, rows.ended(layout)))
        return run_id

    def _check_seen(self, session: Session, made: _Made, find: FindRun) -> None:
        """Raises ConflictError if a run has the key that `find` of the exporter did not see."""
        layout, experiment = made.layout, made.experiment
        if record_of(layout) is None:
            found = self._runs.with_key(session, experiment, layout.key, find)
        else:
            ids, options = self._ids(experiment, layout), layout.identity.options
            found = self._runs.copies(session, experiment, [layout.key], ids, options, find)
        if {run.run_id for run in found} - made.seen:
            raise ConflictError

    def _append(self, session: Session, layout: Layout, existing: ExistingRun) -> ExistingRun:
        run_id, record = existing.id, record_of(layout)
        session.lock(run_id)
        self._check_unchanged(session, existing, record)
        details, start = self._details(layout, is_new=False), existing.state.rows
        if not existing.complete or layout.replaces:  # the client writer can be interrupted
            start = 0
            for table in REWRITTEN_TABLES:
                session.execute(f"delete from {table} where run_uuid = ?", (run_id,))
            put_pairs(session, "params", run_id, layout.params)
        if record is None:
            session.execute(SET_END, (details.status, details.end, run_id))
        else:
            self._add_details(session, run_id, layout, details)
            self._put_related(session, layout, int(existing.place), run_id)
        put_pairs(session, "tags", run_id, details.updates)
        state = whole_state(layout, existing.state)
        self._write_rows(session, run_id, layout, start, state)
        return replace(existing, state=state, complete=True)

    def _check_unchanged(
        self, session: Session, existing: ExistingRun, record: RunRecord | None
    ) -> None:
        """Raises ConflictError if the run has changed since `find`."""
        run = find_run(session, existing.id)
        if run is not None and record is not None:
            now = existing_copy(counted(session, run), existing.key, self._uri, record.head)
        elif run is not None:
            now = existing_of(run, existing.key, self._uri, existing.place)
        if run is None or existing not in (now, incomplete(now)):
            raise ConflictError

    def _add_details(self, session: Session, run_id: str, layout: Layout, details: Details) -> None:
        """Set the missing details of a record on an existing run."""
        stored = stored_details(session, run_id)
        ended = status_to_set(details, stored)
        if ended:
            session.execute(SET_END, (*ended, run_id))
        if details.stage != stored.stage == ACTIVE:
            session.execute(SET_STAGE, (details.stage, details.deleted, run_id))
        tags = {key: text for key, text in details.tags.items() if key not in stored.tags}
        params = {key: text for key, text in layout.params.items() if key not in stored.params}
        put_pairs(session, "tags", run_id, tags)
        put_pairs(session, "params", run_id, params)

    def record_gaps(self, layout: Layout, existing: ExistingRun) -> RecordGaps:
        """The gaps of an existing run."""
        record = record_of(layout)
        if record is None:  # of another tracker
            return RecordGaps()
        self._links.found(record.head.run_id, [existing.id])
        details = self._details(layout, is_new=False)
        with self._database.transaction() as session:
            stored = stored_details(session, existing.id)
            rows_beside = self._related(session, layout, int(existing.place), existing.id)
            missing = missing_rows(session, self._database.columns, rows_beside)
        return gaps_between(details, layout.params, stored, missing)

    def _put_related(self, session: Session, layout: Layout, experiment: int, run_id: str) -> None:
        found = self._related(session, layout, experiment, run_id)
        if record_of(layout) is not None:
            self._rows_beside.put(session, self._database.columns, found, run_id)

    def _related(self, session: Session, layout: Layout, experiment: int, run_id: str) -> list[Row]:
        """The rows beside a run from MLflow: datasets, inputs, logged models."""
        record, schema = record_of(layout), self._database.columns
        if record is None or not (record.inputs or record.models or record.links):
            return []
        record = with_stored_models(session, schema, record)
        id_of = partial(stored_id, session, schema)
        return related_of(record, experiment, run_id, self.limits, id_of)

    def _write_rows(
        self, session: Session, run_id: str, layout: Layout, start: int, state: State
    ) -> None:
        latest = LatestPoints()
        columns = rows.metric_columns(layout, start)
        session.insert_points(run_id, map(latest.seen, columns) if start == 0 else columns)
        if start:
            for column in rows.metric_columns(layout, 0):
                latest.seen(column)
        latest.put(session, run_id)
        put_pairs(session, "tags", run_id, {STATE_TAG: state.text(self.limits.tag)})

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run; if they are many, key by key when they are used."""
        return Recorded(stored_points(self._database, existing.id))

    def stored_params(self, existing: ExistingRun) -> dict[str, str]:
        """The params of the run."""
        statement = "select key, value from params where run_uuid = ?"
        with self._database.transaction() as session:
            return dict(session.execute(statement, (existing.id,)).fetchall())

    def relabel(self, existing: ExistingRun, tags: Mapping[str, str]) -> ExistingRun:
        """Set tags of the run; the tag of the name renames it."""
        run_id, name = existing.id, tags.get(rows.NAME_TAG, existing.name)
        statement = "select key, value from tags where run_uuid = ?"
        with self._database.transaction() as session:
            known: dict[str, str] = dict(session.execute(statement, (run_id,)).fetchall())
        if not tags.items() <= known.items() or name != existing.name:
            with self._database.transaction(write=True) as session:
                session.execute("update runs set name = ? where run_uuid = ?", (name, run_id))
                put_pairs(session, "tags", run_id, tags)
        return replace(existing, name=name)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files as artifacts of the run, once."""
        run_id, digest = existing.id, artifacts.digest(files)
        statement = (
            "select artifact_uri, (select value from tags where tags.key = ? and"
            " tags.run_uuid = runs.run_uuid) from runs where run_uuid = ?"
        )
        with self._database.transaction() as session:
            values = (artifacts.ATTACHED_TAG, run_id)
            artifact_uri, attached = one_row(session, statement, values)
        if attached != digest:
            for name, content in files.items():
                artifacts.put_file(artifact_uri, name, content)
            with self._database.transaction(write=True) as session:
                put_pairs(session, "tags", run_id, {artifacts.ATTACHED_TAG: digest})

    def artifact_homes(self, record: RunRecord, existing: ExistingRun) -> Homes:
        """The artifact locations of the run and its logged models."""
        from bridges.exporters.mlflow.artifact_copy.homes import SqlHomes

        return SqlHomes(self._database, record, existing)

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        save_receipts(self._database, runs, self.limits)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of all experiments of the store."""
        return receipts_in(self._database, self._uri)
