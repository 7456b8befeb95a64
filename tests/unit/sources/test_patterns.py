"""Quoted patterns: files of any name that a pattern asks for are read, each under its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridges
from bridges.errors import SourceError, TreeError
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from tests.support import DATA, state
from tests.unit.sources.trainer.test_run_directory import HISTORY, put, read, told

FLAT = DATA / "faults" / "flat"


def parts(location: str) -> list[str]:
    """The names of the runs of all bundles."""
    source = RunDirectorySource()
    bundles = source.split(location)
    return [run.name for bundle in bundles for run in source.read_part(bundle, ReadOptions())]


def test_both_files_of_a_pattern_are_read() -> None:
    runs = read(f"{FLAT}/*.json")
    assert [run.name for run in runs] == ["alpha", "beta"] == parts(f"{FLAT}/*.json")
    assert [len(run.stream) for run in runs] == [
        len(bridges.read(FLAT / f"{name}.json")[0].stream) for name in ("alpha", "beta")
    ]


def test_files_of_one_name_in_several_directories(tmp_path: Path) -> None:
    for number, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        rows = [{**row, "loss": float(number)} for row in HISTORY]
        (tmp_path / folder / "x.json").write_bytes(state(rows))
    pattern = f"{tmp_path}/*/x*.json"
    assert [run.name for run in read(pattern)] == ["a/x", "b/x"] == parts(pattern)


def test_what_lies_beside_a_model_is_no_history(tmp_path: Path) -> None:
    put(tmp_path / "out", HISTORY)
    for name in ("config", "generation_config", "tokenizer", "vocab", "model.safetensors.index"):
        (tmp_path / "out" / f"{name}.json").write_text("{}")
    (run,) = read(f"{tmp_path}/**/*.json")
    assert run.name == "out"


def test_another_file_beside_a_history_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(state(HISTORY))
    (tmp_path / "notes.json").write_text('{"text": 1}')
    (run,) = read(f"{tmp_path}/*.json")
    assert (run.name, "files-ignored" in told(run)) == ("a", True)


def test_where_nothing_is_a_history_each_file_is_told(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.json").write_text('{"text": 1}')
    with pytest.raises(TreeError) as raised:
        read(f"{tmp_path}/*.json")
    assert [error.source for error in raised.value.errors] == [
        str(tmp_path / "a.json"),
        str(tmp_path / "b.json"),
    ]


def test_a_broken_file_of_a_pattern_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(state(HISTORY))
    (tmp_path / "b.json").write_bytes(state(HISTORY)[:300])
    with pytest.raises(TreeError, match=r"b\.json"):
        read(f"{tmp_path}/*.json")


def test_of_a_directory_the_message_has_the_pattern() -> None:
    with pytest.raises(SourceError, match=r"in quotes: '.*/flat/\*\.json'"):
        read(FLAT)


def test_a_table_of_unknown_origin_asks_for_its_format(tmp_path: Path) -> None:
    (tmp_path / "losses.csv").write_text("update;loss\n1;2.5\n2;1.5\n")
    with pytest.raises(SourceError) as caught:
        bridges.read(tmp_path / "*.csv")
    assert caught.value.found == "no log that matches (1 .csv)"
    assert "name the file itself, or give its format with format" in caught.value.remedy
