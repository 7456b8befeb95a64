"""All runs of a store as mlflow's own client reads them, and as we read them, in one form."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy

from bridges.formats.mlflow_store.records import NAME_TAG, Metric, RunRecord
from bridges.sources.mlflow.store import Store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient as MlflowClient
    from mlflow.entities import ViewType

Point = tuple[str, str, int, int]  # key, value as text (so that NaN equals NaN), time, step


@dataclass(frozen=True)
class Told:
    """A run with all that both read."""

    experiment: tuple[str, str, str, dict[str, str]]
    name: str
    status: str
    stage: str
    times: tuple[int | None, int | None]
    uri: str
    params: dict[str, str]
    tags: dict[str, str]
    points: Counter[Point]
    datasets: list[tuple[Any, ...]]
    links: list[tuple[str, bool]]
    models: dict[str, tuple[Any, ...]]


def by_mlflow(uri: str, *, has_models: bool = True) -> dict[str, Told]:
    """The runs by id, as mlflow's client reads them; MLflow 2 has no logged models."""
    client = MlflowClient(uri)
    found = {}
    for experiment in client.search_experiments(ViewType.ALL):
        models: dict[str, dict[str, tuple[Any, ...]]] = {}
        for model in client.search_logged_models([experiment.experiment_id]) if has_models else ():
            models.setdefault(model.source_run_id, {})[model.model_id] = _model(model)
        for run in client.search_runs([experiment.experiment_id], "", ViewType.ALL):
            own = models.get(run.info.run_id, {})
            found[run.info.run_id] = _told(client, experiment, run, own)
    return found


def _told(client: Any, experiment: Any, run: Any, models: dict[str, tuple[Any, ...]]) -> Told:
    run = client.get_run(run.info.run_id)  # lists have no models that were read
    info, inputs, outputs = run.info, run.inputs, run.outputs
    stages = info.lifecycle_stage, experiment.lifecycle_stage
    points: Counter[Point] = Counter(
        (key, repr(point.value), point.timestamp, point.step)
        for key in run.data.metrics
        for point in client.get_metric_history(info.run_id, key)
    )
    links = [(each.model_id, False) for each in inputs.model_inputs]
    links += [(each.model_id, True) for each in (outputs.model_outputs if outputs else ())]
    return Told(
        (experiment.experiment_id, experiment.name, experiment.lifecycle_stage, experiment.tags),
        info.run_name,
        info.status,
        "deleted" if "deleted" in stages else "active",  # mlflow 1 does not mark the runs
        (info.start_time, info.end_time),
        info.artifact_uri,
        run.data.params,
        run.data.tags,
        points,
        sorted(_dataset(each) for each in inputs.dataset_inputs),
        sorted(links),
        models,
    )


def _dataset(used: Any) -> tuple[Any, ...]:
    dataset, tags = used.dataset, sorted((tag.key, tag.value) for tag in used.tags)
    source = dataset.source_type, dataset.source, dataset.schema, dataset.profile
    return (dataset.name, dataset.digest, *source, tags)


def _model(model: Any) -> tuple[Any, ...]:
    points = sorted((m.key, m.value, m.timestamp, m.step, m.run_id) for m in model.metrics or ())
    return (
        model.name,
        str(model.status),
        model.creation_timestamp,
        model.params,
        model.tags,
        points,
    )


def by_us(store: Store) -> dict[str, Told]:
    """The runs by id, as we read them."""
    read = [
        store.read(head) for experiment in store.experiments() for head in store.heads(experiment)
    ]
    assert store.errors == []
    return {record.head.run_id: _ours(record, metrics) for record, metrics in read}


def _ours(record: RunRecord, metrics: list[Metric]) -> Told:
    head, experiment = record.head, record.head.experiment
    datasets = [
        (d.name, d.digest, d.source_type, d.source, d.schema, d.profile, sorted(used.tags.items()))
        for used in record.inputs
        for d in [used.dataset]
    ]
    models = {
        m.model_id: (m.name, m.status, m.created, dict(m.params), dict(m.tags), _points(m.metrics))
        for m in record.models
    }
    return Told(
        (experiment.id, experiment.name, experiment.stage, dict(experiment.tags)),
        head.name or head.tags.get(NAME_TAG, ""),
        head.status,
        head.stage,
        (head.start, head.end),
        record.artifact_uri,
        dict(record.params),
        dict(record.tags),
        points_of(metrics),
        sorted(datasets),
        sorted((link.model_id, link.is_output) for link in record.links),
        models,
    )


def _points(metrics: Any) -> list[tuple[Any, ...]]:
    return sorted((m.key, m.value, m.time, m.step, m.run_id) for m in metrics)


def points_of(metrics: list[Metric]) -> Counter[Point]:
    """All points."""
    return Counter(
        (metric.key, repr(value), time, step)
        for metric in metrics
        for value, time, step in zip(
            metric.value.tolist(), metric.time.tolist(), metric.step.tolist(), strict=True
        )
    )


def copy_database(file: Path, uri: str) -> None:
    """Create mlflow's tables in an empty database and fill them with the rows of an SQLite file."""
    from mlflow.store.db.utils import _initialize_tables

    source, target = sqlalchemy.create_engine(f"sqlite:///{file}"), sqlalchemy.create_engine(uri)
    _initialize_tables(target)
    tables = sqlalchemy.MetaData()
    tables.reflect(target)
    with source.connect() as reader, target.begin() as writer:
        if target.dialect.name == "mysql":
            writer.exec_driver_sql("set session sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        for table in reversed(tables.sorted_tables):
            if table.name != "alembic_version":
                writer.execute(table.delete())
        for table in tables.sorted_tables:
            rows = [
                dict(row)
                for row in reader.execute(sqlalchemy.text(f"select * from {table}")).mappings()
            ]
            if rows and table.name != "alembic_version":
                writer.execute(table.insert(), [_typed(table, row) for row in rows])
    for engine in (source, target):
        engine.dispose()


def _typed(table: sqlalchemy.Table, row: dict[str, Any]) -> dict[str, Any]:
    """The values of a row, without computed ones; SQLite has no booleans."""
    columns = {column.name: column for column in table.columns if column.computed is None}
    return {
        name: bool(value)
        if isinstance(columns[name].type, sqlalchemy.Boolean) and value is not None
        else value
        for name, value in row.items()
        if name in columns
    }
