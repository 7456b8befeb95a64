"""MLflow: runs as the live callback would have left them, with their own times.

State lives in the tags of the run. Its id is made from the run key, so the primary key of the
store lets no second copy in, and a killed export leaves nothing behind.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ConfigError, ExportError
from bridges.exporters import mlflow_rows as rows
from bridges.exporters import mlflow_sqlite as store
from bridges.exporters.base import ConflictError, Held, Recorded
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout

DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "bridges"
SQLITE = "sqlite:///"


class MlflowExporter:
    """Writes runs into the tracking store at `tracking_uri`, into the experiment of that name.

    `force` writes a run again that was deleted there.
    """

    name = "mlflow"
    rules = "mlflow"

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        force: bool = False,
    ) -> None:
        self.uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        named = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        self.experiment = named or DEFAULT_EXPERIMENT
        if not self.uri.startswith(SQLITE):
            raise ConfigError(
                f"--tracking-uri {self.uri}: only SQLite databases ({SQLITE}PATH) can be written "
                "so far. Export to one, then point `mlflow server --backend-store-uri` at it."
            )
        self._store = store.SqliteStore(self.uri.removeprefix(SQLITE))
        self._seen: set[str] = set()
        self._force = force

    def fit(self, layout: Layout) -> Layout:
        """Metrics whose keys MLflow refuses are left out, and counted."""
        return rows.fit(layout)

    def find(self, layout: Layout) -> list[Held]:
        """The runs of the experiment with the layout's key."""
        self._seen = set()
        if not self._store.exists():
            return []
        with self._store.transaction() as database:
            experiment = store.experiment_id(database, self.experiment, 0, create=False)
            if experiment is None:
                return []
            found = store.find_runs(database, experiment, layout.key)
        self._seen = {run.run_id for run in found}
        return [self._held(run, experiment, layout.key) for run in found if run.stage == "active"]

    def _held(self, run: store.StoredRun, experiment: int, key: str) -> Held:
        location = f"{self.uri}#/experiments/{experiment}/runs/{run.run_id}"
        try:
            return rows.held_from(run.name, location, key, run.state)
        except (ValueError, KeyError, TypeError, IndexError):
            raise ExportError(
                f"{location}: its tag {rows.STATE_TAG} was changed, so it cannot be told what it "
                "holds. Delete the run for good (mlflow gc) and export again."
            ) from None

    def write(self, layout: Layout, held: Held | None) -> Held:
        """Write the run, or its new rows, in one transaction."""
        self._store.create()
        try:
            with self._store.transaction(write=True) as database:
                if held is None:
                    return self._create(database, layout)
                return self._append(database, layout, held)
        except sqlite3.IntegrityError:
            raise ConflictError from None

    def _create(self, database: sqlite3.Connection, layout: Layout) -> Held:
        now = time.time_ns() // 1_000_000
        experiment = store.experiment_id(database, self.experiment, now, create=True)
        assert experiment is not None
        run_id = self._free_id(database, experiment, layout)
        tags, (params, _) = rows.tags(layout, (layout.rows,)), rows.params(layout)
        status, clock = rows.STATUS[layout.run.status], layout.clock
        run = store.RunRow(
            run_id, layout.run.name, tags["mlflow.user"], status, clock.start, clock.end
        )
        store.insert_run(database, experiment, run)
        store.put_pairs(database, "params", run_id, params)
        self._write_rows(database, run_id, layout, 0, tags)
        stored = store.StoredRun(run_id, run.name, "active", tags[rows.STATE_TAG])
        return self._held(stored, experiment, layout.key)

    def _free_id(self, database: sqlite3.Connection, experiment: int, layout: Layout) -> str:
        """An id made of experiment and run key; forks have the next ones.

        Raises ConflictError where a run came since `find`.
        """
        there = store.find_runs(database, experiment, layout.key)
        if {run.run_id for run in there} - self._seen:
            raise ConflictError
        deleted = [run.run_id for run in there if run.stage != "active"]
        if deleted and not self._force:
            raise ExportError(
                f"this run was exported before and then deleted in MLflow ({deleted[0]}). "
                "Restore it there, or use --force to write it again."
            )
        return store.run_id(experiment, layout.key, len(there))

    def _append(self, database: sqlite3.Connection, layout: Layout, held: Held) -> Held:
        run_id = held.location.rpartition("/")[2]
        experiment = int(held.location.split("/")[-3])
        found = store.find_runs(database, experiment, layout.key)
        run = next((run for run in found if run.run_id == run_id), None)
        if run is None or rows.parse_state(run.state)["rows"] != held.rows:
            raise ConflictError
        tags = rows.tags(layout, (*held.cuts, layout.rows))
        database.execute(
            "update runs set status = ?, end_time = ? where run_uuid = ?",
            (rows.STATUS[layout.run.status], layout.clock.end, run_id),
        )
        self._write_rows(database, run_id, layout, held.rows, tags)
        stored = store.StoredRun(run_id, held.name, "active", tags[rows.STATE_TAG])
        return self._held(stored, experiment, layout.key)

    def _write_rows(
        self,
        database: sqlite3.Connection,
        run_id: str,
        layout: Layout,
        start: int,
        tags: dict[str, str],
    ) -> None:
        store.insert_metrics(database, run_id, rows.metric_columns(layout, start))
        store.put_latest(database, run_id, rows.metric_columns(layout, 0))
        store.put_pairs(database, "tags", run_id, tags)

    def read_back(self, held: Held) -> Recorded:
        """Every point of the run."""
        with self._store.transaction() as database:
            return Recorded(store.read_points(database, held.location.rpartition("/")[2]))

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Float64; infinities become the largest number, a negative zero loses its sign."""
        return rows.stored(values)

    def notes(self, layout: Layout) -> list[Finding]:
        """What MLflow cannot hold as it is."""
        clamped = zeros = 0
        for series in layout.stream.numbers:
            if series.values.dtype == np.float64:
                clamped += int(np.isinf(series.values).sum())
                zeros += int(((series.values == 0) & np.signbit(series.values)).sum())
        notes = [*rows.params(layout)[1], *rows.refused_tags(layout)]
        if clamped:
            message = f"MLflow holds infinities as ±{rows.LARGEST}, as it would have live"
            code = "infinity-clamped"
            notes.append(Finding(code, Severity.WARNING, "all metrics", message, clamped))
        if zeros:
            message = "SQLite holds -0.0 as 0.0, as it would have live"
            notes.append(Finding("negative-zero", Severity.INFO, "all metrics", message, zeros))
        return notes

    def hint(self, locations: list[str], longest: int) -> str | None:
        """The command that shows the runs."""
        return f"mlflow ui --backend-store-uri {self.uri}"
