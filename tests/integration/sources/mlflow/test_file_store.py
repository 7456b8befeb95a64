"""File stores of seven releases, against MLflow's own client and its `migrate-filestore`."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.formats.mlflow_store.records import Metric, RunRecord
from bridges.sources.mlflow.file_store import FileStore
from tests.mlflow_stores import RELEASES, unpack_store

BOOLEAN = "metrics/bool"  # mlflow 0.8 and 1.0 cannot read what they wrote there
WITH_DATASET = "with_ds"  # the client reads step 0 for all of its points
CLIENT_RELEASES = RELEASES[1:]  # mlflow 3 cannot read stores of mlflow 0.x
LARGEST = sys.float_info.max


@pytest.fixture(autouse=True)
def _allow_file_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def read_all(root: Path) -> Iterator[tuple[RunRecord, list[Metric]]]:
    store = FileStore(str(root))
    for experiment in store.experiments():
        for head in store.heads(experiment):
            yield store.read(head)
    assert store.errors == []


def copy_for_mlflow(release: str, folder: Path) -> Path:
    """A copy of the store, in which `True` is written as the number that it is."""
    root = unpack_store(release, folder / "copy")
    for path in root.glob(f"*/*/{BOOLEAN}"):
        path.write_text(path.read_text().replace("True", "1.0"))
    return root


def points_of(metrics: list[Metric]) -> dict[str, list[tuple[int, bytes, int]]]:
    """Time, bits of the value and step of each point, in the order of logging."""
    return {
        metric.key: [
            (time, np.float64(value).tobytes(), step)
            for time, value, step in zip(
                metric.time.tolist(), metric.value.tolist(), metric.step.tolist(), strict=True
            )
        ]
        for metric in metrics
    }


@pytest.mark.parametrize("release", CLIENT_RELEASES)
def test_everything_is_as_the_client_reads_it(release: str, tmp_path: Path) -> None:
    from mlflow.entities import ViewType
    from mlflow.store.tracking.file_store import FileStore as ClientStore

    copy = copy_for_mlflow(release, tmp_path)
    client = ClientStore(str(copy))
    experiments = {each.experiment_id: each for each in client.search_experiments(ViewType.ALL)}
    runs = {
        run.info.run_id: run
        for run in client.search_runs([*experiments], "", ViewType.ALL, max_results=50_000)
    }
    found = {record.head.run_id: (record, metrics) for record, metrics in
             read_all(unpack_store(release, tmp_path / "ours"))}  # fmt: skip
    assert found.keys() == runs.keys()
    for run_id, (record, metrics) in found.items():
        run, experiment = runs[run_id], experiments[record.head.experiment.id]
        assert of_record(record) == of_client(run, experiment, copy)
        histories = {
            key: [
                (point.timestamp, np.float64(point.value).tobytes(), point.step)
                for point in client.get_metric_history(run_id, key)
            ]
            for key in run.data.metrics
        }
        points = points_of(metrics)
        if WITH_DATASET in points:
            points[WITH_DATASET] = [(time, value, 0) for time, value, _ in points[WITH_DATASET]]
        assert points == histories


def of_record(record: RunRecord) -> dict[str, Any]:
    head = record.head
    return {
        "experiment": (head.experiment.name, dict(head.experiment.tags)),
        "created": (head.experiment.created, head.experiment.updated),
        "name": head.name or head.tags.get("mlflow.runName", ""),
        "status": head.status,
        "times": (head.start, head.end),
        "stage": head.stage,
        "user": record.user,
        "params": dict(record.params),
        "tags": dict(record.tags),
        "artifacts": record.artifact_uri,
        "inputs": sorted(
            (each.dataset.name, each.dataset.digest, each.dataset.source_type, each.dataset.source,
             each.dataset.schema, each.dataset.profile, sorted(each.tags.items()))
            for each in record.inputs
        ),
        "models read": [link.model_id for link in record.links if not link.is_output],
        "models written": [(link.model_id, link.step) for link in record.links if link.is_output],
    }  # fmt: skip


def of_client(run: Any, experiment: Any, root: Path) -> dict[str, Any]:
    # mlflow 1 marks deleted experiments and their runs by their place only
    in_trash = (root / ".trash" / experiment.experiment_id).is_dir()
    return {
        "experiment": (experiment.name, dict(experiment.tags)),
        "created": (experiment.creation_time, experiment.last_update_time),
        "name": run.info.run_name or "",
        "status": run.info.status,
        "times": (run.info.start_time, run.info.end_time),
        "stage": "deleted" if in_trash else run.info.lifecycle_stage,
        "user": run.info.user_id,
        "params": dict(run.data.params),
        "tags": dict(run.data.tags),
        "artifacts": run.info.artifact_uri,
        "inputs": sorted(
            (each.dataset.name, each.dataset.digest, each.dataset.source_type, each.dataset.source,
             each.dataset.schema, each.dataset.profile,
             sorted((tag.key, tag.value) for tag in each.tags))
            for each in run.inputs.dataset_inputs
        ),
        "models read": [each.model_id for each in run.inputs.model_inputs or ()],
        "models written": [(each.model_id, each.step) for each in run.outputs.model_outputs],
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("release", ["0.8.2", "2.9.2", "3.12.0", "3.17.2"])
def test_everything_is_as_mlflow_migrates_it(release: str, tmp_path: Path) -> None:
    from mlflow.store.fs2db import migrate

    path = tmp_path / "migrated.db"
    migrate(copy_for_mlflow(release, tmp_path), f"sqlite:///{path}", progress=False)
    found = [*read_all(unpack_store(release, tmp_path / "ours"))]
    with closing(sqlite3.connect(path)) as database:
        migrated = {kind: Counter(database.execute(query)) for kind, query in QUERIES.items()}
    ours = {
        "runs": Counter(
            (record.head.run_id, record.head.name, record.head.status, record.head.start,
             record.head.end, record.user, record.deleted, record.source_name, record.artifact_uri,
             int(record.head.experiment.id), record.head.experiment.name)
            for record, _ in found
        ),
        "params": texts_of({record.head.run_id: record.params for record, _ in found}),
        "tags": texts_of({record.head.run_id: record.tags for record, _ in found}),
        "metrics": Counter(row for record, metrics in found for row in rows_of(record, metrics)),
        "inputs": Counter(
            (record.head.run_id, each.dataset.name, each.dataset.digest, each.dataset.source_type,
             each.dataset.source, each.dataset.schema, each.dataset.profile, *tag)
            for record, _ in found for each in record.inputs for tag in each.tags.items()
        ),
        "outputs": Counter(
            (record.head.run_id, link.model_id, link.step)
            for record, _ in found for link in record.links if link.is_output
        ),
        "models": Counter(
            (record.head.run_id, model.model_id, model.name, model.artifact_location,
             model.created, model.updated, ("PENDING", "READY", "FAILED").index(model.status) + 1,
             model.stage, model.model_type)
            for record, _ in found for model in record.models
        ),
        "model tags": texts_of(
            {model.model_id: model.tags for record, _ in found for model in record.models}
        ),
        "model params": texts_of(
            {model.model_id: model.params for record, _ in found for model in record.models}
        ),
        "model metrics": Counter(
            (model.model_id, each.key, each.time, each.step, each.value, each.run_id,
             each.dataset_name, each.dataset_digest)
            for record, _ in found for model in record.models for each in model.metrics
        ),
    }  # fmt: skip
    for kind, rows in migrated.items():
        assert ours[kind] == rows, kind


QUERIES = {
    "runs": """select run_uuid, coalesce(runs.name, ''), status, start_time, end_time, user_id,
        deleted_time, source_name, artifact_uri, experiment_id, experiments.name
        from runs join experiments using (experiment_id)""",
    # migrate-filestore changes the line ends of params
    "params": "select run_uuid, key, replace(value, char(13), '') from params",
    "tags": "select run_uuid, key, value from tags",
    "metrics": "select run_uuid, key, timestamp, value, step, is_nan from metrics",
    "inputs": """select destination_id, datasets.name, digest, dataset_source_type, dataset_source,
        dataset_schema, dataset_profile, input_tags.name, input_tags.value
        from inputs join datasets on source_id = dataset_uuid join input_tags using (input_uuid)""",
    # migrate-filestore drops the models that a run read, if its experiment has no datasets
    "outputs": """select source_id, destination_id, step from inputs
        where destination_type = 'MODEL_OUTPUT'""",
    "models": """select source_run_id, model_id, name, artifact_location, creation_timestamp_ms,
        last_updated_timestamp_ms, status, lifecycle_stage, model_type from logged_models""",
    "model tags": "select model_id, tag_key, tag_value from logged_model_tags",
    "model params": "select model_id, param_key, param_value from logged_model_params",
    "model metrics": """select model_id, metric_name, metric_timestamp_ms, metric_step,
        metric_value, run_id, dataset_name, dataset_digest from logged_model_metrics""",
}


def texts_of(texts: Mapping[str, Mapping[str, str]]) -> Counter[tuple[str, str, str]]:
    """Owner, key and value, with the line ends of `migrate-filestore`."""
    return Counter(
        (owner, key, value.replace("\r", ""))
        for owner, pairs in texts.items()
        for key, value in pairs.items()
    )


def rows_of(record: RunRecord, metrics: list[Metric]) -> Iterator[tuple[Any, ...]]:
    """The rows of the points in a database of MLflow. Times in seconds stay seconds there."""
    in_seconds = {each.where for each in record.findings if each.code == "times-in-seconds"}
    for metric in metrics:
        unit = 1000 if f"metrics/{metric.key}" in in_seconds else 1
        points = zip(metric.time.tolist(), metric.value.tolist(), metric.step.tolist(), strict=True)
        for time, value, step in points:
            stored = 0.0 if math.isnan(value) else min(max(value, -LARGEST), LARGEST)
            key, is_nan = metric.key, int(math.isnan(value))
            yield record.head.run_id, key, time // unit, stored, step, is_nan
