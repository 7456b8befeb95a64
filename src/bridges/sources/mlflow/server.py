"""A tracking server of MLflow 2 or 3 as a store, through its REST API.

An empty answer proves nothing: some servers send it for a run that is gone. So each history must
have the latest point that the server names for its key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from bridges.errors import ExportError, SourceError
from bridges.formats.mlflow_store.connections import Connections
from bridges.formats.mlflow_store.models import (
    MODELS_PER_PAGE,
    links_of_answer,
    model_of_answer,
)
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    DELETED,
    Dataset,
    Experiment,
    Input,
    LoggedModel,
    Metric,
    RunHead,
    RunRecord,
)
from bridges.formats.mlflow_store.rest import MISSING, RefusedError, RestClient, text_of, texts_of
from bridges.sources.mlflow.artifacts import artifact_folder
from bridges.sources.mlflow.columns import infinities
from bridges.sources.mlflow.database import run_is_gone
from bridges.stream.model import Int64

ITEMS_PER_PAGE = 1_000
TRACES_PER_PAGE = 500  # MLflow's maximum
MAX_TRACES = 5_000  # more are not counted: their answers are large
IDS_PER_QUERY = 100  # in a URL
NOT_OFFERED = ("", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED")
EXPECTED = "an answer of an MLflow tracking server"
T = TypeVar("T")


class ServerStore:
    """The server at `url`."""

    def __init__(self, url: str) -> None:
        self.location = url.rstrip("/")
        self.errors: list[SourceError] = []
        self._client = RestClient(url, "the location")
        self._connections = Connections(url, "the location")
        self._models: dict[str, dict[str, list[LoggedModel]]] = {}  # by experiment and run

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones included, by id."""
        self._models = {}
        with self._errors(self.location):
            pages = self._client.pages("experiments/search", {"view_type": "ALL"}, ITEMS_PER_PAGE)
            with self._client.understood():
                found = [
                    _experiment(each) for page in pages for each in page.get("experiments", ())
                ]
        return sorted(found, key=lambda each: (len(each.id), each.id))

    def heads(self, experiment: Experiment) -> Iterator[RunHead]:
        """All runs of an experiment, deleted ones included, by start time."""
        wanted = {
            "experiment_ids": [experiment.id],
            "run_view_type": "ALL",
            "order_by": ["attributes.start_time ASC"],  # new runs come last
        }
        with self._errors(self.location):
            for page in self._client.pages("runs/search", wanted, ITEMS_PER_PAGE):
                with self._client.understood():
                    found = [self._head(experiment, each) for each in page.get("runs", ())]
                yield from found

    def _head(self, experiment: Experiment, run: Mapping[str, Any]) -> RunHead:
        info = run["info"]
        run_id = text_of(info, "run_id")
        return RunHead(
            run_id=run_id,
            experiment=experiment,
            where=f"{self.location}, run {run_id}",
            name=text_of(info, "run_name", ""),
            status=text_of(info, "status", "RUNNING"),
            stage=DELETED if DELETED in (info.get("lifecycle_stage"), experiment.stage) else ACTIVE,
            start=_whole(info.get("start_time")),
            end=_whole(info.get("end_time")),
            tags=texts_of(run.get("data", {}).get("tags", ())),
        )

    def read(self, head: RunHead) -> tuple[RunRecord, list[Metric]]:
        """A run with its metrics. Raises SourceError if a history is missing or incomplete."""
        with self._errors(head.where):
            try:
                run = self._client.get("runs/get", {"run_id": head.run_id}).get("run")
            except RefusedError as error:
                if error.code == MISSING:
                    raise run_is_gone(head) from None
                raise
            if not run:
                raise run_is_gone(head)
            with self._client.understood():
                record = self._record(head, run)
                latest = run.get("data", {}).get("metrics", ())
            metrics = self._metrics(record.head, latest)
        return with_infinities(record, metrics), metrics

    def _record(self, head: RunHead, run: Mapping[str, Any]) -> RunRecord:
        info, uri = run["info"], text_of(run["info"], "artifact_uri", "")
        return RunRecord(
            head=self._head(head.experiment, run),
            params=texts_of(run.get("data", {}).get("params", ())),
            user=text_of(info, "user_id", ""),
            artifact_uri=uri,
            artifact_folder=artifact_folder(uri, ()),
            store=self.location,
            inputs=tuple(map(_input, run.get("inputs", {}).get("dataset_inputs", ()))),
            links=tuple(links_of_answer(run)),
            models=tuple(self._models_of(head)),
        )

    def _metrics(self, head: RunHead, latest: Sequence[Mapping[str, Any]]) -> list[Metric]:
        """The history of each key, over several connections."""
        return self._connections.map(lambda client, point: _metric(client, head, point), latest)

    def _models_of(self, head: RunHead) -> list[LoggedModel]:
        """The logged models of a run; all of its experiment are read at once."""
        experiment = head.experiment.id
        if experiment not in self._models:
            self._models = {experiment: self._models_by_run(experiment)}
        return self._models[experiment].get(head.run_id, [])

    def _models_by_run(self, experiment: str) -> dict[str, list[LoggedModel]]:
        found: dict[str, list[LoggedModel]] = {}
        for each in self._optional(
            "logged-models/search", {"experiment_ids": [experiment]}, "models"
        ):
            run = text_of(each["info"], "source_run_id", "")
            found.setdefault(run, []).append(model_of_answer(each))
        return found

    def _optional(
        self,
        call: str,
        wanted: Mapping[str, Any],
        items: str,
        *,
        method: str = "POST",
        page: int = MODELS_PER_PAGE,
        most: int | None = None,
    ) -> list[Mapping[str, Any]]:
        """The items of a search; none if the server or its store does not have this call."""
        pages = self._client.pages(call, wanted, page, method=method)
        try:
            return [*islice((each for found in pages for each in found.get(items, ())), most)]
        except RefusedError as error:
            if error.code in NOT_OFFERED:
                return []
            raise

    def left_out(self) -> Counter[str]:
        """The numbers of registered models, of their versions and of traces (see MAX_TRACES)."""
        ids = [experiment.id for experiment in self.experiments()]
        counts = Counter[str]()
        with self._errors(self.location):
            for kind, call, items in (
                ("registered models", "registered-models/search", "registered_models"),
                ("model versions", "model-versions/search", "model_versions"),
            ):
                counts[kind] = len(self._optional(call, {}, items, method="GET"))
            for start in range(0, len(ids), IDS_PER_QUERY):
                left = MAX_TRACES - counts["traces"]
                wanted = {"experiment_ids": ids[start : start + IDS_PER_QUERY]}
                found = self._optional(
                    "traces", wanted, "traces", method="GET", page=TRACES_PER_PAGE, most=left
                )
                counts["traces"] += len(found)
        if counts["traces"] >= MAX_TRACES:
            counts["traces or more"] = counts.pop("traces")
        return +counts

    @contextmanager
    def _errors(self, where: str) -> Iterator[None]:
        """Raise errors of the connection as SourceError."""
        try:
            yield
        except ExportError as error:
            said = str(error).removeprefix(f"{self._client.server.name}").lstrip(": ")
            raise SourceError(
                where,
                found=f"this instead of an answer: {said.rstrip('.')}",
                expected=EXPECTED,
                remedy="Check the URL, the login and that the server runs.",
            ) from error


def _metric(client: RestClient, head: RunHead, latest: Mapping[str, Any]) -> Metric:
    """The history of a key. Raises SourceError if it does not have the latest point."""
    with client.understood():
        key = text_of(latest, "key")
    points = client.history(head.run_id, key)
    with client.understood():
        step = np.array([int(point.get("step", 0)) for point in points], np.int64)
        time = np.array([int(point["timestamp"]) for point in points], np.int64)
        value = np.array([float(point["value"]) for point in points], np.float64)
        newest = int(latest.get("step", 0)), int(latest["timestamp"])
    require_latest(head, key, step, time, newest)
    return Metric(key, value, time, step)


def with_infinities(record: RunRecord, metrics: Sequence[Metric]) -> RunRecord:
    """The record with a note on infinities, as most servers have a database."""
    return replace(record, findings=(*infinities(metrics),))


def require_latest(
    head: RunHead, key: str, step: Int64, time: Int64, newest: tuple[int, int] | None
) -> None:
    """Raise SourceError if a history is empty, or lacks the step and the time of `newest`."""
    if newest is None and len(step):
        return
    if newest is not None and ((step == newest[0]) & (time == newest[1])).any():
        return
    at = f"a point at step {newest[0]} and time {newest[1]}" if newest else "points"
    raise SourceError(
        head.where,
        place=f"metric {key!r}",
        found=f"a history of {len(step):,} points without the latest one",
        expected=at,
        remedy="The run may have been removed in the meantime: run the command again.",
    )


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _experiment(found: Mapping[str, Any]) -> Experiment:
    return Experiment(
        id=text_of(found, "experiment_id"),
        name=text_of(found, "name"),
        stage=DELETED if found.get("lifecycle_stage") == DELETED else ACTIVE,
        artifact_location=found.get("artifact_location"),
        created=_whole(found.get("creation_time")),
        updated=_whole(found.get("last_update_time")),
        tags=texts_of(found.get("tags", ())),
    )


def _input(found: Mapping[str, Any]) -> Input:
    dataset = found["dataset"]
    return Input(
        Dataset(
            name=text_of(dataset, "name"),
            digest=text_of(dataset, "digest"),
            source_type=text_of(dataset, "source_type", ""),
            source=text_of(dataset, "source", ""),
            schema=dataset.get("schema"),
            profile=dataset.get("profile"),
        ),
        texts_of(found.get("tags", ())),
    )
