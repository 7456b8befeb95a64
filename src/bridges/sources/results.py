"""`*_results.json`: the metrics of test and prediction, which no state ever holds.

They have no step and no time, so they become rows after the last one; only behind a history that
is finished, because rows that come later would make it another run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bridges.errors import SourceError
from bridges.sources.json_settings import read_json
from bridges.sources.text import fetch
from bridges.stream.columns import series_from_rows
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import MetricStream, RowKind, Run

NAME = re.compile(r"\w+_results\.json\Z")
LARGEST = 5_000_000  # bytes of a file of results
PREFIXES = ("test_", "predict_")  # of `evaluate` and `predict` after the training


def add_results(run: Run, files: Sequence[str]) -> Run:
    """The run with a row for each kind of results that its history lacks."""
    if not files:
        return run
    metrics, findings = _metrics(files)
    known = set(run.stream.keys)
    rows = [
        {key: value for key, value in metrics.items() if key.startswith(prefix)}
        for prefix in PREFIXES
    ]
    rows = [row for row in rows if row.keys() - known]
    if rows and run.status != "finished":
        findings.append(_told(run, "results-left-out", "of a run that goes on are left out"))
    elif rows:
        run = replace(run, stream=append_rows(run.stream, rows))
        added = _told(run, "results-added", "are rows after the last one, at its step")
        findings.append(replace(added, count=len(rows)))
    return replace(run, findings=(*run.findings, *findings))


def _told(run: Run, code: str, what: str) -> Finding:
    message = f"the metrics of test and prediction beside it {what}"
    return Finding(code, Severity.INFO, run.source, message)


def _metrics(files: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """All metrics of these files, the findings of those that cannot be read."""
    metrics: dict[str, Any] = {}
    findings: list[Finding] = []
    for file in files:
        metrics |= _read(file, findings)
    return {key: metrics[key] for key in metrics if key.startswith(PREFIXES)}, findings


def _read(file: str, findings: list[Finding]) -> dict[str, Any]:
    try:
        return read_json(fetch(file, LARGEST, "a file of results"))
    except (SourceError, ValueError, TypeError) as error:
        message = f"not read as results: {error}"
        findings.append(Finding("beside-unreadable", Severity.WARNING, file, message))
        return {}


def append_rows(stream: MetricStream, rows: Sequence[dict[str, Any]]) -> MetricStream:
    """The stream with rows of other keys after the last one, at its step."""
    count = len(stream)
    step = stream.step[-1:] if count else np.zeros(1, np.int64)
    added, _ = series_from_rows(rows)
    moved = tuple(replace(series, rows=series.rows + count) for series in added)
    return MetricStream(
        np.concatenate([stream.step, np.repeat(step, len(rows))]),
        np.concatenate([stream.kind, np.full(len(rows), RowKind.TEST, np.uint8)]),
        (*stream.series, *moved),
    )
