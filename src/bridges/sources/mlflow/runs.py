"""From a stored run to the neutral model: rows of equal step and time, in the order of time.

Params with the text of a Python number are numbers for other targets; `Run.record` keeps the
texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.formats.mlflow_store.records import (
    NAME_TAG,
    NOTE_TAG,
    PARENT_TAG,
    USER_TAG,
    Metric,
    RunHead,
    RunRecord,
)
from bridges.sources.mlflow.earlier_exports import as_exported
from bridges.stream.clock import MILLISECOND
from bridges.stream.columns import join_parts
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import (
    Float64,
    Int64,
    MetricStream,
    RowKind,
    Run,
    Selection,
    Series,
)
from bridges.stream.redact import redact, redact_text

ANYONE = "user"  # in place of a masked user name
LONG = 8  # points of a key; shorter keys are sorted faster than compared with each other
_FIRST_OF_NUMBERS = frozenset("-0123456789in")  # as Python prints them, with inf and nan
STATUS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed", "RUNNING": "running"}


def run_of(
    record: RunRecord,
    metrics: list[Metric],
    source: str,
    parents: Sequence[str] = (),
    *,
    has_children: bool = False,
    redact_home: bool = False,
) -> Run:
    """The run of a record and its metrics, whose list is emptied.

    `source`: the location that it was read from. `parents`: the names of the runs around it, the
    outermost first. `redact_home` masks home directories and the names of users.
    """
    stream, repeats = stream_of(metrics)
    record, masked = without_secrets(record, home=redact_home)
    head = record.head
    findings = [*record.findings, *masked, *([_repeats(repeats)] if repeats else [])]
    if head.status == "RUNNING":
        findings.append(_never_ended(head))
    run = Run(
        name=head.shown_name,
        stream=stream,
        source=source,
        params={key: plain_number(text) for key, text in record.params.items()},
        facts=_facts(record),
        group=head.experiment.name,
        status=STATUS.get(head.status, "unknown"),
        findings=tuple(findings),
        project=head.experiment.name,
        key_style="tags",
        identity=("mlflow", head.run_id),
        start=_microseconds(head.start),
        end=_microseconds(head.end),
        parents=tuple(parents),
        has_children=has_children,
        note=head.tags.get(NOTE_TAG, ""),
        record=record,
        append_only=False,
    )
    return as_exported(run, head)


def plain_number(text: str) -> str | int | float:
    """The number with this text in Python; other texts stay."""
    if text[:1] not in _FIRST_OF_NUMBERS:
        return text
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if repr(number) == text:
            return number
    return text


def _facts(record: RunRecord) -> dict[str, str]:
    """The tags, user, parent, datasets and logged models of a run, under names of MLflow."""
    head = record.head
    found = {
        "mlflow.run_id": head.run_id,
        "mlflow.experiment": head.experiment.name,
        "mlflow.user": head.tags.get(USER_TAG) or record.user,
        "mlflow.parent_run_id": head.parent_id or "",
        "mlflow.datasets": ", ".join(
            f"{each.dataset.name} ({each.dataset.digest})" for each in record.inputs
        ),
        "mlflow.models": ", ".join(f"{model.name} ({model.model_id})" for model in record.models),
    }
    known = (NAME_TAG, PARENT_TAG, NOTE_TAG, USER_TAG)
    tags = {f"mlflow.tags.{key}": text for key, text in head.tags.items() if key not in known}
    return {**{key: text for key, text in found.items() if text}, **tags}


def without_secrets(record: RunRecord, *, home: bool = False) -> tuple[RunRecord, list[Finding]]:
    """The record with the secrets in its params and tags masked, and findings about them.

    `home` also masks home directories, and the names of users.
    """
    params, in_params = redact(record.params, home=home)
    tags, in_tags = redact(record.tags, home=home)
    if home:
        tags |= {USER_TAG: ANYONE} if USER_TAG in tags else {}
        record = replace(
            record,
            user=ANYONE if record.user else "",
            source_name=redact_text(record.source_name, home=True),
            artifact_uri=redact_text(record.artifact_uri, home=True),
        )
    elif not (in_params or in_tags):
        return record, []
    head = replace(record.head, tags={key: str(value) for key, value in tags.items()})
    shown = {key: str(value) for key, value in params.items()}
    return replace(record, head=head, params=shown), [*in_params, *in_tags]


def stream_of(metrics: list[Metric]) -> tuple[MetricStream, int]:
    """The stream of some metrics, and the number of exact repeats that were left out.

    A row has one step and one time. The values of a key with equal step and time lie in
    successive rows, by size: some stores do not keep the order of logging. The list is emptied, so
    that a large run is not in memory twice.
    """
    filled = [metric for metric in metrics if len(metric.value)]
    metrics.clear()
    has_long_keys = sum(len(metric.value) for metric in filled) >= LONG * len(filled)
    stream = _stream_of_increasing(filled) if has_long_keys else None
    if stream is not None:
        return stream, 0
    points, keys = _Points.of(filled), [metric.key for metric in filled]
    filled.clear()
    points = points.sorted()
    is_repeat = _equal_to_previous(points.time, points.step, points.key, points.bits)
    if is_repeat.any():
        points = points.take(~is_repeat)
    return points.in_rows(keys), int(is_repeat.sum())


def _stream_of_increasing(metrics: list[Metric]) -> MetricStream | None:
    """The stream, if in each metric no point has the time and step of another, and the points are
    sorted by them, as a run logs them; else None. Empties the list of metrics if they are so.
    """
    clocks, clock_of = _clocks(metrics)
    if not clocks or not all(_is_later(time, step) for time, step in clocks):
        return None
    named = [(metric.key, metric.value, at) for metric, at in zip(metrics, clock_of, strict=True)]
    metrics.clear()
    time, step, rows = _merged(clocks)
    series = tuple(Series(key, rows[clock], value) for key, value, clock in sorted(named, key=_key))
    kind = np.full(len(time), RowKind.CUSTOM, np.uint8)
    return MetricStream(step, kind, series, time)


def _merged(clocks: list[tuple[Int64, Int64]]) -> tuple[Int64, Int64, list[Int64]]:
    """Time (µs) and step of the rows of some clocks, and the rows of each clock.

    Empties the list. Columns are made one by one, because they may be large.
    """
    ends = np.cumsum([len(time) for time, _ in clocks])
    times, steps = map(list, zip(*clocks, strict=True))
    clocks.clear()
    time = join_parts(times)
    if len(ends) == 1:
        return time * MILLISECOND, join_parts(steps), [np.arange(len(time))]
    order = np.argsort(time, kind="stable")  # faster than sorting by step, too
    time = time[order]
    step = join_parts(steps)[order]
    if ((time[1:] == time[:-1]) & (step[1:] < step[:-1])).any():
        by_step = np.lexsort((step, time))
        order = order[by_step]
        time = time[by_step]
        step = step[by_step]
        del by_step
    is_first = ~_equal_to_previous(time, step)
    time = time[is_first]
    step = step[is_first]
    time *= MILLISECOND
    number = np.cumsum(is_first, dtype=np.min_scalar_type(len(order)))
    number -= 1
    row = np.empty(len(order), np.int64)
    row[order] = number
    return time, step, np.split(row, ends[:-1])


def _clocks(metrics: Sequence[Metric]) -> tuple[list[tuple[Int64, Int64]], list[int]]:
    """The distinct pairs of the columns time and step, and the position of each metric's pair."""
    clocks: list[tuple[Int64, Int64]] = []
    places: dict[tuple[int, ...], int] = {}
    clock_of = []
    for metric in metrics:
        time, step = metric.time, metric.step
        ends = (len(time), int(time[0]), int(time[-1]), int(step[0]), int(step[-1]))
        place = places.setdefault(ends, len(clocks))
        if place < len(clocks) and not _is_clock(metric, *clocks[place]):
            place = len(clocks)
        if place == len(clocks):
            clocks.append((time, step))
        clock_of.append(place)
    return clocks, clock_of


def _is_clock(metric: Metric, time: Int64, step: Int64) -> bool:
    return np.array_equal(metric.time, time) and np.array_equal(metric.step, step)


def _is_later(time: Int64, step: Int64) -> bool:
    """Whether each point is later than the one before it, by time and step."""
    is_later = time[1:] > time[:-1]
    if is_later.all():
        return True
    is_later |= (time[1:] == time[:-1]) & (step[1:] > step[:-1])
    return bool(is_later.all())


def _key(named: tuple[str, Float64, int]) -> str:
    return named[0]


@dataclass(frozen=True)
class _Points:
    """Points of several keys (n each): the position of the key, step, time (ms) and value."""

    key: Int64
    step: Int64
    time: Int64
    value: Float64

    @classmethod
    def of(cls, metrics: Sequence[Metric]) -> _Points:
        key = np.repeat(np.arange(len(metrics)), [len(metric.value) for metric in metrics])
        step = [np.empty(0, np.int64), *(metric.step for metric in metrics)]
        time = [np.empty(0, np.int64), *(metric.time for metric in metrics)]
        value = [np.empty(0, np.float64), *(metric.value for metric in metrics)]
        return cls(key, np.concatenate(step), np.concatenate(time), np.concatenate(value))

    @property
    def bits(self) -> Int64:
        """The bits of the values; all NaNs are one value."""
        return np.where(np.isnan(self.value), np.nan, self.value).view(np.int64)

    def take(self, chosen: Selection) -> _Points:
        """The points selected by a mask or positions."""
        return _Points(self.key[chosen], self.step[chosen], self.time[chosen], self.value[chosen])

    def sorted(self) -> _Points:
        """The points by time, step, key and value."""
        return self.take(np.lexsort((self.bits, self.value, self.key, self.step, self.time)))

    def in_rows(self, keys: Sequence[str]) -> MetricStream:
        """The stream of sorted points: a row for each time and step, or several (see `_turns`)."""
        points, columns = self, [self.time, self.step]
        is_same = _equal_to_previous(self.time, self.step, self.key)
        if is_same.any():
            turn = _turns(is_same)
            order = np.lexsort((self.key, turn, self.step, self.time))
            points = self.take(order)
            columns = [points.time, points.step, turn[order]]
        is_first = ~_equal_to_previous(*columns)
        row = np.cumsum(is_first) - 1
        by_key = np.argsort(points.key, kind="stable")
        ends = np.searchsorted(points.key[by_key], np.arange(len(keys) + 1))
        series = [
            Series(keys[index], row[chosen], points.value[chosen])
            for index in sorted(range(len(keys)), key=keys.__getitem__)
            if len(chosen := by_key[ends[index] : ends[index + 1]])
        ]
        kind = np.full(int(is_first.sum()), RowKind.CUSTOM, np.uint8)
        time = points.time[is_first] * MILLISECOND
        return MetricStream(points.step[is_first], kind, tuple(series), time)


def _equal_to_previous(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row (n) equals the row before it in all columns (bool, n)."""
    equal = np.zeros(len(columns[0]), bool)
    equal[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return equal


def _turns(is_same: NDArray[np.bool_]) -> Int64:
    """The number of rows directly before each row that belong together with it (int64, n)."""
    index = np.arange(len(is_same))
    return index - np.maximum.accumulate(np.where(is_same, 0, index))


def _microseconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * MILLISECOND


def _never_ended(head: RunHead) -> Finding:
    message = "the run never ended, or is still running: its status stays RUNNING"
    return Finding("never-ended", Severity.INFO, head.where, message)


def _repeats(count: int) -> Finding:
    message = "points with equal steps, times and values: one of them is kept, as MLflow does"
    return Finding("exact-repeats", Severity.INFO, "all metrics", message, count)
