"""Appends the further rows of a tuning tool's log to the rows of the state beside it.

A log may continue after the last saved state, for example if the run crashed. Its further rows are
used if both agree on their common rows. A log whose last line contains the Trainer's history has
exact rows; other logs lack metrics or round values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bridges.errors import SourceError
from bridges.huggingface.diagnose import diagnose
from bridges.sources.options import ReadOptions
from bridges.sources.text import load
from bridges.sources.tuning_logs.formats import recognise
from bridges.sources.tuning_logs.matching import measured_values, same_rows
from bridges.sources.tuning_logs.run_keys import log_identity
from bridges.sources.tuning_logs.tool_log import ToolLog, read_log, with_lines
from bridges.stream.columns import appended
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.logged import ranges_of
from bridges.stream.model import Int64, Log, MetricStream, Provenance, RowKind, Run

_UNFIT = ("beside-unreadable", "log-rows-left-out")  # the log does not belong to the run
_REFUTED = ("no-rows", "tail-not-logged")  # findings about the state that the log disproves


def with_best_log(
    run: Run, locations: Sequence[str], options: ReadOptions, *, is_alone: bool
) -> tuple[Run, list[str]]:
    """The run with the further rows of the best log, and the log if its times may be the run's.

    The best log fits the state and has the most rows; findings report the other logs.
    """
    read = [
        (*with_log(run, location, options, is_alone=is_alone), location) for location in locations
    ]
    best, is_own, chosen = max(read, key=_rank)
    others = [location for location in locations if location != chosen]
    if others:
        unused = _not_used(best, chosen, others, options, is_alone=is_alone)
        best = replace(best, findings=(*best.findings, *unused))
    return best, [chosen] if is_own else []


def _rank(read: tuple[Run, bool, str]) -> tuple[bool, int, int]:
    """Sort key of logs: whether it fits the run, rows of the run with it, number of common rows."""
    run, is_own, _ = read
    codes = {finding.code for finding in run.findings}
    shared = sum(int((log.same >= 0).sum()) for log in run.logs)
    return is_own and codes.isdisjoint(_UNFIT), len(run.stream), shared


def _not_used(
    run: Run, chosen: str, others: Sequence[str], options: ReadOptions, *, is_alone: bool
) -> Iterator[Finding]:
    """A finding for each unused log: a loss if it has rows after the last step of the run."""
    for location in others:
        try:
            found = _log_at(location, options.max_unpacked)
        except SourceError as error:
            yield _unreadable(location, error)
            continue
        missing, later = _missing_rows(run, *found[:2]) if found else (0, 0)
        message = (
            f"of {len(others) + 1} logs beside the state, {chosen} is used; {missing} rows of this "
            "one are not in the run: to export them as a separate run, export this log"
        )
        severity = Severity.LOSS if later and is_alone else Severity.INFO
        yield Finding("log-not-used", severity, location, message, later or missing or 1)


def _missing_rows(run: Run, log: ToolLog, other: MetricStream) -> tuple[int, int]:
    """The number of measured rows of a log that are not in the run, and how many of them are after
    its last step.
    """
    same, _ = same_rows(run.stream, other, None if log.history else log.digits)
    measured = np.array([bool(row) for row in measured_values(other)], bool)
    missing = measured & (same < 0)
    last = int(run.stream.step[-1]) if len(run.stream) else -1
    return int(missing.sum()), int((missing & (other.step > last)).sum())


def with_log(run: Run, location: str, options: ReadOptions, *, is_alone: bool) -> tuple[Run, bool]:
    """The run with the further rows of the log, and whether the log may belong to the run.

    If the run is not `is_alone` in its directory, rows after a step back may belong to another run
    and are not used. A run that is growing (`options`) waits for its next state instead.
    """
    try:
        found = _log_at(location, options.max_unpacked)
    except SourceError as error:
        return replace(run, findings=(*run.findings, _unreadable(location, error))), True
    if found is None:
        return run, True
    log, other, provenance = found
    same, contradicted = same_rows(run.stream, other, None if log.history else log.digits)
    why = _why_apart(run, log, same, contradicted)
    if why:
        findings = (*run.findings, *_left_out(run, other, log, why, is_alone=is_alone))
        return replace(run, findings=findings), contradicted is None
    further = [] if options.growing else _further_rows(run, other, same, is_alone=is_alone)
    rows = np.array(further, np.int64)
    same[rows] = len(run.stream) + np.arange(len(rows))
    if is_alone and not options.growing:
        run = replace(run, findings=(*run.findings, *_superseded(log, other, same)))
    if further:
        run = replace(run, provenance=(*run.provenance, provenance))
        run = _appended(run, log, other.take(rows))
    if log.history:
        return with_lines(run, log), True
    lines = np.concatenate([np.full(len(run.stream) - len(rows), -1, np.int64), rows])
    beside = Log(other, same, log_identity(other))
    return with_lines(replace(run, logged=ranges_of(lines)), log, beside), True


def _log_at(
    location: str, max_unpacked: int | None
) -> tuple[ToolLog, MetricStream, Provenance] | None:
    """The log, its rows and its provenance; None if the file is not a log. Raises SourceError."""
    text = load(location, salvage=True, max_unpacked=max_unpacked)
    log_format = recognise(text.data)
    if log_format is None:
        return None
    log = read_log(location, text, log_format)
    return log, log.best_rows.stream()[0], text.provenance


def _unreadable(location: str, error: SourceError) -> Finding:
    message = f"not read as the log of this run: {error}"
    return Finding("beside-unreadable", Severity.WARNING, location, message)


def _superseded(log: ToolLog, other: MetricStream, same: Int64) -> list[Finding]:
    """A finding for the measured rows of the log that are not in the run."""
    measured = measured_values(other)
    count = sum(bool(measured[line]) for line in np.flatnonzero(same < 0).tolist())
    if not count:
        return []
    message = (
        "rows of the log that are not in the state, from an attempt that a resume replaced or from "
        "a second process: left out"
    )
    return [Finding("log-rows-superseded", Severity.INFO, log.location, message, count)]


def _why_apart(run: Run, log: ToolLog, same: Int64, contradicted: int | None) -> str:
    """The reason why a log may belong to another run; empty if it belongs to this run."""
    end = run.params.get("max_steps")
    if contradicted is not None:
        return f"it contradicts {name_rows([contradicted])} of the state"
    if len(run.stream):
        return "" if (same >= 0).any() else "they share no row"
    return "" if end in (None, log.total) else "they end at different steps"


def _further_rows(run: Run, log: MetricStream, same: Int64, *, is_alone: bool) -> list[int]:
    """The rows of the log after the state.

    At the last step of the state, a further training row comes from a second process, and a row
    without metrics is the line of the summary; both are excluded.
    """
    state, measured = run.stream, measured_values(log)
    last = int(state.step[-1]) if len(state) else -1
    is_trained = bool((state.kind[state.step == last] == RowKind.TRAIN).any())
    end = int(np.flatnonzero(same >= 0)[-1]) + 1 if len(state) else 0
    known = (log.step[end:] == last) & (log.kind[end:] == RowKind.TRAIN) & is_trained
    further = [
        line
        for line in (end + np.flatnonzero(~known)).tolist()
        if measured[line] or log.step[line] > last
    ]
    back = (at for at, line in enumerate(further) if log.step[line] < last)
    return further if is_alone else further[: next(back, None)]


def _left_out(
    run: Run, other: MetricStream, log: ToolLog, why: str, *, is_alone: bool
) -> list[Finding]:
    """A loss for the further rows of a log that may belong to another run.

    If the directory has other runs, one of them may have the rows: no loss is reported.
    """
    last = int(run.stream.step[-1]) if len(run.stream) else -1
    count = int((other.step > last).sum())
    if not count or not is_alone:
        return []
    message = (
        f"the log continues after the state, but {why}, so it may belong to another run: its "
        "further rows are left out; to export them as a separate run, export this log"
    )
    return [Finding("log-rows-left-out", Severity.LOSS, log.location, message, count)]


def _appended(run: Run, log: ToolLog, further: MetricStream) -> Run:
    """The run with further rows after those of its state."""
    stream = appended(run.stream, further)
    findings = [finding for finding in run.findings if finding.code not in _REFUTED]
    known = {finding.code for finding in findings}
    findings += [finding for finding in diagnose(stream) if finding.code not in known]
    findings.append(_rows_from(log, len(further)))
    return replace(run, stream=stream, status=_status(run, stream), findings=tuple(findings))


def _rows_from(log: ToolLog, rows: int) -> Finding:
    message, severity = "the log continues after the state: its rows are appended", Severity.INFO
    if not log.history:
        message, severity = f"{message}; {log.log_format.shortcoming.message}", Severity.WARNING
    return Finding("rows-from-log", severity, log.location, message, rows)


def _status(run: Run, stream: MetricStream) -> str:
    end = run.params.get("max_steps")
    if (stream.kind == RowKind.SUMMARY).any():
        return "finished"
    return "finished" if isinstance(end, int) and 0 < end <= stream.step[-1] else run.status
