"""Which event files of a directory are one training, and which of their points are superseded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.model import Run
from tests.event_files import START, USUAL, hparams, losses, restart, tagged, version, write

LATER, LAST = START + 1000, START + 2000


def read(folder: Path, **options: Any) -> list[Run]:
    return [*TensorBoardSource().read(str(folder), ReadOptions(**options))]


def steps(run: Run, key: str = "loss") -> list[int]:
    rows, _ = run.stream.column(key)
    return [*map(int, run.stream.step[rows])]


def found(run: Run) -> list[str]:
    """The codes of the findings, without those of every run."""
    return [each.code for each in run.findings if each.code not in USUAL]


def superseded(run: Run) -> list[tuple[int, str]]:
    found = [each for each in run.findings if each.code == "points-superseded"]
    return [(each.count, each.message) for each in found]


def test_a_file_whose_steps_follow_continues_the_training(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, losses(START, range(5)))
    write(folder, losses(LATER, range(5, 8)), at=LATER)
    (run,) = read(folder)
    assert (run.name, steps(run)) == ("logs", [*range(8)])
    assert found(run) == []


def test_a_file_without_shared_tags_continues_the_training(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, losses(START, range(5)))
    write(folder, losses(LATER, range(3), "eval_loss"), at=LATER)
    (run,) = read(folder)
    assert (steps(run), steps(run, "eval_loss")) == ([*range(5)], [*range(3)])


def test_a_file_that_begins_again_is_a_training_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    for at in (START, LATER, LAST):
        write(folder, losses(at, range(5)), at=at)
    runs = read(folder)
    assert [run.name for run in runs] == ["logs", "logs/2", "logs/3"]
    assert [steps(run) for run in runs] == [[*range(5)]] * 3
    assert len({run.identity for run in runs}) == 3


def test_the_oldest_training_keeps_its_name_when_others_come(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, losses(START, range(5)), name="events.out.tfevents.9.z.1.0")
    before = read(folder)[0]
    write(folder, losses(LATER, range(5)), at=LATER, name="events.out.tfevents.10.a.1.0")
    after = read(folder)
    assert [run.name for run in after] == ["logs", "logs/2"]
    assert after[0].identity == before.identity


def test_a_number_that_is_a_directory_is_written_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, losses(START, range(5)))
    write(folder, losses(LATER, range(5)), at=LATER)
    write(folder / "2", losses(LAST, range(5)), at=LAST, name="events.out.tfevents.1.other.9.0")
    assert [run.name for run in read(folder)] == ["logs", "logs-2", "2"]


def test_a_resume_supersedes_the_later_points_of_shared_tags(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, [*losses(START, range(10)), *losses(START + 20, range(10), "lr")])
    write(folder, losses(LATER, range(6, 12)), at=LATER)
    (run,) = read(folder)
    assert steps(run) == [*range(12)]
    assert steps(run, "lr") == [*range(10)]
    ((count, message),) = superseded(run)
    assert (count, "steps 6 to 9" in message) == (4, True)
    assert run.stream.column("loss")[1][-6] == 6 / 8 + 1000 / 1024


def test_points_that_a_resume_repeats_are_no_news(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, [*losses(START, range(10)), tagged(START + 30, 9, "epoch", 3)])
    write(folder, [tagged(LATER, 9, "epoch", 3), tagged(LATER, 9, "eval_loss", 1)], at=LATER)
    (run,) = read(folder)
    assert steps(run, "epoch") == [9]
    assert found(run) == []


def test_a_session_start_supersedes_all_tags_from_its_step_on(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, [*losses(START, range(10)), *losses(START + 20, range(10), "lr")])
    write(folder, [version(LATER), restart(LATER, 4), *losses(LATER, range(4, 6))], at=LATER)
    (run,) = read(folder)
    assert (steps(run), steps(run, "lr")) == ([*range(6)], [*range(4)])
    assert superseded(run)[0][0] == 12


def test_a_session_start_inside_a_file_supersedes_points_before_it(tmp_path: Path) -> None:
    events = [*losses(START, range(6)), restart(START + 9, 2), *losses(START + 10, range(2, 4))]
    write(tmp_path / "logs", events)
    (run,) = read(tmp_path / "logs")
    assert steps(run) == [0, 1, 2, 3]
    assert superseded(run)[0][0] == 4


def test_files_written_at_the_same_time_are_one_run_with_all_points(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, losses(START, range(0, 10, 2), every=2), name="events.out.tfevents.1.a.1.0")
    other = losses(START + 1, range(0, 10, 2), every=2)
    write(folder, other, at=START + 1, name="events.out.tfevents.2.b.2.0")
    (run,) = read(folder)
    assert steps(run) == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert found(run) == ["written-in-turns"]


def test_points_of_one_file_never_supersede_each_other(tmp_path: Path) -> None:
    write(tmp_path / "logs", losses(START, [0, 1, 2, 1, 2, 2]))
    (run,) = read(tmp_path / "logs")
    assert steps(run) == [0, 1, 2, 1, 2, 2]


@pytest.mark.parametrize("options", [{"runs": "one"}, {"one_run": True}, {"runs": "directory"}])
def test_all_trainings_of_a_directory_as_one_run(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = tmp_path / "logs"
    write(folder, losses(START, range(10)))
    write(folder, losses(LATER, range(4)), at=LATER)
    (run,) = read(folder, **options)
    assert steps(run) == [0, 1, 2, 3]
    assert superseded(run)[0][0] == 10


def test_superseded_points_as_a_run_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, losses(START, range(10)))
    write(folder, losses(LATER, range(6, 12)), at=LATER)
    write(folder, losses(LAST, range(8, 10)), at=LAST)
    runs = read(folder, superseded="keep")
    assert [(run.name, steps(run)) for run in runs] == [
        ("logs", [*range(10)]),
        ("logs/superseded", [*range(10)]),
        ("logs/superseded-2", [*range(12)]),
    ]
    assert not any(map(found, runs))


def test_params_of_a_file_without_points_belong_to_the_training_after_it(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    write(folder, [hparams(START, lr=0.1, name="a", flag=True)])
    write(folder, losses(LATER, range(3)), at=LATER)
    (run,) = read(folder)
    assert run.params == {"lr": 0.1, "name": "a", "flag": True}
    assert run.start == round(START * 1e6)
