"""The logs of LLaMA-Factory and ms-swift: their lines as rows of the Trainer, and what is told."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.errors import SourceError
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.sources.trainer.state_file import TrainerStateSource
from bridges.sources.tuning_logs.source import TrainerLogSource
from bridges.sources.tuning_logs.times import elapsed
from bridges.stream.model import RowKind, Run
from tests.support import DATA, codes, packed, same, state

# in the order of the releases; the numbers are invented
NULLS = {"loss": None, "eval_loss": None, "predict_loss": None, "reward": None}
FACTORY: dict[str, list[dict[str, Any]]] = {
    "2023, with nulls": [
        {
            **{"current_steps": 10, "total_steps": 20, **NULLS, "loss": 2.5},
            **{"learning_rate": 5e-05, "epoch": 0.5, "percentage": 50.0},
            **{"elapsed_time": "0:00:12", "remaining_time": "0:00:12"},
        },
        {
            **{"current_steps": 20, "total_steps": 20, **NULLS, "eval_loss": 2.25},
            **{"learning_rate": None, "epoch": 1.0, "percentage": 100.0},
            **{"elapsed_time": "4 days, 7:18:24", "remaining_time": "0:00:00"},
        },
    ],
    "2024, without nulls": [
        {
            **{"current_steps": 10, "total_steps": 20, "loss": 2.5, "learning_rate": 5e-05},
            **{"epoch": 0.5, "percentage": 50.0},
            **{"elapsed_time": "0:00:12", "remaining_time": "0:00:12"},
        },
        {
            **{"current_steps": 20, "total_steps": 20, "eval_loss": 2.25, "epoch": 1.0},
            **{"percentage": 100.0, "elapsed_time": "4 days, 7:18:24"},
            **{"remaining_time": "0:00:00"},
        },
    ],
    "2025, lr": [
        {
            **{"current_steps": 10, "total_steps": 20, "loss": 2.5, "lr": 5e-05, "epoch": 0.5},
            **{"percentage": 50.0, "elapsed_time": "0:00:12", "remaining_time": "0:00:12"},
        },
        {
            **{"current_steps": 20, "total_steps": 20, "eval_loss": 2.25, "epoch": 1.0},
            **{"percentage": 100.0, "elapsed_time": "4 days, 7:18:24"},
            **{"remaining_time": "0:00:00"},
        },
    ],
}
TIMES = {"percentage": "50.00%", "elapsed_time": "49m 19s", "remaining_time": "49m 19s"}
LATER = {"percentage": "100.00%", "elapsed_time": "1d 2h 3m 4s", "remaining_time": "0s"}
METRICS: tuple[dict[str, Any], ...] = ({"loss": 2.5, "learning_rate": 5e-05}, {"eval_loss": 2.25})
SWIFT: dict[str, list[dict[str, Any]]] = {
    "1.x": [
        {**METRICS[0], "epoch": 0.5, "global_step": 10},
        {**METRICS[1], "epoch": 1.0, "global_step": 20},
    ],
    "2.x, in brackets": [
        {**METRICS[0], "epoch": 0.5, "steps[global_step/max_steps]": "10/20", **TIMES},
        {**METRICS[1], "epoch": 1.0, "steps[global_step/max_steps]": "20/20", **LATER},
    ],
    "3.x": [
        {**METRICS[0], "epoch": 0.5, "global_step/max_steps": "10/20", **TIMES},
        {**METRICS[1], "epoch": 1.0, "global_step/max_steps": "20/20", **LATER},
    ],
    "Megatron": [
        {**METRICS[0], "epoch": 0.5, "iteration": "10/20", "elapsed_time": "49m 19s"},
        {**METRICS[1], "epoch": 1.0, "iteration": "20/20", "elapsed_time": "1d 2h 3m 4s"},
    ],
}
ROWS: list[dict[str, Any]] = [
    {"loss": 2.5, "learning_rate": 5e-05, "epoch": 0.5, "step": 10},
    {"eval_loss": 2.25, "epoch": 1.0, "step": 20},
]
OUTCOME: dict[str, Any] = {
    "model_parameter_info": "1M Params (0.1M Trainable)",
    "last_model_checkpoint": "/home/anna/out/checkpoint-20",
    "best_model_checkpoint": None,
    "best_metric": 2.25,
    "train_time": {"seconds": 3},
    "global_step": 20,
}


def text(lines: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def put(path: Path, data: bytes | Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else text(data))
    return path


def read(path: Path, **options: Any) -> Run:
    (run,) = TrainerLogSource().read(str(path), ReadOptions(**options))
    return run


def count(run: Run, code: str) -> int:
    """How often a finding counts, and that it is there once at most."""
    (finding,) = [finding for finding in run.findings if finding.code == code]
    assert finding.severity.value == "info"
    return finding.count


def line(step: int, *, total: int = 100, **metrics: Any) -> dict[str, Any]:
    """A line of LLaMA-Factory."""
    return {
        **{"current_steps": step, "total_steps": total, **metrics},
        **{"percentage": 1.0, "elapsed_time": f"0:00:{step:02}", "remaining_time": "1:00:00"},
    }


@pytest.mark.parametrize("version", FACTORY)
def test_every_version_of_llama_factory(version: str, tmp_path: Path) -> None:
    run = read(put(tmp_path / "my-run" / "trainer_log.jsonl", FACTORY[version]))
    assert same([*run.stream], ROWS)
    assert run.stream.kind.tolist() == [RowKind.TRAIN, RowKind.EVAL]
    assert (run.name, run.status, run.writer) == ("my-run", "finished", None)
    assert run.params == {"max_steps": 20}
    assert codes(run) == ["log-bookkeeping-left-out", "log-has-few-metrics"]
    assert count(run, "log-bookkeeping-left-out") == 8
    assert run.findings[0].where == "elapsed_time, percentage, remaining_time, total_steps"


@pytest.mark.parametrize("version", SWIFT)
def test_every_version_of_ms_swift(version: str, tmp_path: Path) -> None:
    run = read(put(tmp_path / "v0-20250102-030405" / "logging.jsonl", SWIFT[version]))
    assert same([*run.stream], ROWS)
    assert run.name == "v0-20250102-030405"
    assert run.params == ({} if version == "1.x" else {"max_steps": 20})
    assert run.status == ("unknown" if version == "1.x" else "finished")
    assert count(run, "values-rounded") == 2
    assert "log-has-few-metrics" not in codes(run)


def test_names_are_those_of_the_trainer(tmp_path: Path) -> None:
    lines = [line(5, loss=1.0, accuracy=0.5, lr=1e-5, total_tokens=7, throughput=2.0, epoch=0.1)]
    run = read(put(tmp_path / "trainer_log.jsonl", lines))
    (row,) = run.stream
    assert row == {
        **{"loss": 1.0, "rewards/accuracies": 0.5, "learning_rate": 1e-5, "epoch": 0.1},
        **{"num_input_tokens_seen": 7, "throughput": 2.0, "step": 5},
    }


def test_nulls_are_kept_where_they_say_something(tmp_path: Path) -> None:
    lines = [{"loss": 1.0, "reward": None, "epoch": 0.1, "global_step/max_steps": "1/2"}]
    run = read(put(tmp_path / "logging.jsonl", lines))
    assert [*run.stream] == [{"loss": 1.0, "reward": None, "epoch": 0.1, "step": 1}]


def test_memory_and_speed_are_metrics(tmp_path: Path) -> None:
    speed = {"memory(GiB)": 15.83, "train_speed(iter/s)": 0.218112}
    lines = [{"loss": 1.0, "epoch": 0.1, "global_step/max_steps": "1/2", **speed}]
    run = read(put(tmp_path / "logging.jsonl", lines))
    assert [*run.stream] == [{"loss": 1.0, "epoch": 0.1, "step": 1, **speed}]


def test_what_a_lost_attempt_logged_stays_in_its_place(tmp_path: Path) -> None:
    steps = [5, 10, 15, 10, 15, 20]
    lines = [line(step, loss=float(at), epoch=0.1) for at, step in enumerate(steps)]
    run = read(put(tmp_path / "trainer_log.jsonl", lines))
    assert run.stream.step.tolist() == steps
    assert run.stream.column("loss")[1].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert "steps-go-back" in codes(run)
    assert run.status == "unfinished"


def test_lines_of_two_processes_are_one_row(tmp_path: Path) -> None:
    first, second = line(5, loss=math.nan, epoch=0.1), line(10, loss=1.0, epoch=0.2)
    late = {**second, "elapsed_time": "0:00:11"}
    other = {**second, "loss": 1.5}
    lines = [first, first, second, late, other, second]
    run = read(put(tmp_path / "trainer_log.jsonl", lines))
    assert run.stream.step.tolist() == [5, 10, 10, 10]
    assert run.stream.column("loss")[1].tolist()[1:] == [1.0, 1.5, 1.0]
    assert count(run, "log-line-twice") == 2
    assert [f.where for f in run.findings if f.code == "log-line-twice"] == ["lines 2, 4"]


def test_lines_without_metrics_are_counted(tmp_path: Path) -> None:
    lines = [line(5, loss=1.0, epoch=0.1), line(7, epoch=0.2), line(5, total=9), line(9, total=9)]
    run = read(put(tmp_path / "trainer_log.jsonl", lines))
    assert run.stream.step.tolist() == [5]
    assert count(run, "log-line-without-metrics") == 3
    # the last two count batches of a prediction, not steps of the training
    assert (run.params, run.facts) == ({"max_steps": 100}, {"global_step": 7})


def test_old_evaluation_after_the_training_has_its_last_step(tmp_path: Path) -> None:
    lines = [line(5, loss=1.0, epoch=1.0), line(6, epoch=1.0), line(0, total=0, eval_loss=2.0)]
    run = read(put(tmp_path / "trainer_log.jsonl", lines))
    assert [*run.stream][-1] == {"eval_loss": 2.0, "step": 6}
    assert run.params == {"max_steps": 100}


def test_the_last_line_of_ms_swift_is_facts(tmp_path: Path) -> None:
    run = read(put(tmp_path / "logging.jsonl", [*SWIFT["3.x"], OUTCOME]))
    assert same([*run.stream], ROWS)
    assert run.facts == {
        "model_parameter_info": "1M Params (0.1M Trainable)",
        "last_model_checkpoint": "~/out/checkpoint-20",
        "best_metric": 2.25,
        "global_step": 20,
    }


def test_secrets_in_the_last_line_are_masked_and_told(tmp_path: Path) -> None:
    outcome = {**OUTCOME, "hub_token": "abc"}
    run = read(put(tmp_path / "logging.jsonl", [*SWIFT["3.x"], outcome]))
    assert run.facts["hub_token"] == "<HUB_TOKEN>"
    assert count(run, "secret-masked") == 1


def test_a_history_in_the_last_line_is_the_truth(tmp_path: Path) -> None:
    exact = [{**ROWS[0], "loss": 2.5000000012}, ROWS[1]]
    run = read(put(tmp_path / "logging.jsonl", [*SWIFT["3.x"], {**OUTCOME, "log_history": exact}]))
    assert same([*run.stream], exact)
    assert codes(run) == ["log-holds-history"]
    assert run.params == {"max_steps": 20}


def test_a_history_that_is_not_last_is_too_old(tmp_path: Path) -> None:
    outcome = {**OUTCOME, "log_history": ROWS[:1]}
    run = read(put(tmp_path / "logging.jsonl", [outcome, *SWIFT["3.x"]]))
    assert same([*run.stream], ROWS)
    assert "values-rounded" in codes(run)


@pytest.mark.parametrize("cut", [1, 5, 30, 100])
@pytest.mark.parametrize("lines", [FACTORY["2025, lr"], SWIFT["3.x"]], ids=["factory", "swift"])
def test_a_last_line_that_is_being_written_is_left_out(
    lines: list[Any], cut: int, tmp_path: Path
) -> None:
    name = "trainer_log.jsonl" if "current_steps" in lines[0] else "logging.jsonl"
    run = read(put(tmp_path / name, text(lines) + text(lines[:1])[:cut]))
    assert same([*run.stream], ROWS)
    assert count(run, "log-line-cut-off") == 1


def test_a_first_line_that_is_being_written_is_a_run_without_rows(tmp_path: Path) -> None:
    run = read(put(tmp_path / "trainer_log.jsonl", b'{"current_steps": 5, "tot'))
    assert len(run.stream) == 0
    assert codes(run) == ["log-line-cut-off", "no-rows"]


def test_a_whole_last_line_needs_no_line_break(tmp_path: Path) -> None:
    run = read(put(tmp_path / "trainer_log.jsonl", text(FACTORY["2025, lr"])[:-1]))
    assert same([*run.stream], ROWS)
    assert "log-line-cut-off" not in codes(run)


GOOD = json.dumps(line(5, loss=1.0, epoch=0.1)).encode()
FIX_ROW = "Fix that row, or remove it from the file."
BROKEN = {
    "cut off in the middle": (
        GOOD + b"\n" + GOOD[:30] + b"\n" + GOOD,
        "line 2, column 22: found the end of the line inside a value; expected valid JSON. "
        "Remove that line: its save was cut off.",
    ),
    "no JSON": (
        GOOD + b"\n\noops\n" + GOOD,
        "line 3, column 1: found text that is not JSON ('oops'); expected a trainer_state.json, a "
        "list of log rows or JSON lines of log rows. Check which file you gave.",
    ),
    "no object": (
        GOOD + b"\n[1]\n" + GOOD,
        "line 2: found a list of 1 value; expected an object with the keys and values of one log "
        f"row. {FIX_ROW}",
    ),
    "a step that is none": (
        GOOD + b'\n\n{"current_steps": "6", "loss": 1.0}\n',
        "line 3, key 'current_steps': found the text '6'; expected an integer between -2^63 and "
        f"2^63-1. {FIX_ROW}",
    ),
    "a step beyond int64": (
        b'{"current_steps": 9223372036854775808, "loss": 1.0}\n',
        "line 1, key 'current_steps': found the integer 9223372036854775808; expected an integer "
        f"between -2^63 and 2^63-1. {FIX_ROW}",
    ),
    "a fraction that is none": (
        b'{"global_step/max_steps": "1/9", "loss": 1}\n{"global_step/max_steps": "2", "loss": 1}\n',
        "line 2, key 'global_step/max_steps': found the text '2'; expected a step and the last "
        f"one, such as '10/438'. {FIX_ROW}",
    ),
    "a history that is none": (
        text([*SWIFT["3.x"], {**OUTCOME, "log_history": [*ROWS, {"step": "x"}]}]),
        f"last line, log row 2, key 'step': found the text 'x'; expected an integer. {FIX_ROW}",
    ),
    "an epoch that is none": (
        GOOD + b"\n" + GOOD + b'\n{"current_steps": 6, "loss": 1.0, "epoch": "x"}\n',
        f"line 3, key 'epoch': found the text 'x'; expected a number. {FIX_ROW}",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_lines_get_one_message(case: str, tmp_path: Path) -> None:
    data, message = BROKEN[case]
    path = put(tmp_path / "trainer_log.jsonl", data)
    with pytest.raises(SourceError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_log_of_progress_alone_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "out" / "trainer_log.jsonl", [line(5), line(10)])
    with pytest.raises(SourceError, match="2 lines of progress and none with a metric"):
        read(path)
    assert bridges.export(tmp_path, to="memory").exit_code == 2
    assert len(read(path, growing=True).stream) == 0
    put(path, [line(5), line(10, loss=1.0)])
    assert len(read(path).stream) == 1


def test_gzip(tmp_path: Path) -> None:
    run = read(put(tmp_path / "trainer_log.jsonl.gz", packed(text(FACTORY["2025, lr"]))))
    assert same([*run.stream], ROWS)
    assert run.name == tmp_path.name


@pytest.mark.parametrize("name", ["trainer_log.jsonl", "logging.jsonl"])
@pytest.mark.parametrize("data", [text(ROWS), text(ROWS[:1]), state(ROWS)])
def test_ordinary_rows_of_such_a_name_are_read_as_ever(
    name: str, data: bytes, tmp_path: Path
) -> None:
    path = put(tmp_path / name, data)
    (run,) = bridges.read(path)
    (expected,) = TrainerStateSource().read(str(path), ReadOptions())
    assert len(run.stream)
    assert same([*run.stream], [*expected.stream])
    assert (run.findings, run.params) == (expected.findings, expected.params)


def test_what_is_no_history_is_refused_as_ever(tmp_path: Path) -> None:
    path = put(tmp_path / "logging.jsonl", [{"a": 1}, {"b": 2}])
    with pytest.raises(SourceError, match="no 'step' in any of its rows"):
        bridges.read(path)
    broken = put(tmp_path / "trainer_log.jsonl", text(ROWS) + b'{"step": 30, "lo')
    with pytest.raises(SourceError, match="or read its complete rows with salvage=True"):
        bridges.read(broken)
    (run,) = bridges.read(broken, salvage=True)
    assert same([*run.stream], ROWS)


def test_the_source_is_found_by_the_name(tmp_path: Path) -> None:
    claims = TrainerLogSource().claims
    assert all(map(claims, ["trainer_log.jsonl", "a/logging_1.jsonl.gz", "s3://b/logging.jsonl"]))
    assert not any(map(claims, ["trainer_state.json", "logging.json", "a/log.jsonl", "-"]))
    (run,) = bridges.read(put(tmp_path / "trainer_log.jsonl", FACTORY["2025, lr"]))
    assert same([*run.stream], ROWS)


def tree(place: Path) -> list[Run]:
    return list(RunDirectorySource().read(str(place), ReadOptions()))


def test_a_directory_with_a_log_alone_is_its_run(tmp_path: Path) -> None:
    put(tmp_path / "a" / "out" / "trainer_log.jsonl", FACTORY["2025, lr"])
    put(tmp_path / "a" / "out" / "args.json", b'{"seed": 3}')
    put(tmp_path / "b" / "out" / "trainer_state.json", state([{"loss": 9.0, "step": 1}]))
    first, second = tree(tmp_path)
    assert (first.name, second.name) == ("a/out", "b/out")
    assert same([*first.stream], ROWS)
    assert first.params == {"seed": 3, "max_steps": 20}
    assert [*second.stream] == [{"loss": 9.0, "step": 1}]


@pytest.mark.parametrize("place", ["trainer_state.json", "checkpoint-2/trainer_state.json"])
def test_a_state_wins_over_the_log(place: str, tmp_path: Path) -> None:
    put(tmp_path / "trainer_log.jsonl", FACTORY["2025, lr"])
    put(tmp_path / place, state([{"loss": 9.0, "step": 1}]))
    (run,) = tree(tmp_path)
    assert [*run.stream] == [{"loss": 9.0, "step": 1}]
    assert "files-ignored" not in codes(run)


def test_a_state_further_down_is_another_run(tmp_path: Path) -> None:
    put(tmp_path / "trainer_log.jsonl", FACTORY["2025, lr"])
    put(tmp_path / "inner" / "trainer_state.json", state([{"loss": 9.0, "step": 1}]))
    assert sorted(len(run.stream) for run in tree(tmp_path)) == [1, 2]


def test_other_files_of_such_a_name_are_ignored(tmp_path: Path) -> None:
    put(tmp_path / "a" / "logging.jsonl", [{"level": "info", "message": "started"}])
    with pytest.raises(SourceError, match=r"no trainer_state.json below it \(1 .jsonl\)"):
        tree(tmp_path)
    put(tmp_path / "trainer_state.json", state([{"loss": 9.0, "step": 1}]))
    (run,) = tree(tmp_path)
    assert "files-ignored" in codes(run)


def test_a_broken_log_alone_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a" / "trainer_log.jsonl", GOOD + b"\n[]\n" + GOOD)
    put(tmp_path / "b" / "trainer_log.jsonl", FACTORY["2025, lr"])
    report = bridges.export(tmp_path, to="memory")
    assert [run.status for run in report.runs] == ["exported", "failed"]
    assert "line 2: found a list" in report.runs[1].findings[0].message


def test_from_the_command_line_to_tensorboard_and_on(tmp_path: Path) -> None:
    log = put(tmp_path / "out" / "trainer_log.jsonl", FACTORY["2025, lr"][:1])
    command = [str(log.parent), "--to", "tensorboard", "--logdir", str(tmp_path / "tb")]
    assert bridge(["export", *command]) == 0
    put(log, FACTORY["2025, lr"])
    assert bridge(["verify", *command]) == 1
    assert bridge(["export", *command]) == 0
    assert bridge(["verify", *command]) == 0


def test_elapsed_times_of_llama_factory(tmp_path: Path) -> None:
    lines = [
        *FACTORY["2025, lr"],
        line(10, loss=1.0, epoch=0.5),  # resumed: the clock began anew
        line(10, loss=1.0, epoch=0.5),  # twice
        {**line(15, loss=1.0, epoch=0.6), "elapsed_time": "soon"},
        line(20, total=40),  # a count of batches
        line(0, total=0, eval_loss=1.0),
        line(20, epoch=1.0),
    ]
    data = b"oops\n" + text(lines) + b'{"current_steps": 21, "ep'
    steps, seconds = elapsed(str(put(tmp_path / "trainer_log.jsonl", data)))
    assert steps.dtype == np.dtype(np.int64)
    assert seconds.dtype == np.dtype(np.float64)
    assert steps.tolist() == [10, 20, 10, 20]
    assert seconds.tolist() == [12.0, 371_904.0, 10.0, 20.0]


def test_elapsed_times_of_ms_swift(tmp_path: Path) -> None:
    steps, seconds = elapsed(str(put(tmp_path / "logging.jsonl", [*SWIFT["3.x"], OUTCOME])))
    assert (steps.tolist(), seconds.tolist()) == ([10, 20], [2959.0, 93_784.0])


@pytest.mark.parametrize("data", [b"", b"<html>", text(ROWS), b"\x1f\x8bbroken", b"[1]\n[2]\n"])
def test_elapsed_times_of_what_is_no_log(data: bytes, tmp_path: Path) -> None:
    for path in (put(tmp_path / "logging.jsonl", data), tmp_path / "nothing"):
        steps, seconds = elapsed(str(path))
        assert (steps.tolist(), seconds.tolist()) == ([], [])


FAULTS = DATA / "faults"


def test_lines_of_two_processes_with_another_speed_are_one_row() -> None:
    run = read(FAULTS / "swift_twice" / "logging.jsonl")
    assert run.stream.step.tolist() == [1, 5, 10]
    assert run.stream.column("train_speed(iter/s)")[1].tolist() == [0.119, 0.123, 0.128]
    assert count(run, "log-line-twice") == 3


@pytest.mark.parametrize("key", ["throughput", "vram_reserved", "memory(GiB)", "train_speed(s/it)"])
def test_what_is_of_a_process_does_not_make_another_row(key: str, tmp_path: Path) -> None:
    lines = [{**line(5, loss=1.0, epoch=0.1), key: value} for value in (1.0, 2.0)]
    run = read(put(tmp_path / "trainer_log.jsonl", lines))
    assert run.stream.column(key)[1].tolist() == [1.0]


def test_evaluations_of_two_processes_are_one_row_and_those_of_one_are_two(tmp_path: Path) -> None:
    train, again = line(5, loss=1.0, epoch=0.1), line(10, loss=0.5, epoch=0.2)
    first, second = (line(5, eval_loss=2.0, eval_runtime=seconds, epoch=0.1) for seconds in (1, 2))
    run = read(put(tmp_path / "trainer_log.jsonl", [train, train, first, second, again, again]))
    assert run.stream.step.tolist() == [5, 5, 10]
    assert run.stream.column("eval_runtime")[1].tolist() == [1.0]
    run = read(put(tmp_path / "trainer_log.jsonl", [train, train, again, first, second]))
    assert run.stream.column("eval_runtime")[1].tolist() == [1.0, 2.0]


def timed(step: int, seconds: int, **metrics: Any) -> dict[str, Any]:
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return {**line(step, **metrics), "elapsed_time": clock}


def test_the_clock_of_two_processes_is_not_used() -> None:
    run = read(FAULTS / "lf_interleaved" / "trainer_log.jsonl")
    assert len(run.stream) == 6
    assert run.evidence == ()
    (found,) = [found for found in run.findings if found.code == "log-of-two-processes"]
    assert (found.severity.value, found.count) == ("warning", 6)
    (report,) = bridges.export(FAULTS / "lf_interleaved", to="memory").runs
    assert [found.code for found in report.findings].count("log-of-two-processes") == 1


Points = dict[str, list[tuple[int, int]]]
IN_TURNS: Points = {
    "two lines each": [(10, 3600), (10, 3603), (20, 7205), (20, 7202)],
    "one far ahead": [(100, 900), (10, 90), (110, 990), (20, 180), (120, 1080), (30, 270)],
    "one much faster": [(10, 10), (5, 50), (20, 20), (30, 30), (40, 40), (10, 100), (50, 50)],
}
RESTARTS: Points = {
    "once": [(10, 60), (20, 120), (30, 180), (20, 65), (30, 125), (40, 190)],
    "at its last step": [(10, 60), (20, 120), (30, 70), (40, 130), (50, 200)],
    "three times": [(10, 60), (20, 120), (20, 65), (30, 125), (30, 66), (40, 127), (40, 61)],
    "early, then late": [(5, 5), (5, 5), (10, 10), (50, 50), (45, 6), (50, 11), (55, 16)],
    "not at all": [(10, 60), (20, 120), (30, 180)],
}


@pytest.mark.parametrize("case", IN_TURNS | RESTARTS)
def test_processes_in_turns_are_told_from_restarts(case: str, tmp_path: Path) -> None:
    points = (IN_TURNS | RESTARTS)[case]
    lines = [timed(step, at, loss=float(n), epoch=0.1) for n, (step, at) in enumerate(points)]
    run = read(put(tmp_path / "trainer_log.jsonl", lines))
    assert bool(run.evidence) is (case in RESTARTS)


def test_evaluations_between_are_of_the_same_process(tmp_path: Path) -> None:
    lines = []
    for step, start in ((10, 0), (20, 0), (30, 0), (20, 10), (30, 10), (40, 10)):  # a restart
        lines += [timed(step, 6 * (step - start), loss=1 / step, epoch=0.1)]
        lines += [timed(step, 6 * (step - start) + 2, eval_loss=1 / step, epoch=0.1)]
    lines += [timed(40, 250, eval_loss=1.0, epoch=0.1)]
    assert read(put(tmp_path / "trainer_log.jsonl", lines)).evidence
