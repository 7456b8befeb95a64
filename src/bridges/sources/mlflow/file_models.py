"""Datasets, inputs, outputs and logged models of a run in a file store."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping

from bridges.errors import SourceError
from bridges.formats.mlflow_store.meta_yaml import Meta, integer, optional_text, text
from bridges.formats.mlflow_store.metric_lines import LineNumbers, parse_point
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    Dataset,
    Input,
    LoggedModel,
    ModelLink,
    ModelMetric,
)
from bridges.sources.mlflow.artifacts import artifact_folder
from bridges.sources.mlflow.file_reading import (
    damaged_lines,
    files_below,
    is_folder,
    list_folder,
    not_read,
    read_bytes,
    read_meta_file,
    read_texts,
)
from bridges.stream.finding import Finding, Severity

MODEL_STATUS = {"0": "UNSPECIFIED", "1": "PENDING", "2": "READY", "3": "FAILED"}
DATASETS, MODELS, ARTIFACTS = "datasets", "models", "artifacts"


def read_links(
    run: str, parts: Collection[str], findings: list[Finding]
) -> tuple[tuple[Input, ...], tuple[ModelLink, ...]]:
    """The datasets and models read by a run, and the models written by it.

    `run`: its directory; `parts`: the names of the directories in it.
    """
    inputs, links = [], []
    if "inputs" in parts:
        for where, meta in _metas(os.path.join(run, "inputs"), "inputs", findings):
            source = text(meta, "source_id")
            if text(meta, "source_type").startswith("MODEL"):
                links.append(ModelLink(source, is_output=False, step=integer(meta, "step") or 0))
            elif dataset := _dataset(os.path.dirname(run), source, where, findings):
                tags = meta.get("tags")
                inputs.append(Input(dataset, tags if isinstance(tags, Mapping) else {}))
    if "outputs" in parts:
        for _, meta in _metas(os.path.join(run, "outputs"), "outputs", findings):
            model, step = text(meta, "destination_id"), integer(meta, "step") or 0
            links.append(ModelLink(model, is_output=True, step=step))
    return tuple(inputs), tuple(links)


def _metas(folder: str, label: str, findings: list[Finding]) -> Iterator[tuple[str, Meta]]:
    """The `meta.yaml` of each directory in a directory, with its place."""
    try:
        names = list_folder(folder).folders
    except SourceError as error:
        findings.append(_lost(label, error))
        return
    for name in names:
        meta = _meta(os.path.join(folder, name), f"{label}/{name}", findings)
        if meta is not None:
            yield f"{label}/{name}", meta


def _meta(folder: str, label: str, findings: list[Finding]) -> Meta | None:
    try:
        return read_meta_file(folder)
    except SourceError as error:
        findings.append(_lost(label, error))
        return None


def _lost(label: str, error: SourceError) -> Finding:
    place = f": {error.place}" if error.place else ""
    message = f"found {error.found}: this record is left out"
    return Finding("record-unreadable", Severity.LOSS, f"{label}/meta.yaml{place}", message)


def _dataset(experiment: str, name: str, where: str, findings: list[Finding]) -> Dataset | None:
    """The dataset of an input; None if its experiment does not have it."""
    folder = os.path.join(experiment, DATASETS)
    if not is_folder(experiment, DATASETS) or not is_folder(folder, name):
        message = "the experiment does not have the dataset of this input"
        findings.append(Finding("dataset-missing", Severity.LOSS, where, message))
        return None
    meta = _meta(os.path.join(folder, name), f"../{DATASETS}/{name}", findings)
    if meta is None:
        return None
    return Dataset(
        text(meta, "name"),
        text(meta, "digest"),
        text(meta, "source_type"),
        text(meta, "source"),
        optional_text(meta, "schema"),
        optional_text(meta, "profile"),
    )


def models_by_run(experiment: str, findings: list[Finding]) -> dict[str, list[str]]:
    """The directories of the logged models of an experiment, by the run of each.

    Models without a run are those of the run "".
    """
    found: dict[str, list[str]] = {}
    if is_folder(experiment, MODELS):
        folder = os.path.join(experiment, MODELS)
        for where, meta in _metas(folder, f"../{MODELS}", findings):
            path = os.path.join(folder, os.path.basename(where))
            found.setdefault(text(meta, "source_run_id"), []).append(path)
    return found


def read_model(folder: str, findings: list[Finding]) -> LoggedModel | None:
    """A logged model; None if it cannot be read."""
    name = os.path.basename(folder)
    label = f"../{MODELS}/{name}"
    meta = _meta(folder, label, findings)
    if meta is None:
        return None
    status = text(meta, "status")
    parts = {
        kind: read_texts(os.path.join(folder, kind), f"{label}/{kind}", findings)
        for kind in ("params", "tags")
        if is_folder(folder, kind)
    }
    return LoggedModel(
        model_id=text(meta, "model_id") or name,
        name=text(meta, "name"),
        status=MODEL_STATUS.get(status, status or "UNSPECIFIED"),
        model_type=optional_text(meta, "model_type"),
        artifact_location=optional_text(meta, "artifact_location"),
        artifact_folder=artifact_folder(
            text(meta, "artifact_location"),
            [os.path.join(folder, ARTIFACTS)] if is_folder(folder, ARTIFACTS) else [],
        ),
        created=integer(meta, "creation_timestamp"),
        updated=integer(meta, "last_updated_timestamp"),
        stage=text(meta, "lifecycle_stage") or ACTIVE,
        status_message=optional_text(meta, "status_message"),
        params=parts.get("params", {}),
        tags=parts.get("tags", {}),
        metrics=tuple(_model_metrics(folder, label, findings)),
    )


def _model_metrics(folder: str, label: str, findings: list[Finding]) -> Iterator[ModelMetric]:
    """The points of a logged model, key by key in the order of logging."""
    if not is_folder(folder, "metrics"):
        return
    label = f"{label}/metrics"
    for key, path in sorted(files_below(os.path.join(folder, "metrics"), label, findings)):
        try:
            data = read_bytes(path)
        except OSError as error:
            findings.append(not_read(f"{label}/{key}", error))
            continue
        damaged = LineNumbers()
        for number, line in enumerate(data.decode(errors="replace").split("\n"), 1):
            point = _model_metric(key, line.split())
            if point is not None:
                yield point
            elif line.strip():
                damaged.add(number)
        if damaged.count:
            findings.append(damaged_lines(f"{label}/{key}", damaged))


def _model_metric(key: str, fields: list[str]) -> ModelMetric | None:
    """The point of a line: time, value, step, run and perhaps name and digest of a dataset."""
    point = parse_point(fields)
    if point is None or len(fields) < 4:
        return None
    time, value, step = point
    has_dataset = len(fields) > 5
    name, digest = (" ".join(fields[4:-1]), fields[-1]) if has_dataset else (None, None)
    return ModelMetric(key, value, time, step, fields[3], name, digest)
