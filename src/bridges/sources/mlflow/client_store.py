"""A store through the installed mlflow's client: Databricks, plug-ins of mlflow, and servers that
need a setting of its own. Databricks is untested.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from bridges.errors import BridgeError, SourceError
from bridges.formats.mlflow_store.client import message_of, open_client
from bridges.formats.mlflow_store.models import links_of_client, model_of_client
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    DELETED,
    Dataset,
    Experiment,
    Input,
    Metric,
    RunHead,
    RunRecord,
)
from bridges.formats.mlflow_store.uri import shown_uri
from bridges.sources.mlflow.artifacts import artifact_folder
from bridges.sources.mlflow.database import run_is_gone
from bridges.sources.mlflow.server import require_latest, with_infinities

ITEMS_PER_PAGE = 1_000
T = TypeVar("T")


class ClientStore:
    """The store at a tracking URI. Raises MissingDependencyError, SourceError."""

    def __init__(self, uri: str) -> None:
        self.location = shown_uri(uri)
        self.errors: list[SourceError] = []
        self._client: Any
        self._entities: Any
        self._client, self._entities, _ = self._call(self.location, open_client, uri)

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones included, by id."""
        view = self._entities.ViewType.ALL
        found = map(_experiment, self._pages(self._client.search_experiments, view))
        return sorted(found, key=lambda each: (len(each.id), each.id))

    def heads(self, experiment: Experiment) -> Iterator[RunHead]:
        """All runs of an experiment, deleted ones included, by start time."""
        view, order = self._entities.ViewType.ALL, ["attributes.start_time ASC"]
        search = self._client.search_runs
        for run in self._pages(search, [experiment.id], "", view, order_by=order):
            yield self._head(experiment, run)

    def _head(self, experiment: Experiment, run: Any) -> RunHead:
        info = run.info
        return RunHead(
            run_id=info.run_id,
            experiment=experiment,
            where=f"{self.location}, run {info.run_id}",
            name=info.run_name or "",
            status=info.status,
            stage=DELETED if DELETED in (info.lifecycle_stage, experiment.stage) else ACTIVE,
            start=info.start_time,
            end=info.end_time,
            tags=dict(run.data.tags),
        )

    def read(self, head: RunHead) -> tuple[RunRecord, list[Metric]]:
        """A run with its metrics. Raises SourceError if it is gone, or a history is incomplete."""
        try:
            run = self._call(head.where, self._client.get_run, head.run_id)
        except SourceError as error:
            if getattr(error.__cause__, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                raise run_is_gone(head) from None
            raise
        latest = getattr(run.data, "_metric_objs", None) or ()
        newest = {point.key: (point.step, point.timestamp) for point in latest}
        metrics = [self._metric(head, key, newest.get(key)) for key in run.data.metrics]
        return with_infinities(self._record(head, run), metrics), metrics

    def _metric(self, head: RunHead, key: str, newest: tuple[int, int] | None) -> Metric:
        points = self._call(head.where, self._client.get_metric_history, head.run_id, key)
        step = np.array([int(point.step) for point in points], np.int64)
        time = np.array([int(point.timestamp) for point in points], np.int64)
        value = np.array([float(point.value) for point in points], np.float64)
        require_latest(head, key, step, time, newest)
        return Metric(key, value, time, step)

    def _record(self, head: RunHead, run: Any) -> RunRecord:
        inputs = getattr(getattr(run, "inputs", None), "dataset_inputs", ())
        uri = run.info.artifact_uri or ""
        return RunRecord(
            head=self._head(head.experiment, run),
            params=dict(run.data.params),
            user=run.info.user_id or "",
            artifact_uri=uri,
            artifact_folder=artifact_folder(uri, ()),
            store=self.location,
            inputs=tuple(map(_input, inputs)),
            links=tuple(links_of_client(run)),
            models=tuple(map(model_of_client, self._models(head))),
        )

    def _models(self, head: RunHead) -> list[Any]:
        """The logged models of a run; MLflow 2 has none."""
        search = getattr(self._client, "search_logged_models", None)
        if search is None:
            return []
        only = f"source_run_id = '{head.run_id}'"
        return [*self._pages(search, [head.experiment.id], only)]

    def left_out(self) -> Counter[str]:
        """Nothing is counted."""
        return Counter()

    def _pages(self, search: Callable[..., Any], *wanted: Any, **named: Any) -> Iterator[Any]:
        token = None
        while True:
            named |= {"max_results": ITEMS_PER_PAGE, "page_token": token}
            page = self._call(self.location, search, *wanted, **named)
            yield from page
            token = page.token
            if not token:
                return

    def _call(self, where: str, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        with warnings.catch_warnings(), _translated_errors(where):
            warnings.simplefilter("ignore")  # about mlflow's internals
            return call(*arguments, **named)


@contextmanager
def _translated_errors(where: str) -> Iterator[None]:
    """Raise errors of mlflow and its dependencies as SourceError."""
    try:
        yield
    except BridgeError:
        raise
    except Exception as error:  # deliberately broad: stores may be plug-ins of mlflow
        raise SourceError(
            where,
            found=f"an error of the installed mlflow ({message_of(error)})",
            expected="an MLflow tracking store that it can read",
            remedy="Check the URI and the login, and whether `mlflow` itself reads this store.",
        ) from error


def _experiment(found: Any) -> Experiment:
    return Experiment(
        id=str(found.experiment_id),
        name=found.name,
        stage=DELETED if found.lifecycle_stage == DELETED else ACTIVE,
        artifact_location=found.artifact_location,
        created=found.creation_time,
        updated=found.last_update_time,
        tags=dict(found.tags),
    )


def _input(used: Any) -> Input:
    dataset = used.dataset
    values: Mapping[str, str] = {tag.key: tag.value for tag in used.tags}
    return Input(
        Dataset(
            name=dataset.name,
            digest=dataset.digest,
            source_type=dataset.source_type or "",
            source=dataset.source or "",
            schema=dataset.schema,
            profile=dataset.profile,
        ),
        values,
    )
