"""Steps by the x-axes of a run, and rows whose values have several steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridges.sources.options import ReadOptions
from bridges.sources.wandb.source import WandbSource
from bridges.stream.model import Run
from tests.support import codes
from tests.wandb_logs import exit_record, metric_record, row_record, run_record, write_run

START = 1_700_000_000


def read(
    folder: Path,
    rows: Sequence[Mapping[str, object]],
    definitions: Sequence[bytes] = (),
    **options: Any,
) -> Run:
    """The run of a log with these rows and definitions."""
    own = [{**row, "_step": at, "_timestamp": START + at} for at, row in enumerate(rows)]
    records = [run_record(project="p"), *definitions, *map(row_record, own), exit_record()]
    path = write_run(folder, records)
    (run,) = WandbSource().read(str(path), ReadOptions(**options))
    return run


def steps(run: Run) -> dict[str, list[int]]:
    """The steps of each key."""
    return {key: run.stream.step[run.stream.column(key)[0]].tolist() for key in run.stream.keys}


ROWS: list[dict[str, object]] = [
    {"loss": 1.5, "epoch": 0, "n": 10},
    {"loss": 0.5, "epoch": 0, "n": 20},
    {"acc": 0.1, "n": 20, "epoch": 1},
]
NO_STEPS: dict[str, list[object]] = {
    "falls": [1, 3, 2],
    "part": [0.5, 1, 2],
    "gap": [1, None, 2],
    "text": ["1", 2, 3],
}


def test_without_definitions_the_step_is_that_of_wandb(tmp_path: Path) -> None:
    run = read(tmp_path, ROWS)
    assert steps(run) == {"loss": [0, 1], "epoch": [0, 1, 2], "n": [0, 1, 2], "acc": [2]}
    assert len(run.stream) == 3
    assert not {"step-metric", "step-fallback"} & {*codes(run)}


def test_each_key_has_the_step_of_its_definition(tmp_path: Path) -> None:
    definitions = [metric_record("loss", "n"), metric_record("a*", "epoch")]
    run = read(tmp_path, ROWS, definitions)
    assert steps(run) == {"loss": [10, 20], "epoch": [0, 1, 2], "n": [0, 1, 2], "acc": [1]}
    found = {f.where: f.message for f in run.findings if f.code == "step-metric"}
    assert found.keys() == {"key 'loss'", "key 'acc'"}
    assert "'n'" in found["key 'loss'"]


def test_values_of_a_row_with_equal_steps_share_a_row(tmp_path: Path) -> None:
    rows = [{"a": 1.5, "b": 2.5, "n": 0}, {"a": 3.5, "b": 4.5, "n": 9}]
    run = read(tmp_path, rows, [metric_record("a", "n")])
    assert [*run.stream] == [
        {"a": 1.5, "b": 2.5, "n": 0, "step": 0},
        {"b": 4.5, "n": 9, "step": 1},
        {"a": 3.5, "step": 9},
    ]


def test_the_exact_name_goes_before_globs_and_the_longest_of_these_counts(tmp_path: Path) -> None:
    definitions = [
        metric_record("*", "x"),
        metric_record("val/*", "y"),
        metric_record("val/acc", "z"),
        metric_record("val/loss", "x", expanded_from_glob=True),
    ]
    row = {"val/acc": 0.5, "val/loss": 0.5, "other": 0.5, "x": 100, "y": 200, "z": 300}
    run = read(tmp_path, [row], definitions)
    found = steps(run)
    assert (found["val/acc"], found["val/loss"], found["other"]) == ([300], [200], [100])
    assert codes(run).count("two-globs") == 1


@pytest.mark.parametrize("kind", NO_STEPS)
def test_a_metric_that_is_no_step_is_not_used(kind: str, tmp_path: Path) -> None:
    rows = [{"loss": 0.5, "n": value} for value in NO_STEPS[kind]]
    run = read(tmp_path, rows, [metric_record("loss", "n")])
    assert steps(run)["loss"] == [0, 1, 2]
    (found,) = [finding for finding in run.findings if finding.code == "step-fallback"]
    assert found.where == "key 'loss'"


def test_whole_floats_are_steps(tmp_path: Path) -> None:
    rows = [{"loss": 0.5, "tokens": 1.5e9}, {"loss": 0.25, "tokens": 3e9}]
    run = read(tmp_path, rows, [metric_record("loss", "tokens")])
    assert steps(run)["loss"] == [1_500_000_000, 3_000_000_000]


def test_the_user_chooses_the_step(tmp_path: Path) -> None:
    definitions = [metric_record("loss", "epoch")]
    run = read(tmp_path / "n", ROWS, definitions, step_column="n")
    assert steps(run) == {"loss": [10, 20], "epoch": [10, 20, 20], "n": [10, 20, 20], "acc": [20]}
    run = read(tmp_path / "own", ROWS, definitions, step_column="_step")
    assert steps(run)["loss"] == [0, 1]
    falling = [{"loss": 0.5, "n": 5}, {"loss": 0.25, "n": 3}]
    assert steps(read(tmp_path / "falling", falling, step_column="n"))["loss"] == [5, 3]
    missing = read(tmp_path / "missing", ROWS, step_column="oops")
    assert steps(missing)["loss"] == [0, 1]
    assert "step-fallback" in codes(missing)


def test_runs_synced_from_event_files_have_their_steps(tmp_path: Path) -> None:
    from wandb.proto import wandb_internal_pb2 as pb

    synced = pb.Record()
    synced.tbrecord.log_dir = "logs"
    rows = [{"loss": 0.5, "global_step": 100}, {"loss": 0.25, "global_step": 200}]
    run = read(tmp_path, rows, [bytes(synced.SerializeToString())])
    assert steps(run)["loss"] == [100, 200]
