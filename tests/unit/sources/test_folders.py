"""The directories of a tree, and the sources that read them."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from bridges.sources import folders as module
from bridges.sources.folders import Folder, folders
from tests.unit.sources.mlflow.test_location import make_store


def listed(location: object) -> list[tuple[str, str | None]]:
    return [(folder.path, folder.source) for folder in folders(str(location))]


def test_outer_directories_come_before_inner_ones(tmp_path: Path) -> None:
    for name in ("b/c", "b/a", "run10", "run9"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "x.txt").touch()
    found = list(folders(str(tmp_path)))
    names = ["", "b", "b/a", "b/c", "run9", "run10"]
    assert [folder.path for folder in found] == [str(tmp_path / name) for name in names]
    assert found[0].folders == ("b", "run9", "run10")
    assert found[1].files == ("x.txt",)
    assert found[1].join("x.txt") == str(tmp_path / "b" / "x.txt")


def test_nothing_below_a_claimed_directory_is_claimed_again(tmp_path: Path) -> None:
    make_store(tmp_path / "mlruns", "0")
    (tmp_path / "logs").mkdir()
    assert listed(tmp_path) == [
        (str(tmp_path), None),
        (str(tmp_path / "logs"), None),
        (str(tmp_path / "mlruns"), "mlflow"),
    ]


def test_links_in_a_circle_end_and_missing_directories_are_noted(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "back").symlink_to(tmp_path)
    assert listed(tmp_path) == [(str(tmp_path), None), (str(tmp_path / "inside"), None)]
    missing: dict[str, str] = {}
    assert list(folders(str(tmp_path / "nowhere"), missing)) == []
    assert missing == {str(tmp_path / "nowhere"): "No such file or directory"}


def test_a_pattern_names_several_directories(tmp_path: Path) -> None:
    for name in ("run10", "run9", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "run1.txt").touch()
    expected = [(str(tmp_path / name), None) for name in ("run9", "run10")]
    assert listed(tmp_path / "run*") == expected


def test_a_pattern_names_files_in_several_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run10/x.tfevents", "run9/x.tfevents", "run9/y.tfevents", "run9/in/x.tfevents"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "x.tfevents").touch()

    def chosen(pattern: object) -> list[tuple[str, tuple[str, ...]]]:
        return [(folder.path, (*folder.files,)) for folder in folders(str(pattern))]

    only = ("x.tfevents",)
    nine, ten = (str(tmp_path / name) for name in ("run9", "run10"))
    assert chosen(tmp_path / "run*" / "x*") == [(nine, only), (ten, only)]
    files = fsspec.filesystem("memory")
    files.pipe({"/tree/a/x.tfevents": b"1", "/tree/a/y.tfevents": b"2", "/tree/b/x.tfevents": b"3"})
    try:
        expected = [("memory:///tree/a", ("x.tfevents",)), ("memory:///tree/b", ("x.tfevents",))]
        assert chosen("memory://tree/*/x.tfevents") == expected
    finally:
        files.rm("/tree", recursive=True)
    # files beside directories; a directory is visited once
    monkeypatch.chdir(tmp_path)
    mixed: list[tuple[str, tuple[str, ...]]] = [
        ("run9", ("x.tfevents", "y.tfevents")),
        ("run9/in", only),
        ("run10", only),
    ]
    assert chosen("*") == [*mixed, (".", only)]
    assert chosen("r*/*") == [
        ("run9/in", only),
        ("run9", ("x.tfevents", "y.tfevents")),
        mixed[2],
    ]


def test_directories_of_other_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    files = fsspec.filesystem("memory")
    files.pipe({"/tree/a/x.log": b"1", "/tree/b/y.log": b"2"})
    try:
        found = list(folders("memory://tree"))
        assert [(folder.path, folder.files) for folder in found] == [
            ("memory:///tree", ()),
            ("memory:///tree/a", ("x.log",)),
            ("memory:///tree/b", ("y.log",)),
        ]
        assert found[1].join("x.log") == "memory:///tree/a/x.log"
    finally:
        files.rm("/tree", recursive=True)


def test_every_claim_can_be_loaded() -> None:
    nothing = Folder("/nowhere", (), ())
    for path in module.CLAIMS.values():
        claims_of = __import__(path, fromlist=["claims_of"]).claims_of
        assert claims_of(nothing) is None
