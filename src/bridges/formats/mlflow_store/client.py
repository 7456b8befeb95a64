"""The installed mlflow's own client, its loggers and its errors."""

from __future__ import annotations

import gc
import os
from typing import Any

from bridges.errors import MissingDependencyError
from bridges.stream.redact import redact_text


def open_client(uri: str) -> tuple[Any, Any, str]:
    """A `MlflowClient` of the store at `uri`, the module of its entities, and mlflow's release.

    Raises MissingDependencyError, and errors of mlflow.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        import mlflow
        from mlflow import MlflowClient, entities
    except ImportError:
        raise MissingDependencyError("mlflow", "mlflow") from None
    silence()
    gc.freeze()  # scanning mlflow's 300,000 objects would take a fifth of an export
    return MlflowClient(uri), entities, str(mlflow.__version__)


def open_artifacts(location: str, tracking_uri: str) -> Any:
    """The installed mlflow's repository of the files at a location; `tracking_uri` may be empty.

    Raises MissingDependencyError, and errors of mlflow.
    """
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    except ImportError:
        raise MissingDependencyError("mlflow", "mlflow") from None
    silence()
    named = {"tracking_uri": tracking_uri} if tracking_uri else {}  # of MLflow 3
    return get_artifact_repository(location, **named)


def silence() -> None:
    """Silence mlflow's loggers; its exceptions carry the errors."""
    import logging  # slow to import

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def message_of(error: Exception) -> str:
    """The type and the message of an error in one line, without statements and passwords."""
    said = " ".join(str(error).split()).partition(" [SQL: ")[0]
    return f"{type(error).__name__}: {redact_text(said)[:500]}"
