"""Event files as a source: the contract, damage, and growth at every record."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from bridges.errors import BridgeError, SourceError, TreeError
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.sources.fetch import MissingSourceError, fetch
from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.finding import Finding
from bridges.stream.identity import prefix_digest
from bridges.stream.model import Run
from bridges.testing.sources import SourceContract
from tests.event_files import (
    START,
    USUAL,
    borders,
    histogram,
    hparams,
    losses,
    scalars,
    tagged,
    text,
    write,
)

LATER = START + 1000


class TestContract(SourceContract):
    source = TensorBoardSource

    def write_run(self, folder: Path) -> str:
        return str(write(folder / "run", losses(START, range(5))))

    def write_broken(self, folder: Path) -> str:
        path = Path(self.write_run(folder))
        data = bytearray(path.read_bytes())
        data[-30] ^= 1
        path.write_bytes(data)
        return str(path)


class TestContractOfDirectories(TestContract):
    def write_run(self, folder: Path) -> str:
        for split, number in (("train", 0), ("validation", 1)):
            name = f"events.out.tfevents.1.host.7.{number}.v2"
            write(folder / "run" / split, losses(START + number / 10, range(5)), name=name)
        write(folder / "other", losses(LATER, range(5)))
        write(folder / "other", losses(LATER + 100, range(5)), at=LATER + 100)
        return str(folder)

    def write_broken(self, folder: Path) -> str:
        return TestContract.write_broken(TestContract(), folder)


def read(location: object, **options: Any) -> tuple[list[Run], list[str]]:
    """The runs, and the errors after them."""
    runs: list[Run] = []
    try:
        runs += TensorBoardSource().read(str(location), ReadOptions(**options))
    except TreeError as error:
        return runs, [str(each) for each in error.errors]
    except BridgeError as error:
        return runs, [str(error)]
    return runs, []


def notes(run: Run) -> list[Finding]:
    """The findings, without those of every run."""
    assert run.findings[0].code == "event-format"
    return [each for each in run.findings if each.code not in USUAL]


def found(run: Run) -> list[tuple[str, int]]:
    return [(each.code, each.count) for each in notes(run)]


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_torn_tail_is_noted_but_not_while_it_grows(tmp_path: Path) -> None:
    path = write(tmp_path / "run", losses(START, range(5)))
    path.write_bytes(path.read_bytes()[:-3])
    ((run,), errors) = read(tmp_path)
    assert (len(run.stream), found(run), errors) == (4, [("record-torn", 1)], [])
    ((run,), _) = read(tmp_path, growing=True)  # without the last row, which may get more points
    assert (len(run.stream), found(run)) == (3, [])


def test_zeros_behind_the_last_record_are_no_finding(tmp_path: Path) -> None:
    path = write(tmp_path / "run", losses(START, range(5)))
    path.write_bytes(path.read_bytes() + bytes(100))
    ((run,), errors) = read(tmp_path)
    assert (len(run.stream), found(run), errors) == (5, [], [])


def test_a_damaged_file_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", losses(START, range(5)))
    write(tmp_path / "a", losses(LATER, range(5, 9)), at=LATER)
    write(tmp_path / "b", losses(START, range(5)), name="events.out.tfevents.1.host.8.0")
    flipped(path, borders(path.read_bytes())[3] - 10)
    runs, (error,) = read(tmp_path)
    assert [(run.name, len(run.stream)) for run in runs] == [("a", 4), ("b", 5)]
    assert error.startswith(f"{path}: byte ")
    assert "the CRC of its data is wrong" in error
    assert "--salvage" in error


def test_salvage_leaves_out_damaged_records_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a", losses(START, range(5)))
    flipped(path, borders(path.read_bytes())[3] - 10)
    ((run,), errors) = read(tmp_path, salvage=True)
    assert ([*run.stream.step], errors) == ([0, 2, 3, 4], [])
    assert found(run) == [("record-damaged", 1)]
    assert notes(run)[0].fails


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty", b"", "events-empty"),
        ("zeros", bytes(500), "events-empty"),
        ("cut", b"\x18\0\0\0\0", "events-empty"),
        ("macos", b"\0\5\x16\7\0\2\0\0Mac OS X        ", "not-event-files"),
        ("page", b"<html>a page of a server</html>", "not-event-files"),
    ],
)
def test_files_of_other_kinds_are_noted(
    tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    write(tmp_path / "run", losses(START, range(5)))
    (tmp_path / "run" / f"events.out.tfevents.1.{name}").write_bytes(content)
    ((run,), errors) = read(tmp_path)
    assert (len(run.stream), found(run), errors) == (5, [(code, 1)], [])


def test_a_file_without_points_is_noted_once(tmp_path: Path) -> None:
    write(tmp_path / "b", losses(START, range(5)))
    write(tmp_path / "c", losses(LATER, range(5)))
    write(tmp_path / "a", [])
    runs, errors = read(tmp_path)
    assert [(run.name, found(run)) for run in runs] == [("b", [("events-empty", 1)]), ("c", [])]
    assert not errors


def test_metadata_of_macos_are_not_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path / "run", losses(START, range(5)))
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    ((run,), errors) = read(tmp_path)
    assert (found(run), errors) == ([], [])


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", losses(START, range(5)))
    pointer = tmp_path / "b" / "events.out.tfevents.1.host.8.0"
    pointer.parent.mkdir()
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    runs, (error,) = read(tmp_path)
    assert [run.name for run in runs] == ["a"]
    assert error.startswith(str(pointer))
    assert "git lfs pull" in error


@pytest.mark.parametrize("content", [None, []])
def test_a_location_without_points_is_an_error(tmp_path: Path, content: Any) -> None:
    if content is not None:
        write(tmp_path / "run", content)
    with pytest.raises(MissingSourceError, match="expected event files with scalars"):
        [*TensorBoardSource().read(str(tmp_path), ReadOptions())]


def test_files_packed_by_gzip(tmp_path: Path) -> None:
    path = write(tmp_path / "run", losses(START, range(5)))
    plain = read(tmp_path)[0][0]
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    ((run,), _) = read(tmp_path)
    assert prefix_digest(run.stream, 5) == prefix_digest(plain.stream, 5)
    assert run.identity == plain.identity


def test_other_kinds_of_data_are_counted(tmp_path: Path) -> None:
    events = [histogram(START, step, "weights") for step in range(3)]
    write(tmp_path / "run", [*losses(START, range(2)), *events])
    ((run,), _) = read(tmp_path)
    (finding,) = notes(run)
    assert (finding.code, finding.count, finding.fails) == ("not-carried", 3, False)
    assert "weights" in finding.where


def test_a_moved_directory_is_the_same_run_and_a_copy_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "run", losses(START, range(5)))
    ((before,), _) = read(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    ((after,), _) = read(tmp_path / "b")
    assert before.identity == after.identity
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / path.name).write_bytes((tmp_path / "b" / "run" / path.name).read_bytes())
    runs, _ = read(tmp_path)
    assert [found(run) for run in runs] == [[], [("run-twice", 1)]]


def test_secrets_in_params_are_masked(tmp_path: Path) -> None:
    write(tmp_path / "run", [hparams(START, hf_token="hf_" + "a" * 34), *losses(START, [1])])
    ((run,), _) = read(tmp_path)
    assert "a" * 34 not in str(run.params)
    assert found(run) == [("secret-masked", 1)]


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("folders", [["run"], ["run/train", "run/validation"]])
def test_growth_at_every_record_gives_one_run(
    tmp_path: Path, folders: list[str], growing: bool
) -> None:
    paths, contents = [], []
    for number, folder in enumerate(folders):
        events = [
            scalars(START + number / 10, 0, loss=1, acc=2),
            tagged(START + 1 + number / 10, 1, "loss", 3),
            tagged(START + 2 + number / 10, 1, "acc", 4),
            tagged(START + 3, 1, "loss", 5),
            text(START + 4, 2, "note", "a"),
            tagged(START + 5, 2, "loss", float("nan")),
        ]
        name = f"events.out.tfevents.1.host.7.{number}.v2"
        paths.append(write(tmp_path / "logs" / folder, events, name=name))
        contents.append(paths[-1].read_bytes())
        paths[-1].unlink()
    grown, once = MemoryExporter(), MemoryExporter()
    for path, content in zip(paths, contents, strict=True):
        for end in borders(content):
            for cut in (end, end + 5):
                path.write_bytes(content[:cut])
                for run in read(tmp_path / "logs", growing=growing)[0]:
                    report = export_run(run, grown, ExportOptions())
                    assert report.status != "failed", report.findings
    ((run,), _) = read(tmp_path / "logs")
    last = export_run(run, grown, ExportOptions())
    assert (last.status, last.verified) == ("appended" if growing else "unchanged", True)
    export_run(run, once, ExportOptions())
    assert len(grown.runs) == len(once.runs) == 1


def test_a_tree_in_another_file_system(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    path = write(tmp_path / "run", losses(START, range(5)))
    files.pipe({"/logs/run/events.out.tfevents.1.host.7.0": path.read_bytes()})
    try:
        ((run,), errors) = read("memory://logs")
        assert (run.name, len(run.stream), errors) == ("run", 5, [])
        ((alone,), _) = read("memory://logs/run/events.out.tfevents.1.host.7.0")
        assert alone.identity == run.identity
        parts = TensorBoardSource().split("memory://logs")
        assert [len(each.stream) for each in TensorBoardSource().read_part(parts[0], ReadOptions())]
    finally:
        files.rm("/logs", recursive=True)


def test_a_large_tree_is_read_directory_by_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bridges.sources.tensorboard import reading

    monkeypatch.setattr(reading, "AHEAD_BYTES", 1)
    for number in range(3):
        write(tmp_path / f"run{number}", losses(START, range(5)))
    fetched: list[str] = []

    def noted(location: str, *, expected: str) -> bytes:
        fetched.append(location)
        return fetch(location, expected=expected)

    monkeypatch.setattr(reading, "fetch", noted)
    counts = [len(fetched) for _ in TensorBoardSource().read(str(tmp_path), ReadOptions())]
    assert counts == [1, 2, 3]


def test_the_values_of_a_run_are_floats(tmp_path: Path) -> None:
    write(tmp_path / "run", losses(START, range(5)))
    ((run,), _) = read(tmp_path)
    assert all(series.values.dtype == np.float64 for series in run.stream.series)


def test_the_error_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing there"):
        [*TensorBoardSource().read(str(tmp_path / "tfevents.1.x"), ReadOptions())]
