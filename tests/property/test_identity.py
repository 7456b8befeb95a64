"""The run key survives growth and tells runs apart; equal prefix digests mean equal rows."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.stream.identity import prefix_digest, run_key
from tests.property.histories import Rows, odd_row, odd_rows, usual_rows
from tests.support import make_run, make_stream, same, with_steps


def digest(rows: Rows, count: int | None = None) -> str:
    return prefix_digest(make_stream(rows), len(rows) if count is None else count)


@given(odd_rows(), odd_rows())
def test_a_digest_is_equal_exactly_for_equal_rows(one: Rows, other: Rows) -> None:
    assert (digest(one) == digest(other)) is same(with_steps(one), with_steps(other))


@given(odd_rows(), st.lists(odd_row(), max_size=4))
def test_growth_keeps_the_digest_of_the_beginning(rows: Rows, more: Rows) -> None:
    assert digest([*rows, *more], len(rows)) == digest(rows)


@given(odd_rows(), st.data())
def test_the_order_of_keys_does_not_count(rows: Rows, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 99))
    shuffled = []
    for row in rows:
        entries = list(row.items())
        random.Random(seed).shuffle(entries)
        shuffled.append(dict(entries))
    assert digest(shuffled) == digest(rows)


ROWS: Rows = [
    {"loss": 1.5, "learning_rate": 5e-5, "epoch": 0.5, "note": [1], "step": 1},
    {"eval_loss": 1.5, "eval_runtime": 2.0, "epoch": 0.5, "step": 1},
    {"loss": 1.25, "learning_rate": 4e-5, "epoch": 1.0, "note": {"a": None}, "step": 2},
]
CHANGES: dict[str, tuple[int, str, Any]] = {
    "one bit of a float": (0, "loss", math.nextafter(1.5, 2)),
    "integer for float": (2, "epoch", 1),
    "bool for float": (2, "epoch", True),
    "text for float": (0, "loss", "1.5"),
    "NaN": (0, "loss", math.nan),
    "null": (0, "loss", None),
    "step": (2, "step", 3),
    "in a list": (0, "note", [2]),
    "type in a list": (0, "note", [1.0]),
    "in an object": (2, "note", {"a": False}),
    "one more key": (1, "eval_f1", 0.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_change_of_a_row_changes_the_digest(name: str) -> None:
    row, key, value = CHANGES[name]
    changed = copy.deepcopy(ROWS)
    changed[row][key] = value
    assert digest(changed) != digest(ROWS)
    assert digest(changed, row) == digest(ROWS, row)


def test_a_value_in_another_row_or_key_changes_the_digest() -> None:
    rows = [{"a": 1.0, "step": 1}, {"b": 1.0, "step": 1}]
    others: list[Rows] = [
        [rows[1], rows[0]],
        [{"a": 1.0, "b": 1.0, "step": 1}, {"step": 1}],
        [{"a": 1.0, "step": 1}, {"a": 1.0, "step": 1}],
        [*rows, {"step": 1}],
    ]
    assert len({digest(some) for some in (rows, *others)}) == 5


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, 1.0), (1, True), ("nan", math.nan)])
def test_equal_in_python_is_not_equal_in_a_digest(one: Any, other: Any) -> None:
    assert digest([{"x": one, "step": 1}]) != digest([{"x": other, "step": 1}])


def test_every_nan_is_the_same() -> None:
    negative = math.copysign(math.nan, -1.0)
    assert digest([{"x": negative, "step": 1}]) == digest([{"x": math.nan, "step": 1}])


@given(usual_rows(), st.lists(odd_row(), max_size=4))
def test_growth_keeps_the_run_key(rows: Rows, more: Rows) -> None:
    assert run_key(make_run([*rows, *more])) == run_key(make_run(rows))


@given(usual_rows(), st.floats(0, 1))
def test_the_learning_rate_is_no_part_of_the_run_key(rows: Rows, rate: float) -> None:
    changed = [{**row, "learning_rate": rate} for row in rows]
    assert run_key(make_run(changed)) == run_key(make_run(rows))


@given(usual_rows(), st.floats(0, 9))
def test_the_first_loss_is_part_of_the_run_key(rows: Rows, loss: float) -> None:
    assume(not same(loss, rows[0]["loss"]))
    changed = [{**rows[0], "loss": loss}, *rows[1:]]
    assert run_key(make_run(changed)) != run_key(make_run(rows))


def test_what_makes_another_run_and_what_does_not() -> None:
    run = make_run(ROWS)
    key = run_key(run)
    moved = replace(run, name="other", source="elsewhere", params={"lr": 1}, status="finished")
    assert run_key(moved) == key
    assert run_key(run, {}) == run_key(run, None) == key
    others = [
        run_key(replace(run, trial="t1")),
        run_key(run, {"x-axis": "epoch"}),
        run_key(run, {"naming": "raw"}),
        run_key(make_run([{**ROWS[0], "step": 2}, *ROWS[1:]])),
        run_key(make_run(ROWS[1:])),
    ]
    assert len({key, *others}) == len(others) + 1


def test_a_run_without_measured_values_is_known_by_its_first_row() -> None:
    rows = [{"learning_rate": 1e-5, "epoch": 1.0, "train_runtime": 3.0, "note": "x", "step": 1}]
    run = make_run(rows)
    assert run_key(run) == run_key(make_run([*rows, *rows]))
    assert run_key(run) == run_key(replace(run, name="other"))
    others: list[Rows] = [
        [{**rows[0], "note": "y"}],
        [{**rows[0], "step": 2}],
        [{"step": 1}],
        [{"step": 2}],
    ]
    assert len({run_key(make_run(some)) for some in (rows, *others)}) == 5


def test_a_run_without_rows_is_known_by_name_and_params() -> None:
    run = make_run([])
    others = [replace(run, name="other"), replace(run, params={"seed": 1}), replace(run, trial="t")]
    assert len({run_key(some) for some in (run, *others)}) == 4


@pytest.mark.parametrize(
    ("key", "measured"),
    [
        ("loss", True),
        ("grad_norm", True),
        ("eval_accuracy", True),
        ("rewards/chosen", True),
        ("epoch", False),
        ("learning_rate", False),
        ("total_flos", False),
        ("num_input_tokens_seen", False),
        ("train_runtime", False),
        ("eval_runtime", False),
        ("eval_samples_per_second", False),
        ("train_tokens_per_second", False),
    ],
)
def test_measured_keys(key: str, measured: bool) -> None:
    assert TRAINER_RULES.is_measured(key) is measured
