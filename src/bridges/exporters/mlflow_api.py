"""What bridges needs of MLflow's public API; a server (`mlflow_rest`) and the installed client
(`mlflow_sdk`) have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import Points
from bridges.exporters.mlflow_limits import Limits
from bridges.exporters.mlflow_rows import MetricColumn

ITEMS_PER_PAGE = 1000  # runs (with all their tags) or experiments
Metric = tuple[str, float, int, int]  # key, value (NaN is legal), time in ms, step


class UncertainError(ExportError):
    """A request may or may not have been carried out: look before it is sent again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True, waited=True, answered=True)


@dataclass(frozen=True)
class ApiRun:
    """A run as the API shows it; `end` is in milliseconds, `latest` the newest value of each
    metric, as text.
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


@dataclass(frozen=True)
class NewRun:
    """A run to be made: `start` is in milliseconds; the tags name the user and the run."""

    experiment: str
    name: str
    start: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Batch:
    """What one request logs; an MLflow store keeps params first and tags last."""

    metrics: Sequence[Metric] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def tag_filter(tag: str, value: str | None) -> str:
    """Runs whose tag has that value (None: any), in the language of a search."""
    return f"tags.`{tag}` = '{value}'" if value is not None else f"tags.`{tag}` LIKE '%'"


def batches(
    columns: Sequence[MetricColumn], params: dict[str, str], final: dict[str, str], limits: Limits
) -> Iterator[Batch]:
    """Batches as large as MLflow takes: params first, points key by key, the final tags last."""
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
    """MLflow's public API. All raise ExportError; what is retried is behind it."""

    @property
    def limits(self) -> Limits:
        """What it takes."""
        ...

    def find_experiment(self, name: str) -> tuple[str, str] | None:
        """Id and life-cycle stage of the experiment of that name."""
        ...

    def create_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new experiment. Raises ConflictError where the name is taken."""
        ...

    def experiments(self) -> Iterator[str]:
        """The ids of all experiments that are not deleted, page by page."""
        ...

    def search(
        self, experiments: Sequence[str], tag: str, value: str | None = None
    ) -> Iterator[ApiRun]:
        """All runs of the experiments, deleted ones too, whose tag has that value (None: any),
        page by page.
        """
        ...

    def get_run(self, run_id: str) -> ApiRun:
        """The run of that id."""
        ...

    def create_run(self, new: NewRun) -> ApiRun:
        """Make a run. Raises UncertainError."""
        ...

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Log one batch, which must be within the limits. Raises UncertainError."""
        ...

    def set_status(self, run_id: str, status: str, end: int | None) -> None:
        """Set the status and, unless None, the end (ms)."""
        ...

    def rename(self, run: ApiRun, name: str) -> None:
        """Give a run another name."""
        ...

    def histories(self, run_id: str, keys: Iterable[str]) -> dict[str, Points]:
        """All points of these keys, page by page, in the order of their times."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        ...

    def put_artifact(self, run: ApiRun, name: str, content: bytes) -> None:
        """Keep a file of this name among the run's artifacts."""
        ...
