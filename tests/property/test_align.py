"""Alignment never reorders, never invents: kinds, missing steps, the epoch axis, duplicates."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.errors import ExportError
from bridges.stream.align import (
    EPOCH_SCALE,
    apply_duplicates,
    epoch_axis,
    fill_steps,
    hidden_duplicates,
)
from bridges.stream.model import MetricStream, RowKind
from tests.property.histories import Rows, odd_rows, usual_rows
from tests.support import make_stream, same

KINDS: list[tuple[dict[str, Any], RowKind]] = [
    ({"loss": 1.0, "learning_rate": 1e-5}, RowKind.TRAIN),
    ({"grad_norm": 1.0}, RowKind.TRAIN),
    ({"loss": 1.0, "train_runtime": 2.0, "train_tokens_per_second": 3.0}, RowKind.TRAIN),
    ({"loss": 1.0, "total_flos": 2.0}, RowKind.TRAIN),
    ({"eval_loss": 1.0}, RowKind.EVAL),
    ({"eval_loss": 1.0, "loss": 2.0}, RowKind.EVAL),
    ({"eval_loss": 1.0, "total_flos": 2.0}, RowKind.EVAL),
    ({"test_accuracy": 1.0}, RowKind.TEST),
    ({"train_loss": 1.0, "total_flos": 2.0, "train_runtime": 3.0}, RowKind.SUMMARY),
    ({"total_flos": 2.0}, RowKind.SUMMARY),
    ({"train_loss": 1.0}, RowKind.CUSTOM),
    ({"train_runtime": 1.0}, RowKind.CUSTOM),
    ({"predict_accuracy": 1.0}, RowKind.CUSTOM),
    ({}, RowKind.CUSTOM),
]


@pytest.mark.parametrize(("row", "kind"), KINDS, ids=[",".join(row) or "-" for row, _ in KINDS])
def test_the_keys_of_a_row_tell_its_kind(row: dict[str, Any], kind: RowKind) -> None:
    stream = make_stream([{"note": 1, "step": 1}, {**row, "epoch": 1.0, "step": 2}])
    assert stream.kind.tolist() == [RowKind.CUSTOM, kind]


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.booleans())))
def test_a_missing_step_is_that_of_the_row_before(pairs: list[tuple[int, bool]]) -> None:
    step = np.array([step for step, _ in pairs], np.int64)
    known = np.array([known for _, known in pairs], bool)
    filled, findings = fill_steps(step, known)
    expected, last = [], 0
    for value, is_known in pairs:
        last = value if is_known else last
        expected.append(last)
    assert filled.tolist() == expected
    assert sum(finding.count for finding in findings) == int((~known).sum())


@given(odd_rows())
def test_the_epoch_axis_changes_only_steps(rows: Rows) -> None:
    stream = make_stream(rows)
    moved, findings = epoch_axis(stream)
    assert moved.series == stream.series
    assert findings[0].code == "x-axis-epoch"
    last = 0
    for position, epoch in enumerate(stream.epoch.tolist()):
        if abs(epoch) < 2**53 / EPOCH_SCALE:
            last = round(epoch * EPOCH_SCALE)
        assert moved.step[position] == last
    falls = [f.count for f in findings if f.code == "epoch-falls-on-axis"]
    assert falls == [n for n in [int((np.diff(moved.step) < 0).sum())] if n]


@given(usual_rows())
def test_the_epoch_axis_of_a_usual_run_rises(rows: Rows) -> None:
    moved, findings = epoch_axis(make_stream(rows))
    assert (np.diff(moved.step) >= 0).all()
    assert [finding.code for finding in findings] == ["x-axis-epoch"]


def points(stream: MetricStream) -> dict[tuple[str, int], list[tuple[int, Any]]]:
    """(row, value) of each key and step, in row order."""
    found = defaultdict(list)
    for series in stream.series:
        for row, value in zip(series.rows.tolist(), series.values.tolist(), strict=True):
            found[series.key, int(stream.step[row])].append((row, value))
    return {place: sorted(members, key=lambda m: m[0]) for place, members in found.items()}


@given(odd_rows(), st.sampled_from(["first", "last"]))
def test_first_and_last_keep_one_point_of_each_key_and_step(rows: Rows, policy: str) -> None:
    stream = make_stream(rows)
    kept, findings = apply_duplicates(stream, policy)
    before, after = points(stream), points(kept)
    assert before.keys() == after.keys()
    for place, members in before.items():
        ((row, value),) = after[place]
        expected = members[0 if policy == "first" else -1]
        assert row == expected[0]
        assert same(value, expected[1])
    dropped = sum(map(len, before.values())) - len(after)
    assert [finding.count for finding in findings] == ([dropped] if dropped else [])
    assert len(kept) == len(stream)


@given(odd_rows())
def test_all_changes_nothing_and_twice_is_once(rows: Rows) -> None:
    stream = make_stream(rows)
    assert apply_duplicates(stream, "all") == (stream, [])
    for policy in ("first", "last"):
        once, _ = apply_duplicates(stream, policy)
        again, findings = apply_duplicates(once, policy)
        assert again is once
        assert findings == []


@given(odd_rows(), st.integers(0, 12))
def test_what_is_written_before_a_cut_stays(rows: Rows, cut: int) -> None:
    """`last` with a cut keeps of the first rows what it kept when there were no more."""
    prefix, _ = apply_duplicates(make_stream(rows[:cut]), "last")
    whole, _ = apply_duplicates(make_stream(rows), "last", [cut])
    early = {
        place: kept
        for place, members in points(whole).items()
        if (kept := [(row, value) for row, value in members if row < cut])
    }
    assert {place: [row for row, _ in kept] for place, kept in early.items()} == {
        place: [row for row, _ in kept] for place, kept in points(prefix).items()
    }


@given(odd_rows())
def test_error_refuses_exactly_the_histories_that_have_duplicates(rows: Rows) -> None:
    stream = make_stream(rows)
    twice = {key for (key, _), members in points(stream).items() if len(members) > 1}
    if twice - {"epoch"}:
        with pytest.raises(ExportError, match="is logged more than once at step"):
            apply_duplicates(stream, "error")
    else:
        assert apply_duplicates(stream, "error") == (stream, [])


def test_the_message_of_error_names_key_step_and_rows() -> None:
    rows = [{"loss": 1.5, "step": 1}, {"loss": 1.5, "step": 2}, {"loss": 1.25, "step": 2}]
    with pytest.raises(ExportError) as caught:
        apply_duplicates(make_stream(rows), "error")
    assert str(caught.value) == (
        "key 'loss' is logged more than once at step 2 (rows 1, 2), and --duplicates is 'error'. "
        "Choose --duplicates all, first or last."
    )


@given(usual_rows())
def test_hidden_duplicates_are_none_where_each_step_is_once(rows: Rows) -> None:
    single = {row["step"]: row for row in rows if "loss" in row}
    assert hidden_duplicates(make_stream(list(single.values()))) == 0


def test_hidden_duplicates_are_those_of_another_value() -> None:
    rows = [
        {"a": value, "b": 1, "step": step} for value, step in ((1.0, 1), (2.0, 1), (2.0, 1), (3, 2))
    ]
    assert hidden_duplicates(make_stream(rows)) == 1


def test_a_stream_is_never_changed_in_place() -> None:
    stream = make_stream([{"a": 1, "epoch": 0.5, "step": 1}, {"a": 2, "epoch": 0.5, "step": 1}])
    copy = replace(stream, step=stream.step.copy())
    for change in (epoch_axis, lambda s: apply_duplicates(s, "first")):
        change(stream)
    assert stream.step.tolist() == copy.step.tolist()
    assert stream.points == 4
