"""A tracking store in a database. Missing columns and tables are not read.

SQLite and PostgreSQL implement `Database`. A run is read in one transaction.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Protocol, TypeVar

from bridges.errors import SourceError
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    DEFAULT_WORKSPACE,
    DELETED,
    Dataset,
    Experiment,
    Input,
    LoggedModel,
    Metric,
    ModelLink,
    ModelMetric,
    RunHead,
    RunRecord,
)
from bridges.log import log
from bridges.sources.mlflow.artifacts import artifact_folder
from bridges.sources.mlflow.columns import whole
from bridges.stream.finding import Finding, Severity

IDS_PER_QUERY = 500
CORE_TABLES = ("experiments", "runs", "metrics")
LEFT_OUT = {  # only counted: kinds of records by table
    "trace_info": "traces",
    "spans": "spans",
    "assessments": "assessments",
    "registered_models": "registered models",
    "model_versions": "model versions",
    "evaluation_datasets": "evaluation datasets",
}
MODEL_STATUS = {1: "PENDING", 2: "READY", 3: "FAILED"}
HEAD = ("run_uuid", "name", "status", "lifecycle_stage", "start_time", "end_time")
DETAILS = ("deleted_time", "user_id", "source_type", "source_name", "source_version",
           "entry_point_name", "artifact_uri")  # fmt: skip
DATASET = ("dataset_uuid", "name", "digest", "dataset_source_type", "dataset_source",
           "dataset_schema", "dataset_profile")  # fmt: skip
MODEL = ("model_id", "name", "status", "model_type", "artifact_location",
         "creation_timestamp_ms", "last_updated_timestamp_ms", "lifecycle_stage",
         "status_message")  # fmt: skip
MODEL_METRIC = ("model_id", "metric_name", "metric_value", "metric_timestamp_ms", "metric_step",
                "run_id", "dataset_name", "dataset_digest")  # fmt: skip

Row = tuple[object, ...]
Schema = Mapping[str, frozenset[str]]  # the names of the columns of each table
T = TypeVar("T")


class DamagedError(SourceError):
    """A part of a database cannot be read."""


class Session(Protocol):
    """A transaction with a consistent view; `?` stands for a value in statements."""

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        ...

    def metrics(self, run_id: str) -> tuple[list[Metric], list[Finding]]:
        """The points of a run by key, and findings about unreadable ones."""
        ...

    def replaced(self) -> int:
        """The number of texts in which bytes were replaced, as they are not UTF-8."""
        ...


class Database(Protocol):
    """A database, opened for reading."""

    location: str

    def schema(self) -> Schema:
        """The columns of all tables. Raises SourceError if the database cannot be read."""
        ...

    def read(self, work: Callable[[Session], T]) -> T:
        """The result of `work` in a transaction of its own; it may be called again.

        Raises SourceError.
        """
        ...

    def refresh(self) -> None:
        """Read the newest state from now on."""
        ...

    def folders(self) -> Sequence[str]:
        """Local directories where servers of this database usually keep artifacts."""
        ...


class Query:
    """Queries of one transaction, without missing columns and tables."""

    def __init__(self, schema: Schema, session: Session) -> None:
        self._schema = schema
        self._session = session

    def rows(
        self,
        table: str,
        columns: Sequence[str],
        where: Mapping[str, Sequence[object]] | None = None,
        order: str = "",
    ) -> list[Row]:
        """The rows with one of the values in each column of `where`; missing columns are None."""
        there = self._schema.get(table, frozenset())
        where = where or {}
        if not there.issuperset(where) or not all(where.values()) or not there:
            return []
        names = ", ".join(f'"{name}"' if name in there else "null" for name in columns)
        tests = [f"{name} in ({', '.join('?' * len(found))})" for name, found in where.items()]
        conditions = f" where {' and '.join(tests)}" if tests else ""
        ordered = f" order by {order}" if order else ""
        values = [value for found in where.values() for value in found]
        statement = f"select {names} from {table}{conditions}{ordered}"
        log("sql", statement)
        return self._session.rows(statement, values)

    def grouped(
        self, table: str, columns: Sequence[str], ids: Sequence[object]
    ) -> dict[object, list[Row]]:
        """The rows of each id, which is the first column, without the id."""
        rows = self.rows(table, columns, {columns[0]: ids}, columns[0])
        return {key: [row[1:] for row in found] for key, found in groupby(rows, lambda row: row[0])}

    def pairs(
        self, table: str, columns: Sequence[str], ids: Sequence[object]
    ) -> dict[object, dict[str, str]]:
        """Key and value (the last two columns) of each id, which is the first column."""
        found = self.grouped(table, columns, ids)
        return {each: {text(key): text(value) for key, value in found[each]} for each in found}


class DatabaseStore:
    """A `Store` in a database of MLflow."""

    def __init__(self, database: Database) -> None:
        self.location = database.location
        self.errors: list[SourceError] = []
        self._database = database
        self._schema = database.schema()
        self._runs: dict[str, list[object]] = {}  # by experiment id: run ids
        missing = [name for name in CORE_TABLES if name not in self._schema]
        if missing:
            raise not_mlflow(self.location, missing)

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones included, by id."""
        self._database.refresh()
        return self._read(self._experiments)

    def _experiments(self, query: Query) -> list[Experiment]:
        self._runs = {}
        for run, experiment in query.rows(
            "runs", ("run_uuid", "experiment_id"), order="start_time, run_uuid"
        ):
            self._runs.setdefault(text(experiment), []).append(run)
        columns = ("experiment_id", "name", "lifecycle_stage", "artifact_location",
                   "creation_time", "last_update_time", "workspace")  # fmt: skip
        rows = query.rows("experiments", columns, order="experiment_id")
        tags: dict[object, dict[str, str]] = {}
        for id, key, value in query.rows("experiment_tags", ("experiment_id", "key", "value")):
            tags.setdefault(id, {})[text(key)] = text(value)
        return [_experiment(row, tags.get(row[0], {})) for row in rows]

    def heads(self, experiment: Experiment) -> Iterator[RunHead]:
        """All runs of an experiment, deleted ones included, by start time."""
        if not self._runs:
            self.experiments()
        ids = self._runs.get(experiment.id, [])
        for start in range(0, len(ids), IDS_PER_QUERY):
            chunk = ids[start : start + IDS_PER_QUERY]
            try:
                yield from self._read(partial(self._heads, experiment, chunk))
            except DamagedError as error:
                self.errors.append(error)
                return

    def _heads(self, experiment: Experiment, ids: Sequence[object], query: Query) -> list[RunHead]:
        rows = {row[0]: row for row in query.rows("runs", HEAD, {"run_uuid": ids})}
        tags = query.pairs("tags", ("run_uuid", "key", "value"), ids)
        return [
            self._head(experiment, rows[id], tags.get(id, {})) for id in ids if id in rows
        ]  # a run can be deleted for good in the meantime

    def _near(self, head: RunHead, *names: str) -> list[str]:
        """The directories where a server of this database usually keeps the artifacts of a run or
        a logged model; `names` are those below the directory of the experiment.
        """
        path = os.path.join(head.experiment.id, *names, "artifacts")
        return [os.path.join(folder, path) for folder in self._database.folders()]

    def _with_folder(self, head: RunHead, model: LoggedModel) -> LoggedModel:
        near = self._near(head, "models", model.model_id)
        folder = artifact_folder(model.artifact_location or "", near)
        return replace(model, artifact_folder=folder) if folder else model

    def _head(self, experiment: Experiment, row: Row, tags: Mapping[str, str]) -> RunHead:
        id, name, status, stage, start, end = row
        is_deleted = DELETED in (stage, experiment.stage)
        return RunHead(
            run_id=text(id),
            experiment=experiment,
            where=f"{self.location}, run {text(id)}",
            name=text(name),
            status=text(status) or "RUNNING",
            stage=DELETED if is_deleted else ACTIVE,
            start=whole(start),
            end=whole(end),
            tags=tags,
        )

    def read(self, head: RunHead) -> tuple[RunRecord, list[Metric]]:
        """A run with its metrics, as of one moment. Raises SourceError if it is gone."""
        return self._database.read(partial(self._run, head))

    def _run(self, head: RunHead, session: Session) -> tuple[RunRecord, list[Metric]]:
        query, ids = Query(self._schema, session), [head.run_id]
        rows = query.rows("runs", (*HEAD, *DETAILS), {"run_uuid": ids})
        if not rows:
            raise run_is_gone(head)
        details = rows[0][len(HEAD) :]
        tags = query.pairs("tags", ("run_uuid", "key", "value"), ids)
        params = query.pairs("params", ("run_uuid", "key", "value"), ids)
        inputs, missing = _inputs(query, head.run_id)
        metrics, findings = session.metrics(head.run_id)
        findings += [*missing, *_replaced(session.replaced())]
        uri = text(details[6])
        record = RunRecord(
            head=self._head(head.experiment, rows[0][: len(HEAD)], tags.get(head.run_id, {})),
            params=params.get(head.run_id, {}),
            deleted=whole(details[0]),
            user=text(details[1]),
            source_type=text(details[2]),
            source_name=text(details[3]),
            source_version=text(details[4]),
            entry_point=text(details[5]),
            artifact_uri=uri,
            artifact_folder=artifact_folder(uri, self._near(head, head.run_id)),
            store=self.location,
            store_folders=tuple(self._database.folders()),
            inputs=inputs,
            links=_links(query, head.run_id),
            models=tuple(self._with_folder(head, each) for each in _models(query, head.run_id)),
            findings=tuple(findings),
        )
        return record, metrics

    def marks(self, heads: Sequence[RunHead]) -> list[str]:
        """A text for each run that changes with it; empty for a run that is gone."""
        from bridges.sources.mlflow.marks import marks_of

        return self._database.read(partial(marks_of, heads, self._schema))

    def left_out(self) -> Counter[str]:
        """The numbers of traces, spans, registered models and others."""
        return self._database.read(self._left_out)

    def _left_out(self, session: Session) -> Counter[str]:
        counts = {
            kind: whole(session.rows(f"select count(*) from {table}")[0][0]) or 0
            for table, kind in LEFT_OUT.items()
            if table in self._schema
        }
        lost = (
            "experiment_id is null or experiment_id not in (select experiment_id from experiments)"
        )
        [(orphans,)] = session.rows(f"select count(*) from runs where {lost}")
        counts["runs without an experiment"] = whole(orphans) or 0
        return +Counter(counts)

    def _read(self, work: Callable[[Query], T]) -> T:
        return self._database.read(lambda session: work(Query(self._schema, session)))


def _experiment(row: Row, tags: Mapping[str, str]) -> Experiment:
    id, name, stage, location, created, updated, workspace = row
    return Experiment(
        id=text(id),
        name=text(name),
        stage=DELETED if stage == DELETED else ACTIVE,
        artifact_location=optional_text(location),
        created=whole(created),
        updated=whole(updated),
        tags=tags,
        workspace=text(workspace) or DEFAULT_WORKSPACE,
    )


def _inputs(query: Query, run_id: str) -> tuple[tuple[Input, ...], list[Finding]]:
    """The datasets of a run, and a finding about those missing in the database."""
    where = {"source_type": ["DATASET"], "destination_type": ["RUN"], "destination_id": [run_id]}
    found = query.rows("inputs", ("input_uuid", "source_id"), where)
    tags = query.pairs("input_tags", ("input_uuid", "name", "value"), [row[0] for row in found])
    rows = query.rows("datasets", DATASET, {"dataset_uuid": [row[1] for row in found]})
    datasets = {row[0]: _dataset(row) for row in rows}
    inputs = tuple(
        Input(datasets[dataset], tags.get(input, {}))
        for input, dataset in found
        if dataset in datasets
    )
    lost = len(found) - len(inputs)
    message = "inputs whose dataset is not in the database: they are left out"
    finding = Finding("dataset-missing", Severity.LOSS, "inputs", message, lost)
    return inputs, [finding] if lost else []


def _dataset(row: Row) -> Dataset:
    _, name, digest, source_type, source, schema, profile = row
    return Dataset(
        name=text(name),
        digest=text(digest),
        source_type=text(source_type),
        source=text(source),
        schema=optional_text(schema),
        profile=optional_text(profile),
    )


def _links(query: Query, run_id: str) -> tuple[ModelLink, ...]:
    """The logged models read and written by a run."""
    columns = ("destination_type", "destination_id", "step")
    kinds = {"source_type": ["RUN_INPUT", "RUN_OUTPUT"], "source_id": [run_id]}
    rows = query.rows("inputs", columns, kinds)
    return tuple(
        ModelLink(text(model), kind == "MODEL_OUTPUT", whole(step) or 0)
        for kind, model, step in rows
        if kind in ("MODEL_INPUT", "MODEL_OUTPUT")
    )


def _models(query: Query, run_id: str) -> tuple[LoggedModel, ...]:
    """The logged models whose source is the run."""
    rows = query.rows("logged_models", MODEL, {"source_run_id": [run_id]}, "model_id")
    ids = [row[0] for row in rows]
    params = query.pairs("logged_model_params", ("model_id", "param_key", "param_value"), ids)
    tags = query.pairs("logged_model_tags", ("model_id", "tag_key", "tag_value"), ids)
    metrics = query.grouped("logged_model_metrics", MODEL_METRIC, ids)
    return tuple(
        LoggedModel(
            model_id=text(id),
            name=text(name),
            status=MODEL_STATUS.get(whole(status) or 0, "UNSPECIFIED"),
            model_type=optional_text(kind),
            artifact_location=optional_text(location),
            created=whole(created),
            updated=whole(updated),
            stage=DELETED if stage == DELETED else ACTIVE,
            status_message=optional_text(message),
            params=params.get(id, {}),
            tags=tags.get(id, {}),
            metrics=tuple(map(_model_metric, metrics.get(id, ()))),
        )
        for id, name, status, kind, location, created, updated, stage, message in rows
    )


def _model_metric(row: Row) -> ModelMetric:
    key, value, time, step, run_id, dataset, digest = row
    number = float(value) if isinstance(value, (int, float)) else float("nan")
    return ModelMetric(
        key=text(key),
        value=number,
        time=whole(time) or 0,
        step=whole(step) or 0,
        run_id=text(run_id),
        dataset_name=optional_text(dataset),
        dataset_digest=optional_text(digest),
    )


def _replaced(count: int) -> list[Finding]:
    message = "not UTF-8: unreadable bytes are replaced by U+FFFD"
    finding = Finding("text-not-utf8", Severity.LOSS, "params and tags", message, count)
    return [finding] if count else []


def schema_of(columns: Sequence[Row]) -> Schema:
    """The schema of rows with the names of a table and of one of its columns."""
    found: dict[str, set[str]] = {}
    for table, column in columns:
        found.setdefault(str(table), set()).add(str(column))
    return {table: frozenset(names) for table, names in found.items()}


def text(value: object) -> str:
    """A value as text; '' for NULL."""
    return "" if value is None else str(value)


def optional_text(value: object) -> str | None:
    """A value as text; None for NULL."""
    return None if value is None else str(value)


def run_is_gone(head: RunHead) -> SourceError:
    """The error for a run removed after it was listed."""
    return SourceError(
        head.where,
        found="no run of this id",
        expected="the run listed a moment ago",
        remedy="Someone removed it, or the store was replaced: run the command again.",
    )


def not_mlflow(location: str, missing: Sequence[str]) -> SourceError:
    """The error for a database without MLflow's tables."""
    return SourceError(
        location,
        found=f"a database without the tables {', '.join(missing)}",
        expected="an MLflow tracking store",
        remedy="Check which database this is.",
    )
