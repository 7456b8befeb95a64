"""The records of an MLflow tracking store: experiments, runs and their parts.

Times are milliseconds since 1970 UTC, as MLflow stores them; None: not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bridges.stream.finding import Finding

ACTIVE, DELETED = "active", "deleted"  # life-cycle stages
NAME_TAG, PARENT_TAG = "mlflow.runName", "mlflow.parentRunId"
NOTE_TAG, USER_TAG = "mlflow.note.content", "mlflow.user"
# tags of exported runs: run key, state and group
KEY_TAG, STATE_TAG, GROUP_TAG = "bridges.key", "bridges.state", "bridges.group"
MODEL_TAG = "bridges.model_id"  # of a logged model: its id in the source
SUPERSEDED_TAG = "bridges.superseded"  # another export of the same run won
RENAMED_TAG = "bridges.renamed"  # of an exported run: JSON with the source's keys by their names
DEFAULT_WORKSPACE = "default"


@dataclass(frozen=True)
class Experiment:
    """An experiment; several may have one name in a store that was merged by hand."""

    id: str
    name: str
    stage: str = ACTIVE
    artifact_location: str | None = None
    created: int | None = None
    updated: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    workspace: str = DEFAULT_WORKSPACE


@dataclass(frozen=True)
class Dataset:
    """A dataset of an experiment, as a run or a metric names it."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


@dataclass(frozen=True)
class Input:
    """A dataset that a run read, with the tags of this use (such as `mlflow.data.context`)."""

    dataset: Dataset
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelLink:
    """A logged model that a run read (`is_output` False) or wrote, and the step of that."""

    model_id: str
    is_output: bool
    step: int = 0


@dataclass(frozen=True)
class Metric:
    """The points of one key in the order of logging: value (float64), time (ms, int64) and step
    (int64), n each.
    """

    key: str
    value: NDArray[np.float64]
    time: NDArray[np.int64]
    step: NDArray[np.int64]


@dataclass(frozen=True)
class ModelMetric:
    """A point of a logged model, with the run and the dataset that it was measured by."""

    key: str
    value: float
    time: int
    step: int
    run_id: str
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(frozen=True)
class LoggedModel:
    """A logged model (MLflow 3) of a run; `status` as its name, such as `READY`.

    `artifact_folder`: the local directory of its files, if it exists.
    """

    model_id: str
    name: str
    status: str
    model_type: str | None = None
    artifact_location: str | None = None
    artifact_folder: str | None = None
    created: int | None = None
    updated: int | None = None
    stage: str = ACTIVE
    status_message: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[ModelMetric, ...] = ()


def model_identity(model: LoggedModel) -> str:
    """The id of a logged model in the store that it was exported from first."""
    return model.tags.get(MODEL_TAG, model.model_id)


@dataclass(frozen=True)
class RunHead:
    """What lists of runs show: enough to select runs and to put parents before children.

    `status` is a name, such as `FINISHED`. `stage` is `deleted` for runs of deleted experiments,
    too. `where`: the directory or URL of the run, for messages. `mark`: a text with another
    value after each change of the run; empty if unknown.
    """

    run_id: str
    experiment: Experiment
    where: str
    name: str = ""
    status: str = "RUNNING"
    stage: str = ACTIVE
    start: int | None = None
    end: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""

    @property
    def shown_name(self) -> str:
        """The name of the run: MLflow 1 and older keep it in a tag only."""
        return self.name or self.tags.get(NAME_TAG) or self.run_id

    @property
    def parent_id(self) -> str | None:
        """The id of the parent run."""
        return self.tags.get(PARENT_TAG)

    @property
    def renamed(self) -> dict[str, str]:
        """The source's keys of an exported run by their names in MLflow, where these differ."""
        with suppress(ValueError):
            found = json.loads(self.tags.get(RENAMED_TAG, "{}"))
            if isinstance(found, dict):
                return {name: key for name, key in found.items() if isinstance(key, str)}
        return {}


@dataclass(frozen=True)
class RunRecord:
    """A run with everything that its store holds of it, except its metrics.

    `artifact_folder`: the local directory of its artifacts, if it exists. `store`: the root, path
    or URI of its store. `store_folders`: the local directories of the store's own artifacts.
    `findings`: the unreadable parts. `parent_key`: the run key of its parent, if an earlier
    export wrote that.
    """

    head: RunHead
    params: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    deleted: int | None = None
    source_type: str = ""
    source_name: str = ""
    source_version: str = ""
    entry_point: str = ""
    artifact_uri: str = ""
    artifact_folder: str | None = None
    store: str = ""
    store_folders: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    links: tuple[ModelLink, ...] = ()
    models: tuple[LoggedModel, ...] = ()
    findings: tuple[Finding, ...] = ()
    parent_key: str = ""

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of the run."""
        return self.head.tags
