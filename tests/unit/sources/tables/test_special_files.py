"""Special files with the names of tables or settings are named, and never waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bridges.errors import SourceError
from bridges.pipeline.read_runs import source_of
from bridges.sources.options import ReadOptions
from bridges.sources.place import sources_at
from bridges.sources.tables.source import TablesSource
from bridges.stream.model import Run
from tests.event_files import START, tagged, write
from tests.unit.sources.tables.tables import LIGHTNING, codes, one, put, runs


def pipe(path: Path) -> None:
    os.mkfifo(path)


def local_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def broken_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere.csv")


def circular_link(path: Path) -> None:
    path.symlink_to(path)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a named pipe": pipe,
    "a socket": local_socket,
    "a device": device,
    "a broken link": broken_link,
    "a broken link ": circular_link,
}


def read_all(folder: Path) -> tuple[list[Run], str]:
    """The runs of a tree, and the message of its error."""
    found: list[Run] = []
    try:
        found.extend(source_of(str(folder), None).read(str(folder), ReadOptions()))
    except SourceError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_with_the_name_of_a_table(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "version_0/metrics.csv", LIGHTNING)
    (tmp_path / "version_1").mkdir()
    SPECIAL[kind](tmp_path / "version_1/metrics.csv")
    found, message = read_all(tmp_path)
    assert [run.name for run in found] == ["version_0"] or len(found) == 1
    assert f"version_1/metrics.csv: found {kind.strip()}; expected a re" in message
    assert "empty" not in message
    with pytest.raises(SourceError) as caught:
        runs(tmp_path / "version_1/metrics.csv")
    assert "metrics.csv: found " in str(caught.value)


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_with_any_name_is_counted(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "metrics.csv", LIGHTNING)
    SPECIAL[kind](tmp_path / "data.csv")
    run = one(tmp_path)
    assert "table-uncertain" in codes(run)
    assert "table-empty" not in codes(run)


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_with_the_name_of_settings(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "metrics.csv", LIGHTNING)
    SPECIAL[kind](tmp_path / "hparams.yaml")
    (found,) = (each for each in one(tmp_path).findings if each.code == "beside-unreadable")
    assert kind.strip() in found.message


def test_directories_with_such_names(tmp_path: Path) -> None:
    """A directory may have any name, and is looked into."""
    put(tmp_path / "metrics.csv/metrics.csv", LIGHTNING)
    put(tmp_path / "metrics.csv/hparams.yaml/x", "")
    run = one(tmp_path)
    (found,) = (each for each in run.findings if each.code == "beside-unreadable")
    assert "hparams.yaml: found a directory" in found.message
    assert one(tmp_path / "metrics.csv").stream.points == run.stream.points


def test_a_special_file_beside_event_files(tmp_path: Path) -> None:
    write(tmp_path / "a", [tagged(START, 1, "loss", 0.5)])
    pipe(tmp_path / "a/progress.csv")
    (run,), message = read_all(tmp_path)
    (found,) = (each for each in run.findings if each.code == "table-unreadable")
    assert (found.fails, message) == (True, "")
    assert "found a named pipe" in found.message


def test_packed_data_that_is_none(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv.gz", b"\x1f\x8b" + b"nonsense" * 9)
    assert sources_at(str(tmp_path)) == ("tables",)
    with pytest.raises(SourceError, match="found gzip data that cannot be unpacked"):
        runs(tmp_path)


def test_a_tree_of_tables_with_a_special_file(tmp_path: Path) -> None:
    put(tmp_path / "dvclive/plots/metrics/loss.tsv", "step\tloss\n0\t1.5\n")
    pipe(tmp_path / "dvclive/plots/metrics/acc.tsv")
    run = one(tmp_path)
    assert [*run.stream.keys] == ["loss"]
    assert "table-uncertain" in codes(run)
    assert TablesSource().split(str(tmp_path))[0].size > 0
