"""An MLflow tracking store in an SQLite file, read and written without importing mlflow.

One transaction a run, straight into the five tables that hold one. The database is never migrated:
its schema must be one of `SCHEMAS`, which golden tests compare with what the client writes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from bridges.errors import ExportError, MissingDependencyError
from bridges.exporters.base import Points
from bridges.exporters.files import publish_once, unlink
from bridges.exporters.mlflow_rows import STATE_TAG, MetricColumn

SCHEMAS = {"dc11669786a5": "3.17"}  # alembic revision: the mlflow release it was tested with
COLUMNS = {
    "experiments": {"experiment_id", "name", "artifact_location", "lifecycle_stage"},
    "experiment_tags": {"key", "value", "experiment_id"},
    "runs": {"run_uuid", "name", "user_id", "status", "start_time", "end_time", "experiment_id"},
    "params": {"key", "value", "run_uuid"},
    "tags": {"key", "value", "run_uuid"},
    "metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"},
    "latest_metrics": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
}
# tells MLflow's pages that the experiment is about training, not about prompts
TRAINING_PAGE = ("mlflow.experimentKind", "custom_model_development")
RUN_INDEX = "index_metrics_run_uuid_key_step"
_POINT = np.dtype(
    [("step", np.int64), ("value", np.float64), ("is_nan", np.bool_), ("time", np.int64)]
)
CACHE = 65_536  # KiB of pages that a connection keeps
PATIENCE = 20.0  # seconds to wait for another writer, as mlflow does
_RUN = (
    "insert into runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
    " start_time, end_time, deleted_time, source_version, lifecycle_stage, artifact_uri,"
    " experiment_id) values (?, ?, 'UNKNOWN', '', '', ?, ?, ?, ?, null, '', 'active', ?, ?)"
)


@dataclass(frozen=True)
class RunRow:
    """A row of the table `runs`; times in milliseconds since 1970 UTC."""

    run_id: str
    name: str
    user: str
    status: str
    start: int
    end: int


@dataclass(frozen=True)
class StoredRun:
    """A run of the database: its id, name, life-cycle stage and state tag."""

    run_id: str
    name: str
    stage: str
    state: str


class SqliteStore:
    """The tracking store in the file at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None

    def exists(self) -> bool:
        """Whether there is a database."""
        return os.path.exists(self.path) and os.path.getsize(self.path) > 0

    def create(self) -> None:
        """Make an empty store, as the installed mlflow does, if there is none."""
        if self.exists():
            return
        fresh = f"{self.path}.bridges-{os.urandom(4).hex()}"
        template = _template()
        try:
            os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
            shutil.copyfile(template, fresh)
            _adopt(fresh)
            with suppress(FileExistsError):  # another process was faster
                publish_once(fresh, self.path)
        except OSError as error:
            message = f"{self.path}: cannot be made: {error.strerror or error}"
            raise ExportError(message) from error
        finally:
            unlink(fresh)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """The connection within one transaction. Raises ExportError for what SQLite refuses."""
        try:
            database = self._connect()
            database.execute("begin immediate" if write else "begin")
            try:
                yield database
                database.execute("commit")
            finally:
                if database.in_transaction:
                    database.execute("rollback")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise ExportError(f"{self.path}: {error}", transient="locked" in str(error)) from error

    def _connect(self) -> sqlite3.Connection:
        """One connection for all runs, so that what it read of the indexes is read once."""
        if self._database is None:
            database = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            database.execute("pragma foreign_keys = on")
            database.execute(f"pragma cache_size = -{CACHE}")
            _check_schema(self.path, database)
            self._database = database
        return self._database


def _check_schema(path: str, database: sqlite3.Connection) -> None:
    names = {row[0] for row in database.execute("select name from sqlite_master")}
    if "alembic_version" not in names:
        raise ExportError(f"{path}: this is no MLflow database. Give another --tracking-uri.")
    (revision,) = database.execute("select version_num from alembic_version").fetchone()
    if (
        revision in SCHEMAS
        and RUN_INDEX in names
        and all(
            needed <= {row[1] for row in database.execute(f"pragma table_info({table})")}
            for table, needed in COLUMNS.items()
        )
    ):
        return
    known = ", ".join(f"{release} ({key})" for key, release in SCHEMAS.items())
    raise ExportError(
        f"{path}: its schema {revision} is not known; known are those of mlflow {known}. "
        "Run `mlflow db upgrade` with such a release on a copy, or use a new database."
    )


def _template() -> Path:
    """An empty database of the installed mlflow, made once and kept in the user's cache."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("mlflow")
    except PackageNotFoundError:
        raise MissingDependencyError("mlflow", "mlflow") from None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bridges"
    template = cache / f"mlflow-{release}.db"
    if not template.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cache / f"{template.name}.{os.urandom(4).hex()}"
        _make_database(fresh)
        os.replace(fresh, template)
    return template


def _make_database(path: Path) -> None:
    """Let mlflow make its tables. The file is this process's own: mlflow cannot share one then."""
    import logging
    import warnings

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mlflow's own parts, which a user cannot mend
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        store = SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "mlruns"))
        store.engine.dispose()


def _adopt(path: str) -> None:
    """Give the default experiment of a copied template its place: mlflow's own default."""
    database = sqlite3.connect(path)
    location = os.path.abspath(os.path.join("mlruns", "0"))
    database.execute("update experiments set artifact_location = ?", (location,))
    database.commit()
    database.close()


def experiment_id(database: sqlite3.Connection, name: str, now: int, *, create: bool) -> int | None:
    """The id of the experiment of that name, made where asked for.

    Raises ExportError where it is deleted.
    """
    found = database.execute(
        "select experiment_id, lifecycle_stage from experiments where name = ?", (name,)
    ).fetchone()
    if found is None and create:
        return _create_experiment(database, name, now)
    if found is not None and found[1] != "active":
        raise ExportError(
            f"the experiment {name!r} is deleted in MLflow. "
            "Restore it, or give another --experiment."
        )
    return int(found[0]) if found else None


def _create_experiment(database: sqlite3.Connection, name: str, now: int) -> int:
    made = database.execute(
        "insert into experiments (name, lifecycle_stage, creation_time, last_update_time)"
        " values (?, 'active', ?, ?)",
        (name, now, now),
    ).lastrowid
    location = os.path.abspath(os.path.join("mlruns", str(made)))
    database.execute(
        "update experiments set artifact_location = ? where experiment_id = ?", (location, made)
    )
    database.execute(
        "insert into experiment_tags (key, value, experiment_id) values (?, ?, ?)",
        (*TRAINING_PAGE, made),
    )
    return int(made or 0)


def run_id(experiment: int, key: str, number: int) -> str:
    """The id of a run: made of experiment and run key; `number` counts forks from 0."""
    identity = f"{experiment}\n{key}\n{number}"
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


def find_runs(database: sqlite3.Connection, experiment: int, key: str) -> list[StoredRun]:
    """The runs of an experiment with that run key, deleted ones too: look-ups by primary key."""
    found: list[StoredRun] = []
    while True:
        identity = run_id(experiment, key, len(found))
        row = database.execute(
            "select run_uuid, name, lifecycle_stage,"
            " (select value from tags where tags.key = ? and tags.run_uuid = runs.run_uuid)"
            " from runs where run_uuid = ?",
            (STATE_TAG, identity),
        ).fetchone()
        if row is None:
            return found
        found.append(StoredRun(row[0], row[1] or "", row[2], row[3] or ""))


def insert_run(database: sqlite3.Connection, experiment: int, run: RunRow) -> None:
    """Add a run. Raises sqlite3.IntegrityError where its id is taken."""
    (root,) = database.execute(
        "select artifact_location from experiments where experiment_id = ?", (experiment,)
    ).fetchone()
    place = f"{root}/{run.run_id}/artifacts"
    row = (run.run_id, run.name, run.user, run.status, run.start, run.end, place, experiment)
    database.execute(_RUN, row)


def put_pairs(database: sqlite3.Connection, table: str, run_id: str, pairs: dict[str, str]) -> None:
    """Set params or tags of a run."""
    rows = [(key, value, run_id) for key, value in pairs.items()]
    database.executemany(
        f"insert or replace into {table} (key, value, run_uuid) values (?, ?, ?)", rows
    )


def insert_metrics(
    database: sqlite3.Connection, run_id: str, columns: Iterable[MetricColumn]
) -> None:
    """Add the points of a run, key by key, which is what the indexes like best."""
    statement = (
        "insert into metrics (key, value, is_nan, timestamp, step, run_uuid)"
        " values (?, ?, ?, ?, ?, ?)"
    )
    for column in columns:
        database.executemany(
            statement,
            zip(
                repeat(column.key, len(column.value)),
                column.value.tolist(),
                column.is_nan.tolist(),
                column.time.tolist(),
                column.step.tolist(),
                repeat(run_id, len(column.value)),
                strict=True,
            ),
        )


def put_latest(database: sqlite3.Connection, run_id: str, columns: Iterable[MetricColumn]) -> None:
    """Set the latest point of each key: the highest (step, time, value)."""
    latest: dict[str, tuple[int, int, float, bool]] = {}
    for column in columns:
        at = np.lexsort((column.value, column.time, column.step))[-1]
        point = (
            int(column.step[at]),
            int(column.time[at]),
            float(column.value[at]),
            bool(column.is_nan[at]),
        )
        latest[column.key] = max(point, latest.get(column.key, point))
    database.executemany(
        "insert or replace into latest_metrics (key, step, timestamp, value, is_nan, run_uuid)"
        " values (?, ?, ?, ?, ?, ?)",
        [(key, *point, run_id) for key, point in latest.items()],
    )


def read_points(database: sqlite3.Connection, run_id: str) -> dict[str, Points]:
    """All points of a run by key, in the order of their times."""
    keys = database.execute("select distinct key from metrics where run_uuid = ?", (run_id,))
    return {key: _read_key(database, run_id, key) for (key,) in keys.fetchall()}


def _read_key(database: sqlite3.Connection, run_id: str, key: str) -> Points:
    # without the hint SQLite scans this key's points of all runs
    rows = database.execute(
        "select step, value, is_nan, timestamp from metrics"
        f" indexed by {RUN_INDEX} where run_uuid = ? and key = ?",
        (run_id, key),
    ).fetchall()
    columns = np.array(rows, _POINT)
    columns = columns[np.argsort(columns["time"], kind="stable")]
    value = np.where(columns["is_nan"], np.nan, columns["value"])
    return Points(columns["step"].copy(), value, columns["time"] / 1000.0)
