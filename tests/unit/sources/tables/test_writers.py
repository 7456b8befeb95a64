"""Tables by the programs themselves: `tests/golden/make_tables.py` wrote them.

Ultralytics is too large to install: its three layouts are written as its `save_metrics` does.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridges.pipeline.read_runs import source_of
from bridges.sources.options import ReadOptions
from bridges.stream.layout import lay_out
from bridges.stream.model import Run
from bridges.stream.options import LayoutChoices
from tests.support import DATA
from tests.unit.sources.tables.tables import codes, one, points, put, runs

TABLES = DATA / "tables"
STEPS = ("step", "epoch", "iter", "time/total_timesteps")
TIMES = ("timestamp", "time/time_elapsed", "time")


def compare_all(folder: Path) -> int:
    """Compare the tables of a directory with pandas, each alone. Returns the number of cells."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".csv", ".tsv")]
    assert paths
    return sum(compare(path) for path in paths if path.name != "time_left.tsv")


def compare(path: Path) -> int:
    """Compare the cells of a table with those that pandas reads. Returns their number."""
    separator = "\t" if path.suffix == ".tsv" else ","
    part = f"{path.stem.partition('_')[0]}/" if path.stem.endswith("_error") else ""
    expected = sorted((part + key, *cell) for key, *cell in cells_of(path.read_bytes(), separator))
    read = sorted(cell for run in runs(path) for cell in cells_of_run(run))
    assert read == expected, path
    return len(expected)


def cells_of(data: bytes, separator: str) -> Iterator[tuple[str, int, str]]:
    """The key, step and value of each cell, as pandas reads them; blank cells are left out."""
    import pandas

    options: dict[str, Any] = {"keep_default_na": False}
    if pandas.__version__ < "3":  # later ones are exact
        options["float_precision"] = "round_trip"
    frame = pandas.read_csv(io.BytesIO(data), sep=separator, na_values=["", "NA"], **options)
    texts = pandas.read_csv(io.BytesIO(data), sep=separator, dtype=str, **options)
    frame.columns = texts.columns = [name.strip() for name in frame.columns]
    step = next(name for name in STEPS if name in frame.columns)
    for name in frame.columns:
        if name == step or name in TIMES:
            continue
        for at, (value, text) in enumerate(zip(frame[name], texts[name], strict=True)):
            if text.strip() not in ("", "NA"):
                number = value if not isinstance(value, str) else text.strip()
                number = float("nan") if text.strip() == "nan" else number
                yield (
                    name,
                    int(frame[step][at]),
                    repr(float(number) if _is_number(number) else number),
                )


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def cells_of_run(run: Run) -> Iterator[tuple[str, int, str]]:
    """The key, step and value of each point."""
    for part in run.stream.series:
        for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True):
            step = int(run.stream.step[row])
            yield part.key, step, repr(value if isinstance(value, str) else float(value))


@pytest.mark.parametrize("library", ["lightning", "keras", "sb3"])
def test_every_cell_is_what_pandas_reads(library: str) -> None:
    assert compare_all(TABLES / library) >= 8


def test_lightning() -> None:
    """Its own header has the columns that came later; the validation row repeats a step."""
    run = one(TABLES / "lightning")
    assert run.name == "lightning_logs/version_0"
    assert run.stream.step.tolist() == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7]
    found = points(run)
    assert [step for step, _ in found["train_loss"]] == [*range(8)]
    assert [step for step, _ in found["val_loss"]] == [3, 7]
    assert [math.isnan(value) for _, value in found["late"]] == [True] * 4
    assert run.params == {"act": "torch.nn.modules.activation.ReLU", "lr": 0.1}


def test_keras() -> None:
    found = {run.name: run for run in runs(TABLES / "keras")}
    assert {name: len(run.stream) for name, run in found.items()} == {
        "every_second": 4,
        "history": 3,
        "twice": 3,
        "twice/2": 2,
    }
    assert [step for step, _ in points(found["every_second"])["val_loss"]] == [1, 3]


def test_stable_baselines3_writes_its_rows_as_csv_and_json() -> None:
    table, lines = runs(TABLES / "sb3")
    assert {key: sorted(map(repr, each)) for key, each in points(table).items()} == {
        key: sorted(map(repr, each)) for key, each in points(lines).items()
    }
    assert points(table)["note"] == [(6144, "a, b")]
    assert "run-twice" in codes(lines)
    with (TABLES / "sb3/progress.json").open() as file:
        rows = [json.loads(line) for line in file]
    assert points(table)["train/loss"] == [
        (row["time/total_timesteps"], row["train/loss"]) for row in rows[1:]
    ]


# --- Ultralytics ---------------------------------------------------------------------------------

METRICS = {
    "train/box_loss": 1.68779,
    "metrics/precision(B)": 1 / 3,
    "metrics/mAP50-95(B)": 5.6e-05,
    "val/dfl_loss": 1234567.0,
    "lr/pg0": 0.0707,
}


def padded(epochs: int, first: int, width: int = 23) -> str:
    """The tables of 2023 (epochs from 0, then from 1) and of YOLOv5 (20 wide)."""
    names, count = ["epoch", *METRICS], len(METRICS) + 1
    text = (f"%{width}s," * count % tuple(names)).rstrip(",") + "\n"
    for epoch in range(epochs):
        values = [epoch + first, *(value / (epoch + 1) for value in METRICS.values())]
        text += (f"%{width}.5g," * count % tuple(values)).rstrip(",") + "\n"
    return text


def plain(epochs: int, seconds: float = 10.5, first: int = 1) -> str:
    """The table since 8.3.9: `time` is measured since the start of the process."""
    names, count = ["epoch", "time", *METRICS], len(METRICS) + 2
    text = ("%s," * count % tuple(names)).rstrip(",") + "\n"
    for epoch in range(epochs):
        metrics = (value / (epoch + 1) for value in METRICS.values())
        values = [epoch + first, seconds * (epoch + 1), *metrics]
        text += ("%.6g," * count % tuple(values)).rstrip(",") + "\n"
    return text


LAYOUTS = {
    "from-0": padded(4, 0),
    "from-1": padded(4, 1),
    "with-time": plain(4),
    "yolov5": padded(4, 0, 20).replace("lr/pg0", " x/lr0"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_ultralytics(tmp_path: Path, layout: str) -> None:
    text = LAYOUTS[layout]
    path = put(tmp_path / "detect/train/results.csv", text)
    put(tmp_path / "detect/train/args.yaml", "epochs: 4\n")
    (run,) = source_of(str(tmp_path), None).read(str(tmp_path), ReadOptions())
    assert compare(Path(path)) == 4 * len(METRICS)
    first = 0 if layout in ("from-0", "yolov5") else 1
    assert run.stream.step.tolist() == [*range(first, first + 4)]
    assert (run.name, run.status) == ("detect/train", "finished")
    expected = {*METRICS} - {"lr/pg0"} | ({"x/lr0"} if layout == "yolov5" else {"lr/pg0"})
    assert {*points(run)} == expected
    assert len(run.evidence) == (layout == "with-time")


def test_two_trainings_of_ultralytics_in_one_table(tmp_path: Path) -> None:
    """`exist_ok=True` appended to the table of another training, without a header."""
    text = plain(5) + plain(4, 9.5).partition("\n")[2]
    first, second = runs(put(tmp_path / "results.csv", text))
    assert [len(run.stream) for run in (first, second)] == [5, 4]


def test_a_resume_of_ultralytics(tmp_path: Path) -> None:
    """Epochs go on, and the time begins again; the last epoch may be logged again."""
    text = plain(3) + plain(2, 11.5, first=4).partition("\n")[2]
    run = one(put(tmp_path / "results.csv", text))
    assert run.stream.step.tolist() == [1, 2, 3, 4, 5]
    time = lay_out(run, "mlflow", LayoutChoices()).stream.time
    assert time is not None
    assert (time[1:] - time[:-1]).tolist() == [10_500_000, 10_500_000, 11_500_000, 11_500_000]
    assert "table-time-restarts" in codes(run)
    repeated = one(put(tmp_path / "results.csv", plain(3) + plain(3, 1.5, 3).partition("\n")[2]))
    assert repeated.stream.step.tolist() == [1, 2, 3, 4, 5]
    assert "table-rows-superseded" in codes(repeated)


# --- DVCLive and CatBoost ------------------------------------------------------------------------


def test_dvclive() -> None:
    run = one(TABLES / "dvclive")
    found = points(run)
    assert found["loss"] == [(0, 1 / 3), (1, 1 / 4), (2, 1 / 5)]
    assert found["val/deep/acc (top 1)"] == [(0, 0.0), (1, 1 / 7), (2, 2 / 7)]
    ((step, value),) = found["nan"]
    assert step == 2
    assert math.isnan(value)
    assert run.params == {"lr": 0.1, "layers": [1, 2]}
    (loss,) = (part for part in run.stream.series if part.key == "loss")
    with (TABLES / "dvclive/plots/metrics/loss.tsv").open() as file:
        times = [1000 * int(line.split()[0]) for line in list(file)[1:]]
    assert run.stream.times(loss).tolist() == times


def test_catboost_with_its_event_files() -> None:
    source = source_of(str(TABLES / "catboost"), None)
    (run,) = source.read(str(TABLES / "catboost"), ReadOptions())
    assert "table-folded" in codes(run)
    assert (run.status, run.params["iteration_count"]) == ("finished", 8)
    with (TABLES / "catboost/test_error.tsv").open() as file:
        lines = [line.split() for line in list(file)[1:]]
    expected = [(int(step), float(value)) for step, value in lines]
    assert points(run)["test/RMSE"] == expected
    assert run.stream.time is not None
