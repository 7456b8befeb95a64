"""A tuning tool's log beside a state: the rows that only the log holds follow those of the state.

A state is as old as its save, so a log may go on after it, as where a run crashed. Its further rows
are taken where both agree on what they share. A log whose last line holds the Trainer's own history
has exact rows; the others lack metrics, or are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bridges.errors import SourceError
from bridges.sources.base import ReadOptions
from bridges.sources.log_formats import is_of_process, recognise
from bridges.sources.text import load
from bridges.sources.trainer_log import ToolLog, read_log, run_of_log
from bridges.stream.columns import appended
from bridges.stream.diagnose import diagnose
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.identity import is_measured
from bridges.stream.model import MetricStream, RowKind, Run

Row = dict[str, Any]
_UNTRUE = ("no-rows", "tail-not-logged")  # findings of the state that the log refutes
MOST_AT_STEP = 50  # lines of one step that a row is compared with


def with_log(run: Run, logs: Sequence[str], *, is_alone: bool) -> Run:
    """The run of a state, followed by what only the logs in its directory hold.

    A run that is not `is_alone` there shares the logs with others: rows after a step back are not
    taken, because they may be those of another run.
    """
    for location in logs:
        run = _with_one(run, location, is_alone=is_alone)
    return run


def _with_one(run: Run, location: str, *, is_alone: bool) -> Run:
    try:
        text = load(location, salvage=True)
        log_format = recognise(text.data)
        if log_format is None:
            return run
        log = read_log(location, text, log_format)
        other = run_of_log(location, text, log, ReadOptions()).stream
    except SourceError as error:
        message = f"not read as the log of this run: {error}"
        found = Finding("beside-unreadable", Severity.WARNING, location, message)
        return replace(run, findings=(*run.findings, found))
    shared = _Shared.of(run.stream, other, None if log.history else log_format.digits)
    further = _further_rows(run, log, other, shared, is_alone=is_alone)
    if not further.rows:
        return replace(run, findings=(*run.findings, *_left_out(further, location, is_alone)))
    run = replace(run, provenance=(*run.provenance, text.provenance))
    return _followed(run, log, other.take(np.array(further.rows, np.int64)))


@dataclass(frozen=True)
class _Shared:
    """What a state and a log share: how many rows of the state the log holds too, the first row of
    the state that the log contradicts, and the rows of the log behind the last shared one.
    """

    rows: int
    contradicted: int | None
    end: int

    @classmethod
    def of(cls, state: MetricStream, log: MetricStream, digits: int | None) -> _Shared:
        """Compare from the end, where an attempt stands that a resume has not replaced."""
        of_step: dict[int, list[int]] = {}
        for line, step in enumerate(log.step.tolist()):
            of_step.setdefault(step, []).append(line)
        mine, theirs = _measured(state), _measured(log)
        before, rows, end, contradicted = len(log), 0, 0, None
        for row in range(len(state) - 1, -1, -1):
            lines = of_step.get(int(state.step[row]), [])
            while lines and lines[-1] >= before:
                lines.pop()
            known = [line for line in lines[-MOST_AT_STEP:] if mine[row].keys() & theirs[line]]
            equal = [line for line in known if _agree(mine[row], theirs[line], digits)]
            if equal:
                before, rows, end = equal[-1], rows + 1, max(end, equal[-1] + 1)
            elif known:
                contradicted = row
        return cls(rows, contradicted, end)


def _measured(stream: MetricStream) -> list[Row]:
    """The values of each row that tell one run from another."""
    rows: list[Row] = [{} for _ in range(len(stream))]
    for series in stream.numbers:
        if is_measured(series.key) and not is_of_process(series.key):
            for row, value in zip(series.rows.tolist(), series.values.tolist(), strict=True):
                rows[row][series.key] = value
    return rows


def _agree(row: Row, line: Row, digits: int | None) -> bool:
    """Whether all values that both hold are equal, as far as the log's digits go."""
    return all(_equal(row[key], line[key], digits) for key in row.keys() & line.keys())


def _equal(value: float, logged: float, digits: int | None) -> bool:
    if value == logged or (value != value and logged != logged):
        return True
    return digits is not None and abs(value - logged) <= 10**-digits


@dataclass(frozen=True)
class _Further:
    """Rows of the log that follow the state; or how many do not, because the log may be of another
    run, and `why`.
    """

    rows: tuple[int, ...] = ()
    left_out: int = 0
    why: str = ""


def _further_rows(
    run: Run, log: ToolLog, other: MetricStream, shared: _Shared, *, is_alone: bool
) -> _Further:
    step, last = other.step, int(run.stream.step[-1]) if len(run.stream) else -1
    why = _why_apart(run, log, shared)
    if why:
        return _Further((), int((step > last).sum()), why)
    measured = _measured(other)
    behind = [
        line
        for line in range(shared.end, len(other))
        if step[line] > last or measured[line]  # the line of a summary may have none
    ]
    if is_alone:
        return _Further(tuple(behind))
    back = (at for at, line in enumerate(behind) if step[line] < last)
    return _Further(tuple(behind[: next(back, None)]))


def _why_apart(run: Run, log: ToolLog, shared: _Shared) -> str:
    """Why a log is not that of a run; empty where it is."""
    end = run.params.get("max_steps")
    if shared.contradicted is not None:
        return f"it contradicts {name_rows([shared.contradicted])} of the state"
    if len(run.stream):
        return "" if shared.rows else "they share no row"
    return "" if end in (None, log.total) else "they end at different steps"


def _left_out(further: _Further, location: str, is_alone: bool) -> list[Finding]:
    """Rows of a log that cannot be joined are lost, where no other run of the directory has it."""
    if not further.left_out or not is_alone:
        return []
    message = (
        f"the log goes on behind the state, but {further.why}, so it may be of another run: its "
        "further rows are left out; to export them as a run of their own, name the log"
    )
    return [Finding("log-rows-left-out", Severity.LOSS, location, message, further.left_out)]


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
