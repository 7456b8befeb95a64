"""Runs and streams in a Python session: one line of text, or a small table in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bridges.stream.redact import redact_key, redact_message
from bridges.stream.trend import sparkline

if TYPE_CHECKING:
    from bridges.stream.model import MetricStream, Run

SHOWN = 6  # names in a line
MOST_ROWS = 50  # of a table
_STYLE = "font-family:monospace;white-space:pre"


def stream_line(stream: MetricStream) -> str:
    """The size, steps and metrics of a stream."""
    keys = [redact_key(key) for key in stream.keys]
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    parts = [f"{len(stream)} rows"]
    if len(stream):
        parts.append(f"steps {stream.step.min()} to {stream.step.max()}")
    return f"{', '.join(parts)}: {', '.join(keys[:SHOWN])}{more}" if keys else ", ".join(parts)


def run_line(run: Run) -> str:
    """The name, stream and source of a run."""
    source = redact_message(run.source)
    return f"<Run {redact_message(run.path)!r}: {stream_line(run.stream)}; from {source!r}>"


def run_table(run: Run) -> str:
    """The metrics of a run as an HTML table, with sparklines."""
    head = f"<b>{_escaped(redact_message(run.path))}</b> {_escaped(stream_line(run.stream))}"
    return head + stream_table(run.stream)


def stream_table(stream: MetricStream) -> str:
    """The metrics of a stream as an HTML table, with sparklines."""
    keys = dict.fromkeys(series.key for series in stream.numbers)
    rows = (_metric(stream, key) for key in [*keys][:MOST_ROWS])
    return table(("metric", "count", "last", "min", "max", "trend"), rows, len(keys))


def runs_table(runs: Sequence[Run]) -> str:
    """Runs as an HTML table: rows, steps, and the last values of the main metrics."""
    shown = runs[:MOST_ROWS]
    main = [run.key_rules.main_keys(run.stream) for run in shown]
    keys = [*dict.fromkeys(key for each in main for key in each)][:SHOWN]
    rows = ([run.path, *_facts(run), *(_last(run, key) for key in keys)] for run in shown)
    return table(("run", "rows", "steps", *keys), rows, len(runs))


def table(titles: Iterable[str], rows: Iterable[Sequence[str]], total: int) -> str:
    """An HTML table of texts; below it, the number of rows left out."""
    head = "".join(f"<th>{_escaped(redact_key(title))}</th>" for title in titles)
    body = "".join(
        f"<tr>{''.join(f'<td style={_STYLE!r}>{_escaped(cell)}</td>' for cell in row)}</tr>"
        for row in rows
    )
    left = total - MOST_ROWS
    more = f"<div>… and {left} more</div>" if left > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _metric(stream: MetricStream, key: str) -> list[str]:
    _, values = stream.column(key)
    finite = values[np.isfinite(values)]
    ends = (finite.min(), finite.max()) if len(finite) else ()
    numbers = [f"{value:.4g}" for value in (values[-1], *ends)] + [""] * (2 - len(ends))
    return [redact_key(key), str(len(values)), *numbers, sparkline(values.tolist())]


def _facts(run: Run) -> list[str]:
    return [str(len(run.stream)), str(run.stream.step.max()) if len(run.stream) else ""]


def _last(run: Run, key: str) -> str:
    _, values = run.stream.column(key)
    return f"{values[-1]:.4g} {sparkline(values.tolist(), 12)}" if len(values) else ""


def _escaped(text: str) -> str:
    return html.escape(redact_message(text))
