"""MLflow's public API through the installed client.

Used for databases with an unknown schema, Databricks, file stores, and servers that need mlflow's
own client.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import Points
from bridges.exporters.mlflow.api import (
    ITEMS_PER_PAGE,
    ApiRun,
    Batch,
    NewRun,
    like_filter,
    tag_filter,
)
from bridges.exporters.mlflow.artifact_copy.client_tree import ClientTree
from bridges.exporters.mlflow.artifact_copy.local_tree import LocalTree
from bridges.exporters.mlflow.artifact_copy.trees import WritableTree
from bridges.exporters.mlflow.artifacts import FOLDER
from bridges.exporters.mlflow.errors import mlflow_errors
from bridges.exporters.mlflow.limits import Limits, limits_of
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.client import open_client
from bridges.formats.mlflow_store.models import links_of_client, model_of_client
from bridges.formats.mlflow_store.records import (
    MODEL_TAG,
    Input,
    LoggedModel,
    ModelLink,
    ModelMetric,
    model_identity,
)
from bridges.stream.redact import redact_text

T = TypeVar("T")


class SdkApi:
    """The store at `uri`, through `mlflow.MlflowClient`. Raises MissingDependencyError."""

    def __init__(self, uri: str) -> None:
        self._uri, self._shown = uri, redact_text(uri)
        self._client: Any
        self._entities: Any
        with self._errors():
            self._client, self._entities, self._release = open_client(uri)

    @property
    def limits(self) -> Limits:
        """The limits of the installed mlflow."""
        from mlflow.utils import validation

        usual = limits_of(self._release)
        return replace(
            usual,
            key=getattr(validation, "MAX_ENTITY_KEY_LENGTH", usual.key),
            param=getattr(validation, "MAX_PARAM_VAL_LENGTH", usual.param),
            tag=getattr(validation, "MAX_TAG_VAL_LENGTH", usual.tag),
            metrics=getattr(validation, "MAX_METRICS_PER_BATCH", usual.metrics),
            pairs=getattr(validation, "MAX_PARAMS_TAGS_PER_BATCH", usual.pairs),
            entities=getattr(validation, "MAX_ENTITIES_PER_BATCH", usual.entities),
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of mlflow and its dependencies as ExportError."""
        with warnings.catch_warnings(), mlflow_errors(self._shown):
            warnings.simplefilter("ignore")  # about mlflow's internals
            yield

    def _call(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        with self._errors():
            return call(*arguments, **named)

    def find_experiment(self, name: str) -> tuple[str, str] | None:
        """Id and life-cycle stage of an experiment; None if it does not exist."""
        found = self._call(self._client.get_experiment_by_name, name)
        return (found.experiment_id, found.lifecycle_stage) if found else None

    def create_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new experiment. Raises ConflictError if the name is in use."""
        return str(self._call(self._client.create_experiment, name, tags=dict(tags)))

    def experiments(self) -> Iterator[str]:
        """The ids of all active experiments, page by page."""
        for found in self._pages(self._client.search_experiments):
            yield found.experiment_id

    def search(
        self, experiments: Sequence[str], tag: str, value: str | None = None
    ) -> Iterator[ApiRun]:
        """The runs with a value of the tag (None: any), including deleted ones, page by page."""
        wanted = [*experiments], tag_filter(tag, value), self._entities.ViewType.ALL
        yield from map(_run, self._pages(self._client.search_runs, *wanted))

    def has_like(self, experiment: str, tag: str, pattern: str) -> bool:
        """Whether the tag of a run, maybe a deleted one, has a value like that (LIKE of SQL)."""
        wanted = [experiment], like_filter(tag, pattern), self._entities.ViewType.ALL
        return bool(self._call(self._client.search_runs, *wanted, max_results=1))

    def _pages(self, search: Callable[..., Any], *wanted: Any) -> Iterator[Any]:
        token = None
        while True:
            page = self._call(search, *wanted, max_results=ITEMS_PER_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def get_run(self, run_id: str) -> ApiRun:
        """Get a run by its id."""
        return _run(self._call(self._client.get_run, run_id))

    def find_run(self, run_id: str) -> ApiRun | None:
        """The run with an id; None if it does not exist."""
        try:
            return self.get_run(run_id)
        except ExportError as error:
            if getattr(error.__cause__, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def create_run(self, new: NewRun) -> ApiRun:
        """Create a run."""
        values = new.experiment, new.start, dict(new.tags), new.name
        return _run(self._call(self._client.create_run, *values))

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Log one batch."""
        entities = self._entities
        self._call(
            self._client.log_batch,
            run_id,
            [entities.Metric(*metric) for metric in batch.metrics],
            [entities.Param(*pair) for pair in batch.params.items()],
            [entities.RunTag(*pair) for pair in batch.tags.items()],
        )

    def set_status(self, run_id: str, status: str, end: int | None) -> None:
        """Set the status, and the end (ms) unless it is None."""
        if end is None:
            self._call(self._client.update_run, run_id, status)
        else:
            self._call(self._client.set_terminated, run_id, status, end)

    def rename(self, run: ApiRun, name: str) -> None:
        """Rename a run."""
        self._call(self._client.update_run, run.run_id, None, name)

    def histories(self, run_id: str, keys: Iterable[str]) -> dict[str, Points]:
        """All points of these keys; the client pages by itself."""
        return {key: self._history(run_id, key) for key in keys}

    def _history(self, run_id: str, key: str) -> Points:
        points = self._call(self._client.get_metric_history, run_id, key)
        step = np.array([point.step for point in points], np.int64)
        value = np.array([point.value for point in points], np.float64)
        time = np.array([point.timestamp for point in points], np.int64)
        order = np.argsort(time, kind="stable")
        return Points(step[order], value[order], time[order] / 1000.0)

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        self._call(self._client.delete_run, run_id)

    def log_inputs(self, run_id: str, inputs: Sequence[Input]) -> None:
        """Record the datasets of a run; known ones are not doubled."""
        entities = self._entities
        datasets = [
            entities.DatasetInput(
                entities.Dataset(**asdict(each.dataset)),
                [entities.InputTag(*pair) for pair in each.tags.items()],
            )
            for each in inputs
        ]
        self._call(self._client.log_inputs, run_id, datasets)

    def models(self, experiment: str, only: str) -> list[LoggedModel]:
        """The active logged models of an experiment selected by a filter."""
        search = self._client.search_logged_models
        return [*map(model_of_client, self._pages(search, [experiment], only))]

    def create_model(self, experiment: str, run_id: str, model: LoggedModel) -> None:
        """Create a logged model of a run, with params and tags; a tag holds its identity."""
        made = self._call(
            self._client.create_logged_model,
            experiment,
            model.name,
            run_id,
            {**model.tags, MODEL_TAG: model_identity(model)},
            dict(model.params),
            model.model_type,
        )
        if model.status in ("READY", "FAILED"):
            self.end_model(made.model_id, model.status)

    def update_model(
        self, model_id: str, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add params and tags to a logged model."""
        if params:
            self._call(self._client.log_model_params, model_id, dict(params))
        if tags:
            self._call(self._client.set_logged_model_tags, model_id, dict(tags))

    def end_model(self, model_id: str, status: str) -> None:
        """Set the status of a logged model: READY or FAILED."""
        self._call(self._client.finalize_logged_model, model_id, status)

    def delete_model(self, model_id: str) -> None:
        """Mark a logged model as deleted."""
        self._call(self._client.delete_logged_model, model_id)

    def log_model_points(self, run_id: str, model_id: str, points: Sequence[ModelMetric]) -> None:
        """Log points of a run as points of a logged model, too."""
        metrics = []
        for point in points:
            has_dataset = point.dataset_name and point.dataset_digest
            dataset = (point.dataset_name, point.dataset_digest) if has_dataset else (None, None)
            at = point.key, point.value, point.time, point.step
            metrics.append(self._entities.Metric(*at, model_id, *dataset))
        self._call(self._client.log_batch, run_id, metrics)

    def link_models(self, run_id: str, links: Sequence[ModelLink]) -> None:
        """Record logged models read or written by a run; a known link must not be repeated."""
        entities = self._entities
        read = [entities.LoggedModelInput(link.model_id) for link in links if not link.is_output]
        wrote = [
            entities.LoggedModelOutput(link.model_id, link.step) for link in links if link.is_output
        ]
        if read:
            self._call(self._client.log_inputs, run_id, None, read)
        if wrote:
            self._call(self._client.log_outputs, run_id, wrote)

    def restore_run(self, run_id: str) -> None:
        """Mark a deleted run as active."""
        self._call(self._client.restore_run, run_id)

    def artifact_tree(self, location: str) -> WritableTree:
        """The files at the artifact location of a run. Raises FileError if none can be stored."""
        path = local_path(location)
        if path is not None:
            return LocalTree(os.path.abspath(path))
        return ClientTree(location, self._uri if self._uri.startswith("http") else "")

    def put_artifact(self, run: ApiRun, name: str, content: bytes) -> None:
        """Store a file as an artifact of the run."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(content)
            self._call(self._client.log_artifact, run.run_id, path, FOLDER)


def _run(run: Any) -> ApiRun:
    info, data = run.info, run.data
    return ApiRun(
        run_id=info.run_id,
        name=info.run_name or "",
        stage=info.lifecycle_stage,
        status=info.status,
        artifact_uri=info.artifact_uri,
        experiment=info.experiment_id,
        end=info.end_time,
        tags=data.tags,
        params=data.params,
        latest={key: repr(value) for key, value in data.metrics.items()},
        links=tuple(links_of_client(run)),
    )
