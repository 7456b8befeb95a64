"""`*_results.json`: evaluations and predictions made after the state was saved.

Each file contains the metrics of one or more calls of `evaluate` or `predict`; `all_results.json`
merges all files. A call whose metrics are missing from the history is appended as a row, as the
live callback logs it: at the step of the state, with the epoch of the file (`evaluate` writes one,
`predict` does not). These rows are not part of the history, so a changed file adds rows to the run
and does not make it another run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from bridges.errors import SourceError
from bridges.huggingface.trainer_keys import row_kinds
from bridges.sources.fetch import fetch
from bridges.sources.sidecars.json_settings import read_json
from bridges.sources.sidecars.live_params import file_name
from bridges.sources.times.disk import MTIME_SLACK_SECONDS, changed_at
from bridges.stream.added import AddedRow, joined
from bridges.stream.columns import series_from_rows
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import MetricStream, RowKind, Run

MAX_METRICS = 2000  # each is a curve in every target
MAX_RESULTS_BYTES = 5_000_000
MAX_SECONDS = 1e9  # of a call
ALL = "all"  # all_results.json
# metrics that scripts or the Trainer add to a call after logging it
ADDED_LATER = re.compile(r"_samples|_mem_[cg]pu_(alloc|peaked)_delta")
USUAL_PREFIXES = {"train", "eval", "test", "predict"}
TRAIN, PREDICT = "train", "predict"  # prefixes of the summary and, by default, of `predict`
EARLIER_PREFIXES = ("test_", "predict_")  # the first version added rows with these only
SUMMARY_KEYS = ("total_flos",)  # summary keys without the prefix

Metrics = dict[str, object]


@dataclass(frozen=True)
class Results:
    """The metrics of one results file; `split` is the prefix of its name, such as `eval`."""

    file: str
    split: str
    metrics: Metrics


def read_results(files: Sequence[str]) -> tuple[list[Results], list[Finding]]:
    """The readable results, and a finding for each unreadable file."""
    found: list[Results] = []
    findings: list[Finding] = []
    for file in files:
        metrics = _read(file, findings)
        if metrics:
            split = file_name(file).removesuffix("_results.json")
            found.append(Results(file, split, metrics))
    return found, findings


def _read(file: str, findings: list[Finding]) -> Metrics:
    try:
        found = read_json(fetch(file, MAX_RESULTS_BYTES, "a file of results"))
        if len(found) > MAX_METRICS:
            raise ValueError(f"it contains {len(found):,} metrics, more than {MAX_METRICS:,}")
        return found
    except (SourceError, ValueError, TypeError) as error:
        message = f"not read as results: {error}"
        findings.append(Finding("beside-unreadable", Severity.WARNING, file, message))
        return {}


def with_results(run: Run, results: Sequence[Results]) -> Run:
    """The run with a row for each call that is missing from its history."""
    calls, others = _calls(results)
    new: dict[str, Metrics] = {}
    for prefix, call in calls.items():
        missing = _missing_keys(run.stream, call)
        if missing is None:
            new[prefix] = call
        else:
            others += missing
    left_out = [_left_out(results[0].file, others)] if others else []
    if not new:
        return replace(run, findings=(*run.findings, *left_out))
    rows = [*new.values()]
    last = int(run.stream.step[-1]) if len(run.stream) else 0
    step = max(last, int(run.facts.get("global_step", 0)))
    kinds = _kinds(rows)
    added = [AddedRow(0, kind, step, row) for kind, row in zip(kinds, rows, strict=True)]
    count = len(run.stream)
    return replace(
        run,
        stream=joined(run.stream, added),
        added=tuple(range(count, count + len(added))),
        status="finished" if RowKind.SUMMARY in kinds else run.status,
        findings=(*run.findings, *left_out, *_findings(run.source, new, step)),
    )


def earlier_added(run: Run, results: Sequence[Results]) -> tuple[Metrics, ...]:
    """The rows that the first version added to a finished run, if one of their keys was missing."""
    if run.status != "finished":
        return ()
    merged: Metrics = {}
    for found in results:
        merged |= found.metrics
    rows = [{k: merged[k] for k in merged if k.startswith(prefix)} for prefix in EARLIER_PREFIXES]
    return tuple(row for row in rows if row)


def _calls(results: Sequence[Results]) -> tuple[dict[str, Metrics], list[str]]:
    """The metrics of each call by prefix, and keys that no call logs.

    The summary comes first, then the calls in the order in which their files were saved; if the
    files are copies, predictions come last. A file of one split takes precedence over
    `all_results.json`.
    """
    calls: dict[str, Metrics] = {}
    others: dict[str, None] = {}
    saved = _save_times(results)
    order: dict[str, tuple[bool | int | str, ...]] = {}
    for found in sorted(results, key=lambda one: (one.split == ALL, one.split)):
        for prefix, metrics in _split(found, others).items():
            calls.setdefault(prefix, metrics)
            place = saved.get(found.file, 0)
            order.setdefault(prefix, (prefix != TRAIN, place, *_rank(prefix), prefix))
    return {prefix: calls[prefix] for prefix in sorted(calls, key=order.__getitem__)}, [*others]


def _save_times(results: Sequence[Results]) -> dict[str, int]:
    """The save time of each file (microseconds since 1970 UTC); empty if the files are copies.

    `all_results.json` is saved together with each other file, and a call takes its runtime.
    """
    times = {found.file: changed_at(found.file) for found in results}
    saved = {file: time for file, time in times.items() if time is not None}
    of_all = [found.file for found in results if found.split == ALL]
    if len(of_all) != 1 or len(saved) < len(times):
        return {}
    files = [found for found in results if found.split != ALL]
    files.sort(key=lambda found: saved[found.file])
    seconds = np.array([saved[found.file] for found in files] + [saved[of_all[0]]]) / 1e6
    gaps, taken = np.diff(seconds), np.array([_seconds(found) for found in files[1:]])
    is_long = taken.sum() > 2 * MTIME_SLACK_SECONDS  # copying takes some time, too
    is_original = is_long and (gaps[:-1] >= taken).all() and 0 <= gaps[-1] <= MTIME_SLACK_SECONDS
    return saved if is_original else {}


def _seconds(results: Results) -> float:
    """The runtime of the calls in a file in seconds, without the training."""
    runtimes = (
        value
        for key, value in results.metrics.items()
        if key.endswith("_runtime") and key != f"{TRAIN}_runtime"
    )
    return sum(one for one in runtimes if isinstance(one, (int, float)) and abs(one) < MAX_SECONDS)


def _rank(prefix: str) -> tuple[bool, bool, bool]:
    return prefix != TRAIN, prefix == PREDICT, not prefix.startswith("eval")


def _split(results: Results, others: dict[str, None]) -> dict[str, Metrics]:
    """The metrics of each call in a file; keys that no call logs are added to `others`.

    The runtime keys give the prefixes of the calls. The longest prefix of a key counts:
    `eval_mm_loss` belongs to `eval_mm` if such a call exists, else to `eval`.
    """
    metrics = results.metrics
    prefixes = {key.removesuffix("_runtime") for key in metrics if key.endswith("_runtime")}
    # transformers before 4.2 log no runtime
    prefixes |= USUAL_PREFIXES if results.split == ALL else {results.split}
    calls: dict[str, Metrics] = {}
    for key in metrics:
        own = [prefix for prefix in prefixes if key.startswith(f"{prefix}_")]
        prefix = max(own, key=len, default=TRAIN if key in SUMMARY_KEYS else "")
        if prefix and not _is_added_later(key.removeprefix(prefix), prefix):
            calls.setdefault(prefix, {})[key] = metrics[key]
        elif key != "epoch":
            others[key] = None
    for prefix in calls:
        if "epoch" in metrics and (results.split != ALL or prefix != PREDICT):
            calls[prefix]["epoch"] = metrics["epoch"]
    return calls


def _is_added_later(name: str, prefix: str) -> bool:
    """Whether a metric was added to a call after logging; a training logs its memory itself."""
    found = ADDED_LATER.fullmatch(name)
    return found is not None and (prefix != TRAIN or name == "_samples")


def _missing_keys(stream: MetricStream, call: Mapping[str, object]) -> list[str] | None:
    """The keys of a call that are missing from its row; None if the stream has no row of the call.

    A row belongs to the call if it has all its numbers, or its runtime and no different value: a
    repeated evaluation has the same metrics but another runtime.
    """
    values = {key: value for key, value in call.items() if _is_number(value) and _is_compared(key)}
    runtime = next((key for key in values if key.endswith("_runtime")), None)
    rows = np.ones(len(stream), bool)
    has = {}
    for key, value in values.items():
        has[key], same = _same(stream, key, value)
        rows &= same if runtime in (None, key) else same | ~has[key]
    found = np.flatnonzero(rows)
    if not len(found):
        return None
    missing = [[key for key in values if not has[key][row]] for row in found.tolist()]
    return min(missing, key=len)


def _is_compared(key: str) -> bool:
    return key != "epoch" and key not in SUMMARY_KEYS


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


def _same(
    stream: MetricStream, key: str, value: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the rows with a number under the key, and of those with the given number."""
    at, values = stream.column(key)
    has, same = np.zeros(len(stream), bool), np.zeros(len(stream), bool)
    has[at] = True
    with suppress(OverflowError):  # an integer too large for any column
        number = float(value)
        same[at[(values == number) | (np.isnan(values) & (number != number))]] = True
    return has, same


def _kinds(rows: Sequence[Metrics]) -> list[int]:
    kinds = row_kinds(len(rows), series_from_rows(rows)[0])
    is_summary = [f"{TRAIN}_runtime" in row or f"{TRAIN}_loss" in row for row in rows]
    return [int(kind) for kind in np.where(is_summary, RowKind.SUMMARY, kinds)]


def _findings(source: str, calls: Mapping[str, Metrics], step: int) -> Iterable[Finding]:
    message = (
        f"metrics found only in results files ({', '.join(calls)}) are appended as rows at step "
        f"{step}"
    )
    yield Finding("results-added", Severity.INFO, source, message, len(calls))
    predicted = sum("epoch" not in call for call in calls.values())
    if predicted:
        message = (
            "results without an epoch come from predict(), which live callbacks log only to W&B "
            "and Trackio; here they are kept"
        )
        yield Finding("predictions-kept", Severity.INFO, source, message, predicted)


def _left_out(where: str, keys: list[str]) -> Finding:
    message = f"{', '.join(keys[:5])}: added to the results after the call; no callback logs them"
    return Finding("results-keys-left-out", Severity.INFO, where, message, len(keys))
