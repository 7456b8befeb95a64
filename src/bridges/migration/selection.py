"""Pure functions that filter the rows and metrics of a run and rename metrics.

Every dropped or renamed item is a counted finding. A filtered run has another digest, so in a
target it differs from the unfiltered run. `epoch` belongs to every row, so only its exact name
matches it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ConfigError
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, MetricStream, Run, Series, Values

EPOCH = "epoch"
FILTERED = "filtered-by-config"
RENAMED = "renamed-by-config"
Mask = NDArray[np.bool_]


def matches(key: str, patterns: Sequence[str]) -> bool:
    """Whether a metric matches one of the patterns (`*`, `?`, `[…]`)."""
    return key in patterns if key == EPOCH else any(fnmatchcase(key, each) for each in patterns)


def has_value(value: object, wanted: object) -> bool:
    """Whether a param equals a value, matches a pattern, or matches an item of a list."""
    if isinstance(wanted, (list, tuple)):
        return any(has_value(value, one) for one in wanted)
    if not isinstance(wanted, str):
        return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _is_number(wanted, value)
    return value is not None and fnmatchcase(_as_text(value), wanted)


def select_steps(run: Run, first: int | None, last: int | None) -> Run:
    """The run with the rows of the steps in [first, last] only."""
    if first is None and last is None:
        return run
    step = run.stream.step
    mask = np.ones(len(step), bool)
    if first is not None:
        mask &= step >= first
    if last is not None:
        mask &= step <= last
    if mask.all():
        return run
    shown = f"{'' if first is None else first}..{'' if last is None else last}"
    return keep_rows(run, mask, f"steps {shown}", "rows outside these steps are omitted")


def select_keys(run: Run, takes: Callable[[str], bool]) -> Run:
    """The run with the selected metrics only; rows with nothing but an epoch are dropped."""
    taken = {key: takes(key) for key in run.stream.keys}
    left = [series for series in run.stream.series if not taken[series.key]]
    if not left:
        return run
    kept = tuple(series for series in run.stream.series if taken[series.key])
    where = ", ".join(dict.fromkeys(series.key for series in left))
    points = sum(len(series.rows) for series in left)
    note = _note(FILTERED, where, "values of these metrics are omitted", points)
    stream = replace(run.stream, series=kept)
    changed = replace(run, stream=stream, findings=(*run.findings, note))
    bare = _bare(kept, len(stream)) & ~_bare(run.stream.series, len(stream))
    if not bare.any():
        return changed
    return keep_rows(changed, ~bare, "rows", "rows without selected metrics are omitted")


def keep_rows(run: Run, mask: Mask, where: str, message: str) -> Run:
    """The run with the rows of the mask only; evidence and fork positions are adjusted."""
    place = np.cumsum(mask) - 1
    note = _note(FILTERED, where, message, int((~mask).sum()))
    forked = run.forked and (run.forked[0], int(mask[: run.forked[1]].sum()))
    return replace(
        run,
        stream=_stream_rows(run.stream, mask, place),
        evidence=tuple(_evidence_rows(each, mask, place) for each in run.evidence),
        findings=(*run.findings, note),
        forked=forked,
    )


def rename_keys(run: Run, rules: Mapping[str, str]) -> Run:
    """Rename metrics; the first matching rule of a key applies.

    Raises ConfigError if two metrics would get the same name.
    """
    names = {key: renamed(key, rules) for key in run.stream.keys}
    changed = {key: name for key, name in names.items() if name != key}
    if not changed:
        return run
    name, count = Counter(names.values()).most_common(1)[0]
    if count > 1:
        both = " and ".join(repr(key) for key in names if names[key] == name)
        raise ConfigError(f"{run.source}: `rename` gives {both} the same name {name!r}")
    where = ", ".join(f"{key} → {name}" for key, name in changed.items())
    points = sum(len(series.rows) for series in run.stream.series if series.key in changed)
    note = _note(RENAMED, where, "these metrics are renamed", points)
    return replace(
        run,
        stream=run.stream.map_keys(changed),
        earlier_values={changed.get(key, key): each for key, each in run.earlier_values.items()},
        findings=(*run.findings, note),
    )


def renamed(key: str, rules: Mapping[str, str]) -> str:
    """The new name of a key; each `*` is replaced by the text of its `*` in the pattern."""
    for pattern, name in rules.items():
        found = re.fullmatch("(.*)".join(map(re.escape, pattern.split("*"))), key, re.DOTALL)
        if found and (key != EPOCH or pattern == EPOCH):
            parts = iter((*found.groups(), ""))
            return "".join(text + next(parts) for text in name.split("*"))
    return key


def _stream_rows(stream: MetricStream, mask: Mask, place: Values) -> MetricStream:
    kept = []
    for series in stream.series:
        stays = mask[series.rows]
        if stays.any():
            rows = place[series.rows[stays]].astype(np.int64)
            kept.append(replace(series.only(stays), rows=rows))
    time = None if stream.time is None else stream.time[mask]
    return MetricStream(stream.step[mask], stream.kind[mask], tuple(kept), time)


def _evidence_rows(evidence: Evidence, mask: Mask, place: Values) -> Evidence:
    stays = mask[evidence.rows]
    rows = place[evidence.rows[stays]].astype(np.int64)
    return replace(evidence, rows=rows, time=evidence.time[stays])


def _bare(series: Sequence[Series], rows: int) -> Mask:
    """The rows with nothing but an epoch."""
    bare = np.ones(rows, bool)
    for part in series:
        if part.key != EPOCH:
            bare[part.rows] = False
    return bare


def _is_number(text: str, value: float) -> bool:
    """Whether a text equals a number (YAML reads `1e-4` as text) or is a matching pattern."""
    try:
        return float(text) == value
    except ValueError:
        return fnmatchcase(str(value), text)


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _note(code: str, where: str, message: str, count: int) -> Finding:
    return Finding(code, Severity.INFO, where, message, count)
