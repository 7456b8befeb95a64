"""A tuning tool's log beside a state: the rows that only the log holds follow those of the state.

A state is as old as its save, so a log may go on after it, as where a run crashed. Its further rows
are taken where both agree on what they share. A log whose last line holds the Trainer's own history
has exact rows; the others lack metrics, or are rounded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.errors import SourceError
from bridges.sources.log_formats import recognise
from bridges.sources.log_matching import measured_values, same_rows
from bridges.sources.text import load
from bridges.sources.trainer_log import ToolLog, read_log, with_lines
from bridges.sources.trainer_state import rows_stream
from bridges.stream.columns import appended
from bridges.stream.diagnose import diagnose
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.logged import ranges_of
from bridges.stream.model import Int64, Log, MetricStream, RowKind, Run

_UNTRUE = ("no-rows", "tail-not-logged")  # findings of the state that the log refutes


def with_log(run: Run, location: str, *, is_alone: bool, growing: bool) -> tuple[Run, bool]:
    """The run of a state, followed by what only the log in its directory holds; and whether the log
    may be of this run.

    A run that is not `is_alone` there shares the log with others: rows after a step back are not
    taken, because they may be those of another run. One that is `growing` waits for its next state.
    """
    try:
        text = load(location, salvage=True)
        log_format = recognise(text.data)
        if log_format is None:
            return run, True
        log = read_log(location, text, log_format)
        other = rows_stream(location, log.best_rows, log.place_of)
    except SourceError as error:
        message = f"not read as the log of this run: {error}"
        found = Finding("beside-unreadable", Severity.WARNING, location, message)
        return replace(run, findings=(*run.findings, found)), True
    same, contradicted = same_rows(run.stream, other, None if log.history else log.digits)
    why = _why_apart(run, log, same, contradicted)
    if why:
        findings = (*run.findings, *_left_out(run, other, log, why, is_alone))
        return replace(run, findings=findings), contradicted is None
    further = [] if growing else _further_rows(run, other, same, is_alone=is_alone)
    rows = np.array(further, np.int64)
    same[rows] = len(run.stream) + np.arange(len(rows))
    if is_alone and not growing:
        run = replace(run, findings=(*run.findings, *_superseded(log, other, same)))
    if further:
        run = replace(run, provenance=(*run.provenance, text.provenance))
        run = _followed(run, log, other.take(rows))
    if log.history:
        return with_lines(run, log), True
    lines = np.concatenate([np.full(len(run.stream) - len(rows), -1, np.int64), rows])
    return with_lines(replace(run, logged=ranges_of(lines)), log, Log(other, same)), True


def _superseded(log: ToolLog, other: MetricStream, same: Int64) -> list[Finding]:
    """Rows of the log that are not rows of the run."""
    measured = measured_values(other)
    count = sum(bool(measured[line]) for line in np.flatnonzero(same < 0).tolist())
    if not count:
        return []
    message = (
        "rows of the log that the state does not hold, as of an attempt that a resume replaced, or "
        "of a second process: left out"
    )
    return [Finding("log-rows-superseded", Severity.INFO, log.location, message, count)]


def _why_apart(run: Run, log: ToolLog, same: Int64, contradicted: int | None) -> str:
    """Why a log may be of another run; empty where it is of this one."""
    end = run.params.get("max_steps")
    if contradicted is not None:
        return f"it contradicts {name_rows([contradicted])} of the state"
    if len(run.stream):
        return "" if (same >= 0).any() else "they share no row"
    return "" if end in (None, log.total) else "they end at different steps"


def _further_rows(run: Run, log: MetricStream, same: Int64, *, is_alone: bool) -> list[int]:
    """The rows of the log that follow the state.

    At the last step of the state, a row of training is of a second process, and one without metrics
    is the line of the summary.
    """
    state, measured = run.stream, measured_values(log)
    last = int(state.step[-1]) if len(state) else -1
    is_trained = bool((state.kind[state.step == last] == RowKind.TRAIN).any())
    end = int(np.flatnonzero(same >= 0)[-1]) + 1 if len(state) else 0
    known = (log.step[end:] == last) & (log.kind[end:] == RowKind.TRAIN) & is_trained
    behind = [
        line
        for line in (end + np.flatnonzero(~known)).tolist()
        if measured[line] or log.step[line] > last
    ]
    back = (at for at, line in enumerate(behind) if log.step[line] < last)
    return behind if is_alone else behind[: next(back, None)]


def _left_out(
    run: Run, other: MetricStream, log: ToolLog, why: str, is_alone: bool
) -> list[Finding]:
    """Further rows of a log that may be of another run are lost, unless another run of the
    directory has them.
    """
    last = int(run.stream.step[-1]) if len(run.stream) else -1
    count = int((other.step > last).sum())
    if not count or not is_alone:
        return []
    message = (
        f"the log goes on behind the state, but {why}, so it may be of another run: its further "
        "rows are left out; to export them as a run of their own, name the log"
    )
    return [Finding("log-rows-left-out", Severity.LOSS, log.location, message, count)]


def _followed(run: Run, log: ToolLog, further: MetricStream) -> Run:
    """The run with these rows of the log behind those of its state."""
    stream = appended(run.stream, further)
    findings = [finding for finding in run.findings if finding.code not in _UNTRUE]
    known = {finding.code for finding in findings}
    findings += [finding for finding in diagnose(stream) if finding.code not in known]
    findings.append(_rows_from(log, len(further)))
    return replace(run, stream=stream, status=_status(run, stream), findings=tuple(findings))


def _rows_from(log: ToolLog, rows: int) -> Finding:
    message, severity = "the log goes on behind the state: its further rows follow", Severity.INFO
    if not log.history:
        message, severity = f"{message}; {log.log_format.shortcoming[1]}", Severity.WARNING
    return Finding("rows-from-log", severity, log.location, message, rows)


def _status(run: Run, stream: MetricStream) -> str:
    end = run.params.get("max_steps")
    if (stream.kind == RowKind.SUMMARY).any():
        return "finished"
    return "finished" if isinstance(end, int) and 0 < end <= stream.step[-1] else run.status
