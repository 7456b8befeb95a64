"""A tracking server as a target, through MLflow's REST API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ConflictError, Points
from bridges.exporters.mlflow.api import (
    ITEMS_PER_PAGE,
    ApiRun,
    Batch,
    Metric,
    NewRun,
    UncertainError,
    like_filter,
    tag_filter,
)
from bridges.exporters.mlflow.artifact_copy.client_tree import ClientTree
from bridges.exporters.mlflow.artifact_copy.server_trees import ProxiedTree, proxied_root
from bridges.exporters.mlflow.artifact_copy.trees import FileError, WritableTree
from bridges.exporters.mlflow.artifacts import FOLDER, put_file
from bridges.exporters.mlflow.limits import Limits, limits_of
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.connections import Connections
from bridges.formats.mlflow_store.models import (
    MODELS_PER_PAGE,
    STATUS_NAMES,
    links_of_answer,
    model_of_answer,
)
from bridges.formats.mlflow_store.records import (
    MODEL_TAG,
    Dataset,
    Input,
    LoggedModel,
    ModelLink,
    ModelMetric,
    model_identity,
)
from bridges.formats.mlflow_store.rest import MISSING, RefusedError, RestClient, text_of, texts_of
from bridges.http import Answer, NoAnswerError

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"


class RestApi(RestClient):
    """The tracking server at `url`. Raises ConfigError for a login in the URL."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "--tracking-uri")
        self.url = url
        self._connections = Connections(url, "--tracking-uri")

    @cached_property
    def limits(self) -> Limits:
        """The limits of the server's release; if it is unknown, those of the newest release."""
        answer = self.server.request("GET", "/version")
        known = re.match(rb"\d+\.\d+", answer.body) if answer.status == 200 else None
        return limits_of(answer.body.decode(errors="replace")) if known else Limits()

    def find_experiment(self, name: str) -> tuple[str, str] | None:
        """Id and life-cycle stage of an experiment; None if it does not exist."""
        try:
            answer = self.get("experiments/get-by-name", {"experiment_name": name})
        except RefusedError as error:
            if error.code == MISSING:
                return None
            raise
        with self.understood():
            if not (found := answer.get("experiment")):
                return None
            return text_of(found, "experiment_id"), text_of(found, "lifecycle_stage")

    def create_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new experiment. Raises ConflictError if the name is in use."""
        made = self.post("experiments/create", {"name": name, "tags": _pairs(tags)})
        with self.understood():
            return text_of(made, "experiment_id")

    def experiments(self) -> Iterator[str]:
        """The ids of all active experiments, page by page."""
        for page in self.pages("experiments/search", {"view_type": "ACTIVE_ONLY"}, ITEMS_PER_PAGE):
            with self.understood():
                found = [text_of(each, "experiment_id") for each in page.get("experiments", ())]
            yield from found

    def search(
        self, experiments: Sequence[str], tag: str, value: str | None = None
    ) -> Iterator[ApiRun]:
        """The runs with a value of the tag (None: any), including deleted ones, page by page."""
        wanted = {
            "experiment_ids": list(experiments),
            "filter": tag_filter(tag, value),
            "run_view_type": "ALL",
        }
        for page in self.pages("runs/search", wanted, ITEMS_PER_PAGE):
            with self.understood():
                found = [_run(each) for each in page.get("runs", ())]
            yield from found

    def has_like(self, experiment: str, tag: str, pattern: str) -> bool:
        """Whether the tag of a run, maybe a deleted one, has a value like that (LIKE of SQL)."""
        wanted = {
            "experiment_ids": [experiment],
            "filter": like_filter(tag, pattern),
            "run_view_type": "ALL",
            "max_results": 1,
        }
        return bool(self.post("runs/search", wanted).get("runs"))

    def get_run(self, run_id: str) -> ApiRun:
        """Get a run by its id."""
        answer = self.get("runs/get", {"run_id": run_id})
        with self.understood():
            return _run(answer["run"])

    def find_run(self, run_id: str) -> ApiRun | None:
        """The run with an id; None if it does not exist."""
        try:
            return self.get_run(run_id)
        except RefusedError as error:
            if error.code == MISSING:
                return None
            raise

    def create_run(self, new: NewRun) -> ApiRun:
        """Create a run. Raises UncertainError."""
        body = {
            "experiment_id": new.experiment,
            "user_id": new.user,
            "run_name": new.name,
            "tags": _pairs(new.tags),
            **({} if new.start is None else {"start_time": new.start}),
        }
        answer = self.post("runs/create", body, repeatable=False)
        with self.understood():
            return _run(answer["run"])

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Log one batch. Raises UncertainError only for batches with metrics."""
        body = {
            "run_id": run_id,
            "metrics": _metrics(batch.metrics),
            "params": _pairs(batch.params),
            "tags": _pairs(batch.tags),
        }
        self.post("runs/log-batch", body, repeatable=not batch.metrics)

    def set_status(self, run_id: str, status: str, end: int | None) -> None:
        """Set the status, and the end (ms) unless it is None."""
        more = {} if end is None else {"end_time": end}
        self.post("runs/update", {"run_id": run_id, "status": status, **more})

    def rename(self, run: ApiRun, name: str) -> None:
        """Rename a run. Status and end are sent too, as servers reset missing ones."""
        end = {} if run.end is None else {"end_time": run.end}
        body = {"run_id": run.run_id, "run_name": name, "status": run.status, **end}
        self.post("runs/update", body)

    def histories(self, run_id: str, keys: Iterable[str]) -> dict[str, Points]:
        """All points of these keys, page by page, over several connections."""

        def points(client: RestClient, key: str) -> Points:
            found = client.history(run_id, key)
            with client.understood():
                return _points(found)

        wanted = [*keys]
        return dict(zip(wanted, self._connections.map(points, wanted), strict=True))

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        self.post("runs/delete", {"run_id": run_id})

    def log_inputs(self, run_id: str, inputs: Sequence[Input]) -> None:
        """Record the datasets of a run; known ones are not doubled."""
        datasets = [
            {"tags": _pairs(each.tags), "dataset": _dataset(each.dataset)} for each in inputs
        ]
        self.post("runs/log-inputs", {"run_id": run_id, "datasets": datasets})

    def models(self, experiment: str, only: str) -> list[LoggedModel]:
        """The active logged models of an experiment selected by a filter."""
        wanted = {"experiment_ids": [experiment], "filter": only}
        found: list[LoggedModel] = []
        for page in self.pages("logged-models/search", wanted, MODELS_PER_PAGE):
            with self.understood():
                found += map(model_of_answer, page.get("models", ()))
        return found

    def create_model(self, experiment: str, run_id: str, model: LoggedModel) -> None:
        """Create a logged model of a run, with params and tags; a tag holds its identity."""
        body = {
            "experiment_id": experiment,
            "name": model.name,
            "source_run_id": run_id,
            "tags": _pairs({**model.tags, MODEL_TAG: model_identity(model)}),
            **({"model_type": model.model_type} if model.model_type else {}),
        }
        made = self.post("logged-models", body)
        with self.understood():
            model_id = text_of(made["model"]["info"], "model_id")
        self.update_model(model_id, model.params, {})
        if model.status in ("READY", "FAILED"):
            self.end_model(model_id, model.status)

    def update_model(
        self, model_id: str, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add params and tags to a logged model."""
        pairs = iter(_pairs(params))
        while part := [*islice(pairs, self.limits.pairs)]:
            self.post(f"logged-models/{model_id}/params", {"model_id": model_id, "params": part})
        if tags:
            body = {"model_id": model_id, "tags": _pairs(tags)}
            self.send("PATCH", f"logged-models/{model_id}/tags", body)

    def end_model(self, model_id: str, status: str) -> None:
        """Set the status of a logged model: READY or FAILED."""
        name = next(name for name, known in STATUS_NAMES.items() if known == status)
        self.send("PATCH", f"logged-models/{model_id}", {"model_id": model_id, "status": name})

    def delete_model(self, model_id: str) -> None:
        """Mark a logged model as deleted."""
        self.send("DELETE", f"logged-models/{model_id}", {"model_id": model_id})

    def log_model_points(self, run_id: str, model_id: str, points: Sequence[ModelMetric]) -> None:
        """Log points of a run as points of a logged model, too."""
        metrics = _metrics([(point.key, point.value, point.time, point.step) for point in points])
        for metric, point in zip(metrics, points, strict=True):
            metric["model_id"] = model_id
            if point.dataset_name and point.dataset_digest:
                metric["dataset_name"] = point.dataset_name
                metric["dataset_digest"] = point.dataset_digest
        self.post("runs/log-batch", {"run_id": run_id, "metrics": metrics})

    def link_models(self, run_id: str, links: Sequence[ModelLink]) -> None:
        """Record logged models read or written by a run; a known link must not be repeated."""
        read = [{"model_id": link.model_id} for link in links if not link.is_output]
        wrote = [{"model_id": link.model_id, "step": link.step} for link in links if link.is_output]
        if read:
            self.post("runs/log-inputs", {"run_id": run_id, "models": read})
        if wrote:
            self.post("runs/outputs", {"run_id": run_id, "models": wrote})

    def restore_run(self, run_id: str) -> None:
        """Mark a deleted run as active."""
        self.post("runs/restore", {"run_id": run_id})

    def artifact_tree(self, location: str) -> WritableTree:
        """The files at the artifact location of a run. Raises FileError if none can be stored."""
        root = proxied_root(location, self.url)
        if root is not None:
            return ProxiedTree(self, root)
        if local_path(location) is None:
            return ClientTree(location)
        raise FileError(
            f"the server keeps artifacts on its own disk ({location}) and accepts no uploads: let"
            " it proxy its artifacts"
        )

    def put_artifact(self, run: ApiRun, name: str, content: bytes) -> None:
        """Store a file as an artifact of the run: by upload to the server, or in its object store.

        Raises ExportError for a server with artifacts on its own disk.
        """
        parts = urlsplit(run.artifact_uri)
        if local_path(run.artifact_uri) is not None:
            raise ExportError(
                f"{self.server.name}: the server keeps artifacts on its own disk "
                f"({run.artifact_uri}) and accepts no uploads. Export without --attach-source."
            )
        if parts.scheme != "mlflow-artifacts":
            return put_file(run.artifact_uri, name, content)
        path = quote(f"{ARTIFACTS}{parts.path.strip('/')}/{FOLDER}/{name}")
        self.checked(self.server.request("PUT", path, content))
        return None

    def post(self, call: str, body: Mapping[str, Any], *, repeatable: bool = True) -> Any:
        """The answer of a call with POST. Raises UncertainError."""
        try:
            return super().post(call, body, repeatable=repeatable)
        except NoAnswerError as error:
            if repeatable or error.done is False:
                raise
            raise UncertainError(str(error)) from None

    def checked(self, answer: Answer) -> Answer:
        """The answer. Raises ConflictError or RefusedError for an error status."""
        try:
            return super().checked(answer)
        except RefusedError as error:
            if error.code == "RESOURCE_ALREADY_EXISTS":
                raise ConflictError from None
            raise


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _dataset(dataset: Dataset) -> dict[str, str]:
    return {key: value for key, value in asdict(dataset).items() if value is not None}


def _metrics(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Metrics as JSON; NaN is a text, as in all JSON of protocol buffers."""
    return [
        {"key": key, "value": value if value == value else "NaN", "timestamp": time, "step": step}
        for key, value, time, step in metrics
    ]


def _run(run: Mapping[str, Any]) -> ApiRun:
    info, data = run["info"], run.get("data", {})
    end = info.get("end_time")
    return ApiRun(
        run_id=text_of(info, "run_id"),
        name=text_of(info, "run_name", ""),
        stage=text_of(info, "lifecycle_stage"),
        status=text_of(info, "status"),
        artifact_uri=text_of(info, "artifact_uri", ""),
        experiment=text_of(info, "experiment_id"),
        end=None if end is None else int(end),
        tags=texts_of(data.get("tags", ())),
        params=texts_of(data.get("params", ())),
        latest={text_of(point, "key"): repr(point["value"]) for point in data.get("metrics", ())},
        links=tuple(links_of_answer(run)),
    )


def _points(metrics: Sequence[Mapping[str, Any]]) -> Points:
    """The points of an answer; `float` also parses the texts NaN and Infinity."""
    step = np.array([int(metric.get("step", 0)) for metric in metrics], np.int64)
    value = np.array([float(metric["value"]) for metric in metrics], np.float64)
    time = np.array([int(metric["timestamp"]) for metric in metrics], np.int64)
    return Points(step, value, time / 1000.0)
