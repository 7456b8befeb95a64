"""`*_results.json`: evaluations and predictions that were made after the state was saved.

Each of these files holds the metrics of one or several calls of `evaluate` or `predict`, and
`all_results.json` those of all files together. A call whose metrics the history lacks becomes a row
behind the last one, as the live callback logs it: at the step of the state, with its epoch where
the file has it (`evaluate` writes it, `predict` does not). The rows are not part of the history:
files that change later add rows to the run instead of making another one.
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
from bridges.sources.times.disk import MTIME_SLACK_SECONDS, changed_at
from bridges.stream.added import AddedRow, joined
from bridges.stream.columns import series_from_rows
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import MetricStream, RowKind, Run

RESULTS_NAME = re.compile(r"\w+_results\.json\Z")
MAX_METRICS = 2000  # each is a curve in every target
MAX_RESULTS_BYTES = 5_000_000  # bytes of a file of results
MAX_SECONDS = 1e9  # of a call
ALL = "all"  # of the file that holds the metrics of all others
# added to the metrics of a call that are logged already, by scripts and by the Trainer
ADDED_LATER = re.compile(r"_samples|_mem_[cg]pu_(alloc|peaked)_delta")
USUAL = {"train", "eval", "test", "predict"}
TRAIN, PREDICT = "train", "predict"  # prefixes of the summary and, by default, of `predict`
EARLIER_PREFIXES = ("test_", "predict_")  # of the only rows that the first version added
SUMMARY_KEYS = ("total_flos",)  # of a summary, without its prefix

Metrics = dict[str, object]


@dataclass(frozen=True)
class Results:
    """The metrics of one results file; `split` is what its name says they are of."""

    file: str
    split: str
    metrics: Metrics


def read_results(files: Sequence[str]) -> tuple[list[Results], list[Finding]]:
    """The results that can be read, and findings for those that cannot."""
    found: list[Results] = []
    findings: list[Finding] = []
    for file in files:
        name = file.replace("\\", "/").rpartition("/")[2]
        metrics = _read(file, findings)
        if metrics:
            found.append(Results(file, name.removesuffix("_results.json"), metrics))
    return found, findings


def _read(file: str, findings: list[Finding]) -> Metrics:
    try:
        found = read_json(fetch(file, MAX_RESULTS_BYTES, "a file of results"))
        if len(found) > MAX_METRICS:
            raise ValueError(f"it holds {len(found):,} metrics, more than {MAX_METRICS:,}")
        return found
    except (SourceError, ValueError, TypeError) as error:
        message = f"not read as results: {error}"
        findings.append(Finding("beside-unreadable", Severity.WARNING, file, message))
        return {}


def with_results(run: Run, results: Sequence[Results]) -> Run:
    """The run with a row for each call that its history lacks."""
    calls, others = _calls(results)
    fresh: dict[str, Metrics] = {}
    for prefix, call in calls.items():
        lacking = _keys_lacking(run.stream, call)
        if lacking is None:
            fresh[prefix] = call
        else:
            others += lacking
    left_out = [_left_out(results[0].file, others)] if others else []
    if not fresh:
        return replace(run, findings=(*run.findings, *left_out))
    rows = [*fresh.values()]
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
        findings=(*run.findings, *left_out, *_findings(run.source, fresh, step)),
    )


def earlier_added(run: Run, results: Sequence[Results]) -> tuple[Metrics, ...]:
    """The rows that the first version added to a finished run whose history lacked one of their
    keys.
    """
    if run.status != "finished":
        return ()
    merged: Metrics = {}
    for found in results:
        merged |= found.metrics
    rows = [{k: merged[k] for k in merged if k.startswith(prefix)} for prefix in EARLIER_PREFIXES]
    return tuple(row for row in rows if row)


def _calls(results: Sequence[Results]) -> tuple[dict[str, Metrics], list[str]]:
    """The metrics of each call by their prefix, and the keys that no call logs.

    The summary is first. The others are in the order in which their files were saved; if these are
    copies, predictions are last. A file of its own counts more than the file of all.
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
    """When each file was saved (microseconds since 1970); empty if they are not the original files.

    The file of all results is saved with each of the others, and a call takes as long as it says.
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
    is_long = taken.sum() > 2 * MTIME_SLACK_SECONDS  # a copy takes some time, too
    is_original = is_long and (gaps[:-1] >= taken).all() and 0 <= gaps[-1] <= MTIME_SLACK_SECONDS
    return saved if is_original else {}


def _seconds(results: Results) -> float:
    """How long the calls of a file took, less the training."""
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

    Every call has a runtime, which gives its prefix away; `eval_mm_loss` is of `eval_mm`, if there
    is such a call, and not of `eval`.
    """
    metrics = results.metrics
    prefixes = {key.removesuffix("_runtime") for key in metrics if key.endswith("_runtime")}
    # transformers before 4.2 log no runtime
    prefixes |= USUAL if results.split == ALL else {results.split}
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
    """Whether a metric of a call was added after it was logged; a training logs its memory."""
    found = ADDED_LATER.fullmatch(name)
    return found is not None and (prefix != TRAIN or name == "_samples")


def _keys_lacking(stream: MetricStream, call: Mapping[str, object]) -> list[str] | None:
    """The keys that the stream's row of a call lacks; None if no row is of that call.

    A row is of the call if it has all numbers of it, or its runtime and no other value: an
    evaluation that is made again has the same metrics in another time.
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
    lacking = [[key for key in values if not has[key][row]] for row in found.tolist()]
    return min(lacking, key=len)


def _is_compared(key: str) -> bool:
    return key != "epoch" and key not in SUMMARY_KEYS


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


def _same(
    stream: MetricStream, key: str, value: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows have a number under the key, and which have this one."""
    at, values = stream.column(key)
    has, same = np.zeros(len(stream), bool), np.zeros(len(stream), bool)
    has[at] = True
    with suppress(OverflowError):  # of an integer that no column holds
        number = float(value)
        same[at[(values == number) | (np.isnan(values) & (number != number))]] = True
    return has, same


def _kinds(rows: Sequence[Metrics]) -> list[int]:
    kinds = row_kinds(len(rows), series_from_rows(rows)[0])
    is_summary = [f"{TRAIN}_runtime" in row or f"{TRAIN}_loss" in row for row in rows]
    return [int(kind) for kind in np.where(is_summary, RowKind.SUMMARY, kinds)]


def _findings(source: str, calls: Mapping[str, Metrics], step: int) -> Iterable[Finding]:
    message = (
        f"metrics that only results files hold ({', '.join(calls)}) are rows behind the last one, "
        f"at step {step}"
    )
    yield Finding("results-added", Severity.INFO, source, message, len(calls))
    predicted = sum("epoch" not in call for call in calls.values())
    if predicted:
        message = (
            "results without an epoch are of predict(), which live callbacks send to W&B and "
            "Trackio alone; they are kept here, too"
        )
        yield Finding("predictions-kept", Severity.INFO, source, message, predicted)


def _left_out(where: str, keys: list[str]) -> Finding:
    message = f"{', '.join(keys[:5])}: added to the results after the call; no callback logs them"
    return Finding("results-keys-left-out", Severity.INFO, where, message, len(keys))
