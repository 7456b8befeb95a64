"""The artifact locations of copies in a store written through MLflow's API.

The store chooses the locations when it creates a run or a logged model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from bridges.exporters.base import ExistingRun
from bridges.exporters.mlflow.api import Api
from bridges.exporters.mlflow.artifact_copy.sources import ARTIFACTS, Owner, is_in_store
from bridges.exporters.mlflow.artifact_copy.trees import FileError, WritableTree
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.records import LoggedModel, RunRecord, model_identity


class ApiHomes:
    """The artifact locations of an existing run and of its logged models."""

    def __init__(self, api: Api, record: RunRecord, existing: ExistingRun) -> None:
        self._api, self._record, self._existing = api, record, existing

    @cached_property
    def _models(self) -> dict[str, LoggedModel]:
        """The logged models of the run by identity; the oldest of several."""
        if not self._api.limits.has_models:
            return {}
        found = self._api.models(self._existing.place, f"source_run_id = '{self._existing.id}'")
        newest_first = sorted(found, key=lambda each: (each.created or 0, each.model_id))[::-1]
        return {model_identity(model): model for model in newest_first}

    def find(self, owner: Owner) -> str:
        """The location of an owner in the target. Raises FileError, ExportError."""
        if owner.is_model:
            model = self._models.get(owner.identity)
            if model is None:
                raise FileError("the target does not have this logged model")
            return self._checked(model.artifact_location or "", model.model_id)
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
        """Do nothing: run and models have their locations from the start."""
