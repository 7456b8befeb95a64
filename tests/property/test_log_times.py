"""Durations of logs: what the two tools print of a number of seconds is read as that number."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.sources.tuning_logs.times import elapsed, parse_elapsed

SECONDS = st.integers(0, 10**8)


def as_swift(seconds: int) -> str:
    """The largest unit that is not zero, and all smaller ones."""
    parts = [seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60]
    first = next((at for at, part in enumerate(parts) if part), 3)
    return " ".join(f"{part}{unit}" for part, unit in list(zip(parts, "dhms", strict=True))[first:])


@given(SECONDS)
def test_durations_come_back(seconds: int) -> None:
    assert parse_elapsed(str(timedelta(seconds=seconds))) == seconds
    assert parse_elapsed(as_swift(seconds)) == seconds
    assert parse_elapsed(seconds) == parse_elapsed(float(seconds)) == seconds


@given(st.one_of(st.text(), st.from_regex(r"[\d dhms:,ay.-]{0,20}"), st.integers(), st.floats()))
def test_anything_is_a_duration_or_none(value: Any) -> None:
    found = parse_elapsed(value)
    assert found is None or 0 <= found < float("inf")


@pytest.mark.parametrize(
    "value",
    ["", " ", "s", "5", "1:2:3", "-1 day, 23:59:59", "1s 2m", "3 days", "1h:2m", True, None, [1]],
)
def test_what_is_no_duration(value: Any) -> None:
    assert parse_elapsed(value) is None


@given(st.lists(st.tuples(st.integers(1, 10**6), SECONDS), max_size=20, unique=True))
def test_lines_come_back_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    path: Path = tmp_path_factory.mktemp("log") / "trainer_log.jsonl"
    lines = [
        {"current_steps": step, "loss": 1.0, "elapsed_time": str(timedelta(seconds=seconds))}
        for step, seconds in pairs
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    steps, times = elapsed(str(path))
    assert list(zip(steps.tolist(), times.tolist(), strict=True)) == pairs
