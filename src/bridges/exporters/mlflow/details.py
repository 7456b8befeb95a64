"""The details of a run in MLflow: its columns and tags.

A run from MLflow has the details of its record; for other runs they are made as by the live
callback. Pure functions, apart from a look at artifact locations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bridges.exporters.mlflow import rows
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.locations import artifact_uri
from bridges.exporters.mlflow.related import Row, left_out, new_id, related_rows
from bridges.exporters.mlflow.state import OWN_TAGS
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    DELETED,
    KEY_TAG,
    NAME_TAG,
    NOTE_TAG,
    PARENT_TAG,
    Experiment,
    Input,
    LoggedModel,
    RunHead,
    RunRecord,
)
from bridges.stream.clock import RECORDED
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.naming import encodable
from bridges.stream.tagging import digest, distinct_tags, named

STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
UNENDED = ("RUNNING", "SCHEDULED")
SOURCE_TYPES = ("NOTEBOOK", "JOB", "LOCAL", "UNKNOWN", "PROJECT")
EDITED_TAGS = (NAME_TAG, NOTE_TAG)  # people change them on the page of a run
_OF_DATASET = {  # columns of datasets by field
    "name": "name",
    "digest": "digest",
    "source_type": "dataset_source_type",
    "source": "dataset_source",
}
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Details:
    """A run without its metrics, params and state; times in milliseconds since 1970 UTC.

    `kept`: the keys of tags to set on a new run only. `artifact_uri` is empty for
    the usual place below the location of the experiment.
    """

    name: str
    status: str
    start: int | None
    end: int | None
    user: str
    tags: Mapping[str, str]
    kept: frozenset[str] = frozenset([NAME_TAG])
    stage: str = ACTIVE
    deleted: int | None = None
    source_type: str = "UNKNOWN"
    source_name: str = ""
    source_version: str = ""
    entry_point: str = ""
    artifact_uri: str = ""

    @property
    def updates(self) -> dict[str, str]:
        """The tags to set on an existing run."""
        return {key: text for key, text in self.tags.items() if key not in self.kept}

    def under(self, parent: str | None) -> Details:
        """The details with the new id of the parent run. Without it, a stored one is kept."""
        if PARENT_TAG not in self.tags:
            return self
        if parent is None:
            return replace(self, kept=self.kept | {PARENT_TAG})
        return replace(self, tags={**self.tags, PARENT_TAG: parent})


def record_of(layout: Layout) -> RunRecord | None:
    """The record of a run from MLflow."""
    record = layout.run.record
    return record if isinstance(record, RunRecord) else None


def details_of(layout: Layout, limits: Limits) -> Details:
    """The details of a run, within the limits of its target."""
    record = record_of(layout)
    if record is not None:
        return carried(layout, record, limits)[0]
    return Details(
        name=rows.run_name(layout, limits),
        status=rows.STATUS[layout.run.status],
        start=rows.started(layout),
        end=rows.ended(layout),
        user=rows.user(),
        tags=rows.tags(layout, limits),
    )


def parent_details(layout: Layout, limits: Limits) -> Details:
    """The details of the parent run of a search, which ends with its last trial."""
    tags = rows.parent_tags(layout, limits)
    start, end = rows.started(layout), rows.ended(layout)
    return Details(tags[NAME_TAG], "FINISHED", start, end, rows.user(), tags)


def orphan(head: RunHead) -> Finding:
    """The finding for a run whose parent the target lacks."""
    message = "the target lacks its parent run, so it is not shown below it: export the parent too"
    return Finding("parent-not-found", Severity.WARNING, f"run {head.parent_id}", message)


def carried(layout: Layout, record: RunRecord, limits: Limits) -> tuple[Details, list[Finding]]:
    """The details of a record, and a finding for each change due to the target's limits."""
    fit, head = _Fit(limits), record.head
    is_recorded = layout.clock.source == RECORDED.name
    uri, findings = _artifact_link(record, fit)
    tags = fit.pairs(_tags(layout, record), "tags")
    details = Details(
        name=fit.text(_name(layout, record), "runs.name", "the run's name"),
        status=_status(head.status, fit),
        start=head.start if is_recorded else rows.started(layout),
        end=head.end if is_recorded else rows.ended(layout),
        user=fit.text(record.user, "runs.user_id", "the user"),
        tags=tags,
        kept=frozenset(key for key in tags if not _is_of_program(key)),
        stage=DELETED if head.stage == DELETED else ACTIVE,
        deleted=record.deleted,
        source_type=record.source_type if record.source_type in SOURCE_TYPES else "UNKNOWN",
        source_name=fit.text(record.source_name, "runs.source_name", "source_name"),
        source_version=fit.text(record.source_version, "runs.source_version", "source_version"),
        entry_point=fit.text(record.entry_point, "runs.entry_point_name", "entry_point_name"),
        artifact_uri=uri,
    )
    if not limits.takes_artifact_uri:
        if details.name:  # the API accepts no other name in the tag
            details = replace(details, tags={**tags, NAME_TAG: details.name})
        of_api = [*carried_inputs(record, limits)[1], *_models_by_api(record, limits)]
        return details, [*findings, *fit.findings, *_by_api_only(record), *of_api]
    if record.inputs or record.models or record.links:
        for _ in related_rows(record, 0, "", fit.text, new_id):  # for the findings
            pass
        fit.findings += left_out(limits.columns, record)
    return details, [*findings, *fit.findings]


def _artifact_link(record: RunRecord, fit: _Fit) -> tuple[str, list[Finding]]:
    """The URI of the artifacts in the source, for a target that takes it; copies replace it."""
    if not fit.limits.takes_artifact_uri:
        return "", []
    uri, findings = artifact_uri(record)
    if fit.limits.copies_artifacts:
        return _Fit(fit.limits).uri(uri), []
    return fit.uri(uri), findings


def carried_experiment(experiment: Experiment, limits: Limits) -> tuple[Experiment, list[Finding]]:
    """The experiment of a record within the limits of its target, and a finding for each change.

    One named by the user is unchanged. A cut name ends with a digest, so it stays the only one.
    """
    if not experiment.id:
        return experiment, []
    fit = _Fit(limits)
    name = fit.text(experiment.name, "experiments.name", "the experiment's name")
    if len(name) < len(encodable(experiment.name)):
        name = f"{name[:-9]}-{digest(experiment.name)}"
    location, width = experiment.artifact_location, limits.width("experiments.artifact_location")
    if limits.copies_artifacts or not limits.takes_artifact_uri:
        location = ""  # that of the target
    if location and width is not None and len(location) > width:
        fit.too_long(location, "the experiment gets a location of the target", width)
        location = ""
    tags = fit.pairs(experiment.tags, "experiment_tags")
    return replace(experiment, name=name, artifact_location=location, tags=tags), fit.findings


class CarriedExperiment:
    """`carried_experiment`, kept for the next run, which is usually of the same experiment."""

    def __init__(self) -> None:
        self._last: tuple[Experiment, Limits, tuple[Experiment, list[Finding]]] | None = None

    def __call__(self, experiment: Experiment, limits: Limits) -> tuple[Experiment, list[Finding]]:
        """The experiment within the limits, and a finding for each change."""
        if self._last is None or self._last[0] is not experiment or self._last[1] is not limits:
            self._last = experiment, limits, carried_experiment(experiment, limits)
        return self._last[2]


def carried_inputs(record: RunRecord, limits: Limits) -> tuple[tuple[Input, ...], list[Finding]]:
    """The inputs of a record within the limits of MLflow's API, and a finding for each change."""
    fit, inputs = _Fit(limits), []
    for each in record.inputs:
        where = f"dataset {each.dataset.name!r}"
        columns = {name: getattr(each.dataset, name) or "" for name in _OF_DATASET}
        fitted = {
            name: fit.text(text, f"datasets.{_OF_DATASET[name]}", where)
            for name, text in columns.items()
        }
        tags = {
            fit.text(key, "input_tags.name", f"the key {key!r} of an input"): fit.text(
                text, "input_tags.value", f"tag {key!r} of an input"
            )
            for key, text in each.tags.items()
        }
        inputs.append(Input(replace(each.dataset, **fitted), tags))
    return tuple(inputs), fit.findings


def related_of(
    record: RunRecord,
    experiment: int,
    run_id: str,
    limits: Limits,
    id_of: Callable[[Row], str],
) -> list[Row]:
    """The rows beside a run, within the limits of its target."""
    return [*related_rows(record, experiment, run_id, _Fit(limits).text, id_of)]


def carried_params(
    params: Mapping[str, object], limits: Limits
) -> tuple[dict[str, str], list[Finding]]:
    """The params of a record within the limits of its target, and a finding for each change."""
    fit = _Fit(limits)
    return fit.pairs({key: str(value) for key, value in params.items()}, "params"), fit.findings


def carried_models(
    record: RunRecord, limits: Limits
) -> tuple[tuple[LoggedModel, ...], list[Finding]]:
    """The logged models of a record within the limits of MLflow's API, and a finding for each
    change.
    """
    fit = _Fit(limits)
    models = tuple(
        replace(
            model,
            name=fit.text(model.name, "logged_models.name", f"model {model.name!r}"),
            model_type=model.model_type
            and fit.text(model.model_type, "logged_models.model_type", f"model {model.name!r}"),
            params=fit.pairs(model.params, "params"),
            tags=fit.pairs(model.tags, "tags"),
            metrics=tuple(replace(p, key=limits.legal_key(p.key)) for p in model.metrics),
        )
        for model in record.models
        if model.stage == ACTIVE
    )
    return models, fit.findings


def _tags(layout: Layout, record: RunRecord) -> dict[str, str]:
    """All tags of the record, the user's tags for the export, and the run key."""
    run = layout.run
    tags = {key: text for key, text in record.tags.items() if key not in OWN_TAGS}
    tags |= run.tags
    if run.group and run.group != record.head.experiment.name:
        tags["bridges.group"] = run.group
    if run.name != _known_as(record):
        tags[NAME_TAG] = run.name
    return {**tags, KEY_TAG: layout.key}


def _known_as(record: RunRecord) -> str:
    """The name under which the source shows the run."""
    return record.head.name or record.tags.get(NAME_TAG) or record.head.run_id


def _name(layout: Layout, record: RunRecord) -> str:
    """The name of the run; a run without one gets none."""
    if layout.run.name != _known_as(record):
        return layout.run.name
    return record.head.name or record.tags.get(NAME_TAG, "")


def _is_of_program(key: str) -> bool:
    return key.startswith(("mlflow.", "bridges.")) and key not in EDITED_TAGS


def _status(status: str, fit: _Fit) -> str:
    if status in STATUSES:
        return status
    message = "MLflow has no such status; the run is stored as RUNNING"
    fit.findings.append(Finding("status-unknown", Severity.WARNING, repr(status), message))
    return "RUNNING"


def _by_api_only(record: RunRecord) -> list[Finding]:
    """Findings for columns beyond the API, and for tags with the old id."""
    columns = {
        "deleted_time": record.deleted,
        "source_name": record.source_name,
        "source_version": record.source_version,
        "entry_point_name": record.entry_point,
    }
    lost = [name for name, value in columns.items() if value]
    lost += ["start_time"] if record.head.start is None else []
    found, run_id = [], record.head.run_id
    if lost:
        message = "MLflow's API cannot set these columns of a run; write to the database directly"
        found.append(Finding("columns-not-set", Severity.INFO, ", ".join(lost), message, len(lost)))
    texts = [k for k, v in record.tags.items() if run_id in v and k != PARENT_TAG]
    if texts:
        message = "these tags name the run by its id in the source; the server gives it another one"
        found.append(Finding("ids-in-tags", Severity.INFO, named(texts), message, len(texts)))
    return found


def _models_by_api(record: RunRecord, limits: Limits) -> list[Finding]:
    """Findings for logged models: releases before MLflow 3 have none."""
    if limits.has_models:
        found = carried_models(record, limits)[1]
        if record.models:
            message = "MLflow's API cannot set their times and artifact locations"
            count = len(record.models)
            found.append(Finding("columns-not-set", Severity.INFO, "logged models", message, count))
        return found
    rows_beside = {
        "logged models": len(record.models),
        "metrics of logged models": sum(len(model.metrics) for model in record.models),
        "links to logged models": len(record.links),
    }
    message = "this release of MLflow does not have them"
    return [
        Finding("records-left-out", Severity.LOSS, kind, message, count)
        for kind, count in rows_beside.items()
        if count
    ]


def _is_plain(text: str, width: int | None) -> bool:
    """Whether any target stores a text as it is: the usual case."""
    return text.isascii() and "\0" not in text and (width is None or len(text) <= width)


@dataclass
class _Fit:
    """Fits texts into the columns of a target, and collects a finding for each change."""

    limits: Limits
    findings: list[Finding] = field(default_factory=list)

    def pairs(self, pairs: Mapping[str, str], table: str) -> dict[str, str]:
        """Params or tags, with legal keys."""
        kind, column = table[:-1], f"{table}.value"
        keys = distinct_tags(pairs, self.limits.carried_key)
        changed = [key for key, legal in keys.items() if legal != key]
        if changed:
            message = f"MLflow does not accept these keys; one becomes {keys[changed[0]]!r}"
            where = f"{table} {named(changed)}"
            self._add("key-changed", Severity.WARNING, where, message, len(changed))
        width = self.limits.width(column)
        return {
            keys[key]: text
            if _is_plain(text, width)
            else self.text(text, column, f"{kind} {key!r}")
            for key, text in pairs.items()
        }

    def text(self, text: str, column: str, where: str) -> str:
        """A text within the width of its column."""
        text = encodable(text)
        if "\0" in text and not self.limits.takes_nul:
            message = "NUL characters are replaced: the target cannot store them"
            self._add("nul-replaced", Severity.LOSS, where, message, text.count("\0"))
            text = text.replace("\0", REPLACEMENT)
        width = self.limits.width(column)
        if width is not None and len(text) > width:
            message = f"cut from {len(text):,} to {width:,} characters, the limit of the target"
            self._add("value-cut", Severity.LOSS, where, message)
            text = text[:width]
        return text

    def uri(self, uri: str) -> str:
        """An artifact URI; empty if it is too long, as no part of it would lead anywhere."""
        width = self.limits.width("runs.artifact_uri")
        if width is None or len(uri) <= width:
            return uri
        self.too_long(uri, "the run gets a location of its experiment", width)
        return ""

    def too_long(self, uri: str, instead: str, width: int) -> None:
        """Add the finding for an artifact location."""
        message = (
            f"the artifact location is longer than {width} characters, the limit of the target; "
            f"{instead}"
        )
        self._add("artifact-uri-too-long", Severity.LOSS, uri, message)

    def _add(self, code: str, severity: Severity, where: str, message: str, count: int = 1) -> None:
        self.findings.append(Finding(code, severity, where, message, count))
