"""Runs that the live callback of transformers logged: they are those of their states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import bridges
from bridges.stream.identity import identity_of
from bridges.stream.model import Run
from tests.support import DATA
from tests.wandb_logs import (
    Raw,
    exit_record,
    metric_record,
    row_record,
    run_record,
    summary_record,
    write_run,
)

GROUNDTRUTH = DATA / "groundtruth"
START = 1_700_000_000
AXIS = "train/global_step"
DEFINITIONS = [metric_record(AXIS), metric_record("*", AXIS)]


def live_run(scenario: str, folder: Path) -> Run:
    """The run of the rows and the summary that the live callback logged."""
    records, summary = [run_record(project="huggingface"), *DEFINITIONS], b""
    for line in (GROUNDTRUTH / scenario / "wandb.jsonl").read_text().splitlines():
        kind, step, found = json.loads(line)
        if kind == "summary":
            summary = summary_record({key: Raw(text) for key, text in found.items()}, is_user=True)
        else:
            row = {tuple(path): Raw(text) for path, text in found}
            records.append(row_record({**row, "_timestamp": START + step}))
    return read(write_run(folder, [*records, summary, exit_record()]))


def read(path: Path) -> Run:
    (run,) = bridges.read(path)
    return run


def state_of(scenario: str) -> Run:
    return read(GROUNDTRUTH / scenario / "trainer_state.json")


def test_the_run_is_that_of_its_state(tmp_path: Path) -> None:
    run, state = live_run("nan_loss", tmp_path), state_of("nan_loss")
    assert run.key_style == "trainer"
    assert rows_of(run) == rows_of(state)
    found, expected = identity_of(run), identity_of(state)
    assert (found.key, found.digest) == (expected.key, expected.digest)


@pytest.mark.parametrize("scenario", ["epoch_two_eval_sets", "steps_eval_predict"])
def test_rows_of_predictions_follow_those_of_the_state(scenario: str, tmp_path: Path) -> None:
    run, state = live_run(scenario, tmp_path), state_of(scenario)
    own, expected = rows_of(run), rows_of(state)
    assert [row for row in own if row in expected] == expected
    assert identity_of(run).key == identity_of(state).key


def test_durations_that_the_callback_moves_to_the_summary_are_lost(tmp_path: Path) -> None:
    """With token counts, each row has a duration; the summary keeps the last one."""
    run, state = live_run("token_counts", tmp_path), state_of("token_counts")
    own, expected = [*run.stream], [*state.stream]
    for found in expected[:-1]:
        del found["train_runtime"]
    assert [repr(sorted(row.items())) for row in own] == [
        repr(sorted(row.items())) for row in expected
    ]
    assert identity_of(run).key == identity_of(state).key


def rows_of(run: Run) -> list[str]:
    """The rows with the types of their values; NaN equals NaN."""
    return [repr(sorted(row.items())) for row in run.stream]


def row(values: Mapping[str, object], step: int) -> bytes:
    return row_record({**values, "_step": step, "_timestamp": START + step})


def test_a_run_with_metrics_of_its_own_keeps_its_names_and_the_step(tmp_path: Path) -> None:
    rows = [row({"train/loss": 0.5, "my/metric": 1.5, AXIS: 10}, 0)]
    run = read(write_run(tmp_path, [run_record(), *DEFINITIONS, *rows, exit_record()]))
    assert run.key_style == "tags"
    assert {*run.stream.keys} == {"train/loss", "my/metric", AXIS}
    assert run.stream.step.tolist() == [10]


def test_whole_floats_of_the_trainer_are_floats_again(tmp_path: Path) -> None:
    values = {"train/loss": 2, "train/learning_rate": 0, "train/epoch": 1, AXIS: 10}
    counts = {"train/num_input_tokens_seen": 128}
    logged = row({**values, **counts}, 0)
    run = read(write_run(tmp_path, [run_record(), *DEFINITIONS, logged, exit_record()]))
    expected = {"loss": 2.0, "learning_rate": 0.0, "epoch": 1.0, "step": 10}
    expected["num_input_tokens_seen"] = 128
    assert rows_of(run) == [repr(sorted(expected.items()))]


FINAL = {"train_runtime": 2.5, "train_samples_per_second": 4.0, "train_steps_per_second": 0.4,
         "train_loss": 0.5, "total_flos": 1e12}  # fmt: skip


@pytest.mark.parametrize("known", [0, 1, 5])
def test_the_last_row_of_a_run_without_an_end_waits_for_all_its_final_values(
    known: int, tmp_path: Path
) -> None:
    """A target could not add them to a row that it has."""
    loss = row({"train/loss": 0.5, "train/epoch": 1, AXIS: 10}, 0)
    records = [run_record(), *DEFINITIONS, loss, row({"train/epoch": 1, AXIS: 10}, 1)]
    final = [*FINAL.items()][:known]
    records += [summary_record(dict([each]), is_user=True) for each in final]
    run = read(write_run(tmp_path / "open", records))
    assert len(run.stream) == (2 if known == len(FINAL) else 1)
    codes = [finding.code for finding in run.findings]
    assert codes.count("final-row-waits") == 2 - len(run.stream)
    run = read(write_run(tmp_path / "ended", [*records, summary_record({"a": 1}), exit_record()]))
    assert len(run.stream) == 2


def test_a_log_of_something_else_with_the_axis_of_the_trainer_is_not_the_trainers(
    tmp_path: Path,
) -> None:
    records = [run_record(), *DEFINITIONS, row({"loss": 1}, 0), exit_record()]
    run = read(write_run(tmp_path, records))
    assert run.key_style == "tags"


def test_the_steps_of_two_trainings_in_one_run_may_fall(tmp_path: Path) -> None:
    steps = [10, 20, 5]
    rows = [row({"train/loss": 0.5, AXIS: step}, at) for at, step in enumerate(steps)]
    run = read(write_run(tmp_path, [run_record(), *DEFINITIONS, *rows, exit_record()]))
    assert run.key_style == "trainer"
    assert run.stream.step.tolist() == steps
