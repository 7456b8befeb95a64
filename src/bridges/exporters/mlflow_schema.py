"""Which MLflow databases may be written directly, and how an empty one is made.

A schema is known where a golden test compares what we write into it with what the client of that
release wrote. No database is ever migrated.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from bridges.errors import ExportError

# alembic revision: the newest mlflow release that has it
SCHEMAS = {"dc11669786a5": "3.17"}
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
    """The tables are MLflow's, but not ones that may be written directly; the message says why."""


def check_schema(where: str, revision: str | None, columns: Mapping[str, Collection[str]]) -> None:
    """Raises UnknownSchemaError unless the revision is known and the tables have the columns, and
    ExportError where it is no MLflow database at all (`revision` is None).
    """
    if revision is None:
        raise ExportError(f"{where}: this is no MLflow database. Give another --tracking-uri.")
    if revision not in SCHEMAS:
        known = f"those of mlflow {', '.join(SCHEMAS.values())}"
        raise UnknownSchemaError(f"its schema {revision} is not known; known are {known}")
    for table, needed in COLUMNS.items():
        missing = needed.difference(columns.get(table, ()))
        if missing:
            raise UnknownSchemaError(f"its table {table} has no column {sorted(missing)[0]!r}")


def make_tables(uri: str, artifacts: str) -> None:
    """Let the installed mlflow make its tables in an empty database.

    Only one process may do so at a time: mlflow's migrations cannot share a database.
    """
    import logging
    import warnings

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mlflow's own parts, which a user cannot mend
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        SqlAlchemyStore(uri, artifacts).engine.dispose()
