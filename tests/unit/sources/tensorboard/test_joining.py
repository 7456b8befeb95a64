"""Directories that one process wrote for one run, and the params of `add_hparams` beside a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.model import Run
from tests.event_files import START, hparams, losses, tagged, write

LATER = START + 1000


def read(folder: Path, **options: Any) -> list[Run]:
    return [*TensorBoardSource().read(str(folder), ReadOptions(**options))]


def keys(runs: Sequence[Run]) -> dict[str, list[str]]:
    return {run.name: [*run.stream.keys] for run in runs}


def keras(folder: Path, split: str, at: float, number: int, tag: str = "epoch_loss") -> None:
    name = f"events.out.tfevents.{int(at)}.host.7.{number}.v2"
    write(folder / split, losses(at + number / 10, range(3), tag), at=at, name=name)


def test_keras_writes_one_run_into_two_directories(tmp_path: Path) -> None:
    keras(tmp_path / "logs" / "a", "train", START, 0)
    keras(tmp_path / "logs" / "a", "validation", START, 1)
    (run,) = read(tmp_path / "logs")
    assert (run.name, run.stream.keys) == ("a", ("train/epoch_loss", "validation/epoch_loss"))
    assert run.folders == {"train/epoch_loss": "train", "validation/epoch_loss": "validation"}
    assert [*run.stream.step] == [0, 0, 1, 1, 2, 2]


def test_the_keys_of_a_growing_run_do_not_change_when_its_validation_begins(tmp_path: Path) -> None:
    keras(tmp_path / "a", "train", START, 0)
    (before,) = read(tmp_path)
    keras(tmp_path / "a", "validation", START, 1)
    (after,) = read(tmp_path)
    assert before.identity == after.identity
    assert before.stream.keys == ("train/epoch_loss",)
    assert before.name == after.name == "a"


def test_trainings_in_two_directories_are_joined_by_time(tmp_path: Path) -> None:
    for number, at in enumerate((START, LATER, LATER + 1000)):
        keras(tmp_path / "logs", "train", at, 2 * number)
        if number:
            keras(tmp_path / "logs", "validation", at, 2 * number + 1)
    assert keys(read(tmp_path)) == {
        "logs": ["train/epoch_loss"],
        "logs/2": ["train/epoch_loss", "validation/epoch_loss"],
        "logs/3": ["train/epoch_loss", "validation/epoch_loss"],
    }
    one = read(tmp_path, runs="one")
    assert keys(one) == {"logs": ["train/epoch_loss", "validation/epoch_loss"]}
    assert len(one[0].stream) == 6
    apart = read(tmp_path, runs="directory")
    assert keys(apart) == {"logs/train": ["epoch_loss"], "logs/validation": ["epoch_loss"]}


def test_catboost_writes_one_run_into_two_directories(tmp_path: Path) -> None:
    for split in ("learn", "test"):
        write(
            tmp_path / "catboost_info" / split,
            losses(START, range(3), "RMSE"),
            name="events.out.tfevents",
        )
    (run,) = read(tmp_path)
    assert (run.name, run.stream.keys) == ("catboost_info", ("learn/RMSE", "test/RMSE"))


def test_an_evaluation_below_the_training_belongs_to_it(tmp_path: Path) -> None:
    write(tmp_path / "model", losses(START, range(10)))
    write(tmp_path / "model" / "eval", losses(START + 3, [4, 8]), at=START + 3)
    (run,) = read(tmp_path)
    assert run.stream.keys == ("loss", "eval/loss")


def test_directories_of_other_processes_or_times_are_runs(tmp_path: Path) -> None:
    write(tmp_path / "a" / "train", losses(START, range(3)))
    write(tmp_path / "a" / "val", losses(START, range(3)), name="events.out.tfevents.1.host.8.0")
    write(tmp_path / "b" / "train", losses(START, range(3)))
    write(tmp_path / "b" / "val", losses(LATER, range(3)), at=LATER)
    names = ["a/train", "a/val", "b/train", "b/val"]
    assert keys(read(tmp_path)) == {name: ["loss"] for name in names}


def test_the_directories_of_add_scalars_are_curves_of_one_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, losses(START, range(3), "lr"))
    write(run / "data_acc_train", losses(START, range(3), "data/acc"))  # torch
    write(run / "data_acc_val", losses(START + 1, [1], "data/acc"))
    write(run / "acc" / "train", losses(START, range(3), "acc"))  # tensorboardX
    (found,) = read(run)
    assert {*found.stream.keys} == {
        *("lr", "acc/train/acc", "data_acc_train/data/acc", "data_acc_val/data/acc")
    }


def test_curves_in_files_without_a_process_id_are_joined_by_host_and_time(tmp_path: Path) -> None:
    run, name = tmp_path / "run", "events.out.tfevents.1.host"
    write(run, losses(START, range(3), "lr"), name=name)
    write(run / "acc" / "train", losses(START, range(3), "acc"), name=name)
    write(run / "acc" / "val", losses(LATER, range(3), "acc"), at=LATER, name=name)
    assert keys(read(tmp_path)) == {"run": ["lr", "acc/train/acc"], "run/acc/val": ["acc"]}


def test_a_directory_whose_keys_are_taken_is_a_run(tmp_path: Path) -> None:
    write(tmp_path / "run", losses(START, range(5), "train/loss"))
    write(tmp_path / "run" / "train", losses(START, range(5)))
    assert keys(read(tmp_path)) == {"run": ["train/loss"], "run/train": ["loss"]}


def test_params_and_metrics_of_add_hparams_belong_to_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, losses(START, range(3)))
    events = [hparams(START + 4, lr=0.1, optimizer="adam"), tagged(START + 4, 0, "hp/acc", 0.5)]
    write(run / "1700000004.25", events, at=START + 4)
    (found,) = read(tmp_path)
    assert found.params == {"lr": 0.1, "optimizer": "adam"}
    assert found.stream.keys == ("loss", "hp/acc")


def test_sessions_belong_to_the_training_before_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for at, lr in ((START, 0.1), (LATER, 0.2)):
        write(run, losses(at, range(3)), at=at)
        write(run / f"{at + 4}", [hparams(at + 4, lr=lr)], at=at + 4)
    assert [(found.name, found.params) for found in read(tmp_path)] == [
        ("run", {"lr": 0.1}),
        ("run/2", {"lr": 0.2}),
    ]


def test_sessions_with_other_params_are_trials(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run, losses(START, range(3)))
    for at, lr in ((START + 4, 0.1), (START + 5, 0.2)):
        write(run / f"{at}", [hparams(at, lr=lr), tagged(at, 0, "hp/acc", lr)], at=at)
    runs = read(tmp_path)
    assert [(found.name.partition("/")[0], found.params) for found in runs] == [
        ("run", {}),
        ("run", {"lr": 0.1}),
        ("run", {"lr": 0.2}),
    ]
    assert runs[0].stream.keys == ("loss",)
