"""Resumes inside one history are told, and no schedule of transformers looks like one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridges.huggingface.resumes import resumes
from bridges.stream.finding import Finding, Severity
from tests.property.histories import Rows, odd_rows
from tests.support import make_stream

Schedule = Callable[[float], float]  # from the share of the steps after the warm-up to that of 1
SCHEDULES: dict[str, Schedule] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: 0.5 + 0.5 * math.cos(math.pi * x),
    "cosine with a minimum": lambda x: 0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * x)),
    "constant": lambda x: 1.0,
    "polynomial": lambda x: (1 - x) ** 3,
    "polynomial, bent the other way": lambda x: (1 - x) ** 0.5,
    "wsd, linear": lambda x: min(1.0, (1 - x) / 0.2),
    "wsd, cosine": lambda x: 0.5 + 0.5 * math.cos(math.pi * max(0.0, x - 0.8) / 0.2),
    "wsd, 1-sqrt": lambda x: 1 - math.sqrt(max(0.0, x - 0.8) / 0.2),
    "wsd, quick": lambda x: 1.0 if x < 0.93 else 0.1,
    "plateaus": lambda x: 0.1 ** int(4 * x),
    "stairs": lambda x: 0.9 ** int(30 * x),
}


INVERSE = "inverse square root"  # that of step and warm-up, whatever the length
DEFAULT_TIME = 10_000  # of transformers' inverse square root without a warm-up


def inverse(step: int, warm_up: int) -> float:
    """As `get_inverse_sqrt_schedule`."""
    time = warm_up or DEFAULT_TIME
    return 1 / math.sqrt((step + time - warm_up) / time)


def rates(
    name: str, steps: range, warm_up: int, end: int, peak: float = 2e-5
) -> list[tuple[int, float]]:
    """Step and learning rate as a Trainer logs them."""
    found = []
    for step in steps:
        share = min(1.0, max(0, step - warm_up) / max(1, end - warm_up))
        if step < warm_up:
            rate = peak * step / warm_up
        else:
            rate = peak * (inverse(step, warm_up) if name == INVERSE else SCHEDULES[name](share))
        found.append((step, rate or 0))  # an int 0, as some versions log it
    return found


def told(pairs: list[tuple[int, float]]) -> list[Finding]:
    return resumes(make_stream([{"learning_rate": rate, "step": step} for step, rate in pairs]))


@given(
    st.sampled_from([INVERSE, *SCHEDULES]),
    st.integers(1, 400),
    st.integers(1, 50),
    st.integers(0, 300),
    st.integers(0, 60),
    st.booleans(),
)
def test_no_schedule_looks_like_a_resume(
    name: str, rows: int, every: int, warm_up: int, overflowed: int, first: bool
) -> None:
    """At any interval and length of warm-up, with steps that overflowed and so were skipped.

    Only plateaus of a single row look like a resume.
    """
    end = rows * every
    assume(name != "plateaus" or (end - warm_up) / every >= 8)  # four plateaus
    pairs = rates(name, range(0, end + 1, every), min(warm_up, end), end)
    late = [(step + overflowed, rate) for step, rate in pairs]
    skipped = [(step, 0.0) for step in range(1, overflowed, every)] if warm_up else []
    begin = [(1, late[0][1])] if first and overflowed > 1 and not skipped else []
    assert told(begin + skipped + late) == []


@given(st.sampled_from(["linear", "cosine", "constant"]), st.integers(2, 40), st.integers(2, 40))
def test_another_logging_interval_is_no_jump(name: str, one: int, other: int) -> None:
    end = 40 * (one + other)
    steps = [*range(one, 40 * one + 1, one), *range(40 * one + other, end + 1, other)]
    known = dict(rates(name, range(end + 1), 30, end))
    assert told([(step, known[step]) for step in steps]) == []


@given(
    st.sampled_from(["linear", "cosine"]),
    st.integers(20, 200),
    st.floats(0.2, 0.9),
    st.floats(1.5, 6),
)
def test_a_resume_with_another_length_is_told(
    name: str, rows: int, share: float, longer: float
) -> None:
    """The schedule is laid out anew over the longer training: the rate rises at the resume."""
    end, resumed = rows * 10, int(rows * share) * 10
    before = rates(name, range(10, resumed + 1, 10), 20, end)
    after = rates(name, range(resumed + 10, int(end * longer), 10), 20, int(end * longer))
    rise = after[0][1] - before[-1][1] if len(before) > 3 and len(after) > 1 else 0.0
    if rise < 0.05 * 2e-5:
        return  # too little to be told from the schedule itself
    (finding,) = told(before + after)
    assert finding.code in ("learning-rate-jumps", "learning-rate-restarts")
    assert f"at step {resumed + 10})" in finding.message
    assert (finding.where, finding.count) == (f"row {len(before)}", 1)


LINEAR = [(10 * n, 1e-5 * (40 - n) / 40) for n in range(1, 41)]
CASES = {
    "a rise to another rate": (
        LINEAR[:20] + [(step, rate * 3) for step, rate in LINEAR[20:]],
        ("learning-rate-jumps", Severity.WARNING, "row 20"),
        "the learning rate jumps (5e-06 to 1.425e-05 at step 210): resumed with another schedule "
        "or length, or a schedule with restarts",
    ),
    "a drop to another rate": (
        LINEAR[:20] + [(step, rate / 3) for step, rate in LINEAR[20:]],
        ("learning-rate-jumps", Severity.WARNING, "row 20"),
        "(5e-06 to 1.583e-06 at step 210)",
    ),
    "a rise between constant rates": (
        [(n, 1e-5) for n in range(9)] + [(n, 2e-5) for n in range(9, 20)],
        ("learning-rate-jumps", Severity.WARNING, "row 9"),
        "(1e-05 to 2e-05 at step 9)",
    ),
    "a warm-up begins again": (
        LINEAR[:20] + [(210 + 10 * n, 1e-7 * n) for n in range(20)],
        ("learning-rate-jumps", Severity.WARNING, "row 20"),
        "(5e-06 to 0 at step 210)",
    ),
    "cosine with restarts": (
        [(n, 0.5 + 0.5 * math.cos(math.pi * (n / 20 % 1))) for n in range(80)],
        ("learning-rate-restarts", Severity.INFO, "rows 20, 40, 60"),
        "the learning rate starts again (0.006156 to 1 at step 20): a schedule with restarts or "
        "a resume",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_jumps(name: str) -> None:
    pairs, (code, severity, where), message = CASES[name]
    (finding,) = told(pairs)
    assert (finding.code, finding.severity, finding.where) == (code, severity, where)
    assert message in finding.message


def history(losses: list[float], every: int, end: int, mean: float) -> Rows:
    rows: Rows = [{"loss": loss, "step": every * (n + 1)} for n, loss in enumerate(losses)]
    summary: dict[str, Any] = {"train_loss": mean, "total_flos": 1.0, "step": end}
    return [*rows, summary]


LOSSES = st.lists(st.floats(0.1, 9), min_size=4, max_size=60)


@given(LOSSES, st.integers(1, 100), st.booleans(), st.data())
def test_the_summary_of_all_steps_is_silent(
    losses: list[float], every: int, rounded: bool, data: st.DataObject
) -> None:
    """Also where the last steps were never logged, and with losses of four decimals."""
    tail = data.draw(st.integers(0, every - 1))
    last = data.draw(st.floats(min(losses), max(losses)))
    mean = (sum(losses) * every + last * tail) / (len(losses) * every + tail)
    shown = [round(loss, 4) for loss in losses] if rounded else losses
    assert resumes(make_stream(history(shown, every, len(losses) * every + tail, mean))) == []


@given(LOSSES, st.integers(1, 100), st.booleans(), st.booleans(), st.data())
def test_the_summary_of_a_part_is_told(
    losses: list[float], every: int, rounded: bool, by_all: bool, data: st.DataObject
) -> None:
    """Up to 4.x the sum of a part is divided by all steps, since then by those of the part."""
    start = data.draw(st.integers(1, len(losses) - 1))
    mean = sum(losses[start:]) / (len(losses) if by_all else len(losses) - start)
    if abs(mean - sum(losses) / len(losses)) < 1e-3:
        return  # no difference to be told
    shown = [round(loss, 4) for loss in losses] if rounded else losses
    (finding,) = resumes(make_stream(history(shown, every, len(losses) * every, mean)))
    assert (finding.code, finding.severity) == ("summary-covers-a-part", Severity.INFO)
    assert finding.where == f"row {len(losses)}"


def test_what_is_told_of_a_summary() -> None:
    rows = history([4.0, 3.0, 2.0, 1.0], 10, 40, 0.75)
    (finding,) = resumes(make_stream(rows))
    assert finding.message == (
        "the train_loss of the summary, 0.75, is not the mean of the loss rows, 2.5: "
        "it covers a resumed part only, from about step 20 on"
    )


@pytest.mark.parametrize("mean", [float("nan"), float("inf"), 7.7, 100.0])
def test_a_summary_that_no_part_explains_is_left_alone(mean: float) -> None:
    assert resumes(make_stream(history([4.0, 3.0, 2.0, 1.0], 10, 40, mean))) == []


@given(odd_rows())
def test_any_rows_are_fine(rows: Rows) -> None:
    resumes(make_stream(rows))
