"""Reads a tuning tool's log (`trainer_log.jsonl`, `logging.jsonl`) without a state as a run.

`formats` describes the lines. The order of the lines is kept: a resumed run appends, so the rows of
an abandoned attempt stay before the same steps of the next attempt. `diagnose` reports steps that
go back, and `--duplicates last` keeps the last attempt.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.text import SALVAGE_REMEDY, Text, load
from bridges.sources.trainer.log_rows import REMEDY_ROW, LogRows
from bridges.sources.trainer.long_history import PIECE_BYTES
from bridges.sources.trainer.not_a_history import describe
from bridges.sources.trainer.state_file import TrainerState, make_run, read_text
from bridges.sources.tuning_logs.formats import (
    LogFormat,
    Row,
    is_duration,
    is_of_process,
    is_of_process_or_runtime,
    recognise,
    same_line,
)
from bridges.sources.tuning_logs.matching import same_rows
from bridges.sources.tuning_logs.run_keys import log_identity
from bridges.sources.tuning_logs.times import log_evidence
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.logged import ranges_of
from bridges.stream.model import Log, Run
from bridges.stream.redact import redact


def read(location: str, options: ReadOptions) -> Run:
    """The run of a log; a file of Trainer rows is read as such. Raises SourceError."""
    text = load(location, salvage=options.salvage, max_unpacked=options.max_unpacked)
    log_format = recognise(text.data)
    if log_format is None:
        return read_text(location, text, options)
    log = read_log(location, text, log_format)
    if log.bare and not log.best_rows and not options.growing:
        raise _progress_only(log)
    run = run_of_log(location, text, log, options)
    if not log.history:
        logged, identity = ranges_of(np.arange(len(run.stream))), log_identity(run.stream)
        run = replace(run, logged=logged, identity=identity)
    times, findings = log_evidence(location, run.stream, options.max_unpacked)
    return replace(
        with_lines(run, log),
        evidence=(times,) if times else (),
        findings=(*run.findings, *findings),
    )


@dataclass
class ToolLog:
    """The content of a log.

    `lines`: the line number of each of the `rows`; `history`: the unrounded rows in the last line,
    if any; `outcome`: the last line that is not a row; `twice`, `bare`: numbers of repeated lines
    and of lines without metrics. `earlier`: the rows as the first version read them, if different:
    with lines of a second process that differ in speed or memory.
    """

    location: str
    log_format: LogFormat
    rows: LogRows = field(init=False)
    lines: array[int] = field(default_factory=lambda: array("q"))
    history: LogRows | None = None
    earlier: LogRows | None = None
    findings: list[Finding] = field(default_factory=list)
    outcome: Row = field(default_factory=dict)
    step: int = 0  # of the last line with a step
    total: int | None = None
    shapes: Counter[tuple[str, ...]] = field(default_factory=Counter)  # lines by their keys
    twice: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    _last: Row = field(default_factory=dict)
    _last_step: int | None = None
    _earlier: Row = field(default_factory=dict)  # the last line of the earlier rows
    _number: int = 0  # of the last line that is not a repetition
    _in_pairs: bool = False  # whether one of the last two lines was a repetition

    def __post_init__(self) -> None:
        self.rows = LogRows(self.location, lambda row: f"line {self.lines[row]}")

    @property
    def digits(self) -> int | None:
        """The number of decimals of the values in lines; None if exact."""
        return self.log_format.digits

    @property
    def best_rows(self) -> LogRows:
        """The unrounded rows of the last line if it has them, else the rows of the lines."""
        return self.rows if self.history is None else self.history

    def add(self, number: int, line: object) -> None:
        """Add one line. Raises SourceError."""
        if type(line) is not dict:
            raise self._bad(number, "", line, "an object with the keys and values of one log row")
        if self.log_format.is_outcome(line):
            self.outcome = line
            return
        row = self.log_format.metrics(line)
        step = self._step(number, line, row)
        is_row = not row.keys() <= {"epoch"}
        row["step"] = step
        was_kept = step != self._last_step or not same_line(line, self._earlier, is_duration)
        if was_kept:
            self._earlier = line
        is_kept = self._is_new(number, line, step)
        if is_row:
            self._keep_earlier(row, was_kept, is_kept)
        if not is_kept:
            self.twice.append(number)
        elif is_row:
            self.lines.append(number)
            self.rows.append(row)
        else:
            self.bare.append(number)

    def _is_new(self, number: int, line: Row, step: int | None) -> bool:
        """Whether a line is not a repetition of the last line by a second process."""
        ignored = is_of_process_or_runtime if self._in_pairs else is_of_process
        if step == self._last_step and same_line(line, self._last, ignored):
            self._in_pairs = True
            return False
        self._in_pairs = self._in_pairs and self.twice[-1] > self._number
        self._number, self._last, self._last_step = number, line, step
        self.shapes[tuple(line)] += 1
        return True

    def _keep_earlier(self, row: Row, was_kept: bool, is_kept: bool) -> None:
        """Add a row to the earlier rows, which are only stored once they differ from `rows`."""
        if self.earlier is None and was_kept != is_kept:
            self.earlier = self.rows.copy()
        if self.earlier is not None and was_kept:
            self.earlier.append(row)

    def _step(self, number: int, line: Row, row: Row) -> int | None:
        """The step of a line; the last known step for lines after the training without one."""
        step, total = self.log_format.position(line)
        if step is None and total == 0:
            return self.step
        key = self.log_format.step_key(line)
        if step is None and key and line.get(key) is not None:
            raise self._bad(number, key, line[key], self.log_format.expected_step)
        if step and row:  # without any metric or epoch, it is a prediction's count of batches
            self.step, self.total = step, total if total and total > 0 else self.total
        return step

    def _bad(self, number: int, key: str, value: object, expected: str) -> SourceError:
        return SourceError(
            self.location,
            place=f"line {number}, key {key!r}" if key else f"line {number}",
            found=describe(value),
            expected=expected,
            remedy=REMEDY_ROW,
        )


def read_log(location: str, text: Text, log_format: LogFormat) -> ToolLog:
    """The content of a log's text. Raises SourceError."""
    data, is_cut = _complete_lines(location, text.data)
    log, repeated = ToolLog(location, log_format), json_text.Repeated()
    count, last = 0, None
    for numbers, values, found in json_text.line_parts(location, data, PIECE_BYTES):
        repeated.update(found)
        count, last = count + len(values), values[-1] if values else last
        for number, value in zip(numbers, values, strict=True):
            log.add(number, value)
    text.data = data = b""  # no longer needed
    log.history = _history(location, last, log_format) if count else None
    findings = json_text.repeated_keys(repeated)
    log.findings = [*findings, *_findings(log), *([_cut_off(count)] if is_cut else [])]
    return log


def run_of_log(location: str, text: Text, log: ToolLog, options: ReadOptions) -> Run:
    """The run of a log without a state beside it."""
    position = TrainerState(log_history=[], global_step=log.step, max_steps=log.total)
    facts, secrets = redact(_scalars(log.outcome), home=True)
    found = [*log.findings, *secrets]
    run = make_run(location, text, position, log.best_rows, found, options)
    return replace(run, facts={**facts, **run.facts})


def with_lines(run: Run, log: ToolLog, lines: Log | None = None) -> Run:
    """The run with the rows of the log's lines, which identify earlier exports of the log.

    `lines`: the rows, if known. They are computed if the run has the rows of the last line, and
    unnecessary if they are the run's own.
    """
    found = [lines] if lines else [_lines_beside(run, log, log.rows)] if log.history else []
    if log.earlier and len(log.earlier) > len(log.rows):
        found.append(_lines_beside(run, log, log.earlier))
    return replace(run, logs=tuple(lines for lines in found if len(lines.stream)))


def _lines_beside(run: Run, log: ToolLog, rows: LogRows) -> Log:
    stream, _ = rows.stream()
    same, _ = same_rows(run.stream, stream, log.digits)
    return Log(stream, same, log_identity(stream))


def _progress_only(log: ToolLog) -> MissingSourceError:
    return MissingSourceError(
        log.location,
        found=f"{len(log.bare)} lines of progress and none with a metric",
        expected="lines with a loss or other metrics",
        remedy="Export the trainer_state.json of a checkpoint instead; it contains the metrics.",
    )


def _complete_lines(location: str, data: bytes) -> tuple[bytes, bool]:
    """The text without an unfinished last line, and whether it had one."""
    head, _, tail = data.rpartition(b"\n")
    if not tail.strip():
        return data, False
    try:
        json_text.parse(location, tail)
    except SourceError as error:  # other errors are raised later, with the right line number
        if error.remedy == SALVAGE_REMEDY:
            return head, True
    return data, False


def _history(location: str, line: object, log_format: LogFormat) -> LogRows | None:
    """The Trainer's unrounded rows in the last line; None if it has none."""
    if not isinstance(line, dict) or not log_format.is_outcome(line):
        return None
    listed = line.get("log_history")
    if not isinstance(listed, list) or not listed:
        return None
    if not all(isinstance(row, dict) and "step" in row for row in listed):
        return None
    rows = LogRows(location, "last line, log row {}".format)
    rows.add(listed)
    return rows


def _scalars(outcome: Row) -> Row:
    return {key: value for key, value in outcome.items() if type(value) in (str, int, float, bool)}


def _findings(log: ToolLog) -> list[Finding]:
    """The findings of a log, including those of its lines if the rows come from the lines."""
    tool, findings = log.log_format.tool, []
    if log.history:
        message = "the last line contains the complete, unrounded log history: it is read instead"
        return [Finding("log-holds-history", Severity.INFO, "last line", message)]
    left_out: Counter[str] = Counter()
    for keys, count in log.shapes.items():
        left_out.update(dict.fromkeys(log.log_format.bookkeeping.intersection(keys), count))
    if left_out:
        where, count = ", ".join(sorted(left_out)), left_out.total()
        message = f"progress fields of {tool}, which are not metrics: left out"
        findings.append(Finding("log-bookkeeping-left-out", Severity.INFO, where, message, count))
    if log.rows:
        findings.append(replace(log.log_format.shortcoming, count=len(log.rows)))
    message = "repeated lines, as two processes write them: read once"
    findings += _at_lines("log-line-twice", log.twice, message)
    message = "progress without metrics: left out"
    return findings + _at_lines("log-line-without-metrics", log.bare, message)


def _at_lines(code: str, numbers: Sequence[int], message: str) -> list[Finding]:
    where = name_rows(numbers).replace("row", "line", 1)
    return [Finding(code, Severity.INFO, where, message, len(numbers))] if numbers else []


def _cut_off(lines: int) -> Finding:
    message = "the last line is incomplete, as while a run is writing it: left out"
    return Finding("log-line-cut-off", Severity.INFO, f"after {lines} lines", message)
