"""Event files of other people as runs, compared with TensorBoard's EventAccumulator.

The optional folder lies beside the repository; it is never part of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from bridges.errors import SourceError, TreeError
from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.model import Run
from tests.support import SHARED

FOLDER = SHARED / "corpus_trackers" / "events"
Point = tuple[int, float, float]  # step, wall time, value
MICROSECOND = 1e-6

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the corpus of event files is not at {FOLDER}"
)


def read(location: Path) -> tuple[list[Run], tuple[SourceError, ...]]:
    runs: list[Run] = []
    try:
        runs += TensorBoardSource().read(str(location), ReadOptions())
    except TreeError as error:
        return runs, error.errors
    except SourceError as error:
        return runs, (error,)
    return runs, ()


@cache
def index() -> list[dict[str, str]]:
    with (FOLDER / "index.tsv").open() as file:
        found = [*csv.DictReader(file, delimiter="\t")]
    return [row for row in found if row["kind"].startswith("event:")]


def by_accumulator(path: Path) -> dict[str, list[Point]]:
    events = EventAccumulator(
        str(path), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
    )
    events.Reload()
    found = {
        tag: [(each.step, each.wall_time, each.value) for each in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    plugin = events.summary_metadata
    for tag in events.Tags()["tensors"]:
        if plugin[tag].plugin_data.plugin_name == "scalars":
            found[tag] = [
                (each.step, each.wall_time, float(make_ndarray(each.tensor_proto).reshape(-1)[0]))
                for each in events.Tensors(tag)
            ]
    return found


def points(run: Run) -> Iterator[tuple[str, list[Point]]]:
    for series in run.stream.numbers:
        steps, times = run.stream.step[series.rows], run.stream.times(series) / 1e6
        columns = (steps.tolist(), times.tolist(), series.values.tolist())
        yield series.key, [*zip(*columns, strict=True)]


def assert_equal(mine: list[Point], theirs: list[Point]) -> None:
    assert [point[0] for point in mine] == [point[0] for point in theirs]
    left, right = (np.array([point[2] for point in each], np.float32) for each in (mine, theirs))
    assert left.tobytes() == right.tobytes()
    times = np.array([[point[1] for point in each] for each in (mine, theirs)])
    assert (np.abs(times[0] - times[1]) <= MICROSECOND).all()


def test_every_point_of_every_file_is_read_in_order() -> None:
    total = 0
    for row in index():
        runs, _ = read(FOLDER / row["file"])
        found = dict(points(runs[0])) if runs else {}
        assert sum(map(len, found.values())) == int(row["points"]), row["file"]
        total += int(row["points"])
        if int(row["points"]):
            expected = by_accumulator(FOLDER / row["file"])
            assert found.keys() == expected.keys()
            for tag, theirs in expected.items():
                assert_equal(found[tag], theirs)
    assert total > 30_000


def test_every_point_belongs_to_one_run_of_the_tree() -> None:
    runs, errors = read(FOLDER)
    files = {file["file"]: int(file["points"]) for file in index()}
    superseded = sum(
        each.count for run in runs for each in run.findings if each.code == "points-superseded"
    )
    # of TensorBoard's own evaluation file, one point repeats the last one of the training
    assert sum(run.stream.points for run in runs) + superseded + 1 == sum(files.values())
    assert {Path(error.source).parts[-3] for error in errors} <= {
        "runs",
        "Dec30_19-12-45_99208a1bd131",
    }
    assert len(errors) == 2
    assert all("git lfs pull" in str(error) for error in errors)


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("kevin866__Acrobot_with_MuJoCo/logs", ["logs", *(f"logs/{n}" for n in range(2, 6))]),
        (
            "AnnaKompan__multimodal_action-emotion_detection/Logs",
            ["Logs", *(f"Logs/{n}" for n in range(2, 10))],
        ),
        (
            "10844110__t5-summarization-demo/runs",
            ["Mar24_22-23-40_DESKTOP-41L2EO3"],
        ),
        ("0425Ning__AdvTabDDPM", ["catboost_info"]),
    ],
)
def test_the_trainings_of_a_directory(folder: str, names: list[str]) -> None:
    runs, errors = read(FOLDER / folder)
    assert [run.name for run in runs] == names
    assert not errors


def test_trainings_of_one_process_are_joined_by_time() -> None:
    runs, _ = read(FOLDER / "AnnaKompan__multimodal_action-emotion_detection" / "Logs")
    folders = [sorted({*run.folders.values()}) for run in runs]
    assert folders.count(["train", "validation"]) == 3
    assert folders.count(["train"]) == folders.count(["validation"]) == 3


def test_params_of_lightning_are_read() -> None:
    runs, _ = read(FOLDER / "CooperBigFoot__CAMELS-CH")
    assert [run.name for run in runs] == [
        f"lightning_logs/version_{number}" for number in (52, 119, 135, 151)
    ]
    assert all(run.params["hidden_size"] for run in runs)
