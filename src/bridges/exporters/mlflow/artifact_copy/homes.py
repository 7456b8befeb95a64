"""The artifact locations of copies: below that of their experiment in the target.

The location of an experiment that an export made may be that of the source, or any other that a
source named. So files are never copied below it: such an experiment gets a directory beside the
database instead, and a tag of the experiment keeps this choice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Protocol

from bridges.exporters.base import ExistingRun
from bridges.exporters.mlflow.artifact_copy.client_tree import OBJECT_STORES, ClientTree
from bridges.exporters.mlflow.artifact_copy.local_tree import LocalTree
from bridges.exporters.mlflow.artifact_copy.sources import Owner, is_in_store
from bridges.exporters.mlflow.artifact_copy.trees import FileError, WritableTree, check_path
from bridges.exporters.mlflow.database import Database, Session, one_row
from bridges.exporters.mlflow.experiments import (
    COPIES_TAG,
    ID_TAG,
    put_experiment_tags,
    server_location,
)
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.records import RunRecord

_LOCATION = "select artifact_location from experiments where experiment_id = ?"
_TAGS = (
    "select key, value from experiment_tags where experiment_id = ?"
    f" and key in ('{COPIES_TAG}', '{ID_TAG}')"
)
_OF_RUN = "select artifact_uri from runs where run_uuid = ?"
_OF_MODEL = "select artifact_location from logged_models where model_id = ?"
_PUT_RUN = "update runs set artifact_uri = ? where run_uuid = ?"
_PUT_MODEL = "update logged_models set artifact_location = ? where model_id = ?"
_PUT_EXPERIMENT = "update experiments set artifact_location = ? where experiment_id = ?"


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

    @cached_property
    def _root(self) -> str:
        """The location of all copies in the experiment."""
        with self._database.transaction() as session:
            location = str(one_row(session, _LOCATION, (self._experiment,))[0] or "")
            tags: dict[str, str] = dict(session.execute(_TAGS, (self._experiment,)).fetchall())
            of_server = server_location(session, self._experiment)
        if COPIES_TAG in tags:
            return tags[COPIES_TAG]
        if ID_TAG not in tags and self._is_apart(location):
            return location.rstrip("/")
        return of_server or f"{self._database.artifact_root}/{self._experiment}"

    def _is_apart(self, location: str) -> bool:
        """Whether a location leads somewhere, but not into the source."""
        path = local_path(location)
        if path is None or not location:
            return bool(location)
        return os.path.isabs(path) and not is_in_store(path, self._record)

    def find(self, owner: Owner) -> str:
        """The location for the copy of an owner. Raises FileError."""
        name = owner.id if owner.is_model else self._existing.id
        check_path(name)
        if "/" in name:
            raise FileError("its id is not the name of a directory")
        with self._database.transaction() as session:
            self._stored(session, owner)
        location = f"{self._root}/{owner.below(name)}"
        column = "logged_models.artifact_location" if owner.is_model else "runs.artifact_uri"
        width = self._database.widths.get(column)
        if width is not None and len(location) > width:
            raise FileError(
                f"its location in the target would be longer than {width} characters, the limit of"
                " the database: export from a directory with a shorter path"
            )
        return location

    def _stored(self, session: Session, owner: Owner) -> str:
        """The present location of an owner. Raises FileError if the database does not have it."""
        if not owner.is_model:
            return str(one_row(session, _OF_RUN, (self._existing.id,))[0] or "")
        found = None
        if "logged_models" in self._database.columns:
            found = session.execute(_OF_MODEL, (owner.id,)).fetchone()
        if found is None:
            raise FileError("the target does not have this logged model")
        return str(found[0] or "")

    def tree(self, location: str) -> WritableTree:
        """The files in a directory or an object store. Raises FileError for other locations."""
        path = local_path(location)
        if path is not None:
            return LocalTree(path)
        if location.startswith(OBJECT_STORES):
            return ClientTree(location)
        raise FileError("the artifacts of the target are on a server: export to its URL")

    def put(self, homes: Mapping[Owner, str]) -> None:
        """Store the locations of copied files, and that of new runs of the experiment."""
        with self._database.transaction() as session:
            changed = [each for each in homes if self._stored(session, each) != homes[each]]
        if not changed:
            return
        with self._database.transaction(write=True) as session:
            for owner in changed:
                statement = _PUT_MODEL if owner.is_model else _PUT_RUN
                key = owner.id if owner.is_model else self._existing.id
                session.execute(statement, (homes[owner], key))
            tags: dict[str, str] = dict(session.execute(_TAGS, (self._experiment,)).fetchall())
            if COPIES_TAG not in tags:
                put_experiment_tags(session, self._experiment, {COPIES_TAG: self._root})
                if ID_TAG in tags:
                    session.execute(_PUT_EXPERIMENT, (self._root, self._experiment))
