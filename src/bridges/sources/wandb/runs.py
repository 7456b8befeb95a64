"""From the logs of a W&B run to the neutral model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridges.formats.wandb_log.records import RunRecord, Stats
from bridges.formats.wandb_log.rows import Column, Path
from bridges.huggingface.trainer_keys import row_kinds
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.earlier_exports import (
    EXPORTED_STEP,
    Earlier,
    earlier_export,
    original_keys,
    original_note,
)
from bridges.sources.wandb.logs import ReadLog
from bridges.sources.wandb.steps import STEP, Rows, StepChooser, choose_steps, placed
from bridges.sources.wandb.trainer import STEP_KEY, as_logged, is_trainer, settings_of
from bridges.sources.wandb.values import INT64_BOUND, LeftOut, own_numbers, series_of
from bridges.stream.clock import SECOND
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64, MetricStream, RowKind, Run, Series
from bridges.stream.redact import redact, redact_text
from bridges.stream.tagging import named

TENSORBOARD_STEP = "global_step"  # of runs synced from event files
UNCATEGORIZED = "uncategorized"  # the project of runs without one
STATUS = {None: "unfinished", 0: "finished", 255: "killed"}
FAILED = "failed"
MAX_SECONDS = 1e11  # the year 5138


@dataclass
class Content:
    """The content of a run: its logs in order, and the columns of `count` rows.

    source: the location of the run; files: its files
    status, facts: of a server
    is_remote: wandb-core may have changed the types of numbers
    """

    run_id: str
    source: str
    files: tuple[str, ...]
    logs: list[ReadLog]
    columns: list[Column]
    count: int
    rounded: int = 0
    findings: list[Finding] = field(default_factory=list)
    status: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    is_remote: bool = False

    @property
    def record(self) -> RunRecord:
        """The run record of the last log, completed by earlier ones."""
        found = RunRecord()
        for log in self.logs:
            known = {name: value for name, value in vars(log.run).items() if value}
            found = replace(found, **known)
        return found

    @property
    def config(self) -> dict[str, object]:
        """The values of the config, those of later logs last."""
        found: dict[str, object] = {}
        for log in self.logs:
            for path, value in log.log.config.items():
                _put(found, path, value)
        return found

    @property
    def summary(self) -> dict[Path, object]:
        """The summary values, those of later logs last."""
        found: dict[Path, object] = {}
        for log in self.logs:
            found |= log.log.summary
        return found

    @property
    def stats(self) -> list[Stats]:
        """All system metrics."""
        return [stats for log in self.logs for stats in log.log.stats]


@dataclass(frozen=True)
class RunKept:
    """The record of a W&B run: its id and project."""

    run_id: str
    project: str


def run_of(content: Content, options: ReadOptions) -> Run:
    """The run of some logs."""
    record, config = content.record, content.config
    config.pop("_wandb", None)
    earlier = earlier_export(config)
    rows, time, notes = _rows(content)
    series, left = series_of(content.columns, is_exact=earlier.is_exact and not content.is_remote)
    stream, steps, is_of_trainer = _stream(content, options, earlier, rows, time, series)
    is_timed = not (options.system_metrics and content.stats)
    if not is_timed:
        stream = _with_system_metrics(stream, content.stats)
    params, masked = redact(earlier.params, home=options.redact_home)
    findings = [*content.findings, *_of_logs(content), *notes, *_left_out(left, content)]
    if not (is_of_trainer or earlier.key) or options.step_column:
        findings += steps
    if content.stats and is_timed:
        findings.append(_system_skipped(content))
    status = content.status or _status(content, options)
    if status == "unfinished":
        findings.append(_no_exit(content))
    start, end = _bounds(content, record, time)
    run = Run(
        name=record.name or content.run_id,
        stream=stream,
        source=content.source,
        params=params,
        facts=_facts(content, record, stream.keys, home=options.redact_home),
        tags=dict.fromkeys(record.tags, ""),
        group=record.group or None,
        status=status,
        writer=_writer(content) if is_of_trainer else None,
        findings=(*findings, *masked),
        saves=content.files,
        project=record.project or None,
        key_style="trainer" if is_of_trainer else "tags",
        identity=() if is_of_trainer else _identity(content, record, rows, series),
        key=earlier.key,
        settings=settings_of(params),
        start=start,
        end=end,
        note=redact_text(original_note(record.notes), home=options.redact_home),
        record=RunKept(content.run_id, record.project),
        append_only=is_timed,
    )
    return replace(run, facts={}) if earlier.key else run


def _writer(content: Content) -> str | None:
    """The release of transformers behind a run, without its patch number."""
    known = [log.log.transformers for log in content.logs if log.log.transformers]
    return ".".join(known[-1].split(".")[:2]) if known else None


def _put(target: dict[str, object], path: Sequence[str], value: object) -> None:
    """Set a value in nested dicts."""
    *outer, last = path
    for name in outer:
        inner = target.get(name)
        if not isinstance(inner, dict):
            inner = target[name] = {}
        target = inner
    target[last] = value


def _rows(content: Content) -> tuple[Rows, Int64, list[Finding]]:
    """The rows and their times (microseconds since 1970 UTC), with findings.

    Rows of several writers without steps (shared mode) are sorted by time and numbered.
    """
    log_of_row = np.repeat(np.arange(len(content.logs)), [log.rows for log in content.logs])
    time, notes = _times(content)
    values, has_step = own_numbers(content.columns, STEP, content.count)
    has_step &= (values == np.rint(values)) & (np.abs(values) < INT64_BOUND)
    if content.count and not has_step.any():
        order = np.argsort(time, kind="stable")
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        content.columns[:] = [_moved(column, position) for column in content.columns]
        message = "rows without a step, as several writers logged them: numbered in order of time"
        where = "all rows"
        notes.append(Finding("shared-no-step", Severity.INFO, where, message, content.count))
        rows = Rows(np.arange(content.count), np.zeros(content.count, np.int64))
        return rows, time[order], notes
    step = np.where(has_step, values, 0).astype(np.int64)
    for row in np.flatnonzero(~has_step).tolist():
        step[row] = step[row - 1] + 1 if row else 0
    return Rows(step, log_of_row), time, [*notes, *_overlaps(content, step, log_of_row)]


def _moved(column: Column, position: Int64) -> Column:
    rows = position[column.rows]
    order = np.argsort(rows)
    return Column(column.path, rows[order], column.values[order])


def _times(content: Content) -> tuple[Int64, list[Finding]]:
    """The time of each row; others get the time of the row before."""
    seconds, has_time = own_numbers(content.columns, "_timestamp", content.count)
    has_time &= np.abs(seconds) < MAX_SECONDS  # false for NaN
    time = np.zeros(content.count, np.int64)
    time[has_time] = np.rint(seconds[has_time] * SECOND).astype(np.int64)
    missing = np.flatnonzero(~has_time)
    known = np.maximum.accumulate(np.where(has_time, np.arange(content.count), -1))
    start = content.record.start or int(time[has_time][0] if has_time.any() else 0)
    time[missing] = np.where(known[missing] >= 0, time[known[missing]], start)
    notes = []
    if len(missing):
        message = "rows without a time get the time of the row before them, or of the run's start"
        notes.append(Finding.at_rows("row-without-time", Severity.WARNING, missing, message))
    if content.count > 1 and not (time % SECOND).any():
        message = "the times are whole seconds, as the run's release of wandb logged them"
        count = content.count
        notes.append(Finding("seconds-resolution", Severity.INFO, "all rows", message, count))
    return time, notes


def _overlaps(content: Content, step: Int64, log_of_row: Int64) -> list[Finding]:
    """Findings about logs with steps of the logs before them."""
    found = []
    for number, log in enumerate(content.logs[1:], 1):
        before, own = step[log_of_row < number], step[log_of_row == number]
        count = int((own <= before.max()).sum()) if len(before) and len(own) else 0
        if count:
            message = (
                "the run was resumed at an earlier step: these rows share steps with earlier "
                "rows. All are kept; --duplicates chooses others"
            )
            where = log.place
            found.append(Finding("resumed-overlap", Severity.WARNING, where, message, count))
    return found


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
    keys = {part.key for part in series}
    is_of_trainer = earlier.style != "tags" and is_trainer(logs, keys)
    default, forced = STEP, options.step_column
    if is_of_trainer:
        forced = forced or STEP_KEY  # it falls if a process trains twice
    elif any(log.is_tensorboard for log in logs):
        default = TENSORBOARD_STEP
    elif earlier.style == "tags":
        forced = forced or EXPORTED_STEP
    definitions = [each for log in logs for each in log.metrics]
    chooser = StepChooser(rows, series, definitions, default, forced)
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


def _with_system_metrics(stream: MetricStream, stats: Sequence[Stats]) -> MetricStream:
    """The stream with rows of system metrics, in order of time; their steps are their numbers."""
    assert stream.time is not None
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for number, moment in enumerate(stats):
        for name, value in moment.values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                key = f"system/{name.replace(chr(92), '').removeprefix('system.')}"
                rows, values = found.setdefault((key, "f"), ([], []))
                rows.append(len(stream) + number)
                values.append(float(value))
    series = [Series(key, np.array(r), np.array(v)) for (key, _), (r, v) in found.items()]
    step = np.concatenate([stream.step, np.arange(len(stats))])
    time = np.concatenate([stream.time, np.array([moment.time for moment in stats], np.int64)])
    kind = np.concatenate([stream.kind, np.full(len(stats), RowKind.CUSTOM, np.uint8)])
    joined = MetricStream(step, kind, (*stream.series, *series), time)
    return joined.take(np.argsort(time, kind="stable"))


def _identity(
    content: Content, record: RunRecord, rows: Rows, series: Sequence[Series]
) -> tuple[object, ...]:
    """Project, run id and first values, with `_step`: equal in a log and on a server."""
    of_user = [part for part in series if not part.key.startswith("_")]
    first = min((int(part.rows[0]) for part in of_user), default=None)
    values: list[object] = []
    if first is not None:
        found = [(p.key, p.values[:1].tolist()) for p in of_user if p.rows[0] == first]
        values = [int(rows.step[first]), sorted([key, repr(value)] for key, value in found)]
    return ("wandb", record.project or UNCATEGORIZED, content.run_id, values)


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


def _bounds(content: Content, record: RunRecord, time: Int64) -> tuple[int | None, int | None]:
    """Start and end of a run in microseconds since 1970 UTC."""
    starts = [log.run.start for log in content.logs if log.run.start]
    start = min(starts) if starts else int(time.min()) if len(time) else None
    return start, int(time.max()) if len(time) else start


def _of_logs(content: Content) -> list[Finding]:
    """The findings of all logs, and about other records."""
    found = [finding for log in content.logs for finding in log.findings]
    others = sum((log.log.others for log in content.logs), Counter[str]())
    if others:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(others.items()))
        message = f"not exported, as no target takes them: {listed}"
        where = content.source
        found.append(Finding("not-carried", Severity.INFO, where, message, others.total()))
    if content.rounded:
        message = "integers beyond 2^63-1 are kept as the nearest float64"
        where = "all metrics"
        found.append(
            Finding("integer-beyond-int64", Severity.WARNING, where, message, content.rounded)
        )
    if fork := content.record.fork:
        message = f"the run was forked from {fork!r}, and has its own rows only"
        found.append(Finding("forked-run", Severity.INFO, content.source, message))
    return found


def _left_out(left: LeftOut, content: Content) -> list[Finding]:
    found = []
    if left.media:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left.media.items()))
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


def _no_exit(content: Content) -> Finding:
    message = "the log has no end: the run crashed, or is still running"
    return Finding("no-exit", Severity.INFO, content.source, message)
