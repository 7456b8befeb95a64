"""Writes runs directly into the tables of an MLflow database, one transaction per run.

A run's id is derived from its run key, so the primary key rejects a second copy. A killed export
leaves nothing behind. Runs of the client writer are found by their key tag. All statements here run
on SQLite and PostgreSQL; the differences are behind the `Session` of `database.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ConflictError, ExistingRun, Recorded
from bridges.exporters.mlflow import artifacts, rows
from bridges.exporters.mlflow.database import Database, Session, one_row
from bridges.exporters.mlflow.limits import Limits, limits_of
from bridges.exporters.mlflow.lookup import (
    SqlRunIndex,
    TagIndex,
    find_run,
    next_id,
    runs_with_key,
)
from bridges.exporters.mlflow.receipts import receipts_in, save_receipts
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.exporters.mlflow.schema import installed_release
from bridges.exporters.mlflow.state import (
    STATE_TAG,
    MlflowRun,
    existing_of,
    existing_runs,
    location_of,
)
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.state import State, whole_state
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout

# MLflow shows such an experiment as one of training, not of prompts
TRAINING_TAG = ("mlflow.experimentKind", "custom_model_development")
REWRITTEN_TABLES = ("latest_metrics", "metrics", "params")  # for an incomplete or replaced run
_RUN = (
    "insert into runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
    " start_time, end_time, deleted_time, source_version, lifecycle_stage, artifact_uri,"
    " experiment_id) values (?, ?, 'UNKNOWN', '', '', ?, ?, ?, ?, null, '', 'active', ?, ?)"
)


class DirectWriter:
    """Finds, writes and reads the runs of one experiment; `uri` is the database in messages."""

    def __init__(self, database: Database, uri: str, experiment: str, force: bool) -> None:
        self._database = database
        self._uri = uri
        self._experiment = experiment
        release = database.release or installed_release()  # the latter creates a new database
        self.limits = limits_of(release) if release else Limits()
        self._force = force
        self._index = TagIndex()
        self._listing: SqlRunIndex | None = None

    def preload(self) -> None:
        """List the runs of the experiment; later `find` calls use that listing."""
        listing = SqlRunIndex(None, {}, {})
        if self._database.exists():
            with self._database.transaction() as session:
                listing = SqlRunIndex.load(session, self._find_experiment(session))
        self._listing = listing

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the experiment with one of the keys, including deleted ones."""
        return existing_runs(self._uri, identity, self._found)

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether a run may have one of these keys, according to the tags read so far."""
        if self._listing is not None:
            return not self._listing.tagged.keys().isdisjoint(keys)
        return self._index.may_hold(keys)

    def _found(self, key: str) -> tuple[int | None, list[MlflowRun]]:
        """The experiment and its runs with a run key."""
        if self._listing is not None:
            return self._listing.experiment, self._listing.with_key(key)
        if not self._database.exists():
            return None, []
        with self._database.transaction() as session:
            experiment = self._find_experiment(session)
            if experiment is None:
                return None, []
            self._index.load(session, experiment)
            return experiment, self._find_runs(session, experiment, key)

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the new rows of an existing one, in one transaction."""
        self._database.create()
        with self._database.transaction(write=True) as session:
            if existing is None:
                return self._create(session, layout, seen)
            return self._append(session, layout, existing)

    def _create(self, session: Session, layout: Layout, seen: Sequence[ExistingRun]) -> ExistingRun:
        experiment = self._find_experiment(session)
        if experiment is None:
            experiment = self._create_experiment(session)
        refuse_deleted(seen, layout.key, self._force)
        run_id = next_id(session, experiment, layout.key)
        name, status = rows.run_name(layout, self.limits), rows.STATUS[layout.run.status]
        self._insert_run(session, experiment, run_id, name, status, layout)
        put_pairs(session, "params", run_id, layout.params)
        parent = self._parent(session, experiment, layout)
        names = {rows.NAME_TAG: name, **({rows.PARENT_TAG: parent} if parent else {})}
        put_pairs(session, "tags", run_id, names)
        state = whole_state(layout)
        self._write_rows(session, run_id, layout, 0, state)
        location = location_of(self._uri, experiment, run_id)
        made = ExistingRun(layout.key, name, location, state, run_id, str(experiment))
        self._check_seen(session, experiment, layout.key, [*seen, made])
        return made

    def _insert_run(
        self,
        session: Session,
        experiment: int,
        run_id: str,
        name: str,
        status: str,
        layout: Layout,
    ) -> None:
        statement = "select artifact_location from experiments where experiment_id = ?"
        root = one_row(session, statement, (experiment,))[0]
        artifact_uri, times = (
            f"{root}/{run_id}/artifacts",
            (rows.started(layout), rows.ended(layout)),
        )
        row = (run_id, name, rows.user(), status, *times, artifact_uri, experiment)
        session.execute(_RUN, row)

    def _parent(self, session: Session, experiment: int, layout: Layout) -> str | None:
        """The id of the search's run, the parent of its trials; the first trial creates it."""
        key = rows.parent_key(layout)
        if key is None:
            return None
        self._index.update(session, experiment, key)
        parents = [run for run in self._find_runs(session, experiment, key) if run.is_active]
        if parents:
            run_id = parents[0].run_id
        else:
            run_id, tags = next_id(session, experiment, key), rows.parent_tags(layout, self.limits)
            name = tags[rows.NAME_TAG]
            self._insert_run(session, experiment, run_id, name, "FINISHED", layout)
            put_pairs(session, "tags", run_id, tags)
        statement = "update runs set end_time = ? where run_uuid = ? and end_time < ?"
        session.execute(statement, (rows.ended(layout), run_id, rows.ended(layout)))
        return run_id

    def _check_seen(
        self, session: Session, experiment: int, key: str, seen: Iterable[ExistingRun]
    ) -> None:
        """Raises ConflictError if another writer created a run with the key since `find`.

        Called last in the transaction, as a client may create its run during this write.
        """
        self._index.update(session, experiment, key)
        ids = {run.run_id for run in self._find_runs(session, experiment, key)}
        if ids - {run.id for run in seen}:
            raise ConflictError

    def _append(self, session: Session, layout: Layout, existing: ExistingRun) -> ExistingRun:
        run_id = existing.id
        session.lock(run_id)
        run = find_run(session, run_id)
        if run is None or existing_of(run, existing.key, self._uri, existing.place) != existing:
            raise ConflictError
        status, start = rows.STATUS[layout.run.status], existing.state.rows
        if not existing.complete or layout.replaces:  # the client writer can be interrupted
            start = 0
            for table in REWRITTEN_TABLES:
                session.execute(f"delete from {table} where run_uuid = ?", (run_id,))
            put_pairs(session, "params", run_id, layout.params)
        session.execute(
            "update runs set status = ?, end_time = ? where run_uuid = ?",
            (status, rows.ended(layout), run_id),
        )
        state = whole_state(layout, existing.state)
        self._write_rows(session, run_id, layout, start, state)
        return replace(existing, state=state, complete=True)

    def _write_rows(
        self, session: Session, run_id: str, layout: Layout, start: int, state: State
    ) -> None:
        session.insert_points(run_id, rows.metric_columns(layout, start))
        put_latest(session, run_id, rows.metric_columns(layout, 0))
        tags = {**rows.later_tags(layout, self.limits), STATE_TAG: state.text(self.limits.tag)}
        put_pairs(session, "tags", run_id, tags)

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        with self._database.transaction() as session:
            return Recorded(session.read_points(existing.id))

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

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        save_receipts(self._database, runs, self.limits)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of all experiments of the store."""
        return receipts_in(self._database, self._uri)

    def _find_experiment(self, session: Session) -> int | None:
        """The id of the experiment; None if it does not exist. Raises ExportError if deleted."""
        # the default workspace, as for a client without a workspace
        own = " and workspace = 'default'" if self._database.has_workspaces else ""
        found = session.execute(
            f"select experiment_id, lifecycle_stage from experiments where name = ?{own}",
            (self._experiment,),
        ).fetchone()
        if found is not None and found[1] != "active":
            raise deleted_experiment(self._experiment)
        return int(found[0]) if found else None

    def _create_experiment(self, session: Session) -> int:
        now = time.time_ns() // 1_000_000
        session.execute(
            "insert into experiments (name, lifecycle_stage, creation_time, last_update_time)"
            " values (?, 'active', ?, ?)",
            (self._experiment, now, now),
        )
        made = self._find_experiment(session)
        assert made is not None
        session.execute(
            "update experiments set artifact_location = ? where experiment_id = ?",
            (_artifact_location(session, made), made),
        )
        session.execute(
            "insert into experiment_tags (key, value, experiment_id) values (?, ?, ?)",
            (*TRAINING_TAG, made),
        )
        return made

    def _find_runs(self, session: Session, experiment: int, key: str) -> list[MlflowRun]:
        """The runs of an experiment with a run key, including deleted ones."""
        return runs_with_key(partial(find_run, session), experiment, key, self._index.tagged)


def refuse_deleted(seen: Iterable[ExistingRun], key: str, force: bool) -> None:
    """Raises ExportError if the run was deleted in MLflow, unless `force` is set."""
    deleted = [run.id for run in seen if run.deleted and run.key == key]
    if deleted and not force:
        raise ExportError(
            f"this run was exported before and then deleted in MLflow ({deleted[0]}). "
            "Restore it in MLflow, or use --force to write it again."
        )


def deleted_experiment(name: str) -> ExportError:
    """The error for an experiment that was deleted in MLflow."""
    return ExportError(
        f"the experiment {name!r} is deleted in MLflow. Restore it, or give another --experiment."
    )


def _artifact_location(session: Session, experiment: int) -> str:
    """The artifact location of a new experiment.

    If the default experiment has a URL, the database belongs to a server, and the artifacts go
    beside those of the default experiment. Otherwise they go below the working directory, as with
    the client.
    """
    statement = "select artifact_location from experiments where experiment_id = 0"
    default = str((session.execute(statement).fetchone() or [""])[0] or "")
    if ":/" in default and not default.startswith("file:") and default.endswith("/0"):
        return f"{default[:-2]}/{experiment}"
    return os.path.abspath(os.path.join("mlruns", str(experiment)))


def put_pairs(session: Session, table: str, run_id: str, pairs: Mapping[str, object]) -> None:
    """Set params or tags of a run."""
    statement = (
        f"insert into {table} (key, value, run_uuid) values (?, ?, ?)"
        " on conflict (key, run_uuid) do update set value = excluded.value"
    )
    session.executemany(statement, [(key, value, run_id) for key, value in pairs.items()])


def put_latest(session: Session, run_id: str, columns: Iterable[MetricColumn]) -> None:
    """Set the latest point of each key: the first one with the highest (step, time, value)."""
    latest: dict[str, tuple[int, int, float, bool]] = {}
    for column in columns:
        backwards = np.lexsort((column.value[::-1], column.time[::-1], column.step[::-1]))
        at = len(column.value) - 1 - backwards[-1]
        point = (
            int(column.step[at]),
            int(column.time[at]),
            float(column.value[at]),
            bool(column.is_nan[at]),
        )
        if column.key not in latest or point[:3] > latest[column.key][:3]:
            latest[column.key] = point
    session.executemany(
        "insert into latest_metrics (key, step, timestamp, value, is_nan, run_uuid)"
        " values (?, ?, ?, ?, ?, ?) on conflict (key, run_uuid) do update set"
        " step = excluded.step, timestamp = excluded.timestamp, value = excluded.value,"
        " is_nan = excluded.is_nan",
        [(key, *point, run_id) for key, point in latest.items()],
    )
