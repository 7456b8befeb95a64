"""Times that cannot be, wherever they come from: runs are exported with times that targets hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridges
from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.sources.times.clocks import EVENTS
from bridges.sources.tuning_logs.times import parse_elapsed
from bridges.stream.clock import apply_clock
from bridges.stream.model import Evidence, Run
from bridges.stream.pace import MAX_RUN_SECONDS, MAX_TIME
from tests.support import make_stream, state

ROWS = [{"loss": 2.0, "step": 1}, {"loss": 1.5, "step": 2}]
SUMMARY = {"train_loss": 1.0, "total_flos": 1.0, "step": 2}
SECONDS = [1e11, 1e13, 1e17, 1e300, -1e300, float("inf"), float("nan"), 10**30]


def summary(folder: Path, seconds: float) -> None:
    rows = [*ROWS, {**SUMMARY, "train_runtime": seconds}]
    (folder / "trainer_state.json").write_bytes(state(rows))


def elapsed(folder: Path, seconds: float) -> None:
    rows = [{**ROWS[0], "train_runtime": 1.0}, {**ROWS[1], "train_runtime": seconds}]
    (folder / "trainer_state.json").write_bytes(state(rows))


def evaluation(folder: Path, seconds: float) -> None:
    rows = [ROWS[0], {"eval_loss": 1.0, "eval_runtime": seconds, "step": 1}, ROWS[1]]
    (folder / "trainer_state.json").write_bytes(state([*rows, {**SUMMARY, "train_runtime": 5.0}]))


def log_beside(folder: Path, seconds: float) -> None:
    (folder / "trainer_state.json").write_bytes(state(ROWS))
    lines = [
        {"current_steps": row["step"], "loss": row["loss"], "elapsed_time": seconds} for row in ROWS
    ]
    (folder / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


PLACES: dict[str, dict[str, Any]] = {
    "tensorboard": {"logdir": "there"},
    "mlflow": {"tracking_uri": "sqlite:///m.db"},
    "wandb": {"wandb_dir": "there"},
}


def exported(where: str) -> None:
    for target, place in PLACES.items():
        report = bridges.export(where, to=target, **place)
        assert [run.verified for run in report.runs] == [True]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("strict_warnings")
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("make", [summary, elapsed, evaluation, log_beside])
def test_durations_of_any_length(make: Any, seconds: float) -> None:
    Path("out").mkdir()
    make(Path("out"), seconds)
    exported("out")


@pytest.mark.usefixtures("strict_warnings")
@pytest.mark.parametrize("steps", [(-(2**63), 2**63 - 1), (10**12, 10**15), (1, 10**18)])
def test_steps_of_any_size(steps: tuple[int, int]) -> None:
    rows = [{"loss": 1.0 / (n + 1), "step": step} for n, step in enumerate(steps)]
    Path("out").mkdir()
    Path("out/trainer_state.json").write_bytes(state(rows))
    exported("out")


NAMES = (
    *("v0-00010101-000000", "v0-99991231-235959", "v0-19000101-000000", "v0-21000101-000000"),
    *("0001-01-01", "9999-12-31", "2023-02-29"),
)


@pytest.mark.usefixtures("strict_warnings")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("logs", ["Jan01_00-00-00_host", "Dec31_23-59-59_host", "Feb29_0-0-0_h"])
def test_dates_in_names(name: str, logs: str) -> None:
    place = Path(name, "runs", logs)
    place.mkdir(parents=True)
    Path(name, "trainer_state.json").write_bytes(state([*ROWS, {**SUMMARY, "train_runtime": 5.0}]))
    Path(name, "args.json").write_text(json.dumps({"logging_dir": str(place)}))
    exported(name)
    (run,) = bridges.read(name)
    starts = [one.start for one in run.evidence if one.start is not None]
    assert all(0 < start < MAX_TIME * 1_000_000 for start in starts)


@pytest.mark.parametrize("seconds", [-(10**11), -1, 2**33, 9 * 10**9])
def test_files_changed_before_1970_or_after_2099(seconds: int) -> None:
    for count in (1, 2):
        place = Path("out", f"checkpoint-{count}")
        place.mkdir(parents=True)
        (place / "trainer_state.json").write_bytes(state(ROWS[:count]))
        (place / "training_args.bin").write_bytes(b"")
        for name, more in (("training_args.bin", 0), ("trainer_state.json", count)):
            os.utime(place / name, (seconds + more, seconds + more))
    (run,) = bridges.read("out")
    assert "mtimes" not in [one.source for one in run.evidence]
    exported("out")


@pytest.mark.usefixtures("strict_warnings")
def test_a_rate_leads_no_further_than_a_run_lasts() -> None:
    rows = [{"loss": 1.0, "step": 1}, {"loss": 1.0, "step": 2}, {"loss": 1.0, "step": 10**15}]
    first, last = 1_000_000, (MAX_TIME - 1) * 1_000_000
    known = Evidence(EVENTS, np.array([0, 1]), np.array([first, last]), "a file", first)
    stream, clock, _ = apply_clock(make_stream(rows), TRAINER_RULES, [known])
    assert stream.time is not None
    assert stream.time[:2].tolist() == [first, last]
    assert last < stream.time[2] <= last + MAX_RUN_SECONDS * 1_000_000
    late = Evidence(EVENTS, np.array([1, 2]), np.array([first, last]), "a file", first)
    stream, clock, _ = apply_clock(make_stream(rows[::-1]), TRAINER_RULES, [late])
    assert stream.time is not None
    assert stream.time[0] >= 0
    run = Run("run", make_stream(rows), "test", evidence=(known,))
    assert clock.source == "events"
    assert run.evidence == (known,)


def test_elapsed_times_have_a_bound() -> None:
    assert parse_elapsed("4 days, 7:18:24") == 371_904
    assert parse_elapsed("999999999 days, 0:00:01") is None
    assert parse_elapsed("99999999d 1h") is None
    assert parse_elapsed(9e15) is None
