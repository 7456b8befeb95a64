"""Logged models and links to them, as answers of a server and as objects of mlflow's client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridges.formats.mlflow_store.records import LoggedModel, ModelLink, ModelMetric
from bridges.formats.mlflow_store.rest import text_of, texts_of

MODELS_PER_PAGE = 50  # MLflow's maximum
STATUS_NAMES = {
    "LOGGED_MODEL_PENDING": "PENDING",
    "LOGGED_MODEL_READY": "READY",
    "LOGGED_MODEL_UPLOAD_FAILED": "FAILED",
}


def model_of_answer(found: Mapping[str, Any]) -> LoggedModel:
    """The logged model in an answer. Raises KeyError, TypeError, ValueError."""
    info, data = found["info"], found.get("data", {})
    return LoggedModel(
        model_id=text_of(info, "model_id"),
        name=text_of(info, "name", ""),
        status=STATUS_NAMES.get(info.get("status", ""), "UNSPECIFIED"),
        model_type=info.get("model_type"),
        artifact_location=info.get("artifact_uri"),
        created=_whole(info.get("creation_timestamp_ms")),
        updated=_whole(info.get("last_updated_timestamp_ms")),
        status_message=info.get("status_message"),
        params=texts_of(data.get("params", ())),
        tags=texts_of(info.get("tags", ())),
        metrics=tuple(map(_metric, data.get("metrics", ()))),
    )


def _metric(found: Mapping[str, Any]) -> ModelMetric:
    return ModelMetric(
        key=text_of(found, "key"),
        value=float(found["value"]),
        time=int(found["timestamp"]),
        step=int(found.get("step", 0)),
        run_id=text_of(found, "run_id", ""),
        dataset_name=found.get("dataset_name"),
        dataset_digest=found.get("dataset_digest"),
    )


def links_of_answer(run: Mapping[str, Any]) -> Iterator[ModelLink]:
    """The links of a run in an answer. Raises KeyError, TypeError, ValueError."""
    for found in run.get("inputs", {}).get("model_inputs", ()):
        yield ModelLink(text_of(found, "model_id"), is_output=False)
    for found in run.get("outputs", {}).get("model_outputs", ()):
        yield ModelLink(text_of(found, "model_id"), True, int(found.get("step", 0)))


def model_of_client(model: Any) -> LoggedModel:
    """The logged model as an object of mlflow's client."""
    return LoggedModel(
        model_id=model.model_id,
        name=model.name,
        status=str(model.status),
        model_type=model.model_type,
        artifact_location=model.artifact_location,
        created=model.creation_timestamp,
        updated=model.last_updated_timestamp,
        status_message=model.status_message,
        params=dict(model.params or {}),
        tags=dict(model.tags or {}),
        metrics=tuple(
            ModelMetric(
                point.key,
                float(point.value),
                point.timestamp,
                point.step,
                point.run_id or "",
                point.dataset_name,
                point.dataset_digest,
            )
            for point in model.metrics or ()
        ),
    )


def links_of_client(run: Any) -> Iterator[ModelLink]:
    """The links of a run as an object of mlflow's client; releases before 3 have none."""
    for found in getattr(getattr(run, "inputs", None), "model_inputs", ()):
        yield ModelLink(found.model_id, is_output=False)
    for found in getattr(getattr(run, "outputs", None), "model_outputs", ()):
        yield ModelLink(found.model_id, is_output=True, step=found.step)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
