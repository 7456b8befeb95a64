"""A tuning tool's log (`trainer_log.jsonl`, `logging.jsonl`) becomes a run, where no state exists.

What each line holds is told in `log_formats`. The order of the lines is the truth: a resumed run
appends, so what a lost attempt logged stays where it is, before the same steps of the next one;
`diagnose` tells where the steps go back, and `--duplicates last` keeps the attempt that counted.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.base import FilePart
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

TOOL_LOG_NAME = re.compile(r"(trainer_log|logging)[\w. -]*\.jsonl(\.gz)?\Z")


class TrainerLogSource:
    """Reads the log of LLaMA-Factory or ms-swift; a file of ordinary rows as what it is."""

    name = "trainer_log"

    def claims(self, location: str) -> bool:
        """Whether the file has the name of such a log."""
        return TOOL_LOG_NAME.match(re.split(r"[/\\]", location)[-1]) is not None

    def split(self, location: str) -> list[FilePart]:
        """The file."""
        return [FilePart(location)]

    def read_part(self, part: FilePart, options: ReadOptions) -> Iterator[Run]:
        """The run of the file, as `read`."""
        return self.read(part.location, options)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run of that log. Raises SourceError."""
        text = load(location, salvage=options.salvage, max_unpacked=options.max_unpacked)
        log_format = recognise(text.data)
        if log_format is None:
            yield read_text(location, text, options)
        else:
            log = read_log(location, text, log_format)
            if log.bare and not log.best_rows and not options.growing:
                raise _progress_only(log)
            run = run_of_log(location, text, log, options)
            if not log.history:
                logged, identity = ranges_of(np.arange(len(run.stream))), log_identity(run.stream)
                run = replace(run, logged=logged, identity=identity)
            times, findings = log_evidence(location, run.stream, options.max_unpacked)
            yield replace(
                with_lines(run, log),
                evidence=(times,) if times else (),
                findings=(*run.findings, *findings),
            )


def is_log(location: str, max_unpacked: int | None = None) -> bool:
    """Whether a file is one of the two logs, and no other one of that name.

    Also true of a file that cannot be read, so that reading it tells what is wrong with it.
    """
    try:
        return recognise(load(location, salvage=True, max_unpacked=max_unpacked).data) is not None
    except SourceError:
        return True


@dataclass
class ToolLog:
    """What a log holds: `lines` are the numbers of the lines that its `rows` come from, `history`
    the unrounded rows that its last line may hold, `outcome` the last line that is not a row.
    `earlier` are the rows as the first version read them, where these are others: with lines of a
    second process that differ in its speed or memory.
    """

    location: str
    log_format: LogFormat
    rows: LogRows = field(init=False)
    lines: array[int] = field(default_factory=lambda: array("q"))
    history: LogRows | None = None
    earlier: LogRows | None = None
    findings: list[Finding] = field(default_factory=list)
    outcome: Row = field(default_factory=dict)
    step: int = 0  # of the last line that has one
    total: int | None = None
    shapes: Counter[tuple[str, ...]] = field(default_factory=Counter)  # keys of a line
    twice: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    _last: Row = field(default_factory=dict)
    _last_step: int | None = None
    _earlier: Row = field(default_factory=dict)  # the last line of the earlier rows
    _number: int = 0  # of the last line that was not there before
    _in_pairs: bool = False  # whether the line before the last, or the last, was there twice

    def __post_init__(self) -> None:
        self.rows = LogRows(self.location, lambda row: f"line {self.lines[row]}")

    @property
    def digits(self) -> int | None:
        """The number of decimals that the rows of the lines are rounded to."""
        return self.log_format.digits

    @property
    def best_rows(self) -> LogRows:
        """The unrounded rows where the last line holds them, else those of the lines."""
        return self.rows if self.history is None else self.history

    def add(self, number: int, line: object) -> None:
        """Take in one line. Raises SourceError."""
        if type(line) is not dict:
            raise self._bad(number, "", line, "an object with the keys and values of one log row")
        if self.log_format.is_outcome(line):
            self.outcome = line
            return
        row = self.log_format.metrics(line)
        step = self._step(number, line, row)
        is_row = not row.keys() <= {"epoch"}
        row["step"] = step
        is_known = step == self._last_step
        was_kept = not (is_known and same_line(line, self._earlier, is_duration))
        if was_kept:
            self._earlier = line
        passing = is_of_process_or_runtime if self._in_pairs else is_of_process
        is_kept = not (is_known and same_line(line, self._last, passing))
        if is_row:
            self._keep_earlier(row, was_kept, is_kept)
        if not is_kept:
            self.twice.append(number)
            self._in_pairs = True
            return
        self._in_pairs = self._in_pairs and self.twice[-1] > self._number
        self._number = number
        self._last, self._last_step = line, step
        self.shapes[tuple(line)] += 1
        if is_row:
            self.lines.append(number)
            self.rows.append(row)
        else:
            self.bare.append(number)

    def _keep_earlier(self, row: Row, was_kept: bool, is_kept: bool) -> None:
        """Add a row to the earlier ones, which are not kept as long as the rows are the same."""
        if self.earlier is None and was_kept != is_kept:
            self.earlier = self.rows.copy()
        if self.earlier is not None and was_kept:
            self.earlier.append(row)

    def _step(self, number: int, line: Row, row: Row) -> int | None:
        """The step of a line; the last one where its writer had forgotten it after the training."""
        step, total = self.log_format.position(line)
        if step is None and total == 0:
            return self.step
        key = self.log_format.step_key(line)
        if step is None and key and line.get(key) is not None:
            raise self._bad(number, key, line[key], self.log_format.expected_step)
        if step and row:  # without even an epoch it is a count of batches, as prediction writes it
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
    """What the text of a log holds. Raises SourceError."""
    data, is_cut = _whole_lines(location, text.data)
    log, repeated = ToolLog(location, log_format), json_text.Repeated()
    count, last = 0, None
    for numbers, values, found in json_text.line_parts(location, data, PIECE_BYTES):
        repeated.update(found)
        count, last = count + len(values), values[-1] if values else last
        for number, value in zip(numbers, values, strict=True):
            log.add(number, value)
    text.data = data = b""  # not needed any more
    log.history = _history(location, last, log_format) if count else None
    findings = json_text.repeated_keys(repeated)
    log.findings = [*findings, *_findings(log), *([_cut_off(count)] if is_cut else [])]
    return log


def run_of_log(location: str, text: Text, log: ToolLog, options: ReadOptions) -> Run:
    """The run of a log that no state lies beside."""
    position = TrainerState(log_history=[], global_step=log.step, max_steps=log.total)
    facts, secrets = redact(_scalars(log.outcome), home=True)
    found = [*log.findings, *secrets]
    run = make_run(location, text, position, log.best_rows, found, options)
    # which release of transformers wrote it can only be told of a state
    return replace(run, facts={**facts, **run.facts}, writer=None)


def with_lines(run: Run, log: ToolLog, lines: Log | None = None) -> Run:
    """The run with the rows of the log's lines, by which earlier exports of these are recognised.

    `lines` are known already, unless the run has the rows of the last line. Where they are those of
    the run itself, there is nothing to recognise.
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
        expected="lines that hold a loss or other metrics",
        remedy="Export the trainer_state.json of a checkpoint instead; it holds the metrics.",
    )


def _whole_lines(location: str, data: bytes) -> tuple[bytes, bool]:
    """The text less a last line that its writer has not finished, and whether there was one."""
    head, _, tail = data.rpartition(b"\n")
    if not tail.strip():
        return data, False
    try:
        json_text.parse(location, tail)
    except SourceError as error:  # any other one is raised again, with the right line
        if error.remedy == SALVAGE_REMEDY:
            return head, True
    return data, False


def _history(location: str, line: object, log_format: LogFormat) -> LogRows | None:
    """The Trainer's own rows, where the last line holds them all; they are not rounded."""
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
    """The findings of a log as a whole; those of its lines only where the rows come from them."""
    tool, findings = log.log_format.tool, []
    if log.history:
        message = "the last line holds the whole log history, unrounded: the rows come from there"
        return [Finding("log-holds-history", Severity.INFO, "last line", message)]
    left_out: Counter[str] = Counter()
    for keys, count in log.shapes.items():
        left_out.update(dict.fromkeys(log.log_format.bookkeeping.intersection(keys), count))
    if left_out:
        where, count = ", ".join(sorted(left_out)), left_out.total()
        message = f"what {tool} notes of its progress is no metric of the run, and left out"
        findings.append(Finding("log-bookkeeping-left-out", Severity.INFO, where, message, count))
    if log.rows:
        findings.append(replace(log.log_format.shortcoming, count=len(log.rows)))
    message = "the same line again, as where two processes write: read once"
    findings += _lines("log-line-twice", log.twice, message)
    message = "progress only, and no metric: left out"
    return findings + _lines("log-line-without-metrics", log.bare, message)


def _lines(code: str, numbers: Sequence[int], message: str) -> list[Finding]:
    where = name_rows(numbers).replace("row", "line", 1)
    return [Finding(code, Severity.INFO, where, message, len(numbers))] if numbers else []


def _cut_off(lines: int) -> Finding:
    message = "the last line is not whole, as while a run goes on: left out"
    return Finding("log-line-cut-off", Severity.INFO, f"after {lines} lines", message)
