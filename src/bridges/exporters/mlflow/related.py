"""Rows beside a run in an MLflow database: datasets, inputs, outputs and logged models.

Logged models keep their ids, unless the database has copies of them under other ids. The ids of
datasets and inputs are digests, so that a row is written once. Older databases lack some tables and
columns.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bridges.exporters.mlflow.database import Session
from bridges.formats.mlflow_store.records import (
    MODEL_TAG,
    Dataset,
    LoggedModel,
    RunRecord,
    model_identity,
)
from bridges.stream.finding import Finding, Severity

Schema = Mapping[str, Collection[str]]  # columns by table; empty if unknown
Fit = Callable[[str, str, str], str]  # a text within its column; the column and its description
KEYS = {  # the primary keys
    "datasets": ("experiment_id", "name", "digest"),
    "inputs": ("source_type", "source_id", "destination_type", "destination_id"),
    "input_tags": ("input_uuid", "name"),
    "logged_models": ("model_id",),
    "logged_model_params": ("model_id", "param_key"),
    "logged_model_tags": ("model_id", "tag_key"),
    "logged_model_metrics": (
        *("model_id", "metric_name", "metric_timestamp_ms", "metric_step", "run_id"),
    ),
}
MODEL_STATUS = {"UNSPECIFIED": 0, "PENDING": 1, "READY": 2, "FAILED": 3}
METRICS = "logged_model_metrics"
IDS = {"datasets": "dataset_uuid", "inputs": "input_uuid"}  # columns that other tables refer to


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    table: str
    values: Mapping[str, object]

    @property
    def key(self) -> dict[str, object]:
        """The values of its primary key."""
        return {name: self.values[name] for name in KEYS[self.table]}


def related_rows(
    record: RunRecord, experiment: int, run_id: str, fit: Fit, id_of: Callable[[Row], str]
) -> Iterator[Row]:
    """The rows beside a run, referenced ones first; `id_of` may find a stored dataset or input."""
    for each in record.inputs:
        dataset = _dataset(each.dataset, experiment, fit)
        source = id_of(dataset)
        yield Row("datasets", {**dataset.values, "dataset_uuid": source})
        link = _input("DATASET", source, "RUN", run_id)
        link = Row("inputs", {**link.values, "input_uuid": id_of(link)})
        yield link
        for key, value in each.tags.items():
            name = fit(key, "input_tags.name", f"the key {key!r} of an input")
            text = fit(value, "input_tags.value", f"tag {key!r} of an input")
            values = {"input_uuid": link.values["input_uuid"], "name": name, "value": text}
            yield Row("input_tags", values)
    for model in record.models:
        yield from _model(model, experiment, run_id, record.head.run_id, fit)
    for linked in record.links:
        kind = "OUTPUT" if linked.is_output else "INPUT"
        step = linked.step if linked.is_output else 0
        yield _input(f"RUN_{kind}", run_id, f"MODEL_{kind}", linked.model_id, step)


def new_id(row: Row) -> str:
    """The id of a new dataset or input."""
    return _digest(*row.key.values())


def _dataset(dataset: Dataset, experiment: int, fit: Fit) -> Row:
    where = f"dataset {dataset.name!r}"
    values = {
        "experiment_id": experiment,
        "name": fit(dataset.name, "datasets.name", where),
        "digest": fit(dataset.digest, "datasets.digest", where),
        "dataset_source_type": fit(dataset.source_type, "datasets.dataset_source_type", where),
        "dataset_source": fit(dataset.source, "datasets.dataset_source", where),
        "dataset_schema": dataset.schema,
        "dataset_profile": dataset.profile,
    }
    return Row("datasets", values)


def _input(
    source_type: str, source: str, destination_type: str, destination: str, step: int = 0
) -> Row:
    ends = {
        "source_type": source_type,
        "source_id": source,
        "destination_type": destination_type,
        "destination_id": destination,
    }
    return Row("inputs", {**ends, "input_uuid": _digest(*ends.values()), "step": step})


def _model(
    model: LoggedModel, experiment: int, run_id: str, source_id: str, fit: Fit
) -> Iterator[Row]:
    own, where = {"model_id": model.model_id, "experiment_id": experiment}, f"model {model.name!r}"
    created = model.created or 0
    message, kind = model.status_message, model.model_type
    values = {
        "name": fit(model.name, "logged_models.name", where),
        "artifact_location": fit(
            model.artifact_location or "", "logged_models.artifact_location", where
        ),
        "creation_timestamp_ms": created,
        "last_updated_timestamp_ms": created if model.updated is None else model.updated,
        "status": MODEL_STATUS.get(model.status, 0),
        "lifecycle_stage": model.stage,
        "model_type": kind and fit(kind, "logged_models.model_type", where),
        "source_run_id": run_id,
        "status_message": message and fit(message, "logged_models.status_message", where),
    }
    yield Row("logged_models", {**own, **values})
    for row in (*_model_pairs(model, fit, where), *_model_metrics(model, run_id, source_id, fit)):
        yield Row(row.table, {**own, **row.values})


def _model_pairs(model: LoggedModel, fit: Fit, where: str) -> Iterator[Row]:
    """The params and tags of a model, without its ids."""
    for kind, pairs in (("param", model.params), ("tag", model.tags)):
        table, name, value = f"logged_model_{kind}s", f"{kind}_key", f"{kind}_value"
        for key, text in pairs.items():
            its = f"{kind} {key!r} of {where}"
            fitted = {
                name: fit(key, f"{table}.{name}", its),
                value: fit(text, f"{table}.{value}", its),
            }
            yield Row(table, fitted)


def _model_metrics(model: LoggedModel, run_id: str, source_id: str, fit: Fit) -> Iterator[Row]:
    """The points of a model, without its ids."""
    names = {
        key: fit(key, f"{METRICS}.metric_name", f"metric {key!r} of model {model.name!r}")
        for key in dict.fromkeys(point.key for point in model.metrics)
    }
    for point in model.metrics:
        at = {
            "metric_name": names[point.key],
            "metric_timestamp_ms": point.time,
            "metric_step": point.step,
            "metric_value": point.value,
            "run_id": run_id if point.run_id == source_id else point.run_id,
            "dataset_name": point.dataset_name,
            "dataset_digest": point.dataset_digest,
        }
        yield Row(METRICS, at)


def _digest(*parts: object) -> str:
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=16).hexdigest()


class Related:
    """Writes the rows beside runs into a database; `schema` has its tables and columns.

    The metrics of a logged model may be of a run which is written later: they wait for it. They are
    kept after that, as a transaction can be rolled back, and a row that is there is not written.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[Row]] = {}

    def put(self, session: Session, schema: Schema, rows: Sequence[Row], run_id: str) -> None:
        """Insert the missing rows, and those waiting for this run."""
        known: dict[str, bool] = {run_id: True}
        for row in [*rows, *self._waiting.get(run_id, ())]:
            measured_by = str(row.values["run_id"]) if row.table == METRICS else run_id
            if measured_by not in known:
                known[measured_by] = _has_run(session, measured_by)
            if known[measured_by]:
                _insert(session, schema, row)
            else:
                self._waiting.setdefault(measured_by, []).append(row)


def with_stored_models(session: Session, schema: Schema, record: RunRecord) -> RunRecord:
    """The record with the ids of logged models in the database, where copies have other ids."""
    if schema and "logged_model_tags" not in schema:
        return record
    identities = {link.model_id: link.model_id for link in record.links}
    identities |= {model.model_id: model_identity(model) for model in record.models}
    ids = {each: _stored_model(session, each, known) for each, known in identities.items()}
    models = []
    for model in record.models:
        stored, tags = ids[model.model_id], dict(model.tags)
        if tags.get(MODEL_TAG) == stored:
            del tags[MODEL_TAG]
        models.append(replace(model, model_id=stored, tags=tags))
    links = (replace(link, model_id=ids[link.model_id]) for link in record.links)
    return replace(record, models=tuple(models), links=tuple(links))


def _stored_model(session: Session, model_id: str, identity: str) -> str:
    """The id of a logged model in the database; its own if the database lacks it."""
    known = "select model_id from logged_models where model_id in (?, ?)"
    tagged = "select model_id from logged_model_tags where tag_key = ? and tag_value = ?"
    for statement, values in ((known, (model_id, identity)), (tagged, (MODEL_TAG, identity))):
        if found := session.execute(statement, values).fetchone():
            return str(found[0])
    return model_id


def missing_rows(session: Session, schema: Schema, rows: Sequence[Row]) -> Counter[str]:
    """The number of missing rows by table; metrics of missing runs do not count."""
    missing: Counter[str] = Counter()
    for row in rows:
        if schema and row.table not in schema:
            continue
        where = " and ".join(f"{name} = ?" for name in row.key)
        found = session.execute(f"select 1 from {row.table} where {where}", [*row.key.values()])
        if found.fetchone() is None:
            is_later = row.table == METRICS and not _has_run(session, str(row.values["run_id"]))
            missing[row.table] += not is_later
    return +missing


def stored_id(session: Session, schema: Schema, row: Row) -> str:
    """The id of a stored dataset or input, or that of a new one."""
    if schema and row.table not in schema:
        return new_id(row)
    where = " and ".join(f"{name} = ?" for name in row.key)
    statement = f"select {IDS[row.table]} from {row.table} where {where}"
    found = session.execute(statement, [*row.key.values()]).fetchone()
    return str(found[0]) if found else new_id(row)


def left_out(schema: Schema, record: RunRecord) -> list[Finding]:
    """A finding for each table of the record that an older database lacks."""
    if not schema:
        return []
    rows = related_rows(record, 0, "", lambda text, *_: text, new_id)
    tables = Counter(row.table for row in rows if row.table not in schema)
    message = "the database is older than these records of MLflow and has no table for them"
    return [
        Finding("records-left-out", Severity.LOSS, table, message, count)
        for table, count in tables.items()
    ]


def _has_run(session: Session, run_id: str) -> bool:
    found = session.execute("select 1 from runs where run_uuid = ?", (run_id,))
    return found.fetchone() is not None


def _insert(session: Session, schema: Schema, row: Row) -> None:
    columns = [name for name in row.values if not schema or name in schema.get(row.table, ())]
    if not columns:
        return
    marks = ", ".join("?" * len(columns))
    statement = (
        f"insert into {row.table} ({', '.join(columns)}) values ({marks}) on conflict do nothing"
    )
    session.execute(statement, [row.values[name] for name in columns])
