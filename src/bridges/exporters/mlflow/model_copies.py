"""Logged models by MLflow's API, which gives each one a new id.

A tag holds the id in the source. A point of a model is logged as a point of a run with the model's
id, so only points of the run itself can be carried. Links to models and points of runs wait until
these are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridges.exporters.mlflow import rows
from bridges.exporters.mlflow.api import Api, ApiRun
from bridges.exporters.mlflow.details import carried_models, record_of
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    MODEL_TAG,
    LoggedModel,
    ModelLink,
    ModelMetric,
    RunRecord,
    model_identity,
)
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout

ENDED = ("READY", "FAILED")
_Point = tuple[str, int, int, str]  # key, time in ms, step, value
CopyOf = Callable[[str, str], str | None]  # a run's id in the target, by experiment and old id


@dataclass(frozen=True)
class _Missing:
    """The parts missing in a target of the models of a run, with the ids of the target.

    `points`: by the ids of run and model. `awaited`: the ids, in the source, of missing
    models and runs.
    """

    models: list[LoggedModel] = field(default_factory=list)
    params: dict[str, dict[str, str]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    points: dict[tuple[str, str], list[ModelMetric]] = field(default_factory=dict)
    links: list[ModelLink] = field(default_factory=list)
    awaited: set[str] = field(default_factory=set)

    def counts(self) -> Counter[str]:
        """The number of missing parts by MLflow's table."""
        return +Counter(
            {
                "logged_models": len(self.models) + len(self.statuses),
                "logged_model_params": sum(map(len, self.params.values())),
                "logged_model_tags": sum(map(len, self.tags.values())),
                "logged_model_metrics": sum(map(len, self.points.values())),
                "inputs": len(self.links),
            }
        )


class ModelCopies:
    """Finds and writes the logged models of runs; `copy_of` finds other runs in the target."""

    def __init__(self, api: Api, copy_of: CopyOf) -> None:
        self._api, self._copy_of = api, copy_of
        self._ids: dict[str, str] = {}  # in the target, by identity
        self._waiting: dict[str, list[tuple[str, Layout]]] = {}  # runs by the id they wait for

    def gaps(self, run: ApiRun, layout: Layout) -> Counter[str]:
        """The number of missing parts of the models of a run."""
        record = self._with_models(layout)
        return self._missing(run, layout, record).counts() if record else Counter()

    def put(self, run: ApiRun, layout: Layout) -> None:
        """Write the missing parts of the models of a run."""
        record = self._with_models(layout)
        if record is None:
            return
        missing = self._missing(run, layout, record)
        for model in missing.models:
            self._api.create_model(run.experiment, run.run_id, model)
        if missing.models:
            missing = self._missing(run, layout, record)
        self._write(run, missing)
        for awaited in missing.awaited:
            self._waiting.setdefault(awaited, []).append((run.run_id, layout))
        for model in record.models:
            self.arrived(model_identity(model))

    def arrived(self, awaited: str) -> None:
        """Write the parts waiting for a run or a model, by its id in the source."""
        for run_id, layout in self._waiting.pop(awaited, ()):
            run = self._api.get_run(run_id)
            if run.stage == ACTIVE:
                self.put(run, layout)

    def findings(self, layout: Layout, experiment: str | None) -> list[Finding]:
        """Findings for points of models beside those of their run, and for links to models missing
        in an experiment of the target (None: it does not exist).
        """
        record = self._with_models(layout)
        if record is None:
            return []
        own = [p for model in record.models for p in model.metrics if _is_own(p, record)]
        count = len(own) - len(_held(own, layout))
        known = {model.model_id for model in record.models}
        others = {link.model_id for link in record.links} - known
        unknown = [
            each for each in sorted(others) if not (experiment and self._find(experiment, each))
        ]
        return [
            *([_points_left_out(count)] if count else ()),
            *([_models_not_found(unknown)] if unknown else ()),
        ]

    def _with_models(self, layout: Layout) -> RunRecord | None:
        """The record with its models within the limits of the target; None without any."""
        record = record_of(layout)
        if record is None or not (record.models or record.links) or not self._api.limits.has_models:
            return None
        return replace(record, models=carried_models(record, self._api.limits)[0])

    def _missing(self, run: ApiRun, layout: Layout, record: RunRecord) -> _Missing:
        stored, missing = self._stored(run), _Missing()
        for model in record.models:
            known = stored.get(model_identity(model))
            if known is None:
                missing.models.append(model)
                continue
            missing.params.update(_lacking(known.model_id, model.params, known.params))
            missing.tags.update(_lacking(known.model_id, model.tags, {*known.tags, MODEL_TAG}))
            if model.status in ENDED and known.status not in ENDED:
                missing.statuses[known.model_id] = model.status
            self._add_points(missing, run, layout, record, model, known)
        self._add_links(missing, run, record)
        return missing

    def _stored(self, run: ApiRun) -> dict[str, LoggedModel]:
        """The stored models of a run by identity; the oldest of several, the others are deleted:
        they were created twice by concurrent exports, or after a lost answer.
        """
        found = self._api.models(run.experiment, f"source_run_id = '{run.run_id}'")
        stored: dict[str, LoggedModel] = {}
        for model in sorted(found, key=lambda model: (model.created or 0, model.model_id)):
            kept = stored.setdefault(model_identity(model), model)
            if kept is not model:
                self._api.delete_model(model.model_id)
        self._ids |= {identity: model.model_id for identity, model in stored.items()}
        return stored

    def _add_points(
        self,
        missing: _Missing,
        run: ApiRun,
        layout: Layout,
        record: RunRecord,
        model: LoggedModel,
        known: LoggedModel,
    ) -> None:
        stored = {(p.run_id or run.run_id, *_place(p)) for p in known.metrics}
        by_run: dict[str, list[ModelMetric]] = {}
        for point in model.metrics:
            by_run.setdefault("" if _is_own(point, record) else point.run_id, []).append(point)
        for old, points in by_run.items():
            new = run.run_id if not old else self._copy_of(run.experiment, old)
            if new is None:
                missing.awaited.add(old)
                continue
            lacking = [point for point in points if (new, *_place(point)) not in stored]
            found = self._held_by(new, lacking) if old else _held(lacking, layout)
            if found:
                missing.points[new, known.model_id] = found

    def _add_links(self, missing: _Missing, run: ApiRun, record: RunRecord) -> None:
        identities = {model.model_id: model_identity(model) for model in record.models}
        new = {identities[model.model_id] for model in missing.models}
        stored = {(link.model_id, link.is_output) for link in run.links}
        for link in record.links:
            identity = identities.get(link.model_id, link.model_id)
            if identity in new or (link.model_id, link.is_output) in stored:
                continue
            model_id = self._find(run.experiment, identity)
            if model_id is None:
                missing.awaited.add(identity)
            elif (model_id, link.is_output) not in stored:
                missing.links.append(replace(link, model_id=model_id))

    def _find(self, experiment: str, identity: str) -> str | None:
        """The id of a model in the target."""
        if identity not in self._ids and "'" not in identity:
            found = self._api.models(experiment, f"tags.`{MODEL_TAG}` = '{identity}'")
            self._ids |= {model_identity(model): model.model_id for model in found}
        return self._ids.get(identity)

    def _held_by(self, run_id: str, points: Sequence[ModelMetric]) -> list[ModelMetric]:
        """The points found in a run of the target, too."""
        held: set[_Point] = set()
        for key, at in self._api.histories(run_id, {point.key for point in points}).items():
            times = np.rint(at.time * 1000).astype(np.int64).tolist()
            values = map(repr, rows.stored(at.value).tolist())
            held |= {(key, *each) for each in zip(times, at.step.tolist(), values, strict=True)}
        return [point for point in points if _point(point) in held]

    def _write(self, run: ApiRun, missing: _Missing) -> None:
        for model_id in {*missing.params, *missing.tags}:
            params, tags = missing.params.get(model_id, {}), missing.tags.get(model_id, {})
            self._api.update_model(model_id, params, tags)
        for (run_id, model_id), points in missing.points.items():
            for start in range(0, len(points), self._api.limits.metrics):
                part = points[start : start + self._api.limits.metrics]
                self._api.log_model_points(run_id, model_id, part)
        if missing.links:
            self._api.link_models(run.run_id, missing.links)
        for model_id, status in missing.statuses.items():
            self._api.end_model(model_id, status)


def _lacking(
    model_id: str, wanted: Mapping[str, str], stored: Collection[str]
) -> dict[str, dict[str, str]]:
    found = {key: text for key, text in wanted.items() if key not in stored}
    return {model_id: found} if found else {}


def _is_own(point: ModelMetric, record: RunRecord) -> bool:
    return point.run_id in ("", record.head.run_id)


def _place(point: ModelMetric) -> tuple[str, int, int]:
    return point.key, point.time, point.step


def _held(points: Sequence[ModelMetric], layout: Layout) -> list[ModelMetric]:
    """The points found in the run of a layout, too."""
    keys, held = {point.key for point in points}, set[_Point]()
    for column in rows.metric_columns(layout, 0) if keys else ():
        if column.key in keys:
            values = map(repr, np.where(column.is_nan, np.nan, column.value).tolist())
            times, steps = column.time.tolist(), column.step.tolist()
            held |= {(column.key, *at) for at in zip(times, steps, values, strict=True)}
    return [point for point in points if _point(point) in held]


def _point(point: ModelMetric) -> _Point | None:
    """The point as SQL stores hold it; None for NaN, which models do not take."""
    if point.value != point.value:
        return None
    return (*_place(point), repr(float(rows.stored(np.array([point.value]))[0])))


def _points_left_out(count: int) -> Finding:
    message = (
        "points of logged models that are not points of their run: MLflow's API can only set both; "
        "write to the database directly"
    )
    where = "metrics of logged models"
    return Finding("records-left-out", Severity.LOSS, where, message, count)


def _models_not_found(ids: Sequence[str]) -> Finding:
    message = f"the target lacks these logged models of other runs, such as {ids[0]!r}"
    where = "links to logged models"
    return Finding("model-not-found", Severity.WARNING, where, message, len(ids))
