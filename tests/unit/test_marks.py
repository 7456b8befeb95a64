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
from bridges.exporters import marks, mlflow_api, mlflow_marks
from bridges.exporters.brief import IS_BRIEF
from bridges.exporters.marks import Mark, Marked, MarkFile, Remembering
from bridges.exporters.mlflow import MlflowExporter
from bridges.exporters.mlflow_options import MlflowOptions, MlflowWriter
from bridges.exporters.wandb import WandbExporter
from bridges.exporters.wandb_options import WandbOptions
from bridges.migration.config import SourceSpec
from bridges.migration.memory import Memory
from bridges.migration.targets import TargetSpec
from bridges.migration.tasks import Done, Task
from bridges.pipeline import ExportOptions, export_run
from tests.support import make_run

MARK = Mark("a" * 32, 2, 1, "/é\udc80/trainer_state.json", "d" * 32, 7, 20, (0.1, -2e300), "b" * 32)
RUN = Marked("k" * 32, "run", "", MARK)


def test_every_built_in_exporter_remembers() -> None:
    found = [plug_in.load()() for plug_in in plugins.built_in("exporters")]
    assert len(found) >= 3
    assert [exporter.name for exporter in found if not isinstance(exporter, Remembering)] == []


def test_places_tell_projects_and_experiments_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert WandbExporter(WandbOptions("p", "e")).place == "e/p"
    assert WandbExporter().place == "/huggingface"
    assert MlflowExporter(MlflowOptions("sqlite:///x.db", "named")).place == "named"
    assert MlflowExporter(MlflowOptions("sqlite:///x.db")).place == "bridges"


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
def file(tmp_path: Path) -> MarkFile:
    """The marks of a directory, in which there is a marked run of two files."""
    for name in ("run/a", "run/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    marks = MarkFile(str(tmp_path / "marks"), str(tmp_path))
    put(marks, RUN)
    return marks


def paths(file: MarkFile) -> list[str]:
    return [os.path.join(file.root, name) for name in ("run", "run/a", "run/b")]


def put(file: MarkFile, *runs: Marked) -> None:
    file.put((replace(run, location=paths(file)[0]), paths(file)) for run in runs)


def in_place(file: MarkFile, *runs: Marked) -> list[Marked]:
    return [replace(run, location=paths(file)[0]) for run in runs]


def test_a_mark_of_a_run(file: MarkFile) -> None:
    assert [*file.read()] == in_place(file, RUN)
    newer = replace(RUN, mark=replace(MARK, rows=8))
    put(file, newer)
    assert [*file.read()] == in_place(file, newer)
    others = replace(RUN, key="l" * 32), replace(RUN, mark=replace(MARK, source="another"))
    put(file, *others)
    assert [*file.read()] == in_place(file, *reversed(others), newer)


def test_marks_move_with_what_they_are_of(file: MarkFile, tmp_path: Path) -> None:
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    there = MarkFile(str(moved / "marks"), str(moved))
    assert [*there.read()] == in_place(there, RUN)


def grow(folder: Path) -> None:
    (folder / "a").write_text("longer")


def touch(folder: Path) -> None:
    os.utime(folder / "b", ns=(5, 5))


def remove(folder: Path) -> None:
    (folder / "b").unlink()


def add(folder: Path) -> None:
    (folder / "c").touch()
    os.utime(folder, ns=(5, 5))  # whatever the clock of the file system is


def move(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("change", [grow, touch, remove, add, move])
def test_a_run_whose_files_changed_has_no_mark(file: MarkFile, change: Any) -> None:
    change(Path(file.root, "run"))
    assert [*file.read()] == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\xff", b"null", b"[1]", b"{}", b'{"then": 1}', b'{"then": [1]}', b'"then"'],
)
def test_a_broken_line_is_ignored(file: MarkFile, content: bytes) -> None:
    with open(file.path, "ab") as lines:
        lines.write(b"\n" + content)
    assert [*file.read()] == in_place(file, RUN)
    Path(file.path).write_bytes(content)
    assert [*file.read()] == []


def test_a_line_that_is_cut_off_anywhere_is_ignored_and_harms_no_other(file: MarkFile) -> None:
    content, other = Path(file.path).read_bytes(), replace(RUN, key="l" * 32)
    for length in range(len(content)):
        Path(file.path).write_bytes(content[:length])
        assert [*file.read()] == []
        put(file, other)
        assert [*file.read()] == in_place(file, other)


def test_where_no_mark_can_be_kept_there_is_none(file: MarkFile) -> None:
    put(MarkFile(f"{file.root}/nowhere/marks", file.root), RUN)
    file.put([(replace(RUN, key="x", location="x"), [*paths(file), "not there"])])
    assert [*file.read()] == in_place(file, RUN)
    assert sorted(os.listdir(file.root)) == ["marks", "run"]
    Path(file.path).unlink()
    assert [*file.read()] == []
    Path(file.path).mkdir()
    put(file, RUN)
    assert [*file.read()] == []


def test_lines_that_are_void_do_not_pile_up(
    file: MarkFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "SPARE", 5)
    others = [replace(RUN, key=f"{number:032}") for number in range(3)]
    put(file, *others)
    for _ in range(20):
        put(file, RUN)
        assert [*file.read()] == in_place(file, RUN, *reversed(others))
        assert len(Path(file.path).read_bytes().split(b"\n")) <= 2 * 4 + 5 + 1
    assert sorted(os.listdir(file.root)) == ["marks", "run"]


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_mlflow_asks_page_by_page_and_keeps_no_mark_that_is_too_long(
    writer: MlflowWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_marks, "PAGE", 2)
    monkeypatch.setattr(mlflow_api, "PAGE", 2)
    monkeypatch.setattr("bridges.exporters.mlflow_sdk.PAGE", 2)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    marked = []
    for number in range(5):
        exporter = MlflowExporter(MlflowOptions(uri, f"experiment {number % 3}", writer))
        run = make_run([{"loss": float(number), "step": 1}])
        report = export_run(run, exporter, ExportOptions())
        mark = replace(MARK, digest=report.digest, rows=report.rows)
        marked.append(Marked(report.key, report.run, report.location or "", mark))
    long = replace(marked[0], mark=replace(MARK, source="x" * 9000))
    other = MlflowExporter(MlflowOptions(uri, "another", writer))
    other.remember([*marked[1:], long])
    assert by_key(other.remembered()) == by_key(marked[1:])


def by_key(runs: Any) -> list[Marked]:
    return sorted(runs, key=lambda run: run.key)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    exporter = MlflowExporter(
        MlflowOptions(f"sqlite:///{tmp_path}/mlflow.db", mlflow_writer="direct")
    )
    assert [*exporter.remembered()] == []
    exporter.preload()
    (tmp_path / "empty.db").touch()
    assert [*MlflowExporter(MlflowOptions(f"sqlite:///{tmp_path}/empty.db")).remembered()] == []
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
