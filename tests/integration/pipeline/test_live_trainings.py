"""An export of an output directory equals what the live callbacks of transformers 5.24 sent.

`tests/data/live` holds the output directories of nine trainings as they were left on disk, and
what TensorBoard, MLflow and W&B received of each (`received.jsonl.gz`). Points of TensorBoard and
MLflow and whole rows of W&B are compared as multisets, bit by bit, so that a doubled one shows.
What differs is listed row by row: its step, and the Trainer's keys of its points.
"""

from __future__ import annotations

import gzip
import json
import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bridges
from tests.integration.exporters.tensorboard.support import read_raw
from tests.integration.exporters.wandb.support import files_of, rows_of
from tests.support import DATA

LIVE = DATA / "live"
SCENARIOS = sorted(path.name for path in LIVE.iterdir())
ODD = ("odd_keys_apart", "mlflow")

Row = tuple[int, tuple[str, ...]]  # a step, and keys
Points = Counter[tuple[int, str, str]]  # step, tag, value
WandbRow = tuple[tuple[str, str], ...]  # sorted (tag, value)
Rows = Counter[WandbRow]


def scores(prefix: str, *names: str) -> tuple[str, ...]:
    """The keys of one evaluation, without its epoch."""
    speeds = ("runtime", "samples_per_second", "steps_per_second")
    return tuple(f"{prefix}_{name}" for name in ("loss", *names, *speeds))


def classified(prefix: str) -> tuple[str, ...]:
    return scores(prefix, "accuracy", "f1_macro")


def generated(prefix: str) -> tuple[str, ...]:
    return scores(prefix, "exact", "gen_len")


EPOCH = ("epoch",)
TRAIN = ("loss", "grad_norm", "learning_rate", "epoch")
EVAL = (*classified("eval"), "epoch")
TOKENS = (*TRAIN, "num_input_tokens_seen", "train_runtime", "train_tokens_per_second")

# rows that only the live callbacks have: logged after the save that a run was resumed from, or by
# an attempt that ran out of memory
NEVER_SAVED: dict[str, tuple[Row, ...]] = {
    "iterable_tokens_resume": ((12, TOKENS),),
    "oom_smaller_batch": ((1, TRAIN), (2, TRAIN), (3, TRAIN), (3, EVAL), (4, TRAIN)),
    "resume_other_cadence": ((10, TRAIN), (12, TRAIN), (12, EVAL), (14, TRAIN)),
}

# predictions, which live callbacks send to W&B and Trackio alone
PREDICTIONS: dict[tuple[str, str], tuple[Row, ...]] = {
    (scenario, target): ((step, row),)
    for scenario, step, row in (
        ("results_after_state", 8, classified("predict")),
        ("seq2seq_test_prefix", 16, generated("predict")),
    )
    for target in ("tensorboard", "mlflow")
}

# rows that the callback lost with a key that MLflow refuses, each with the key that it has instead
REFUSED_BY_MLFLOW = (
    *("a/_/b", "_", "a/_/b", "_/lead", "trail/_", "_", "_/x", "x/_"),
    f"{'x' * 241}-90d738c3",
)
# and the values of keys that meet in one metric, of which it kept the last of each row
ODD_EXTRA: tuple[Row, ...] = (
    *(
        (1, (f"beside_{number}", key, "epoch"))
        for number, key in zip((*range(8), 10), REFUSED_BY_MLFLOW, strict=True)
    ),
    (2, ("at_k-ce3d3911", "at_k-ce3d3911", "at_k-72704084")),
)


def missing(scenario: str, target: str) -> tuple[Row, ...]:
    """The rows that the export lacks."""
    return NEVER_SAVED.get(scenario, ())


def extra(scenario: str, target: str) -> tuple[Row, ...]:
    """The rows that only the export has."""
    known = PREDICTIONS.get((scenario, target), ())
    return known + (ODD_EXTRA if (scenario, target) == ODD else ())


def tag(target: str, key: str) -> str:
    """The tag that a live callback gives to a key."""
    if target == "mlflow":
        return key
    prefix = next((one for one in ("eval_", "test_") if key.startswith(one)), "")
    return f"{prefix[:-1]}/{key[5:]}" if prefix else f"train/{key}"


def received(scenario: str, tracker: str, kind: str) -> list[dict[str, Any]]:
    """What a tracker received of a scenario."""
    lines = gzip.decompress((LIVE / scenario / "received.jsonl.gz").read_bytes()).splitlines()
    records = map(json.loads, lines)
    return [one for one in records if (one["tracker"], one["kind"]) == (tracker, kind)]


def live_points(scenario: str, target: str) -> Points:
    """The scalars of a live run. TRL's profiler bypasses the callbacks."""
    return Counter(
        (one["step"], one["tag"], shown(float(one["value"].partition(" ")[0])))
        for one in received(scenario, target, "scalar")
        if not one["tag"].startswith("profiling/")
    )


def live_rows(scenario: str) -> list[WandbRow]:
    """The history rows of a live W&B run, without those of TRL's profiler and its tables."""
    rows: dict[tuple[str, int], list[tuple[str, Any]]] = defaultdict(list)
    for one in received(scenario, "wandb", "history"):
        rows[one["run"], one["row"]].append((one["tag"], json.loads(one["value"])))
    by_others = ("profiling/", "completions/")
    every = [dict(row) for row in rows.values()]
    return [row_of(row) for row in every if not any(key.startswith(by_others) for key in row)]


def shown(value: float) -> str:
    return "nan" if math.isnan(value) else repr(value)


def row_of(row: dict[str, Any]) -> WandbRow:
    """A row of W&B without its own number and times; its core writes 1.0 as 1."""
    flat = sorted((key, value) for key, value in flattened(row) if not key.startswith("_"))
    return tuple(
        (key, shown(float(value)) if type(value) in (int, float) else json.dumps(value))
        for key, value in flat
    )


def flattened(values: dict[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def exported_points(scenario: str, target: str, folder: Path) -> Points:
    """The scalars that the export of the output directory wrote."""
    if target == "tensorboard":
        export(scenario, target, logdir=str(folder))
        series, _ = read_raw(folder)
        return Counter((step, key, value) for key, found in series.items() for step, value in found)
    export(scenario, target, tracking_uri=f"sqlite:///{folder}/mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        rows = database.execute("select step, key, value, is_nan from metrics").fetchall()
    return Counter((step, key, "nan" if nan else repr(value)) for step, key, value, nan in rows)


def exported_rows(scenario: str, folder: Path) -> list[WandbRow]:
    """The history rows that the export of the output directory wrote for W&B."""
    export(scenario, "wandb", wandb_dir=str(folder))
    return [row_of(row) for file in files_of(folder) for row in rows_of(file)]


def export(scenario: str, target: str, **options: Any) -> None:
    report = bridges.export(LIVE / scenario / "out", to=target, **options)
    assert [(run.status, run.verified) for run in report.runs] == [("exported", True)]


def as_points(target: str, rows: Sequence[Row]) -> Counter[tuple[int, str]]:
    return Counter((step, tag(target, key)) for step, keys in rows for key in keys)


def as_rows(rows: Sequence[Row]) -> Counter[tuple[str, frozenset[str]]]:
    """Step and tags of rows of W&B, where `train_runtime` is no metric of a row."""
    return Counter(
        (
            shown(float(step)),
            frozenset(tag("wandb", key) for key in keys if key != "train_runtime"),
        )
        for step, keys in rows
    )


def tags_of(rows: Rows) -> Counter[tuple[str, frozenset[str]]]:
    found: Counter[tuple[str, frozenset[str]]] = Counter()
    for row, count in rows.items():
        step = dict(row)["train/global_step"]
        found[step, frozenset(key for key, _ in row if key != "train/global_step")] += count
    return found


@pytest.mark.parametrize("target", ["tensorboard", "mlflow"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_points_are_those_of_the_live_callbacks(scenario: str, target: str, tmp_path: Path) -> None:
    live, ours = live_points(scenario, target), exported_points(scenario, target, tmp_path)
    lacking, added = live - ours, ours - live
    assert Counter((step, key) for step, key, _ in lacking.elements()) == as_points(
        target, missing(scenario, target)
    )
    assert Counter((step, key) for step, key, _ in added.elements()) == as_points(
        target, extra(scenario, target)
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_rows_of_wandb_are_those_of_the_live_callback(scenario: str, tmp_path: Path) -> None:
    live, ours = Counter(live_rows(scenario)), Counter(exported_rows(scenario, tmp_path))
    assert tags_of(live - ours) == as_rows(missing(scenario, "wandb"))
    assert tags_of(ours - live) == as_rows(extra(scenario, "wandb"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_rows_of_wandb_have_the_live_order(scenario: str, tmp_path: Path) -> None:
    """Results have the order of the event files, which lack predictions: those come last."""
    live, ours = live_rows(scenario), exported_rows(scenario, tmp_path)
    lost = Counter(live) - Counter(ours)
    expected = []
    for row in live:
        if lost[row]:
            lost[row] -= 1
        else:
            expected.append(row)
    expected.sort(key=lambda row: any(key.startswith("train/predict_") for key, _ in row))
    assert ours == expected


def test_every_scenario_has_the_points_that_its_training_logged() -> None:
    numbers = {
        scenario: (
            live_points(scenario, "tensorboard").total(),
            live_points(scenario, "mlflow").total(),
            len(live_rows(scenario)),
        )
        for scenario in SCENARIOS
    }
    assert numbers == {
        "iterable_tokens_resume": (77, 77, 10),
        "nested_named_env": (18, 18, 4),
        "odd_keys_apart": (104, 74, 31),
        "oom_smaller_batch": (120, 120, 25),
        "results_after_state": (63, 63, 11),
        "resume_other_cadence": (115, 115, 23),
        "seq2seq_test_prefix": (49, 49, 9),
        "st_evaluators": (146, 146, 17),
        "trl_grpo": (222, 222, 9),
    }
