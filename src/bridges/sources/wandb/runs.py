"""From the logs of a W&B run to the neutral model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bridges.formats.wandb_log.records import MAX_SECONDS, RunLog, RunRecord
from bridges.huggingface.trainer_keys import row_kinds
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.content import Content
from bridges.sources.wandb.earlier_exports import (
    EXPORTED_STEP,
    Earlier,
    earlier_export,
    original_keys,
    original_note,
)
from bridges.sources.wandb.rows import rows_of, with_system_metrics
from bridges.sources.wandb.steps import STEP, Rows, StepChooser, choose_steps, placed
from bridges.sources.wandb.trainer import (
    STEP_KEY,
    as_logged,
    is_trainer,
    lacks_final,
    settings_of,
)
from bridges.sources.wandb.values import LeftOut, series_of
from bridges.stream.clock import SECOND
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64, MetricStream, RowKind, Run, Series
from bridges.stream.redact import redact, redact_text
from bridges.stream.tagging import named

TENSORBOARD_STEP = "global_step"  # of runs synced from event files
UNCATEGORIZED = "uncategorized"  # the project of runs without one
STATUS = {None: "unfinished", 0: "finished", 255: "killed"}
FAILED = "failed"


@dataclass(frozen=True)
class RunKept:
    """The record of a W&B run: its id and project."""

    run_id: str
    project: str


@dataclass(frozen=True)
class _History:
    """The history of a run.

    start, end: of its rows, in microseconds since 1970 UTC
    identity: of a run whose keys are tags
    """

    stream: MetricStream
    is_of_trainer: bool
    identity: tuple[object, ...]
    start: int | None
    end: int | None
    findings: list[Finding]


def run_of(content: Content, options: ReadOptions) -> Run:
    """The run of some logs, or of a server."""
    record, home = content.record, options.redact_home
    earlier = earlier_export(content.config)
    history = _history(content, earlier, options)
    params, masked = redact(earlier.params, home=home)
    status = content.status or _status(content, options)
    run = Run(
        name=record.name or content.run_id,
        stream=history.stream,
        source=content.source,
        params=params,
        facts=_facts(content, record, history.stream.keys, home=home),
        tags=dict.fromkeys(record.tags, ""),
        group=record.group or record.sweep or None,
        status=status,
        writer=_writer(content) if history.is_of_trainer else None,
        findings=(*_of_logs(content), *history.findings, *_no_exit(content, status), *masked),
        saves=content.files,
        project=record.project or None,
        key_style="trainer" if history.is_of_trainer else "tags",
        identity=history.identity,
        key=earlier.key,
        settings=settings_of(params),
        start=history.start,
        end=history.end,
        note=redact_text(original_note(record.notes), home=home),
        record=RunKept(content.run_id, record.project),
        append_only=not (options.system_metrics and content.stats),
    )
    return replace(run, facts={}) if earlier.key else run


def _history(content: Content, earlier: Earlier, options: ReadOptions) -> _History:
    """The history of a run; system metrics are in it on request."""
    rows, time, findings = rows_of(content)
    series, left = series_of(content.columns, is_exact=earlier.is_exact and not content.is_remote)
    stream, steps, is_of_trainer = _stream(content, options, earlier, rows, time, series)
    findings += _left_out(left)
    if is_of_trainer and not content.has_ended and lacks_final(stream):
        stream = stream.take(np.arange(len(stream) - 1))  # a target cannot change it later
        findings.append(_final_row_waits(content))
    if not (is_of_trainer or earlier.key) or options.step_column:
        findings += steps
    if content.stats and options.system_metrics:
        stream = with_system_metrics(stream, content.stats)
    elif content.stats:
        findings.append(_system_skipped(content))
    identity = () if is_of_trainer else _identity(content, rows, series)
    return _History(stream, is_of_trainer, identity, *_bounds(content, time), findings)


def _writer(content: Content) -> str | None:
    """The release of transformers behind a run, without its patch number."""
    known = [log.log.transformers for log in content.logs if log.log.transformers]
    return ".".join(known[-1].split(".")[:2]) if known else None


def _stream(
    content: Content,
    options: ReadOptions,
    earlier: Earlier,
    rows: Rows,
    time: Int64,
    series: list[Series],
) -> tuple[MetricStream, list[Finding], bool]:
    """The stream of a run, findings about its steps, and whether it is the Trainer's."""
    logs = [log.log for log in content.logs]
    is_of_trainer = earlier.style != "tags" and is_trainer(logs, {part.key for part in series})
    chooser = _step_chooser(logs, rows, series, options, earlier, is_of_trainer=is_of_trainer)
    kept = [part for part in series if part.key != STEP_KEY or not is_of_trainer]
    if earlier.style == "tags":
        kept = original_keys(kept)
    metrics, findings = choose_steps(chooser, kept)
    moved, original, step = placed(len(rows), kept, metrics, chooser)
    kind = np.full(len(step), RowKind.CUSTOM, np.uint8)
    if is_of_trainer:
        is_exact = earlier.is_exact and not content.is_remote
        moved = as_logged(moved, content.summary, is_exact=is_exact)
        kind = row_kinds(len(step), moved)
    moved.sort(key=lambda part: part.key)
    return MetricStream(step, kind, tuple(moved), time[original]), findings, is_of_trainer


def _step_chooser(
    logs: Sequence[RunLog],
    rows: Rows,
    series: Sequence[Series],
    options: ReadOptions,
    earlier: Earlier,
    *,
    is_of_trainer: bool,
) -> StepChooser:
    default, forced = STEP, options.step_column
    if is_of_trainer:
        forced = forced or STEP_KEY  # it falls if a process trains twice
    elif any(log.is_tensorboard for log in logs):
        default = TENSORBOARD_STEP
    elif earlier.style == "tags":
        forced = forced or EXPORTED_STEP
    definitions = [each for log in logs for each in log.metrics]
    return StepChooser(rows, series, definitions, default, forced)


def _identity(content: Content, rows: Rows, series: Sequence[Series]) -> tuple[object, ...]:
    """Project, run id and first values, with `_step`: equal in a log and on a server."""
    of_user = [part for part in series if not part.key.startswith("_")]
    first = min((int(part.rows[0]) for part in of_user), default=None)
    values: list[object] = []
    if first is not None:
        found = [(p.key, p.values[:1].tolist()) for p in of_user if p.rows[0] == first]
        values = [int(rows.step[first]), sorted([key, repr(value)] for key, value in found)]
    return ("wandb", content.record.project or UNCATEGORIZED, content.run_id, values)


def _facts(
    content: Content, record: RunRecord, keys: Sequence[str], *, home: bool
) -> dict[str, object]:
    """Further properties of a run, and its summary values outside of rows."""
    found = {
        "wandb.run_id": content.run_id,
        "wandb.entity": record.entity,
        "wandb.project": record.project,
        "wandb.group": record.group,
        "wandb.job_type": record.job_type,
        "wandb.sweep_id": record.sweep,
        "wandb.forked_from": record.fork,
        "wandb.version": next((log.log.writer for log in content.logs if log.log.writer), ""),
        **content.facts,
    }
    known: dict[str, object] = {key: value for key, value in found.items() if value}
    if record.tags:
        known["wandb.tags"] = ", ".join(record.tags)
    shown, _ = redact(_summary_only(content, keys), home=home)
    return {**known, **{f"wandb.summary.{key}": value for key, value in shown.items()}}


def _summary_only(content: Content, keys: Iterable[str]) -> dict[str, object]:
    """The summary values under keys outside of rows; media and wandb's own are left out."""
    in_rows = {*keys, *(".".join(column.path) for column in content.columns)}
    firsts = {column.path[0] for column in content.columns}
    summary: dict[str, object] = {}
    for path, value in content.summary.items():
        name = ".".join(path)
        if path[0].startswith("_") or name in in_rows or path[0] in firsts:
            continue
        if value is not None:
            summary[name] = value
    media = {name.rpartition(".")[0] for name in summary if name.endswith("._type")}
    return {
        name: value
        for name, value in summary.items()
        if name.rpartition(".")[0] not in media
        and not (isinstance(value, dict) and "_type" in value)
    }


def _status(content: Content, options: ReadOptions) -> str:
    """The status by the exit code of the last log."""
    code = content.logs[-1].log.exit_code if content.logs else None
    if code is None and options.growing:
        return "running"
    return STATUS.get(code, FAILED)


def _bounds(content: Content, time: Int64) -> tuple[int | None, int | None]:
    """Start and end of a run in microseconds since 1970 UTC: without rows, by its duration."""
    starts = [log.run.start for log in content.logs if log.run.start]
    if len(time):
        return min(starts, default=int(time.min())), int(time.max())
    start = min(starts, default=None)
    return start, None if start is None else start + round(_duration(content) * SECOND)


def _duration(content: Content) -> float:
    """The duration of a run in seconds, as wandb notes it in the summary; 0: unknown."""
    own = content.summary.get(("_wandb",))  # up to 0.17, and on servers
    found = own.get("runtime") if isinstance(own, dict) else None
    found = content.summary.get(("_wandb", "runtime"), found)
    return found if isinstance(found, (int, float)) and 0 <= found < MAX_SECONDS else 0


def _of_logs(content: Content) -> list[Finding]:
    """The findings of all logs, and about other records."""
    found = [*content.findings, *(finding for log in content.logs for finding in log.findings)]
    others = sum((log.log.others for log in content.logs), Counter[str]())
    if others:
        listed = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(others.items()))
        message = f"not exported, as no target takes them: {listed}"
        where = content.source
        found.append(Finding("not-carried", Severity.INFO, where, message, others.total()))
    if content.rounded:
        message = "integers beyond 2^63-1 are kept as the nearest float64"
        where = "all metrics"
        found.append(
            Finding("integer-beyond-int64", Severity.WARNING, where, message, content.rounded)
        )
    if (fork := content.record.fork) and not content.is_remote:
        message = f"the run was forked from {fork!r}, and has its own rows only"
        found.append(Finding("forked-run", Severity.INFO, content.source, message))
    return found


def _left_out(left: LeftOut) -> list[Finding]:
    found = []
    if left.media:
        listed = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(left.media.items()))
        message = f"media are not exported, as no target takes them: {listed}"
        count = left.media.total()
        found.append(Finding("media-skipped", Severity.INFO, "all rows", message, count))
    if left.nulls:
        message = "null values are left out; a W&B server does not keep them, either"
        found.append(Finding("null-skipped", Severity.INFO, "all rows", message, left.nulls))
    if left.renamed:
        message = "values in objects whose key with dots is the name of a metric: they get a suffix"
        where, count = named(left.renamed), len(left.renamed)
        found.append(Finding("nested-key-taken", Severity.WARNING, where, message, count))
    return found


def _system_skipped(content: Content) -> Finding:
    count = sum(len(moment.values) for moment in content.stats)
    message = "system metrics (CPU, memory, GPU) are left out; --system-metrics reads them, too"
    return Finding("system-skipped", Severity.INFO, content.source, message, count)


def _final_row_waits(content: Content) -> Finding:
    message = (
        "the last row has only an epoch, and the run has no end: it is left out until the final "
        "values of the training are there"
    )
    return Finding("final-row-waits", Severity.INFO, content.source, message)


def _no_exit(content: Content, status: str) -> list[Finding]:
    if status != "unfinished":
        return []
    message = "the log has no end: the run crashed, or is still running"
    return [Finding("no-exit", Severity.INFO, content.source, message)]
