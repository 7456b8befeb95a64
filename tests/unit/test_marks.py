"""Marks: what they say survives as text, what is broken is none, and every target keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges import plugins
from bridges.exporters import mlflow_api, mlflow_marks
from bridges.exporters.brief import IS_BRIEF
from bridges.exporters.marks import Mark, Marked, Remembering, marks_in, put_mark
from bridges.exporters.mlflow import MlflowExporter
from bridges.exporters.wandb import WandbExporter
from bridges.migration.config import SourceSpec
from bridges.migration.memory import Memory
from bridges.migration.targets import TargetSpec
from bridges.migration.tasks import Done, Task
from bridges.pipeline import ExportOptions, export_run
from tests.support import make_run

MARK = Mark("a" * 32, 2, 1, "/é\udc80/trainer_state.json", "d" * 32, 7, 20, (0.1, -2e300))
RUN = Marked("k" * 32, "run", "", MARK)


def test_every_built_in_exporter_remembers() -> None:
    found = [plug_in.load()() for plug_in in plugins.built_in("exporters")]
    assert len(found) >= 3
    assert [exporter.name for exporter in found if not isinstance(exporter, Remembering)] == []


def test_places_tell_projects_and_experiments_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert WandbExporter("p", "e").place == "e/p"
    assert WandbExporter().place == "/huggingface"
    assert MlflowExporter("sqlite:///x.db", "named").place == "named"
    assert MlflowExporter("sqlite:///x.db").place == "bridges"


def test_a_mark_survives_as_text() -> None:
    text = MARK.text()
    assert text.isascii()
    assert Mark.parse(text) == MARK
    assert Mark.parse(replace(MARK, course=(1 / 3,)).text()) == replace(MARK, course=(0.3333,))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1", "{", '{"made_of": 1}'])
def test_another_text_is_no_mark(text: str) -> None:
    assert Mark.parse(text) is None


@pytest.mark.parametrize("name", [*json.loads(MARK.text())])
def test_a_mark_that_lacks_something_is_none(name: str) -> None:
    lacking = {key: value for key, value in json.loads(MARK.text()).items() if key != name}
    assert Mark.parse(json.dumps(lacking)) is None


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A run's directory of two files, with a mark."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    put_mark(str(tmp_path), RUN, ["a", "b"])
    return str(tmp_path)


def marks(folder: str) -> list[tuple[Marked, list[str]]]:
    return [*marks_in(folder, os.listdir(folder))]


def mark_file(folder: str) -> Path:
    (path,) = Path(folder).glob(".bridges.*")
    return path


def test_a_mark_beside_a_run(folder: str) -> None:
    assert marks(folder) == [(replace(RUN, location=folder), ["a", "b"])]
    assert sorted(os.listdir(folder)) == [f".bridges.{RUN.key}.json", "a", "b"]
    newer = replace(RUN, mark=replace(MARK, rows=8))
    put_mark(folder, newer, ["a", "b"])
    assert marks(folder) == [(replace(newer, location=folder), ["a", "b"])]
    put_mark(folder, replace(RUN, key="l" * 32), ["a"])
    assert sorted(files for _, files in marks(folder)) == [["a"], ["a", "b"]]


def grow(folder: str) -> None:
    Path(folder, "a").write_text("longer")


def touch(folder: str) -> None:
    os.utime(Path(folder, "b"), ns=(5, 5))


def remove(folder: str) -> None:
    Path(folder, "b").unlink()


@pytest.mark.parametrize("change", [grow, touch, remove])
def test_a_run_whose_files_changed_has_no_mark(folder: str, change: Any) -> None:
    change(folder)
    assert marks(folder) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\xff", b"null", b"[1]", b"{}", b'{"files": 1}', b'{"files": {}}', b'"files"'],
)
def test_a_broken_mark_is_ignored(folder: str, content: bytes) -> None:
    mark_file(folder).write_bytes(content)
    assert marks(folder) == []


def test_a_mark_cut_off_anywhere_is_ignored(folder: str) -> None:
    path = mark_file(folder)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert marks(folder) == []


def test_a_mark_that_is_a_directory_or_gone_is_ignored(folder: str) -> None:
    names = os.listdir(folder)
    mark_file(folder).unlink()
    assert [*marks_in(folder, names)] == []
    Path(folder, f".bridges.{RUN.key}.json").mkdir()
    assert marks(folder) == []


def test_where_no_mark_can_be_kept_there_is_none(folder: str) -> None:
    put_mark(f"{folder}/nowhere", RUN, [])
    put_mark(folder, replace(RUN, key="x"), ["a", "not there"])
    assert len(marks(folder)) == 1
    assert len(os.listdir(folder)) == 3


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_mlflow_asks_page_by_page_and_keeps_no_mark_that_is_too_long(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_marks, "PAGE", 2)
    monkeypatch.setattr(mlflow_api, "PAGE", 2)
    monkeypatch.setattr("bridges.exporters.mlflow_sdk.PAGE", 2)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    marked = []
    for number in range(5):
        exporter = MlflowExporter(uri, f"experiment {number % 3}", writer)
        run = make_run([{"loss": float(number), "step": 1}])
        report = export_run(run, exporter, ExportOptions())
        mark = replace(MARK, digest=report.digest, rows=report.rows)
        marked.append(Marked(report.key, report.run, report.location or "", mark))
    long = replace(marked[0], mark=replace(MARK, source="x" * 9000))
    other = MlflowExporter(uri, "another", writer)
    other.remember([*marked[1:], long])
    assert by_key(other.remembered()) == by_key(marked[1:])


def by_key(runs: Any) -> list[Marked]:
    return sorted(runs, key=lambda run: run.key)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    exporter = MlflowExporter(f"sqlite:///{tmp_path}/mlflow.db", mlflow_writer="direct")
    assert [*exporter.remembered()] == []
    exporter.preload()
    (tmp_path / "empty.db").touch()
    assert [*MlflowExporter(f"sqlite:///{tmp_path}/empty.db").remembered()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_target_that_cannot_be_asked_remembers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not waited for before others get their runs."""
    asked = []

    def remembered(self: MlflowExporter) -> Iterator[Marked]:
        asked.append(IS_BRIEF.get())
        raise RuntimeError
        yield  # it is a generator

    monkeypatch.setattr(MlflowExporter, "remembered", remembered)
    memory = Memory([TargetSpec(to="mlflow")])
    memory.load()
    task = Task(SourceSpec(location="x"), "x", tuple(memory.targets))
    assert memory.sift(task) == (task, Done(()))
    assert asked == [True]
