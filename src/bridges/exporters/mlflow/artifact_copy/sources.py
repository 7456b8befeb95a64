"""The artifacts of a run and of its logged models in their store: which may be copied, and how.

A store can be written by anyone, and its artifact locations can name any directory, such as
`file:///etc`. Local files are copied from two kinds of directories only. Both are called
`artifacts`, as MLflow calls them:

- those below the directory of a file store, and below `mlruns` and `mlartifacts` beside a database
- those in a directory with the id of their run or model, wherever they are

The files of a server are always read through the server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bridges.exporters.mlflow.artifact_copy.client_tree import OBJECT_STORES, ClientTree
from bridges.exporters.mlflow.artifact_copy.local_tree import LocalTree, is_below
from bridges.exporters.mlflow.artifact_copy.server_trees import (
    ModelTree,
    ProxiedTree,
    RunTree,
    proxied_root,
)
from bridges.exporters.mlflow.artifact_copy.trees import FileError, Tree
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.records import RunRecord, model_identity
from bridges.formats.mlflow_store.rest import RestClient, needs_mlflow

SERVERS = ("http:", "https:")
ARTIFACTS, MODELS, TRASH = "artifacts", "models", ".trash"
_ID = re.compile(r"(m-)?[0-9a-f]{32}")  # of a run or a logged model, as MLflow makes it
OUTSIDE = (
    "the location is neither below the store nor in a directory with the id of the run or model,"
    " so it is not read: move the files below the store, or upload them with MLflow"
)


@dataclass(frozen=True)
class Owner:
    """A run or a logged model with artifacts.

    `id`, `location` and `folder` (the local directory, if it exists) are those of the source.
    `identity`: the id of a model in the store that it was exported from first.
    """

    id: str
    location: str
    folder: str | None
    is_model: bool = False
    identity: str = ""

    def below(self, name: str) -> str:
        """The path below the artifact location of an experiment; `name` is the new id."""
        return f"{MODELS}/{name}/{ARTIFACTS}" if self.is_model else f"{name}/{ARTIFACTS}"

    @property
    def label(self) -> str:
        """The start of the names of its files in findings."""
        return f"{MODELS}/{self.id}/" if self.is_model else ""


def owners_of(record: RunRecord) -> Iterator[Owner]:
    """The run and its logged models."""
    yield Owner(record.head.run_id, record.artifact_uri, record.artifact_folder)
    for model in record.models:
        location = model.artifact_location or ""
        yield Owner(
            model.model_id,
            location,
            model.artifact_folder,
            is_model=True,
            identity=model_identity(model),
        )


class SourceTrees:
    """The files of runs and models in their stores; connections to servers are kept."""

    def __init__(self) -> None:
        self._clients: dict[str, RestClient] = {}

    def of(self, owner: Owner, record: RunRecord) -> Tree | None:
        """The files of an owner; None without any. Raises FileError if they may not be read."""
        url = record.store
        if not url.startswith(SERVERS):
            return _tree_without_server(owner, record)
        if needs_mlflow(url):
            is_local = local_path(owner.location) is not None
            return (
                _tree_without_server(owner, record) if is_local else ClientTree(owner.location, url)
            )
        if url not in self._clients:
            self._clients[url] = RestClient(url, "the location")
        client, root = self._clients[url], proxied_root(owner.location, url)
        if root is not None:
            return ProxiedTree(client, root)
        return ModelTree(client, owner.id) if owner.is_model else RunTree(client, owner.id)


def _tree_without_server(owner: Owner, record: RunRecord) -> Tree | None:
    if owner.folder:
        folder = os.path.realpath(owner.folder)
        if not _is_allowed(folder, owner, record):
            raise FileError(OUTSIDE)
        return LocalTree(folder)
    if not owner.location or _is_own(owner, record):
        return None
    if owner.location.startswith(OBJECT_STORES):
        return ClientTree(owner.location)
    if local_path(owner.location) is None:
        raise FileError("the files are not on this machine: export from the URL of their server")
    raise FileError("the location does not exist here: export where it does")


def _is_allowed(folder: str, owner: Owner, record: RunRecord) -> bool:
    """Whether files of an existing directory (without links in its path) may be copied."""
    parent, name = os.path.split(folder)
    if name != ARTIFACTS:
        return False
    own = os.path.basename(parent)
    return (own == owner.id and _ID.fullmatch(own) is not None) or is_in_store(folder, record)


def is_in_store(folder: str, record: RunRecord) -> bool:
    """Whether a directory is in one of those of the store's artifacts."""
    return any(is_below(folder, root) for root in record.store_folders)


def _is_own(owner: Owner, record: RunRecord) -> bool:
    """Whether a missing directory is that of the run or model in its file store, which has no
    such directory if the run has no files, as after a copy by git.
    """
    experiment, run = os.path.split(os.path.abspath(record.head.where))
    own = f"{experiment}/{owner.below(owner.id if owner.is_model else run)}"
    path = local_path(owner.location)
    count = 5 if owner.is_model else 4  # root, experiment (and `models`), own id, `artifacts`
    return path is not None and _last_names(path, count) == _last_names(own, count)


def _last_names(path: str, count: int) -> list[str]:
    names = [name for name in path.replace("\\", "/").split("/") if name != TRASH]
    return names[-count:]
