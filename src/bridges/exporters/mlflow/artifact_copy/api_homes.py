"""The artifact locations of copies in a store that is written through MLflow's API.

The store chooses the locations when the run is created.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridges.exporters.base import ExistingRun
from bridges.exporters.mlflow.api import Api
from bridges.exporters.mlflow.artifact_copy.sources import ARTIFACTS, Owner
from bridges.exporters.mlflow.artifact_copy.trees import FileError, WritableTree


class ApiHomes:
    """The artifact location of an existing run."""

    def __init__(self, api: Api, existing: ExistingRun) -> None:
        self._api, self._existing = api, existing

    def find(self, owner: Owner) -> str:
        """The location of the run in the target. Raises FileError for a logged model."""
        if owner.is_model:
            raise FileError("the target does not have this logged model")
        location = self._api.get_run(self._existing.id).artifact_uri
        if not location.endswith(f"/{self._existing.id}/{ARTIFACTS}"):
            raise FileError(
                "the run in the target points to other files, such as those of a source"
            )
        return location

    def tree(self, location: str) -> WritableTree:
        """The files at a location. Raises FileError."""
        return self._api.artifact_tree(location)

    def put(self, homes: Mapping[Owner, str]) -> None:
        """Do nothing: the run has its location from the start."""
