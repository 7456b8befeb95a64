"""Event files of TensorFlow, Keras and PyTorch as runs (see `tests/golden/event_files.py`)."""

from __future__ import annotations

import json
import struct

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.model import Run
from tests.support import DATA

FOLDER = DATA / "event_files"
LEFT_OUT = {"points-superseded", "not-carried"}


def runs() -> dict[str, Run]:
    return {run.name: run for run in TensorBoardSource().read(str(FOLDER), ReadOptions())}


def notes(run: Run) -> dict[str, int]:
    return {each.where: each.count for each in run.findings if each.code in LEFT_OUT}


def test_every_point_that_tensorflow_reads_is_in_a_run() -> None:
    stored = json.loads((FOLDER / "points.json").read_text())["points"]
    found = runs()
    for name, run in found.items():
        expected = [
            (folder + tag, step, value)
            for file, points in stored.items()
            for folder in [f"{file.split('/')[1]}/" if name == "keras" else ""]
            if file.rpartition("/")[0] == name or (folder and file.startswith("keras/"))
            for tag, step, _, value in points
        ]
        mine = [
            (series.key, int(run.stream.step[row]), struct.pack("<d", value).hex())
            for series in run.stream.numbers
            for row, value in zip(series.rows.tolist(), series.values.tolist(), strict=True)
        ]
        superseded = sum(e.count for e in run.findings if e.code == "points-superseded")
        assert len(mine) + superseded == len(expected), name
        assert {*mine} <= {*expected}, name
    assert sum(map(len, stored.values())) == 3 + sum(run.stream.points for run in found.values())


def test_keras_is_one_run_and_other_kinds_are_counted() -> None:
    found = runs()
    assert {*found} == {
        *("first_only", "keras", "pytorch", "pytorch/hparams", "pytorch/purged"),
        *("restarts", "scalars"),
    }
    keras = found["keras"]
    assert {*keras.folders.values()} == {"train", "validation"}
    assert {"train/epoch_loss", "validation/evaluation_loss_vs_iterations"} <= {*keras.stream.keys}
    assert sum(notes(keras).values()) == 13
    assert found["pytorch/hparams"].params == {"lr": 0.1, "layers": 3.0, "flag": 1.0, "name": "x"}
    assert sum(notes(found["restarts"]).values()) == 5
