"""Terminal output: results on stdout, progress and errors on stderr.

Short results are plain lines. Tables and live progress use rich, which is imported on demand.
"""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from bridges.exporters.base import BaseExporter, Exporter, HasPage, Viewable
from bridges.log import is_read
from bridges.report import BatchReport, Found, RunReport, Totals
from bridges.stream.finding import Finding, Severity
from bridges.stream.redact import redact_message

if TYPE_CHECKING:
    from rich.live import Live as LiveScreen
    from rich.progress import Progress as LiveProgress
    from rich.progress import ProgressColumn

    from bridges.plugins import PlugIn


MARKS = {"failed": ("✗", "red"), "planned": ("○", "cyan"), "unchanged": ("=", "green")}
COLOURS = {
    Severity.INFO: "cyan",
    Severity.WARNING: "yellow",
    Severity.LOSS: "red",
    Severity.ERROR: "red",
}
FAILS = (Severity.LOSS, Severity.ERROR)
SELF_EXPLAINED = ("failed", "source", "config", "internal-error")  # codes of messages with a remedy
PROGRESS_DELAY = 1.0  # seconds before progress is shown
_NOT_ASCII = re.compile(r"[^\n -~]")
MAX_PATH_CHARS = 50  # in the progress line
PLAIN_INTERVAL = 10.0  # seconds between progress lines without a terminal


def print_json(document: Mapping[str, object]) -> None:
    """Print a strict JSON document on stdout; NaN and infinities become strings."""
    click.echo(json_text(document))


def json_text(document: Mapping[str, object]) -> str:
    """The document as strict JSON text; NaN and infinities become strings."""
    return visible_json(json.dumps(_strict(document), indent=2, ensure_ascii=False, default=repr))


def visible_json(text: str) -> str:
    """Escape all unprintable characters of a JSON text.

    Control characters could rewrite the screen, and lone surrogates cannot be encoded.
    """
    return _NOT_ASCII.sub(lambda found: _escape(found[0]), text)


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    return json.dumps(char)[1:-1] if ord(char) > 0xFFFF else f"\\u{ord(char):04x}"


def _strict(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def printable(text: str, keep: str = "") -> str:
    """Redact secrets of URLs, and replace unprintable characters except those of `keep`.

    Control characters could rewrite the screen.
    """
    shown = redact_message(text)
    return "".join(
        char if char.isprintable() or char in keep else "\N{REPLACEMENT CHARACTER}"
        for char in shown
    )


def padded(text: str, width: int, *, right: bool = False) -> str:
    """The text as wide as a column: padded, or shortened in the middle."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        space = " " * (width - cell_len(text))
        return space + text if right else text + space
    left = width // 2
    tail = set_cell_size(text[::-1], width - 1 - left)[::-1]
    return f"{set_cell_size(text, left)}…{tail}"


def print_error(message: str) -> None:
    """Print an error on stderr."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(printable(message), err=True)


class RunLines:
    """The lines of each run of a command, and its findings.

    Notes are shortened to codes unless `verbose`, and so are findings that an earlier run has in
    the same words. `is_check`: the runs were compared only, as by `bridge verify`.
    """

    def __init__(self, verbose: bool, *, is_check: bool = False) -> None:
        self._verbose, self._is_check = verbose, is_check
        self._printed: dict[tuple[str, str], str] = {}  # the first run of a code and message

    def of(self, report: RunReport) -> str:
        """The line of a run, and the lines of its findings."""
        mark, colour = MARKS.get(report.status, ("✓", "green"))
        status = report.status
        if self._is_check and report.verified:
            mark, status = "✓", "verified"
        if report.failed and report.status != "failed":
            mark, colour = "!", "red"
        head = click.style(f"{mark} {status:<9} ", fg=colour, bold=True)
        line = f"{head}{printable(report.run)}  {_facts(report, status)}"
        return "\n".join([line, *self._findings(report)])

    def _findings(self, report: RunReport) -> Iterator[str]:
        notes = [finding for finding in report.findings if finding.severity is Severity.INFO]
        for finding in report.findings:
            if self._verbose:
                yield from _in_full(finding)
            elif finding.severity is not Severity.INFO:
                first = self._printed.setdefault(
                    (finding.code, _without_place(finding)), report.run
                )
                yield from _in_full(finding) if first is report.run else [_as_for(finding, first)]
        if notes and not self._verbose:
            yield _codes(notes)


def _facts(report: RunReport, status: str) -> str:
    if not report.rows and report.status == "failed":
        return click.style(f"({report.target})", dim=True)
    new = f", {report.new_points:,} new" if report.status in ("appended", "planned") else ""
    checked = {True: ", verified", False: ", NOT VERIFIED", None: ""}[report.verified]
    checked = "" if status == "verified" else checked
    where = f" → {printable(report.location or report.target)}"
    counts = f"{count_noun(report.rows, 'row')}, {count_noun(report.points, 'point')}{new}{checked}"
    return f"{counts}{_artifacts(report)}{where}" + click.style(
        f"  {report.seconds:.2f} s", dim=True
    )


def _artifacts(report: RunReport) -> str:
    """The number of artifact files, if they are copied."""
    counts = report.artifacts
    if counts is None or not counts.files:
        return ""
    if not counts.copied_files:
        return f", {count_noun(counts.files, 'file')}"
    copied = f"{counts.copied_files:,} of {count_noun(counts.files, 'file')}"
    what = "to copy" if report.status == "planned" else "copied"
    return f", {copied} {what} ({_size(counts.copied_bytes)})"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else count_noun(count, "byte")


def count_noun(count: int, noun: str) -> str:
    """A count and its noun, as in `1 row` and `1,000 rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def format_findings(findings: Sequence[Finding], verbose: bool) -> Iterator[str]:
    """Warnings and worse in full; notes as a list of codes, or in full if `verbose`."""
    notes = [finding for finding in findings if finding.severity is Severity.INFO]
    for finding in findings:
        if verbose or finding.severity is not Severity.INFO:
            yield from _in_full(finding)
    if notes and not verbose:
        yield _codes(notes)


def _in_full(finding: Finding) -> Iterator[str]:
    head, where = _severity_and_code(finding), printable(finding.where)
    if _without_place(finding) != finding.message:  # the message begins with the place
        yield head
    elif _fits(f"{click.unstyle(head)} · {where}"):
        yield f"{head} · {where}"
    else:
        yield f"{head}\n{' ' * 12}{where}"
    yield _wrapped(f"{' ' * 12}{printable(finding.message)}")


def _without_place(finding: Finding) -> str:
    """The message without its file."""
    return finding.message.removeprefix(f"{finding.where}: ")


def _as_for(finding: Finding, run: str) -> str:
    return f"{_severity_and_code(finding)} · as for {printable(run)} above"


def _severity_and_code(finding: Finding) -> str:
    head = click.style(f"    {finding.severity.value:<8}", fg=COLOURS[finding.severity])
    times = f" ({finding.count:,}×)" if finding.count > 1 else ""
    return f"{head}{finding.code}{times}"


def _codes(notes: Sequence[Finding]) -> str:
    codes = ", ".join(Counter(note.code for note in notes))
    return click.style(_wrapped(f"    notes   {codes} (-v explains)"), dim=True)


def _fits(line: str) -> bool:
    """Whether a line fits the terminal, if there is one."""
    if not sys.stdout.isatty():
        return True
    import shutil

    from rich.cells import cell_len

    return cell_len(line) <= shutil.get_terminal_size().columns


def _wrapped(line: str) -> str:
    """A line of a finding, continued on a terminal under its text, which begins in column 12."""
    if not sys.stdout.isatty():
        return line
    import shutil  # neither is needed in a pipe
    import textwrap

    return textwrap.fill(
        line,
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_end(
    report: BatchReport, exporters: Sequence[Exporter], *, is_check: bool = False
) -> None:
    """The totals of several runs, and the next command."""
    totals = report.totals
    if totals["runs"] > 1:
        words = {"unchanged": "verified"} if is_check else {}
        parts = [f"{totals[status]} {words.get(status, status)}" for status in _statuses(totals)]
        of_target = Counter(run.target for run in report.runs)
        runs = count_noun(max(of_target.values()), "run")
        targets = f" × {len(exporters)} targets" if len(exporters) > 1 else ""
        points = count_noun(totals["points"], "point")
        click.echo(f"{runs}{targets}: {', '.join(parts)}; {points}.")
    print_explain(Totals(report.runs).findings)
    for exporter in exporters:
        mine = [run for run in report.runs if run.target == exporter.name and run.location]
        locations = [run.location for run in mine if run.location]
        if locations:
            print_next(exporter, locations, max(run.longest for run in mine))


def print_explain(found: Sequence[Found]) -> None:
    """Print the command for the explanations of failures whose messages name no remedy."""
    codes = dict.fromkeys(one.code for one in found if one.severity in FAILS)
    if explained := [code for code in codes if code not in SELF_EXPLAINED]:
        click.echo("Explain: " + click.style(f"bridge explain {' '.join(explained)}", bold=True))


def print_next(exporter: Exporter, locations: Sequence[str], longest: int) -> None:
    """Print the command and the page for viewing runs; `longest` is as for `view_command`."""
    label = exporter.view_label if isinstance(exporter, BaseExporter) else "View"
    for line, text in enumerate(_next(exporter, locations, longest)):
        head = " " * (len(label) + 2) if line else f"{label}: "
        click.echo(head + click.style(printable(text), bold=True))


def _next(exporter: Exporter, locations: Sequence[str], longest: int) -> Iterator[str]:
    """The command for viewing the runs, and its page."""
    if isinstance(exporter, Viewable) and (command := exporter.view_command(locations, longest)):
        yield command
    if isinstance(exporter, HasPage):
        yield exporter.view_page(locations)


def _statuses(totals: Mapping[str, int]) -> list[str]:
    names = ("exported", "appended", "unchanged", "planned", "failed")
    return [name for name in names if totals[name]]


class Progress:
    """A context manager that shows progress on stderr after the first second.

    On a terminal it is a live line with spinner, bar and time, otherwise a plain line every ten
    seconds. With the log of `-vv` on stderr, it shows nothing.
    """

    def __init__(self, total: int, quiet: bool) -> None:
        self.total = total
        self.done = 0
        self.text = ""
        self._quiet = quiet
        self._live: LiveProgress | LiveScreen | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Progress:
        if not (self._quiet or is_read("run")):
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def phase(self, run: str, phase: str) -> None:
        """Set the current phase and run."""
        shown = run if len(run) <= MAX_PATH_CHARS else f"…{run[-MAX_PATH_CHARS:]}"
        self.text = f"{phase} {printable(shown)}"

    def echo(self, text: str) -> None:
        """Print a result to stdout, above the live line if both are on the terminal."""
        live = self._live
        if live is None or not sys.stdout.isatty():
            click.echo(text)
            return
        from rich.text import Text

        live.console.print(Text.from_ansi(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a line to stderr, above the live line."""
        live = self._live
        if live is None:
            click.echo(printable(text), err=True)
        else:
            live.console.print(printable(text), markup=False, soft_wrap=True)

    def advance(self) -> None:
        """Count one more item."""
        self.done += 1

    def _show(self) -> None:
        if self._stop.wait(PROGRESS_DELAY):
            return
        if sys.stderr.isatty():
            self._show_live()
            return
        started = time.monotonic() - PROGRESS_DELAY
        while True:
            click.echo(self._plain(time.monotonic() - started), err=True)
            if self._stop.wait(PLAIN_INTERVAL):
                return

    def _plain(self, seconds: float) -> str:
        """The progress line without a terminal."""
        return f"{self.done}/{self.total} {self.text} ({seconds:.0f} s)"

    def _show_live(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as Live
        from rich.progress import TextColumn

        columns = (*self._columns(), TextColumn("{task.description}", markup=False))
        live = Live(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        with live:
            task, self._live = live.add_task(self._line(), total=self.total), live
            while not self._stop.wait(0.1):
                live.update(task, description=self._line(), completed=self.done, total=self.total)
            self._live = None

    def _columns(self) -> Sequence[ProgressColumn]:
        """The columns of the live line before its text."""
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TimeElapsedColumn

        return SpinnerColumn(), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()

    def _line(self) -> str:
        return self.text


def print_plug_ins(listed: Mapping[str, Sequence[PlugIn]]) -> None:
    """Print the installed exporters and sources, one line each."""
    for kind, entries in listed.items():
        click.secho(kind, bold=True)
        for entry in entries:
            head = f"  {entry.name:<16}{entry.origin:<24}"
            line = printable(f"{head}{entry.path}")
            click.echo(line if _fits(line) else printable(head).rstrip())
            if not _fits(line):
                click.echo(printable(f"    {entry.path}"))
