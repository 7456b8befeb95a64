"""A self-contained HTML page with the charts of one run or of many, above each other.

The page holds its data and its chart library (uPlot), makes no requests and allows only its own
style and scripts. Long lines are thinned, which each chart says.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any

import numpy as np

from bridges.errors import ConfigError, ExportError
from bridges.migration.reports.html import filled, packaged, policy, publish
from bridges.migration.reports.html_parts import escaped
from bridges.migration.reports.json_lines import report_errors
from bridges.stream.clock import clocked
from bridges.stream.model import Float64, Run
from bridges.stream.redact import redact_stream
from bridges.views.charts.lines import Line, Lines, lines_of
from bridges.views.charts.tables import details_of, once_table, runs_table, visible
from bridges.views.listing import Listing

SHOWN = 50  # runs that are drawn at first


class ChartPage:
    """A page to which runs are added one at a time; it keeps their thinned lines only.

    Raises ConfigError if its file cannot be created.
    """

    def __init__(self, path: str, title: str) -> None:
        self.path = os.path.realpath(path)
        self.title = title
        self._listing = Listing()
        self._lines = Lines()
        self._runs: list[dict[str, Any]] = []
        self._details = ""
        folder = os.path.dirname(self.path)
        if os.path.isdir(self.path) or not os.path.isdir(folder):
            why = (
                f"there is no directory {folder}"
                if not os.path.isdir(folder)
                else "it is a directory"
            )
            raise ConfigError(f"the page {path!r} cannot be written: {why}")

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> None:
        """Add a run, secrets masked."""
        stream, secrets = redact_stream(run.stream)
        timed, clock, notes = clocked(run, stream)
        run = replace(run, stream=stream)
        self._listing.add(run)
        self._lines.add(lines_of(run, timed) if len(stream) else iter(()))
        self._runs.append({"name": visible(run.path), "synthetic": clock.source == "synthetic"})
        findings = [*run.findings, *secrets, *notes]
        self._details = details_of(run, findings, clock) if len(self) == 1 else ""

    def write(self) -> None:
        """Write the page, atomically. Raises ExportError."""
        with report_errors(self.path, ExportError):
            publish(self.path, self._page())

    def _page(self) -> Iterator[bytes]:
        charts, once = _metrics(self._lines.runs)
        template, names = _template(), [str(run["name"]) for run in self._runs]
        texts = {
            "POLICY": policy(template),
            "TITLE": escaped(self.title),
            "SUMMARY": "".join(self._summary()),
            "TABLE": runs_table(self._listing),
            "DETAILS": once_table(names, self._lines.runs, once) + self._details,
            "DATA": self._data(charts),
        }
        yield from filled(template, texts, {})

    def _summary(self) -> Iterator[str]:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        runs, lines = len(self), [line for run in self._lines.runs for line in run]
        count = f"{runs:,} run{'s' * (runs != 1)}, {self._lines.points:,} points"
        yield f'<p class="dim">{count}. Written on {now}.</p>'
        if runs > SHOWN:
            yield f"<p>{SHOWN} runs are drawn at first; select others in the table.</p>"
        if self._lines.charted < runs:
            yield (
                f"<p>The charts hold the first {self._lines.charted:,} runs; the table lists all."
                " Make a page of fewer runs to chart the others.</p>"
            )
        most = max((len(line) for line in lines if len(line) < line.points), default=0)
        if most:
            yield (
                f"<p>Longer metrics are thinned to {self._lines.most:,} points: the first, the"
                " last, and the least and greatest value of equal parts. The source holds all.</p>"
            )

    def _data(self, metrics: Sequence[str]) -> str:
        """The data of the script as JSON."""
        columns = _Columns()
        place = {key: at for at, key in enumerate(metrics)}
        runs = []
        for at, (run, lines) in enumerate(zip(self._runs, self._lines.runs, strict=True)):
            shown = [line for line in lines if line.key in place and at < self._lines.charted]
            runs.append({**run, "lines": [columns.line(place[line.key], line) for line in shown]})
        document = {
            "shown": SHOWN,
            "charted": self._lines.charted,
            "metrics": [*map(visible, metrics)],
            "runs": runs,
            "columns": columns.texts,
        }
        return json.dumps(document, allow_nan=False).replace("<", "\\u003c")


class _Columns:
    """The columns of all lines as base64 of little-endian float64; equal ones are kept once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[bytes, int] = {}

    def line(self, metric: int, line: Line) -> dict[str, int | None]:
        """A line by the positions of its metric and columns; None for an x-axis without values."""
        return {
            "metric": metric,
            "points": line.points,
            "step": self._place(line.step),
            "epoch": None if np.isnan(line.epoch).all() else self._place(line.epoch),
            "time": self._place(line.time),
            "value": self._place(line.value),
        }

    def _place(self, column: Float64) -> int:
        data = column.astype("<f8").tobytes()
        if data not in self._places:
            self._places[data] = len(self.texts)
            self.texts.append(base64.b64encode(data).decode())
        return self._places[data]


def _template() -> str:
    """The page with its style and scripts, before any text of a run is in it."""
    home = files("bridges.views.charts")
    names = {
        "@LIBRARYSTYLE@": "uplot/uPlot.min.css",
        "@LICENSE@": "uplot/LICENSE",
        "@LIBRARY@": "uplot/uPlot.iife.min.js",
        "@STYLE@": "page.css",
        "@SCRIPT@": "page.js",
    }
    page = home.joinpath("page.html").read_text("utf-8")
    for slot, name in names.items():
        page = page.replace(slot, home.joinpath(name).read_text("utf-8"))
    return page.replace("@ROWSCRIPT@", packaged("rows.js"))


def _metrics(runs: Sequence[Sequence[Line]]) -> tuple[list[str], list[str]]:
    """The metrics to draw, and those that every run has logged once at most."""
    longest: dict[str, int] = {}
    for line in (line for run in runs for line in run):
        longest[line.key] = max(longest.get(line.key, 0), line.points)
    charts = [key for key, points in longest.items() if points > 1]
    return charts or [*longest], [key for key in longest if charts and key not in charts]
