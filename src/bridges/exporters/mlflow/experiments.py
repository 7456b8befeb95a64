"""The experiments of an MLflow database: found by name, created as their source has them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bridges.errors import ExportError
from bridges.exporters.mlflow.database import Database, Session, one_row
from bridges.exporters.mlflow.locations import is_reachable
from bridges.formats.mlflow_store.records import ACTIVE, Experiment, RunRecord

DEFAULT_EXPERIMENT = "bridges"
# MLflow shows such an experiment as one of training, not of prompts
TRAINING_TAG = ("mlflow.experimentKind", "custom_model_development")
ID_TAG = "bridges.experiment_id"  # the id in the source
COPIES_TAG = "bridges.artifact_location"  # that of copied files, which only this target knows
DEFAULT_ID = 0  # of the experiment in every database
MAX_ID = 2**63 - 1
_IS_UNUSED = (
    "select not exists (select 1 from runs where experiment_id = 0) and not exists"
    f" (select 1 from experiment_tags where experiment_id = 0 and key = '{ID_TAG}')"
)
_FOREIGN = (  # experiments not created by a migration with kept ids
    "select count(*) from experiments where not exists (select 1 from experiment_tags tag where"
    f" tag.experiment_id = experiments.experiment_id and tag.key = '{ID_TAG}'"
    " and tag.value = cast(experiments.experiment_id as text)) and (experiment_id <> 0 or exists"
    " (select 1 from runs where experiment_id = 0))"
)


def wanted_experiment(named: str | None, record: object) -> Experiment:
    """The experiment of a run: the one `named` by the user, else its own."""
    if named is None and isinstance(record, RunRecord):
        own = record.head.experiment
        return own if own.name else replace(own, name=f"experiment {own.id}")
    return Experiment("", named or DEFAULT_EXPERIMENT)


class SqlExperiments:
    """The experiments of a database. `Experiment.id` is empty for those named by bridges."""

    def __init__(self, database: Database, *, copies_artifacts: bool = False) -> None:
        self._database = database
        self._copies_artifacts = copies_artifacts
        self._ensured: dict[tuple[str, str], int] = {}  # ids by name and stage
        self._locations: dict[int, str] = {}  # of artifacts
        self._caches = False

    @contextmanager
    def cached(self) -> Iterator[None]:
        """Inside, which is one transaction, each experiment is looked up once."""
        self._caches = True
        try:
            yield
        finally:
            self._caches = False
            self.forget()

    def forget(self) -> None:
        """Look experiments up again, after a part of the transaction was rolled back."""
        self._ensured.clear()
        self._locations.clear()

    def find(self, session: Session, wanted: Experiment) -> int | None:
        """The id of the experiment with this name; None if it does not exist.

        Raises ExportError if it is deleted, and the wanted one is not.
        """
        known = self._ensured.get((wanted.name, wanted.stage))
        if known is not None:
            return known
        # the default workspace, as for a client without a workspace
        own = " and workspace = 'default'" if self._database.has_workspaces else ""
        found = session.execute(
            f"select experiment_id, lifecycle_stage from experiments where name = ?{own}",
            (wanted.name,),
        ).fetchone()
        if found is not None and found[1] != ACTIVE and wanted.stage == ACTIVE:
            raise deleted_experiment(wanted.name)
        return int(found[0]) if found else None

    def ensure(self, session: Session, wanted: Experiment) -> int:
        """The id of the experiment, which is created if needed."""
        name = wanted.name, wanted.stage
        made = self._ensured.get(name)
        if made is None:
            made = self._ensure(session, wanted)
            if self._caches:
                self._ensured[name] = made
        return made

    def _ensure(self, session: Session, wanted: Experiment) -> int:
        found = self.find(session, wanted)
        if found is None:
            self._check_width(wanted.name, "experiments.name", "the experiment's name")
            return self._create(session, wanted)
        if found == DEFAULT_ID and wanted.id == str(DEFAULT_ID) and _is_unused(session):
            return self._adopt(session, wanted)
        return found

    def _create(self, session: Session, wanted: Experiment) -> int:
        kept = self._kept_id(session, wanted) if wanted.id else None
        if kept == DEFAULT_ID:
            return self._adopt(session, wanted)
        now = time.time_ns() // 1_000_000
        created = now if wanted.created is None else wanted.created
        updated = created if wanted.updated is None else wanted.updated
        values: tuple[object, ...] = (wanted.name, wanted.stage, created, updated)
        columns, marks = "name, lifecycle_stage, creation_time, last_update_time", "?, ?, ?, ?"
        if kept is not None:
            columns, marks, values = f"{columns}, experiment_id", f"{marks}, ?", (*values, kept)
        session.execute(f"insert into experiments ({columns}) values ({marks})", values)
        made = self.find(session, wanted)
        assert made is not None
        self._set_location(session, made, wanted)
        put_experiment_tags(session, made, experiment_tags(wanted))
        return made

    def _adopt(self, session: Session, wanted: Experiment) -> int:
        """Give the unused default experiment the name, times and tags of the source's."""
        session.execute(
            "update experiments set name = ?, lifecycle_stage = ?, creation_time ="
            " coalesce(?, creation_time), last_update_time = coalesce(?, last_update_time)"
            " where experiment_id = 0",
            (wanted.name, wanted.stage, wanted.created, wanted.updated),
        )
        if self._database.keeps_ids:  # others belong to a server, which has its own locations
            self._set_location(session, DEFAULT_ID, wanted)
        put_experiment_tags(session, DEFAULT_ID, experiment_tags(wanted))
        return DEFAULT_ID

    def _set_location(self, session: Session, experiment: int, wanted: Experiment) -> None:
        location = wanted.artifact_location
        if wanted.id and self._copies_artifacts:  # not that of the source
            location = server_location(session, experiment) or (
                f"{self._database.artifact_root}/{experiment}"
            )
        elif not location or not is_reachable(location):
            location = _artifact_location(session, experiment)
        self._check_width(location, "experiments.artifact_location", "the artifact location")
        session.execute(
            "update experiments set artifact_location = ? where experiment_id = ?",
            (location, experiment),
        )

    def _check_width(self, text: str, column: str, what: str) -> None:
        """Raises ExportError for a text that the user or the target gave, if it is too long."""
        width = self._database.widths.get(column)
        if width is not None and len(text) > width:
            message = f"{what} is longer than {width} characters, the limit of the target"
            raise ExportError(f"{message}: {text}. Choose a shorter one.")

    def location_of_run(self, session: Session, experiment: int, run_id: str) -> str:
        """The artifact location of a new run. Raises ExportError if it is too long."""
        location = self._locations.get(experiment)
        if location is None:
            statement = "select artifact_location from experiments where experiment_id = ?"
            location = str(one_row(session, statement, (experiment,))[0])
            if self._caches:
                self._locations[experiment] = location
        uri = f"{location}/{run_id}/artifacts"
        self._check_width(uri, "runs.artifact_uri", "the artifact location of a run")
        return uri

    def _kept_id(self, session: Session, wanted: Experiment) -> int | None:
        """The id of the source, if the database is a new one and takes it; else None.

        A database of this migration alone counts as new: after an interruption, ids are kept, too.
        """
        if not self._database.keeps_ids or not wanted.id.isdecimal() or int(wanted.id) > MAX_ID:
            return None
        if one_row(session, _FOREIGN, ())[0]:
            return None
        own = int(wanted.id)
        if own == DEFAULT_ID:
            return own if _is_unused(session) else None
        statement = "select 1 from experiments where experiment_id = ?"
        return None if session.execute(statement, (own,)).fetchone() else own


def _is_unused(session: Session) -> bool:
    """Whether the default experiment has no runs, and was not copied."""
    return bool(one_row(session, _IS_UNUSED, ())[0])


def deleted_experiment(name: str) -> ExportError:
    """The error for an experiment deleted in MLflow."""
    return ExportError(
        f"the experiment {name!r} is deleted in MLflow. Restore it, or give another --experiment."
    )


def put_experiment_tags(session: Session, experiment: int, tags: Mapping[str, str]) -> None:
    """Set tags of an experiment."""
    session.executemany(
        "insert into experiment_tags (key, value, experiment_id) values (?, ?, ?)"
        " on conflict (key, experiment_id) do update set value = excluded.value",
        [(key, value, experiment) for key, value in tags.items()],
    )


def experiment_tags(wanted: Experiment) -> dict[str, str]:
    """The tags of a new experiment."""
    if not wanted.id:
        return dict([TRAINING_TAG])
    tags = {key: text for key, text in wanted.tags.items() if key != COPIES_TAG}
    return {**tags, ID_TAG: wanted.id}


def _artifact_location(session: Session, experiment: int) -> str:
    """The artifact location of a new experiment.

    It is below the working directory, as with the client, unless the database belongs to a server.
    """
    located = server_location(session, experiment)
    return located or os.path.abspath(os.path.join("mlruns", str(experiment)))


def server_location(session: Session, experiment: int) -> str:
    """The artifact location in a database that belongs to a server; else empty.

    The default experiment of such a database has a URL, and the artifacts go beside its own.
    """
    statement = "select artifact_location from experiments where experiment_id = 0"
    default = str((session.execute(statement).fetchone() or [""])[0] or "")
    if ":/" in default and not default.startswith("file:") and default.endswith("/0"):
        return f"{default[:-2]}/{experiment}"
    return ""
