"""Known MLflow database schemas, and the creation of empty databases.

For each known schema, a golden test compares our rows with the rows of that release's client.
Databases are never migrated.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from bridges.errors import ExportError, MissingDependencyError
from bridges.exporters.mlflow.errors import mlflow_errors
from bridges.formats.mlflow_store.client import silence
from bridges.installed import releases
from bridges.stream.redact import redact_text

# alembic revision: newest mlflow release with it (tests/data/mlflow_schemas)
SCHEMAS = {
    "5b0e9adcef9c": "2.14.3",
    "4465047574b1": "2.16.2",
    "f5a4f2784254": "2.17.2",
    "0584bdc529eb": "2.22.5",
    "6953534de441": "3.1.0",
    "bda7b8c39065": "3.1.4",
    "770bee3ae1dd": "3.2.0",
    "1a0cddfcaa16": "3.3.2",
    "71994744cf8e": "3.4.0",
    "bf29a5ff90ea": "3.7.0",
    "1bd49d398cd23": "3.8.1",
    "d3e4f5a6b7c8": "3.9.0",
    "1b5f0d9ad7c1": "3.10.1",
    "c3d6457b6d8a": "3.11.1",
    "7d34483879f0": "3.12.0",
    "da6fb0208061": "3.13.0",
    "b7e4c1a90f23": "3.14.0",
    "6f8d9c3b2a1e": "3.15.2",
    "b7e2c1a4d9f3": "3.16.1",
    "dc11669786a5": "3.17.2",
}
COLUMNS = {
    "experiments": {"experiment_id", "name", "artifact_location", "lifecycle_stage"},
    "experiment_tags": {"key", "value", "experiment_id"},
    "runs": {"run_uuid", "name", "user_id", "status", "start_time", "end_time", "experiment_id"},
    "params": {"key", "value", "run_uuid"},
    "tags": {"key", "value", "run_uuid"},
    "metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"},
    "latest_metrics": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
}


class UnknownSchemaError(ExportError):
    """MLflow's tables with an unknown schema, which must not be written directly."""


def check_schema(where: str, revision: str | None, columns: Mapping[str, Collection[str]]) -> str:
    """The release of the schema.

    Raises UnknownSchemaError for an unknown revision or a missing column, and ExportError if the
    database is not MLflow's (`revision` is None) or lacks a table.
    """
    if revision is None:
        raise ExportError(f"{where}: this is not an MLflow database. Give another --tracking-uri.")
    if revision not in SCHEMAS:
        first, *_, last = SCHEMAS.values()
        known = f"known are the schemas of mlflow {first} to {last}"
        raise UnknownSchemaError(f"its schema {revision} is unknown; {known}")
    for table, needed in COLUMNS.items():
        if not columns.get(table):
            raise ExportError(
                f"{where}: this MLflow database has lost its table {table!r}. Restore a backup, or "
                "give another --tracking-uri."
            )
        missing = needed.difference(columns[table])
        if missing:
            raise UnknownSchemaError(f"its table {table} has no column {sorted(missing)[0]!r}")
    return SCHEMAS[revision]


def installed_release() -> str | None:
    """The release of the installed mlflow; None if it is not installed."""
    if found := releases(["mlflow"]):
        return found["mlflow"]
    from importlib.metadata import PackageNotFoundError, version  # other kinds of installation

    try:
        return version("mlflow")
    except PackageNotFoundError:
        return None


def needed_release() -> str:
    """The release of the installed mlflow. Raises MissingDependencyError."""
    release = installed_release()
    if release is None:
        raise MissingDependencyError("mlflow", "mlflow")
    return release


def make_tables(uri: str, artifacts: str) -> None:
    """Create the tables of an empty database with the installed mlflow.

    mlflow's migrations of one database must not run concurrently.
    """
    import warnings

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings(), mlflow_errors(redact_text(uri)):
        warnings.simplefilter("ignore")  # about mlflow's internals
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        silence()
        SqlAlchemyStore(uri, artifacts).engine.dispose()
