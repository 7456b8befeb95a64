"""Formats that users declare: the meaning of their keys, and the directories that they claim."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from bridges.pipeline.read_runs import source_of
from bridges.pipeline.watching import stamps
from bridges.sources.config_text import READERS
from bridges.sources.options import ReadOptions
from bridges.sources.tables import formats
from bridges.sources.tables.formats import TableFormat, built_in
from bridges.sources.tables.source import TablesSource
from bridges.stream.layout import lay_out
from bridges.stream.model import Run
from bridges.stream.options import LayoutChoices
from tests.event_files import START, tagged, write
from tests.unit.sources.tables.tables import KERAS, LIGHTNING, SB3, points, put


def declared(**own: dict[str, Any]) -> ReadOptions:
    """Options with formats of a config."""
    made = TypeAdapter(dict[str, TableFormat]).validate_python(own)
    return ReadOptions(tables=tuple(made.items()))


def read(location: object, options: ReadOptions) -> list[Run]:
    """The runs at a location, by the source that is chosen for it."""
    return list(source_of(str(location), None, options).read(str(location), options))


def of_format(path: str, **keys: Any) -> Run:
    """The run of a table with these keys of a format."""
    (run,) = read(path, declared(mine={"files": "*", "step": "step", **keys}))
    return run


def epochs_of(run: Run) -> list[int]:
    """The steps of a run's rows with epochs on the x-axis of TensorBoard."""
    layout = lay_out(run, "tensorboard", LayoutChoices(x_axis="epoch"))
    return [int(step) for step in layout.stream.step]


def test_a_column_of_epochs_feeds_the_x_axis(tmp_path: Path) -> None:
    path = put(tmp_path / "a.dat", "step,Epoch,loss\n10,0.5,2\n20,1.5,1\n")
    run = of_format(path, epoch="Epoch")
    assert points(run)["Epoch"] == [(10, 0.5), (20, 1.5)]
    assert epochs_of(run) == [500, 1500]


def test_steps_that_are_epochs_feed_the_x_axis(tmp_path: Path) -> None:
    path = put(tmp_path / "log.csv", KERAS)
    (run,) = TablesSource().read(path, ReadOptions())
    assert "epoch" not in points(run)
    assert epochs_of(run) == [0, 1000]
    (run,) = TablesSource().read(put(tmp_path / "metrics.csv", LIGHTNING), ReadOptions())
    assert epochs_of(run) == [0, 0, 0]


def test_blank_cells_can_be_nan(tmp_path: Path) -> None:
    path = put(tmp_path / "a.dat", "step,loss,acc,phase\n1,2,,a\n2,,,\n3,1,NA,b\n4,0.5,7,c\n")
    absent = points(of_format(path, missing="NA"))
    assert absent["loss"] == [(1, 2.0), (3, 1.0), (4, 0.5)]
    found = points(of_format(path, missing="NA", blank="nan"))
    found["loss"].sort()
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4]
    assert math.isnan(found["loss"][1][1])
    assert found["acc"][0] == (4, 7)
    assert [step for step, value in found["acc"][1:] if math.isnan(value)] == [1, 2, 3]
    assert found["phase"] == [(1, "a"), (3, "b"), (4, "c")]


def test_blanks_around_names_can_be_kept(tmp_path: Path) -> None:
    path = put(tmp_path / "a.dat", "step, loss \n1,2\n step , loss \n")
    assert points(of_format(path, strip=False)) == {" loss ": [(1, 2)]}
    assert points(of_format(path)) == {"loss": [(1, 2)]}


@pytest.mark.parametrize(
    ("prefix", "key"),
    [("{stem}/", "train_log/loss"), ("{*}:", "train:loss"), ("", "loss"), ("x.", "x.loss")],
)
def test_a_prefix(tmp_path: Path, prefix: str, key: str) -> None:
    path = put(tmp_path / "train_log.dat", "step,loss\n1,2\n")
    assert {*points(of_format(path, files="*_log.dat", prefix=prefix))} == {key}


def test_a_group_of_the_parent(tmp_path: Path) -> None:
    path = put(tmp_path / "sweep/version_3/a.dat", "step,loss\n1,2\n")
    assert of_format(path).group is None
    assert of_format(path, group_by_parent="run_*").group is None
    run = of_format(path, group_by_parent=["run_*", "version_*"])
    assert run.group == "sweep"


OWN = {"files": "*.dat", "step": "n"}


def mixed(folder: Path) -> Path:
    """A tree with a table of Lightning and one of a declared format."""
    put(folder / "lightning_logs/version_0/metrics.csv", LIGHTNING)
    put(folder / "own/a.dat", "n,loss\n3,0.5\n")
    return folder


def test_declared_formats_are_recognised_beside_built_in_ones(tmp_path: Path) -> None:
    options = declared(own=OWN)
    found = {run.name for run in read(mixed(tmp_path), options)}
    assert found == {"lightning_logs/version_0", "own/a.dat"}
    assert [run.name for run in read(tmp_path / "own/a.dat", options)] == ["a.dat"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [("#own", {"own/a.dat"}), ("", {"own/a.dat"}), ("#both", {"lightning_logs/version_0/metrics"})],
)
def test_a_chosen_format_reads_all_directories(
    tmp_path: Path, choice: str, names: set[str]
) -> None:
    """Other directories with tables of built-in formats do not hide those of the chosen one."""
    text = "tables:\n  own: {files: '*.dat', step: n}\n"
    more = "  both: {files: 'metrics.csv', step: step}\n"
    own = put(tmp_path / "f.yaml", text + (more if choice else ""))
    options = ReadOptions(format=own + choice)
    source = TablesSource().configured(options)
    found = {run.name for run in source.read(str(mixed(tmp_path / "x")), options)}
    assert found == {name.removesuffix("/metrics") for name in names}


def test_a_chosen_format_is_read_beside_event_files(tmp_path: Path) -> None:
    write(tmp_path / "a", [tagged(START, 1, "loss", 0.5)])
    put(tmp_path / "a/progress.csv", SB3)
    put(tmp_path / "b/progress.csv", SB3)
    options = ReadOptions(format="sb3")
    source = TablesSource().configured(options)
    assert [run.name for run in source.read(str(tmp_path), options)] == ["a", "b"]


def test_the_files_of_declared_formats_are_watched(tmp_path: Path) -> None:
    options = declared(own=OWN)
    found = stamps(str(mixed(tmp_path)), None, options)
    assert {Path(path).name for path in found or {}} == {"metrics.csv", "a.dat"}
    (part,) = TablesSource().configured(options).split(str(tmp_path / "own"))
    assert [Path(path).name for path in part.files] == ["a.dat"]


def test_a_declared_format_replaces_a_built_in_one(tmp_path: Path) -> None:
    put(tmp_path / "version_0/metrics.csv", LIGHTNING)
    (run,) = read(tmp_path, declared(lightning={"files": "metrics.csv", "step": "epoch"}))
    assert run.stream.step.tolist() == [0, 0, 0]


def test_the_built_in_formats_are_those_of_their_file_as_pydantic_reads_it() -> None:
    path = Path(formats.__file__).with_name("formats.toml")
    read = READERS[".toml"](path.read_bytes()).data
    checked = TypeAdapter(dict[str, TableFormat]).validate_python(read)
    assert built_in() == checked
    assert [*built_in()] == [*checked]
