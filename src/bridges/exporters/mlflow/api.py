"""The subset of MLflow's public API that bridges uses.

Implemented in `rest.py` for servers and in `sdk.py` for the installed client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import Points
from bridges.exporters.mlflow.artifact_copy.trees import WritableTree
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.rows import MetricColumn
from bridges.formats.mlflow_store.records import Input, LoggedModel, ModelLink, ModelMetric

ITEMS_PER_PAGE = 1000  # runs (with all their tags) or experiments
Metric = tuple[str, float, int, int]  # key, value (NaN is legal), time in ms, step


class UncertainError(ExportError):
    """A request may have been carried out: check before sending it again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True, waited=True, answered=True)


@dataclass(frozen=True)
class ApiRun:
    """A run as the API returns it.

    `end` is in milliseconds; `latest` is the latest value of each metric as text.
    """

    run_id: str
    name: str
    stage: str
    status: str
    artifact_uri: str
    experiment: str
    end: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    latest: Mapping[str, str] = field(default_factory=dict)
    links: tuple[ModelLink, ...] = ()


@dataclass(frozen=True)
class NewRun:
    """A run to create; `start` is in milliseconds."""

    experiment: str
    name: str
    start: int | None
    tags: Mapping[str, str]
    user: str


@dataclass(frozen=True)
class Batch:
    """The content of one log request. A store writes its params first and its tags last."""

    metrics: Sequence[Metric] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def tag_filter(tag: str, value: str | None) -> str:
    """The search filter for runs by the value of a tag (None: any value)."""
    return f"tags.`{tag}` = '{value}'" if value is not None else f"tags.`{tag}` LIKE '%'"


def like_filter(tag: str, pattern: str) -> str:
    """The search filter for runs whose tag has a value like that, where % stands for any text."""
    return f"tags.`{tag}` LIKE '{pattern}'"


def batches(
    columns: Sequence[MetricColumn], params: dict[str, str], final: dict[str, str], limits: Limits
) -> Iterator[Batch]:
    """Batches of the largest legal size: params first, points key by key, final tags last."""
    pairs, metrics = iter(params.items()), _metrics(columns)
    part = dict(islice(pairs, limits.pairs))
    while True:
        room = min(limits.metrics, limits.entities - len(part) - len(final))
        points = list(islice(metrics, room))
        more = dict(islice(pairs, limits.pairs))
        if len(points) < room and not more:
            yield Batch(points, part, final)
            return
        yield Batch(points, part)
        part = more


def _metrics(columns: Sequence[MetricColumn]) -> Iterator[Metric]:
    for column in columns:
        value = np.where(column.is_nan, np.nan, column.value)
        for point in zip(value.tolist(), column.time.tolist(), column.step.tolist(), strict=True):
            yield (column.key, *point)


class Api(Protocol):
    """MLflow's public API. All methods retry, and raise ExportError."""

    @property
    def limits(self) -> Limits:
        """The limits of the store."""
        ...

    def find_experiment(self, name: str) -> tuple[str, str] | None:
        """Id and life-cycle stage of an experiment; None if it does not exist."""
        ...

    def create_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new experiment. Raises ConflictError if the name is in use."""
        ...

    def experiments(self) -> Iterator[str]:
        """The ids of all active experiments, page by page."""
        ...

    def search(
        self, experiments: Sequence[str], tag: str, value: str | None = None
    ) -> Iterator[ApiRun]:
        """The runs with a value of the tag (None: any), including deleted ones, page by page."""
        ...

    def has_like(self, experiment: str, tag: str, pattern: str) -> bool:
        """Whether the tag of a run, maybe a deleted one, has a value like that (LIKE of SQL)."""
        ...

    def get_run(self, run_id: str) -> ApiRun:
        """Get a run by its id."""
        ...

    def find_run(self, run_id: str) -> ApiRun | None:
        """The run with an id; None if it does not exist."""
        ...

    def create_run(self, new: NewRun) -> ApiRun:
        """Create a run. Raises UncertainError."""
        ...

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Log one batch within the limits. Raises UncertainError."""
        ...

    def set_status(self, run_id: str, status: str, end: int | None) -> None:
        """Set the status, and the end (ms) unless it is None."""
        ...

    def rename(self, run: ApiRun, name: str) -> None:
        """Rename a run."""
        ...

    def histories(self, run_id: str, keys: Iterable[str]) -> dict[str, Points]:
        """All points of these keys, sorted by time."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        ...

    def log_inputs(self, run_id: str, inputs: Sequence[Input]) -> None:
        """Record the datasets of a run; known ones are not doubled."""
        ...

    def models(self, experiment: str, only: str) -> list[LoggedModel]:
        """The active logged models of an experiment selected by a filter."""
        ...

    def create_model(self, experiment: str, run_id: str, model: LoggedModel) -> None:
        """Create a logged model of a run, with params and tags; a tag holds its identity."""
        ...

    def update_model(
        self, model_id: str, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add params and tags to a logged model."""
        ...

    def end_model(self, model_id: str, status: str) -> None:
        """Set the status of a logged model: READY or FAILED."""
        ...

    def delete_model(self, model_id: str) -> None:
        """Mark a logged model as deleted."""
        ...

    def log_model_points(self, run_id: str, model_id: str, points: Sequence[ModelMetric]) -> None:
        """Log points of a run as points of a logged model, too."""
        ...

    def link_models(self, run_id: str, links: Sequence[ModelLink]) -> None:
        """Record logged models read or written by a run; a known link must not be repeated."""
        ...

    def restore_run(self, run_id: str) -> None:
        """Mark a deleted run as active."""
        ...

    def artifact_tree(self, location: str) -> WritableTree:
        """The files at the artifact location of a run. Raises FileError if none can be stored."""
        ...

    def put_artifact(self, run: ApiRun, name: str, content: bytes) -> None:
        """Store a file as an artifact of the run."""
        ...
