"""A log beside a state: the rows behind the state are kept where both are of one run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.report import RunReport
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import RowKind, Run
from tests.support import DATA, codes, state

FAULTS = DATA / "faults"
Row = dict[str, Any]
# (step, loss, grad_norm): as transformers logs them, with more decimals than ms-swift keeps
POINTS = [(step, 3.0 / step + 1e-10, 1.0 + step / 7) for step in range(10, 100, 10)]
ROWS: list[Row] = [
    {"loss": loss, "grad_norm": norm, "learning_rate": 1 / (3 * step), "epoch": 0.1, "step": step}
    for step, loss, norm in POINTS
]


def factory(rows: list[Row], *, total: int = 100) -> list[Row]:
    """The lines of LLaMA-Factory for rows of the Trainer."""
    kept = ("loss", "eval_loss", "learning_rate", "epoch")
    return [
        {
            **{"current_steps": row["step"], "total_steps": total},
            **{key.replace("learning_rate", "lr"): row[key] for key in kept if key in row},
            **{"percentage": 1.0, "elapsed_time": f"0:00:{row['step'] % 60:02}"},
        }
        for row in rows
    ]


def swift(rows: list[Row]) -> list[Row]:
    """The lines of ms-swift for rows of the Trainer."""
    lines = [
        {key: round(row[key], 8) for key in row if key != "step"}
        | {"global_step/max_steps": f"{row['step']}/100", "percentage": "1%", "elapsed_time": "1s"}
        for row in rows
    ]
    return [{**line, "train_speed(iter/s)": 0.5} for line in lines]


TOOLS = {"trainer_log.jsonl": factory, "logging.jsonl": swift}


def put(place: Path, name: str, lines: list[Row]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def save(place: Path, rows: list[Row], **fields: Any) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "trainer_state.json").write_bytes(state(rows, **fields))


def read(place: Path, **options: Any) -> Run:
    (run,) = RunDirectorySource().read(str(place), ReadOptions(**options))
    return run


def finding(run: Run, code: str) -> Finding:
    (found,) = [found for found in run.findings if found.code == code]
    return found


def report(place: Path) -> RunReport:
    (run,) = bridges.export(place, to="memory").runs
    return run


def test_rows_behind_the_state_are_kept_and_counted() -> None:
    run = read(FAULTS / "lf_crash")
    assert run.stream.step.tolist() == [*range(10, 100, 10)]
    assert run.stream.column("loss")[1].tolist()[6:] == [1.6, 1.4, 1.2]
    assert len(run.stream.column("grad_norm")[0]) == 6
    found = finding(run, "rows-from-log")
    assert (found.count, found.severity) == (3, Severity.WARNING)
    assert "LLaMA-Factory's log has few of the Trainer's metrics" in found.message
    assert run.status == "unfinished"
    (times,) = run.evidence
    assert (times.time // 60_000_000).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("name", TOOLS)
def test_both_tools_go_on(name: str, tmp_path: Path) -> None:
    put(tmp_path, name, TOOLS[name](ROWS))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=90)
    run = read(tmp_path)
    assert [*run.stream][:6] == ROWS[:6]
    assert run.stream.step.tolist()[6:] == [70, 80, 90]
    losses = run.stream.column("loss")[1].tolist()[6:]
    exact = [row["loss"] for row in ROWS[6:]]
    assert losses == (exact if name == "trainer_log.jsonl" else [round(x, 8) for x in exact])
    assert finding(run, "rows-from-log").count == 3
    assert run.status == "finished"
    assert report(tmp_path).rows == 9
    assert len(run.provenance) == 2


def test_a_whole_history_in_the_last_line_is_the_run(tmp_path: Path) -> None:
    summary = {"train_runtime": 9.0, "total_flos": 1.0, "train_loss": 0.5, "epoch": 1.0, "step": 90}
    history = [*ROWS, {"eval_loss": 1.0 / 3, "epoch": 1.0, "step": 90}, summary]
    lines = [*swift(history), {"last_model_checkpoint": "x", "log_history": history}]
    put(tmp_path, "logging.jsonl", lines)
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert [*run.stream] == history
    assert run.stream.kind[-1] == RowKind.SUMMARY
    assert (run.status, finding(run, "rows-from-log").severity) == ("finished", Severity.INFO)


def test_a_log_that_ends_with_the_state_changes_nothing(tmp_path: Path) -> None:
    summary = {"train_runtime": 9.0, "total_flos": 1.0, "train_loss": 0.5, "epoch": 1.0, "step": 90}
    tokens = {"current_steps": 90, "total_steps": 100, "epoch": 1.0, "throughput": 5.0}
    put(tmp_path, "trainer_log.jsonl", [*factory(ROWS), {**tokens, "total_tokens": 7}])
    save(tmp_path, [*ROWS, summary], max_steps=100)
    run = read(tmp_path)
    assert [*run.stream] == [*ROWS, summary]
    assert not {"rows-from-log", "log-rows-left-out"} & {*codes(run)}


def test_a_final_evaluation_at_the_last_step_is_kept(tmp_path: Path) -> None:
    evaluation = {"eval_loss": 0.25, "epoch": 0.1, "step": 90}
    put(tmp_path, "logging.jsonl", swift([*ROWS, evaluation]))
    save(tmp_path, ROWS, max_steps=100)
    assert read(tmp_path).stream.column("eval_loss")[1].tolist() == [0.25]


def test_the_last_line_of_a_second_process_is_not_behind_the_state(tmp_path: Path) -> None:
    other = [{**row, "loss": row["loss"] + 1} for row in ROWS]
    lines = [line for pair in zip(ROWS, other, strict=True) for line in factory([*pair])]
    put(tmp_path, "trainer_log.jsonl", lines)
    save(tmp_path, ROWS, max_steps=100)
    run = read(tmp_path)
    assert [*run.stream] == ROWS
    assert finding(run, "log-rows-superseded").count == 9


def test_an_attempt_that_a_resume_replaced_is_not_behind_the_state(tmp_path: Path) -> None:
    lost = [{**row, "loss": 9.0} for row in ROWS[3:6]]
    put(tmp_path, "trainer_log.jsonl", factory([*ROWS[:3], *lost, *ROWS[3:]]))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert run.stream.column("loss")[1].tolist() == [row["loss"] for row in ROWS]
    assert finding(run, "log-rows-superseded").count == 3


def test_attempts_behind_the_state_follow_in_their_order(tmp_path: Path) -> None:
    again = [{**row, "loss": 9.0} for row in ROWS[6:8]]
    put(tmp_path, "trainer_log.jsonl", factory([*ROWS, *again]))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert run.stream.step.tolist()[6:] == [70, 80, 90, 70, 80]
    assert "steps-go-back" in codes(run)


def test_the_log_of_another_run_is_a_loss_that_names_what_to_do(tmp_path: Path) -> None:
    other = [{**row, "loss": row["loss"] + 1} for row in ROWS]
    put(tmp_path, "trainer_log.jsonl", factory(other))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert [*run.stream] == ROWS[:6]
    found = finding(run, "log-rows-left-out")
    assert (found.count, found.severity) == (3, Severity.LOSS)
    assert "contradicts row 0 of the state" in found.message
    assert run.evidence == ()  # its times are of the other run
    assert bridges.export(tmp_path, to="memory").exit_code == 1


def test_a_log_that_shares_no_row_is_not_guessed_to_go_on(tmp_path: Path) -> None:
    put(tmp_path, "trainer_log.jsonl", factory(ROWS[6:]))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert [*run.stream] == ROWS[:6]
    assert finding(run, "log-rows-left-out").count == 3


def test_another_run_of_the_directory_does_not_get_the_rows(tmp_path: Path) -> None:
    other = [{**row, "loss": row["loss"] + 1} for row in ROWS[:5]]
    forked = [*ROWS[:3], *({**row, "loss": row["loss"] + 1} for row in ROWS[3:])]
    put(tmp_path, "trainer_log.jsonl", factory([*ROWS[:6], *forked[3:]]))
    save(tmp_path / "checkpoint-50", other, max_steps=100)
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    save(tmp_path / "checkpoint-70", forked[:7], max_steps=100)
    runs = [*RunDirectorySource().read(str(tmp_path), ReadOptions())]
    assert sorted(len(run.stream) for run in runs) == [5, 6, 9]
    assert not any("log-rows-left-out" in codes(run) for run in runs)


def test_a_state_without_rows_has_those_of_its_log(tmp_path: Path) -> None:
    put(tmp_path, "trainer_log.jsonl", factory(ROWS[:2]))
    save(tmp_path / "checkpoint-5", [], max_steps=100, global_step=5)
    run = read(tmp_path)
    assert run.stream.step.tolist() == [10, 20]
    assert "no-rows" not in codes(run)
    save(tmp_path / "checkpoint-5", [], max_steps=7, global_step=5)
    assert finding(read(tmp_path), "log-rows-left-out").count == 2


def test_a_broken_log_is_named_and_the_state_is_read(tmp_path: Path) -> None:
    put(tmp_path, "trainer_log.jsonl", factory(ROWS))
    with (tmp_path / "trainer_log.jsonl").open("a") as file:
        file.write("oops\n{}\n")
    save(tmp_path / "checkpoint-60", ROWS[:6])
    run = read(tmp_path)
    assert [*run.stream] == ROWS[:6]
    assert "line 10" in finding(run, "beside-unreadable").message


def test_nan_is_equal_to_itself(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "loss": math.nan}, *ROWS[1:]]
    put(tmp_path, "trainer_log.jsonl", factory(rows))
    save(tmp_path / "checkpoint-60", rows[:6])
    assert len(read(tmp_path).stream) == 9


@pytest.mark.parametrize("first", [True, False])
def test_of_several_logs_the_one_of_the_run_is_used(first: bool, tmp_path: Path) -> None:
    other = [{**row, "loss": row["loss"] + 1} for row in ROWS]
    names = ["trainer_log.jsonl", "trainer_log_old.jsonl"]
    mine, theirs = names if first else names[::-1]
    put(tmp_path, mine, factory(ROWS[:8]))
    put(tmp_path, theirs, factory(other))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert run.stream.column("loss")[1].tolist() == [row["loss"] for row in ROWS[:8]]
    assert "log-rows-left-out" not in codes(run)
    (times,) = run.evidence
    assert times.where.endswith(f"/{mine}")
    found = finding(run, "log-not-used")
    assert found.where.endswith(f"/{theirs}")
    assert (found.count, found.severity) == (1, Severity.LOSS)  # one row behind the run


def test_of_several_logs_of_a_run_the_longest_is_used(tmp_path: Path) -> None:
    put(tmp_path, "trainer_log-1.jsonl", factory(ROWS[:7]))
    put(tmp_path, "trainer_log.jsonl", factory(ROWS))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert len(run.stream) == 9
    found = finding(run, "log-not-used")
    assert (found.where.rsplit("/")[-1], found.severity) == ("trainer_log-1.jsonl", Severity.INFO)
    (tmp_path / "trainer_log-1.jsonl").write_text("")
    assert len(read(tmp_path).stream) == 9


def test_a_log_that_cannot_be_read_is_reported_beside_one_that_can(tmp_path: Path) -> None:
    put(tmp_path, "trainer_log.jsonl", factory(ROWS))
    put(tmp_path, "trainer_log-1.jsonl", factory(ROWS))
    with (tmp_path / "trainer_log-1.jsonl").open("a") as file:
        file.write("oops\n{}\n")
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert len(run.stream) == 9
    assert finding(run, "beside-unreadable").where.endswith("trainer_log-1.jsonl")
    assert "log-not-used" not in codes(run)


def test_the_logs_of_two_tools(tmp_path: Path) -> None:
    put(tmp_path, "logging.jsonl", swift(ROWS[:8]))
    put(tmp_path, "trainer_log.jsonl", factory(ROWS))
    save(tmp_path / "checkpoint-60", ROWS[:6], max_steps=100)
    run = read(tmp_path)
    assert run.stream.column("loss")[1].tolist() == [row["loss"] for row in ROWS]
    assert finding(run, "log-not-used").where.endswith("logging.jsonl")
