"""The artifact locations of copies in a store written through MLflow's API.

The store chooses the locations when it creates a run.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridges.exporters.base import ExistingRun
from bridges.exporters.mlflow.api import Api
from bridges.exporters.mlflow.artifact_copy.sources import ARTIFACTS, Owner, is_in_store
from bridges.exporters.mlflow.artifact_copy.trees import FileError, WritableTree
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.records import RunRecord


class ApiHomes:
    """The artifact location of an existing run."""

    def __init__(self, api: Api, record: RunRecord, existing: ExistingRun) -> None:
        self._api, self._record, self._existing = api, record, existing

    def find(self, owner: Owner) -> str:
        """The location of the run in the target. Raises FileError for a logged model."""
        if owner.is_model:
            raise FileError("the target does not have this logged model")
        location = self._api.get_run(self._existing.id).artifact_uri
        return self._checked(location, self._existing.id)

    def _checked(self, location: str, name: str) -> str:
        """The location, if it is one that MLflow made, and not in the source. Raises FileError."""
        if not location.endswith(f"/{name}/{ARTIFACTS}"):
            raise FileError("it points to other files in the target, such as those of a source")
        path = local_path(location)
        if path is not None and is_in_store(path, self._record):
            raise FileError("its location in the target is in the source, which is only read")
        return location

    def tree(self, location: str) -> WritableTree:
        """The files at a location. Raises FileError."""
        return self._api.artifact_tree(location)

    def put(self, homes: Mapping[Owner, str]) -> None:
        """Do nothing: the run has its location from the start."""
