"""Runs of tags: each target has the tags, steps, values and times that their source gives.

The targets are read by other readers than ours: TensorBoard's own framing, mlflow's client, and
wandb's protobuf.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.exporters.base import Exporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.pipeline.read_runs import guarded
from bridges.report import RunReport
from bridges.sources.options import ReadOptions
from bridges.stream.finding import Severity
from bridges.stream.model import MetricStream, RowKind, Run, Series
from tests.integration.exporters.mlflow.support import judge
from tests.integration.exporters.tensorboard.support import raw_events
from tests.integration.exporters.wandb import support as wandb_support

START = 1_700_000_000_000_000  # microseconds
# row, step, microseconds after the start, by tag; times fall at the third row and are equal after
POINTS: dict[str, list[tuple[int, int, int, float]]] = {
    "loss/train": [(0, 1, 0, 2.5), (1, 2, 1_000_001, 2.25), (2, 3, 500_000, math.nan)],
    "train/loss": [(0, 1, 250, 0.5), (3, 3, 500_000, 0.25), (4, 3, 500_000, 0.125)],
    "train/global_step": [(0, 1, 0, 10.0), (1, 2, 1_000_001, 20.0)],
    "acc@1": [(1, 2, 1_000_007, 0.75)],
    "acc_1": [(1, 2, 1_000_009, 0.5)],
    "_step": [(4, 3, 500_000, 7.0)],
    "eval_loss": [(2, 3, 499_000, 1.0)],
}
STEPS = [1, 2, 3, 3, 3]
ROW_TIMES = [0, 1_000_001, 499_000, 500_000, 500_000]


class TagSource:
    """A source of one run of tags; the first `rows` rows of it."""

    name = "tags"

    def __init__(self, rows: int = len(STEPS)) -> None:
        self.rows = rows

    def claims(self, location: str) -> bool:
        """Everything."""
        return True

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run."""
        series = [_series(tag, points) for tag, points in POINTS.items()]
        stream = MetricStream(
            np.array(STEPS),
            np.full(len(STEPS), RowKind.CUSTOM, np.uint8),
            (*series, Series("note", np.array([0]), np.array(["hello"], object))),
            START + np.array(ROW_TIMES),
        ).take(np.arange(self.rows))
        yield Run("run", stream, location, key_style="tags", identity=("tags", "run 1"))


def _series(tag: str, points: list[tuple[int, int, int, float]]) -> Series:
    rows, _, time, values = zip(*points, strict=True)
    return Series(tag, np.array(rows), np.array(values), START + np.array(time))


def read(rows: int = len(STEPS)) -> Run:
    """The run, as an export has it."""
    source = TagSource(rows)
    options = ReadOptions()
    (run,) = guarded(source.read("tags", options), "tags", source, options)
    return run


def make(target: str, folder: Path) -> Exporter:
    """A target in a folder."""
    if target == "mlflow":
        return MlflowExporter(MlflowOptions(f"sqlite:///{folder}/mlflow.db"))
    if target == "wandb":
        return WandbExporter(WandbOptions(wandb_dir=str(folder / "wandb")))
    return TensorBoardExporter(TensorBoardOptions(str(folder / "runs")))


Point = tuple[int, int, str]  # step, microseconds, value


def in_tensorboard(folder: Path) -> dict[str, list[Point]]:
    """The scalars of the event files, in their order."""
    found: dict[str, list[Point]] = {}
    for event in raw_events(folder / "runs" / "run"):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                point = (event.step, round(event.wall_time * 1e6), repr(value.simple_value))
                found.setdefault(value.tag, []).append(point)
    return found


def in_mlflow(folder: Path) -> dict[str, list[Point]]:
    """The metrics of the store."""
    (run,) = judge(f"sqlite:///{folder}/mlflow.db", "bridges")
    return {
        key: [(step, time * 1000, value) for time, step, value in points]
        for key, points in run.points.items()
    }


def in_wandb(folder: Path) -> dict[str, list[Point]]:
    """The metrics of the history."""
    found: dict[str, list[Point]] = {}
    for file in wandb_support.files_of(folder / "wandb"):
        for row in wandb_support.rows_of(file):
            step, time = row.pop("global_step"), round(row["_timestamp"] * 1e6)
            for key, value in row.items():
                if key not in ("_step", "_timestamp", "_runtime"):
                    found.setdefault(key, []).append((step, time, repr(value)))
    return found


READERS = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "wandb": in_wandb}
TAGS = {
    "tensorboard": {},
    "mlflow": {"acc@1": "acc1"},
    "wandb": {"_step": "tag/_step", "train/global_step": "tag/train/global_step"},
}
RENAMED = {
    "tensorboard": [],
    "mlflow": ["key 'acc@1'"],
    "wandb": ["keys '_step', 'train/global_step'"],
}


def expected(target: str) -> dict[str, list[Point]]:
    """The points that a target is to hold, by tag, sorted."""
    tick = 1000 if target == "mlflow" else 1
    found: dict[str, list[Point]] = {}
    for key, points in POINTS.items():
        tag = TAGS[target].get(key, key)
        for row, step, time, value in points:
            time = ROW_TIMES[row] if target == "wandb" else time
            shown = repr(int(value)) if target == "wandb" and value.is_integer() else repr(value)
            found.setdefault(tag, []).append((step, (START + time) // tick * tick, shown))
    if target == "wandb":
        found["note"] = [(1, START, repr("hello"))]
    return {tag: sorted(points) for tag, points in found.items()}


def sorted_points(found: dict[str, list[Point]]) -> dict[str, list[Point]]:
    """Points in an order that does not depend on the target; numbers as the source has them."""
    return {tag: sorted(points) for tag, points in found.items()}


def as_floats(points: dict[str, list[Point]]) -> dict[str, list[Any]]:
    """The values as numbers: JSON writes 1.0 as 1."""

    def number(text: str) -> Any:
        return text if text[0] in "'\"" else repr(float(text))

    return {tag: [(s, t, number(value)) for s, t, value in some] for tag, some in points.items()}


def export(run: Run, exporter: Exporter) -> RunReport:
    """The report of one export, whose points are all read back."""
    report = export_run(run, exporter, ExportOptions())
    errors = [note.message for note in report.findings if note.severity is Severity.ERROR]
    assert not errors
    return report


@pytest.mark.parametrize("target", READERS)
def test_a_run_of_tags_arrives_with_its_tags_steps_values_and_times(
    target: str, tmp_path: Path
) -> None:
    report = export(read(), make(target, tmp_path))
    assert report.status == "exported"
    found = sorted_points(READERS[target](tmp_path))
    assert as_floats(found) == as_floats(expected(target))
    assert export(read(), make(target, tmp_path)).status == "unchanged"
    assert verify_run(read(), make(target, tmp_path), ExportOptions()).status == "unchanged"


@pytest.mark.parametrize("target", READERS)
def test_rows_that_come_later_are_appended_with_their_own_times(
    target: str, tmp_path: Path
) -> None:
    for rows, status in ((2, "exported"), (3, "appended"), (5, "appended"), (5, "unchanged")):
        assert export(read(rows), make(target, tmp_path)).status == status
    assert as_floats(sorted_points(READERS[target](tmp_path))) == as_floats(expected(target))


@pytest.mark.parametrize("target", READERS)
def test_each_change_of_a_tag_is_a_finding(target: str, tmp_path: Path) -> None:
    report = export(read(), make(target, tmp_path))
    where = [note.where for note in report.findings if note.code == "key-renamed"]
    assert where == RENAMED[target]


@pytest.mark.parametrize(("target", "codes"), [("tensorboard", []), ("mlflow", ["value-not-kept"])])
def test_a_value_that_has_no_place_in_the_target_is_a_loss(
    target: str, codes: list[str], tmp_path: Path
) -> None:
    report = export(read(), make(target, tmp_path))
    lost = [note.code for note in report.findings if note.severity is Severity.LOSS]
    assert lost == codes


def test_naming_makes_no_other_run_of_tags(tmp_path: Path) -> None:
    export(read(), make("tensorboard", tmp_path))
    raw = ExportOptions(layout=LayoutOptions(naming="raw", callback_version="4.30"))
    report = export_run(read(), make("tensorboard", tmp_path), raw)
    assert report.status == "unchanged"


def test_the_identity_of_a_run_decides_whether_it_is_another_one(tmp_path: Path) -> None:
    export(read(), make("tensorboard", tmp_path))
    other = replace(read(), identity=("tags", "run 2"))
    assert export(other, make("tensorboard", tmp_path)).status == "exported"


def test_exact_repeats_of_a_point_are_one_in_mlflow_and_a_note(tmp_path: Path) -> None:
    run = read()
    twice = Series("twice", np.array([3, 4]), np.array([1.5, 1.5]), np.full(2, START))
    run = replace(run, stream=replace(run.stream, series=(*run.stream.series, twice)))
    report = export(run, make("mlflow", tmp_path))
    assert [n.count for n in report.findings if n.code == "exact-repeats"] == [1]
    assert in_mlflow(tmp_path)["twice"] == [(3, START, "1.5")]


def test_the_x_axis_of_wandb_is_global_step(tmp_path: Path) -> None:
    export(read(), make("wandb", tmp_path))
    (file,) = wandb_support.files_of(tmp_path / "wandb")
    metrics = wandb_support.of_kind(file, "metric")
    assert [m.name for m in metrics][:1] == ["global_step"]
    assert {m.step_metric for m in metrics if m.glob_name == "*"} == {"global_step"}
