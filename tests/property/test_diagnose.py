"""Diagnosis finds what real logs showed, names its rows, and is silent about a usual run."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridges.huggingface.diagnose import diagnose, unfinished_tail
from bridges.stream.finding import Severity
from tests.property.histories import Rows, odd_rows, usual_rows
from tests.support import make_stream


def log(pairs: Iterable[tuple[int, float]]) -> Rows:
    return [{"loss": 1.0, "step": step, "epoch": epoch} for step, epoch in pairs]


def linear(start: int, stop: int, per_epoch: int, every: int = 1) -> list[tuple[int, float]]:
    return [(step, step / per_epoch) for step in range(start, stop + 1, every)]


def accumulated(epochs: int) -> list[tuple[int, float]]:
    """199 batches, 40 of them for a step: five steps an epoch, the last one of 39 batches."""
    return [
        (epoch * 5 + step, epoch + min(step * 40 / 199, 1.0))
        for epoch in range(epochs)
        for step in range(1, 6)
    ]


RESUME = "resume-other-steps-per-epoch"
CASES: dict[str, tuple[list[tuple[int, float]], list[tuple[str, Severity, str, int]]]] = {
    "usual": (linear(10, 500, 100, 10), []),
    "usual, one row": ([(1, 0.1)], []),
    "usual, evaluation between the steps that are logged": (
        [(10, 0.1), (15, 0.15), (20, 0.2), (30, 0.3), (37, 0.37), (40, 0.4)],
        [],
    ),
    "evaluation before training": ([(0, 0.0), *linear(1, 9, 100)], []),
    "resumed with more steps per epoch (TANGHULU6)": (
        linear(1, 1500, 500) + linear(1501, 1600, 1000),
        [(RESUME, Severity.WARNING, "row 1500", 1)],
    ),
    "resumed with fewer steps per epoch": (
        linear(1, 15, 10) + [(step, 2 + step / 10) for step in range(16, 30)],
        [(RESUME, Severity.WARNING, "row 15", 1)],
    ),
    "resumed with other data, at the same epoch": (
        linear(1, 40, 40) + [(40 + step, 1 + step / 80) for step in range(1, 30)],
        [("epoch-not-linear", Severity.WARNING, "rows 40, 41, 42, 43, 44 and 24 more", 29)],
    ),
    "iterable dataset that is resumed (CoralReefFish)": (
        [(25 * n, 0.01 * n) for n in range(1, 6)] + [(125 + 25 * n, 0.01 * n) for n in range(6)],
        [("epoch-restarts", Severity.WARNING, "row 6", 1)],
    ),
    "iterable dataset that counts its passes": (
        [(10 * n, (n // 8) + 0.01003 * (n % 8)) for n in range(1, 30)],
        [("iterable-dataset", Severity.INFO, "rows 7, 15, 23", 3)],
    ),
    "iterable dataset with few passes, resumed (as live)": (
        [(3, 0.15), (6, 0.3), (9, 1.1), (10, 1.15), (12, 1.1), (15, 1.25), (18, 2.05), (20, 2.15)],
        [
            ("epoch-restarts", Severity.WARNING, "row 4", 1),
            ("iterable-dataset", Severity.INFO, "rows 2, 6", 2),
        ],
    ),
    "iterable dataset whose pass is most of the training": (
        [(n, n / 20) for n in range(1, 16)] + [(n, 1 + (n - 15) / 20) for n in range(16, 21)],
        [("iterable-dataset", Severity.INFO, "row 15", 1)],
    ),
    "less than an epoch, resumed with half the steps per epoch": (
        [(n, n / 100) for n in range(1, 31)] + [(n, n / 50) for n in range(31, 45)],
        [("epoch-not-linear", Severity.WARNING, "row 30", 1)],
    ),
    "two ranks in turns, one of them late": (
        [(step + late, (step + late) / 100) for step in range(2, 20) for late in (0, -1)],
        [("steps-go-back", Severity.WARNING, "rows 1, 3, 5, 7, 9 and 13 more", 18)],
    ),
    "rounded epochs (transformers 4.2 to 4.39)": (
        [(step, round(step / 400, 2)) for step in range(1, 100)],
        [("epoch-rounded", Severity.INFO, "99 steps", 99 - 26)],
    ),
    "rounded epochs that are all different": (
        [(step, round(step / 7, 2)) for step in range(1, 50)],
        [],
    ),
    "partial accumulation (Kirihara-JQ)": (
        accumulated(3),
        [("partial-accumulation", Severity.INFO, "rows 4, 9, 14", 3)],
    ),
    "two histories joined": (
        linear(1, 9, 10) + linear(5, 12, 10),
        [("steps-go-back", Severity.WARNING, "row 9", 1)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_known_cause_is_named_with_its_rows(name: str) -> None:
    pairs, expected = CASES[name]
    found = diagnose(make_stream(log(pairs)))
    assert [(f.code, f.severity, f.where, f.count) for f in found] == expected


def test_the_messages() -> None:
    (fall,) = diagnose(make_stream(log(linear(1, 1500, 500) + linear(1501, 1600, 1000))))
    assert fall.message == (
        "the epoch falls (epoch 3 to 1.501 at step 1501): "
        "resumed with another number of steps per epoch"
    )
    turns = [(step + late, step / 99) for step in range(2, 20) for late in (0, -1)]
    assert diagnose(make_stream(log(turns)))[0].message == (
        "the step is lower than in the previous row: several processes wrote this log in turns"
    )
    joined = linear(1, 9, 10) + linear(5, 12, 10) + linear(8, 15, 10) + linear(3, 20, 10)
    assert diagnose(make_stream(log(joined)))[0].message == (
        "the step is lower than in the previous row: two histories may be joined here"
    )
    (jump,) = diagnose(
        make_stream(log(linear(1, 15, 10) + [(step, 2 + step / 10) for step in range(16, 30)]))
    )
    assert jump.message == "the epoch jumps: resumed with another number of steps per epoch"


@given(usual_rows())
def test_a_usual_run_has_no_findings(rows: Rows) -> None:
    assert diagnose(make_stream(rows)) == []


@example(per_epoch=108, every=50, count=42)
@given(st.integers(3, 5000), st.sampled_from([1, 5, 10, 50, 500]), st.integers(2, 60))
def test_rounding_alone_is_no_resume(per_epoch: int, every: int, count: int) -> None:
    pairs = [(step, round(step / per_epoch, 2)) for step in range(every, every * count + 1, every)]
    stop = every * count + every // 2 + 1  # the last step is rarely a multiple of the interval
    found = diagnose(make_stream(log([*pairs, (stop, round(stop / per_epoch, 2))])))
    assert {finding.code for finding in found} <= {"epoch-rounded"}


@given(odd_rows())
def test_diagnosis_names_rows_that_exist(rows: Rows) -> None:
    for finding in diagnose(make_stream(rows)):
        assert finding.count >= 1
        numbers = finding.where.removeprefix("rows ").removeprefix("row ").partition(" and ")[0]
        if finding.where.startswith("row"):
            assert all(0 <= int(number) < len(rows) for number in numbers.split(", "))


def test_a_log_without_rows_is_told() -> None:
    assert [finding.code for finding in diagnose(make_stream([]))] == ["no-rows"]


@pytest.mark.parametrize(
    ("rows", "global_step", "found"),
    [
        (log(linear(10, 20, 10, 10)), 20, []),
        (log(linear(10, 20, 10, 10)), None, []),
        ([], 5, []),
        ([{"train_loss": 1.0, "total_flos": 1.0, "step": 20}], 25, []),
        (
            log(linear(10, 20, 10, 10)),
            26,
            [
                "the run was at step 26 but its last row is at step 20: the steps in "
                "between were not logged"
            ],
        ),
    ],
    ids=["logged", "unknown", "no rows", "summary", "tail"],
)
def test_an_unlogged_tail_is_told(rows: Rows, global_step: int | None, found: list[str]) -> None:
    findings = unfinished_tail(make_stream(rows), global_step)
    assert [finding.message for finding in findings] == found
