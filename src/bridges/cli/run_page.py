"""Inspection of a run: rows, clock, metrics and findings, as JSON data and as a text page."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from bridges.cli.console import COLOURS, count_noun, printable
from bridges.stream.clock import clocked
from bridges.stream.finding import Finding
from bridges.stream.identity import run_key
from bridges.stream.model import Clock, MetricStream, RowKind, Run
from bridges.stream.redact import redact_message, redact_stream, shown_finding
from bridges.stream.trend import sparkline

if TYPE_CHECKING:
    from rich.table import Table

MAX_KEYS = 60  # rows of the table without -v
MAX_PARAMS = 20
MAX_PARAM_CHARS = 200
LONGEST_WITH_COUNT = 32  # columns of a metric's name beside which a narrow page has counts
WIDE_COLUMNS = 100  # of a terminal, for the column of first values


def inspect(run: Run) -> dict[str, Any]:
    """The document of a run; `keys` has one entry for each key of the log."""
    stream, secrets = redact_stream(run.stream)
    timed, clock, notes = clocked(run, stream)
    epoch = run.stream.epoch
    findings: list[Finding] = [*run.findings, *secrets, *notes]
    return {
        "source": redact_message(run.source),
        "run": run.name,
        "group": run.group,
        "trial": _trial(run),
        "saves": [*map(redact_message, run.saves)],
        "forked": _forked(run),
        "key": run_key(run),
        "status": run.status,
        "key_style": run.key_style,
        "written_by": run.writer,
        "rows": len(run.stream),
        "points": run.stream.points,
        "kinds": _kinds(run.stream),
        "steps": _span(run.stream.step),
        "epochs": _span(epoch[~np.isnan(epoch)]),
        "clock": _clock(clock, timed),
        "params": dict(run.params),
        "param_files": {key: redact_message(file) for key, file in run.param_files.items()},
        "facts": dict(run.facts),
        "keys": [_key(stream, key) for key in stream.keys],
        "findings": [*map(shown_finding, findings)],
    }


def _clock(clock: Clock, timed: MetricStream) -> dict[str, Any]:
    start = datetime.fromtimestamp(clock.start / 1e6, timezone.utc)
    return {
        "source": clock.source,
        "origin": clock.origin,
        "start": None if clock.is_synthetic else start.isoformat(timespec="milliseconds"),
        "seconds": _duration(timed),
    }


def _trial(run: Run) -> dict[str, Any] | None:
    if run.trial is None:
        return None
    return {"name": run.trial_name, "params": dict(run.trial_params)}


def _forked(run: Run) -> dict[str, Any] | None:
    return {"from": run.forked[0], "rows": run.forked[1]} if run.forked else None


def _kinds(stream: MetricStream) -> dict[str, int]:
    values, counts = np.unique(stream.kind, return_counts=True)
    return {
        RowKind(value).name.lower(): count
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
    }


def _span(values: Any) -> list[Any] | None:
    return [values.min().item(), values.max().item()] if len(values) else None


def _duration(stream: MetricStream) -> float:
    time = stream.time
    return float(time[-1] - time[0]) / 1e6 if time is not None and len(time) else 0.0


def _key(stream: MetricStream, key: str) -> dict[str, Any]:
    """Count, types, values and sparkline of one key; values only if it has numbers."""
    parts = [series for series in stream.series if series.key == key]
    kinds = {"f": "float", "i": "integer", "b": "boolean", "O": "other"}
    _, values = stream.column(key)
    entry: dict[str, Any] = {
        "key": key,
        "count": sum(len(part.rows) for part in parts),
        "types": [kinds[part.values.dtype.kind] for part in parts],
    }
    if len(values):
        finite = values[np.isfinite(values)]
        low, high = (finite.min().item(), finite.max().item()) if len(finite) else (None, None)
        entry |= {"first": values[0].item(), "last": values[-1].item(), "min": low, "max": high}
        entry["course"] = sparkline(values.tolist())
    return entry


def print_page(document: dict[str, Any], verbose: bool) -> None:
    """Print the page of one run: a head, a table of the metrics, the findings."""
    from rich.console import Console
    from rich.rule import Rule
    from rich.text import Text

    console = Console()
    console.print(Rule(Text(printable(document["run"]), "bold"), align="left", style="dim"))
    console.print(_head(document, verbose))
    if document["keys"]:
        console.print()
        console.print(_table(document["keys"], verbose, narrow=console.width < WIDE_COLUMNS))
    if document["findings"]:
        console.print()
        for part in _findings(document["findings"], console.width):
            console.print(part)
    console.print()


def _head(document: dict[str, Any], verbose: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    steps, epochs, clock = document["steps"], document["epochs"], document["clock"]
    lines = [
        ("source", document["source"]),
        ("rows", f"{_rows(document)}, {count_noun(document['points'], 'point')}"),
        ("steps", f"{steps[0]:,} to {steps[1]:,}" if steps else "none"),
        ("epochs", f"{epochs[0]:.4g} to {epochs[1]:.4g}" if epochs else "none"),
        ("clock", f"{clock['source']}, {_beginning(clock)}, {clock['seconds']:,.0f} s"),
        ("status", document["status"]),
    ]
    if document["key_style"] == "trainer":
        lines.insert(-1, ("written by", f"transformers {document['written_by'] or 'unknown'}"))
    lines += [("params", _some(document["params"], verbose))]
    head = Table.grid(padding=(0, 1, 0, 0))
    head.add_column(no_wrap=True)
    head.add_column(overflow="fold")
    for name, value in lines:
        if value:
            head.add_row(Text(name, "dim"), Text(printable(str(value))))
    return head


def _rows(document: dict[str, Any]) -> str:
    """The number of rows, and that of each kind; logs of other programs have one kind only."""
    counts = document["kinds"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    return f"{document['rows']:,}" + (f" ({kinds})" if {*counts} - {"custom"} else "")


def _beginning(clock: dict[str, Any]) -> str:
    """The start of a run as text."""
    if clock["start"] is None:
        return "start unknown"
    known = "" if clock["origin"] in (clock["source"], "synthetic") else f" by {clock['origin']}"
    return f"from {clock['start'][:19].replace('T', ' ')} UTC{known}"


def _some(params: dict[str, Any], verbose: bool) -> str:
    """The first params; `--json` has all, with their files."""
    shown = ", ".join(
        f"{key}={value if verbose else _cut(value)}"
        for key, value in [*params.items()][:MAX_PARAMS]
    )
    left = len(params) - MAX_PARAMS
    return f"{shown} … and {left} more (--json shows all)" if left > 0 else shown


def _cut(value: object) -> str:
    """The beginning of a long value, and its length."""
    text = str(value)
    if len(text) <= MAX_PARAM_CHARS:
        return text
    return f"{text[:MAX_PARAM_CHARS]}… ({len(text):,} characters, -v shows all)"


def _table(keys: list[dict[str, Any]], verbose: bool, narrow: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    names = ["last", "min", "max"] if narrow else ["first", "last", "min", "max"]
    shown = keys if verbose else keys[:MAX_KEYS]
    if not narrow or max(len(entry["key"]) for entry in shown) <= LONGEST_WITH_COUNT:
        names.insert(0, "count")
    table = Table(box=None, padding=(0, 1 if narrow else 2, 0, 0), header_style="dim")
    table.add_column("metric", overflow="fold", min_width=23)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("trend", no_wrap=True)
    for entry in shown:
        numbers = [_number(entry.get(name)) for name in names]
        trend = Text(entry.get("course", "/".join(entry["types"])), "green")
        table.add_row(Text(printable(entry["key"])), *numbers, trend)
    if len(shown) < len(keys):
        table.add_row(f"… and {len(keys) - len(shown)} more (-v shows all)")
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _findings(findings: list[dict[str, Any]], width: int) -> list[Any]:
    """The lines of the findings; a place that does not fit beside its code has its own line."""
    from rich.cells import cell_len
    from rich.padding import Padding
    from rich.text import Text

    styles = {severity.value: colour for severity, colour in COLOURS.items()}
    lines: list[Any] = []
    for finding in findings:
        times = f" ({finding['count']:,}×)" if finding["count"] > 1 else ""
        head = (f"{finding['severity']:<9}", styles[finding["severity"]])
        line, where = Text.assemble(head, f"{finding['code']}{times}"), printable(finding["where"])
        is_beside = cell_len(f"{line.plain} · {where}") <= width
        lines.append(line.append(f" · {where}") if is_beside else line)
        if not is_beside:
            lines.append(Padding(Text(where, overflow="fold"), (0, 0, 0, 9)))
        lines.append(Padding(Text(printable(finding["message"]), "dim"), (0, 0, 0, 9)))
    return lines
