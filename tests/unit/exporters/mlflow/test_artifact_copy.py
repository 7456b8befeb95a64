"""Copies of file trees: names that lead out of a tree, memory, and the order of steps."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.exporters.mlflow.artifact_copy.copy_tree import Copying
from bridges.exporters.mlflow.artifact_copy.local_tree import MAX_WRITERS, PARTIAL, LocalTree
from bridges.exporters.mlflow.artifact_copy.trees import Content, Entry, FileError, NoFiles
from bridges.report import ArtifactCounts


class Listed:
    """A tree with files of these names; each holds its name."""

    parallel = True

    def __init__(self, *names: str) -> None:
        self.names = names

    def entries(self) -> Iterator[Entry]:
        return (Entry(name, len(name.encode())) for name in self.names)

    def size(self, path: str) -> int | None:
        return len(path.encode()) if path in self.names else None

    def chunks(self, path: str) -> Iterator[bytes]:
        yield path.encode()


class Broken(Listed):
    """A tree whose files break off."""

    def chunks(self, path: str) -> Iterator[bytes]:
        yield b"half"
        raise FileError("the disk is gone")


def copying() -> Copying:
    return Copying("copy", lambda phase: None)


def test_names_that_lead_out_of_the_tree_are_refused(tmp_path: Path) -> None:
    """A server can list any names."""
    names = ("../up", "/etc/x", "a/../../up", "..\\up", "a//b", "", ".", "nul\0", "good/é")
    state = copying()
    state.tree(Listed(*names), LocalTree(str(tmp_path / "in" / "root")), "")
    (finding,) = state.findings
    assert (finding.code, finding.count, finding.fails) == ("artifacts-not-copied", 8, True)
    found = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert sorted(found) == ["in", "in/root", "in/root/good", "in/root/good/é"]


def test_a_file_that_breaks_off_leaves_the_older_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("older")
    state = copying()
    state.tree(Broken("a"), LocalTree(str(root)), "model/")
    (finding,) = state.findings
    assert (finding.where, finding.message) == ("model/a", "not copied: the disk is gone")
    assert (root / "a").read_text() == "older"
    assert [path.name for path in tmp_path.rglob("*")] == ["root", "a"]


def test_a_leftover_of_a_killed_export_is_replaced(tmp_path: Path) -> None:
    for number in range(MAX_WRITERS):
        (tmp_path / f"{PARTIAL}{number}").write_text("left over, and longer than the file")
    LocalTree(str(tmp_path / "root")).put("a", Content(Listed("a"), Entry("a"), lambda size: None))
    assert (tmp_path / "root" / "a").read_text() == "a"
    assert len([*tmp_path.glob(f"{PARTIAL}*")]) == MAX_WRITERS - 1


def test_a_file_in_place_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    with pytest.raises(FileError, match=r"File exists|Not a directory"):
        LocalTree(str(tmp_path)).put("a/b", Content(Listed("a/b"), Entry("a/b"), lambda size: None))


def test_the_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    source, size = tmp_path / "source", 96 << 20
    source.mkdir()
    with (source / "large").open("wb") as file:
        file.truncate(size)
    state = copying()
    tracemalloc.start()
    state.tree(LocalTree(str(source)), LocalTree(str(tmp_path / "target")), "")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert state.counts == ArtifactCounts(1, size, 1, size)
    assert peak < 8 << 20


def test_a_plan_reads_no_file() -> None:
    state = Copying("plan", lambda phase: None)
    state.tree(Broken("a", "bc"), NoFiles(), "")
    assert state.counts == ArtifactCounts(2, 3, 2, 3)
    assert not state.findings


def test_the_progress_is_reported(tmp_path: Path) -> None:
    phases: list[str] = []
    state = Copying("copy", phases.append)
    state.tree(Listed("a", "b"), LocalTree(str(tmp_path)), "")
    assert phases[:1] == ["copying artifacts (0 MB) of"]  # the next one after a while
