"""The artifact locations of copies in a database: chosen once, and stored with the copied files.

A copy goes below the artifact location of its experiment in the target. If that is in the source
store, as after an export without copies, it goes into a directory beside the database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from bridges.exporters.base import ExistingRun
from bridges.exporters.mlflow.artifact_copy.client_tree import OBJECT_STORES, ClientTree
from bridges.exporters.mlflow.artifact_copy.local_tree import LocalTree, is_below
from bridges.exporters.mlflow.artifact_copy.sources import Owner, is_in_store
from bridges.exporters.mlflow.artifact_copy.trees import FileError, WritableTree, check_path
from bridges.exporters.mlflow.database import Database, Session, one_row
from bridges.exporters.mlflow.experiments import ID_TAG
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.records import RunRecord

_LOCATION = "select artifact_location from experiments where experiment_id = ?"
_OF_RUN = "select artifact_uri from runs where run_uuid = ?"
_OF_MODEL = "select artifact_location from logged_models where model_id = ?"
_PUT_RUN = "update runs set artifact_uri = ? where run_uuid = ?"
_PUT_MODEL = "update logged_models set artifact_location = ? where model_id = ?"
_PUT_EXPERIMENT = "update experiments set artifact_location = ? where experiment_id = ?"
_IS_COPY = (  # the experiment was made by an export of this one
    f"select 1 from experiment_tags where key = '{ID_TAG}' and value = ? and experiment_id = ?"
)


class Homes(Protocol):
    """The artifact locations of a run and its logged models in a target."""

    def find(self, owner: Owner) -> str:
        """The location for the copy of an owner. Raises FileError, ExportError."""
        ...

    def tree(self, location: str) -> WritableTree:
        """The files at a location. Raises FileError, ExportError."""
        ...

    def put(self, homes: Mapping[Owner, str]) -> None:
        """Store the locations of copied files. Raises ExportError."""
        ...


class SqlHomes:
    """The artifact locations of an existing run and of its logged models in a database."""

    def __init__(self, database: Database, record: RunRecord, existing: ExistingRun) -> None:
        self._database, self._record, self._existing = database, record, existing
        self._experiment = int(existing.place)

    def find(self, owner: Owner) -> str:
        """The location for the copy of an owner. Raises FileError."""
        name = owner.id if owner.is_model else self._existing.id
        check_path(name)
        if "/" in name:
            raise FileError("its id is not the name of a directory")
        with self._database.transaction() as session:
            stored = self._stored(session, owner)
            location = str(one_row(session, _LOCATION, (self._experiment,))[0] or "")
        if stored and not self._is_of_source(stored, owner):
            return stored
        root = self._own_root if self._is_of_source_experiment(location) else location
        return self._fitting(f"{root.rstrip('/')}/{owner.below(name)}", owner)

    def _stored(self, session: Session, owner: Owner) -> str:
        """The present location of an owner. Raises FileError if the database does not have it."""
        if not owner.is_model:
            return str(one_row(session, _OF_RUN, (self._existing.id,))[0] or "")
        columns = self._database.columns
        found = None
        if "logged_models" in columns:
            found = session.execute(_OF_MODEL, (owner.id,)).fetchone()
        if found is None:
            raise FileError("the target does not have this logged model")
        return str(found[0] or "")

    @property
    def _own_root(self) -> str:
        return f"{self._database.artifact_root}/{self._experiment}"

    def _is_of_source(self, location: str, owner: Owner) -> bool:
        """Whether a location is that of an owner in the source, or another one in its store."""
        path = local_path(location)
        if path is None:
            return location == owner.location
        is_same = owner.folder is not None and is_below(path, owner.folder)
        return location == owner.location or is_same or is_in_store(path, self._record)

    def _is_of_source_experiment(self, location: str) -> bool:
        path, own = local_path(location), self._record.head.experiment.artifact_location
        if not location or location == own:
            return True
        return path is not None and (not os.path.isabs(path) or is_in_store(path, self._record))

    def _fitting(self, location: str, owner: Owner) -> str:
        column = "logged_models.artifact_location" if owner.is_model else "runs.artifact_uri"
        width = self._database.widths.get(column)
        if width is not None and len(location) > width:
            raise FileError(
                f"its location in the target would be longer than {width} characters, the limit of"
                " the database: export from a directory with a shorter path"
            )
        return location

    def tree(self, location: str) -> WritableTree:
        """The files in a directory or an object store. Raises FileError for other locations."""
        path = local_path(location)
        if path is not None:
            return LocalTree(path)
        if location.startswith(OBJECT_STORES):
            return ClientTree(location)
        raise FileError("the artifacts of the target are on a server: export to its URL")

    def put(self, homes: Mapping[Owner, str]) -> None:
        """Store the locations of copied files. New runs of the experiment get one beside them."""
        with self._database.transaction() as session:
            changed = [each for each in homes if self._stored(session, each) != homes[each]]
            is_moved = self._is_linked(session)
        if not changed and not is_moved:
            return
        with self._database.transaction(write=True) as session:
            for owner in changed:
                statement = _PUT_MODEL if owner.is_model else _PUT_RUN
                key = owner.id if owner.is_model else self._existing.id
                session.execute(statement, (homes[owner], key))
            if is_moved:
                session.execute(_PUT_EXPERIMENT, (self._own_root, self._experiment))

    def _is_linked(self, session: Session) -> bool:
        """Whether an earlier export made the experiment, with the location of the source's."""
        location = str(one_row(session, _LOCATION, (self._experiment,))[0] or "")
        values = (self._record.head.experiment.id, self._experiment)
        return (
            self._is_of_source_experiment(location)
            and session.execute(_IS_COPY, values).fetchone() is not None
        )
