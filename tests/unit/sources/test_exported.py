"""A target that no source reads is named in the error about its location."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import bridges
from bridges.errors import SourceError
from bridges.exporters.tables.content import METRICS, PARAMS, RUNS, TEXTS
from bridges.sources.tables.units import OUR_TABLES
from tests.support import state

SOURCE = "name the source of its runs"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "trainer_state.json").write_bytes(state([{"loss": 0.5, "step": 1}]))
    return folder


def error(location: Path) -> str:
    with pytest.raises(SourceError) as caught:
        [*bridges.read(location)]
    return str(caught.value)


@pytest.mark.parametrize("to", ["parquet", "csv"])
def test_a_directory_of_tables_is_named(to: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bridges.export(source, to=to, out=out)
    for place in (out, out / "metrics", out / "runs"):
        message = error(place)
        assert message.startswith(f"{place}: found tables of a target; expected a history")
        assert SOURCE in message


def test_a_parquet_file_is_named(source: Path, tmp_path: Path) -> None:
    bridges.export(source, to="parquet", out=tmp_path / "out")
    (path,) = (tmp_path / "out" / "metrics").iterdir()
    message = error(path)
    assert message.startswith(f"{path}: found a Parquet file; expected a history")
    assert SOURCE in message


@pytest.mark.parametrize("folder", ["metrics", "runs", "wide"])
def test_a_table_of_an_export_is_read_if_it_is_wide_only(
    folder: str, source: Path, tmp_path: Path
) -> None:
    bridges.export(source, to="csv", out=tmp_path / "out", wide=True)
    (path,) = (tmp_path / "out" / folder).iterdir()
    if folder == "wide":
        (run,) = bridges.read(path)
        assert run.stream.column("loss")[1].tolist() == [0.5]
    else:
        assert error(path).startswith(f"{path}: found a table that an export wrote; expected")


def test_the_first_columns_of_our_tables_are_those_of_the_target() -> None:
    columns = {"metrics": METRICS, "texts": TEXTS, "params": PARAMS, "runs": RUNS}
    for name, known in columns.items():
        assert ",".join(known).encode().startswith(OUR_TABLES[name].rstrip(b","))


def test_projects_of_trackio_are_named(source: Path, tmp_path: Path) -> None:
    bridges.export(source, to="trackio", trackio_dir=tmp_path / "t")
    for place in (tmp_path / "t", tmp_path / "t" / "huggingface.db"):
        message = error(place)
        assert message.startswith(f"{place}: found a project of Trackio; expected a history")
        assert SOURCE in message


def test_nothing_is_written_beside_a_project_of_trackio(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    bridges.export(source, to="trackio", trackio_dir=folder)
    with closing(sqlite3.connect(folder / "huggingface.db")) as database:
        database.execute("pragma journal_mode = wal")
    before = folder.stat().st_mtime_ns
    assert "a project of Trackio" in error(folder)
    assert folder.stat().st_mtime_ns == before


def test_other_locations_keep_their_errors(tmp_path: Path) -> None:
    for name in ("metrics", "runs", "outputs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text("x")
    for place in (tmp_path, tmp_path / "outputs", tmp_path / "metrics", tmp_path / "missing"):
        assert "of a target" not in error(place)
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    assert "Trackio" not in error(tmp_path / "x.db")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.parquet")
    assert "Parquet file" not in error(tmp_path / "run.parquet")
