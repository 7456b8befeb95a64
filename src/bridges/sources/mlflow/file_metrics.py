"""The metrics of a run in a file store: a file for each key."""

from __future__ import annotations

from collections.abc import Iterator

from bridges.formats.mlflow_store.metric_lines import LineKind, MetricLines, parse_lines
from bridges.formats.mlflow_store.records import Metric
from bridges.sources.mlflow.file_reading import (
    damaged_lines,
    files_below,
    hidden,
    is_hidden,
    not_read,
    read_pieces,
)
from bridges.stream.finding import Finding, Severity


def read_metrics(
    folder: str, label: str, findings: list[Finding], *, is_growing: bool = False
) -> list[Metric]:
    """The points of all keys below a directory, by key. Adds odd lines to `findings`."""
    metrics = []
    for key, path in sorted(files_below(folder, label, findings)):
        where = f"{label}/{key}"
        try:
            lines = parse_lines(read_pieces(path), is_growing=is_growing)
        except OSError as error:
            findings.append(not_read(where, error))
            continue
        if len(lines.time):
            metrics.append(Metric(key, lines.value, lines.time, lines.step))
        elif is_hidden(key):
            findings.append(hidden(where))
            continue
        findings += _oddities(lines, where)
    return metrics


def _oddities(lines: MetricLines, where: str) -> Iterator[Finding]:
    """Findings about odd lines of a metric file."""
    for kind, numbers in lines.odd.items():
        place = f"{where}: {numbers}"
        if kind is LineKind.DAMAGED:
            yield damaged_lines(where, numbers)
        elif kind is LineKind.BLANK:
            message = "blank lines are skipped"
            yield Finding("metric-line-blank", Severity.INFO, place, message, numbers.count)
        elif kind is LineKind.FURTHER:
            message = "points lose the name of their dataset"
            yield Finding("metric-dataset", Severity.INFO, place, message, numbers.count)
        elif kind is LineKind.CUT:
            message = "the last line was cut off and is left out"
            yield Finding("last-line-cut", Severity.WARNING, place, message)
        else:
            message = "the last line has no end: it may have been cut off"
            yield Finding("last-line-unended", Severity.WARNING, place, message)
    if lines.is_seconds:
        message = "times in seconds, as MLflow 0.x logged them, are read as milliseconds"
        yield Finding("times-in-seconds", Severity.INFO, where, message, len(lines.time))
    if lines.is_empty:
        yield Finding("metric-file-empty", Severity.WARNING, where, "a metric without any point")
