"""Trees that hold what must not be read: pipes, devices, sockets, loops, closed directories.

Only what is wrong is named; every other run of the tree is exported, and nothing waits.
"""

from __future__ import annotations

import glob
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.errors import SourceError, TreeError
from bridges.exporters.memory import MemoryExporter
from bridges.migration.fingerprint import Files
from bridges.sources.fetch import fetch
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.discovery import discover, walk
from bridges.sources.trainer.run_directory import RunDirectorySource
from tests.bounds import bounded
from tests.support import DATA, codes, state

SETTINGS = (
    *("README.md", "config.json", "adapter_config.json", "args.json"),
    *("training_args.yaml", "training_args.bin"),
)
RESULTS = ("all_results.json", "eval_results.json", "test_results.json")
BESIDE = (*SETTINGS, *RESULTS, "events.out.tfevents.1700000000.host.1.0")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5304\n"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="special files of POSIX systems")


def run_at(folder: Path, loss: float = 1.0) -> None:
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_bytes(state([{"loss": loss, "step": 1}]))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """Two good runs, and the directory `bad` for one more."""
    for index, name in enumerate("ac"):
        run_at(tmp_path / name, 1.0 + index)
    (tmp_path / "bad").mkdir()
    yield tmp_path
    for folder, _, _ in os.walk(tmp_path):
        os.chmod(folder, 0o700)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL = {make_pipe: "a named pipe", link_to_zeros: "a device", make_socket: "a socket"}


def exported(tree: Path) -> tuple[set[str], list[str]]:
    """The runs that were exported, and the messages of what was not."""
    report = bridges.export(tree, to=MemoryExporter())
    done = {each.run for each in report.runs if not each.failed}
    return done, [f.message for each in report.runs if each.failed for f in each.findings]


@pytest.mark.parametrize("make", SPECIAL)
def test_a_special_file_in_place_of_a_state_is_one_error(make: Any, tree: Path) -> None:
    make(tree / "bad" / "trainer_state.json")
    done, (message,) = exported(tree)
    assert done == {"a", "c"}
    assert message == (
        f"{tree / 'bad' / 'trainer_state.json'}: found {SPECIAL[make]}; expected a regular file. "
        "Remove it from the directory, or read it through standard input."
    )


@pytest.mark.parametrize("name", [*BESIDE, "trainer_log.jsonl"])
@pytest.mark.parametrize("make", SPECIAL)
def test_a_special_file_beside_a_state_is_not_read(make: Any, name: str, tree: Path) -> None:
    (tree / "bad").rmdir()
    run_at(tree / "bad", 9.0)
    make(tree / "bad" / name)
    done, failed = exported(tree)
    assert (done, failed) == ({"a", "bad", "c"}, [])
    (run,) = bridges.read(tree / "bad")
    told = [f.message for f in run.findings if f.code == "beside-unreadable"]
    assert len(told) == 1
    assert all(f"found {SPECIAL[make]}; expected a regular file" in one for one in told)


def test_a_migration_never_opens_a_pipe(tree: Path) -> None:
    make_pipe(tree / "bad" / "args.json")
    with pytest.raises(ValueError, match=r"args\.json"):
        Files(str(tree / "bad" / "args.json"))


@pytest.mark.parametrize("name", BESIDE)
def test_a_git_lfs_pointer_is_named(name: str, tmp_path: Path) -> None:
    run_at(tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(POINTER)
    (run,) = bridges.read(tmp_path / "out")
    (told,) = [f for f in run.findings if f.code == "beside-unreadable"]
    assert told.where == str(tmp_path / "out" / name)
    assert "found a git-LFS pointer, not the file itself" in told.message
    assert told.message.endswith("Run `git lfs pull` in its repository.")


def test_the_pointer_beside_a_real_state_is_named() -> None:
    (run,) = bridges.read(DATA / "faults" / "lfs_args" / "out")
    (told,) = [f for f in run.findings if f.code == "beside-unreadable"]
    assert "training_args.bin: found a git-LFS pointer" in told.message


def test_a_log_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "trainer_log.jsonl").write_bytes(POINTER)
    with pytest.raises(TreeError, match="found a git-LFS pointer"):
        list(bridges.read(tmp_path))


def test_a_large_file_of_settings_is_not_read_whole(tmp_path: Path) -> None:
    run_at(tmp_path / "out")
    with open(tmp_path / "out" / "config.json", "wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    (run,) = bridges.read(tmp_path / "out")
    (told,) = [f for f in run.findings if f.code == "beside-unreadable"]
    assert "found more than 5,000,000 bytes" in told.message


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a directory unreadable, for root as well."""
    scandir = os.scandir

    def refusing(path: Any = ".") -> Any:
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_one_unreadable_directory_does_not_stop_the_others(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(tree / "bad", monkeypatch)
    done, (message,) = exported(tree)
    assert done == {"a", "c"}
    assert message == (
        f"{tree / 'bad'}: found a directory that cannot be listed (Permission denied); expected a "
        "readable directory. Check its permissions, or name the files to read."
    )


def test_the_parts_of_a_tree_name_an_unreadable_directory_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(tree / "bad", monkeypatch)
    source = RunDirectorySource()
    first, second = source.split(str(tree))
    with pytest.raises(TreeError) as caught:
        list(source.read_part(first, ReadOptions()))
    assert [error.source for error in caught.value.errors] == [str(tree / "bad")]
    assert [run.name for run in source.read_part(second, ReadOptions())] == ["c"]


def test_a_tree_of_which_nothing_can_be_listed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_at(tmp_path / "in" / "side")
    close(tmp_path / "in" / "side", monkeypatch)
    for read in (lambda place: list(bridges.read(place)), RunDirectorySource().split):
        with pytest.raises(TreeError, match="cannot be listed"):
            read(str(tmp_path / "in"))
    close(tmp_path / "in", monkeypatch)
    with pytest.raises(SourceError, match="cannot be listed"):
        list(bridges.read(tmp_path / "in"))


def test_links_in_a_circle_are_no_directories(tree: Path) -> None:
    (tree / "bad" / "loop").symlink_to("loop")
    (tree / "bad" / "up").symlink_to("..")
    (tree / "bad" / "trainer_state.json").symlink_to("nowhere")
    done, (message,) = exported(tree)
    assert done == {"a", "c"}
    assert "found nothing there" in message
    assert len(discover(str(tree)).states) == 3


def test_a_pipe_that_a_shell_opened_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"{}")
    os.close(writing)
    assert fetch(f"/dev/fd/{reading}") == b"{}"
    os.close(reading)


def test_a_good_tree_has_no_findings_of_this(tree: Path) -> None:
    (run, _) = bridges.read(tree)
    assert "beside-unreadable" not in codes(run)


PATTERNS = (
    *("**/t.json", "a/**/t.json", "**/c/*.json", "a/**/c/**/t.json", "**/*.json", "./**/t.json"),
    *("*/**/t.json", "a/**/*.json", "**/**/t.json", "a/x**/t.json", "a/**/[[]z]/t.json"),
    *("nothing/**/t.json", "**/nothing", "*.json", "a/?.json"),
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_names_what_glob_does(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        *("a/t.json", "a/b/t.json", "a/b/c/t.json", "t.json", "x/y/t.json", ".h/t.json"),
        *("a/[z]/t.json", "a/b/c/u.txt"),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    named = sorted({*map(os.path.normpath, glob.glob(pattern, recursive=True))})
    if named:
        assert sorted(map(os.path.normpath, walk(pattern))) == named
    else:
        with pytest.raises(SourceError, match="found"):
            list(walk(pattern))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processor time are those of Linux")
@pytest.mark.parametrize("pattern", ["**/trainer_state.json", "**", "*/**"])
def test_a_pattern_follows_links_in_circles_once(pattern: str, tmp_path: Path) -> None:
    run_at(tmp_path / "in" / "a")
    for name in ("b", "c"):
        (tmp_path / "in" / "a" / name).symlink_to("..")
    code = "print(len(bridges.api.read(args[0])))"
    assert bounded(code, str(tmp_path / "in" / pattern), seconds=10) == "1\n"


def test_very_many_keys_are_refused(tmp_path: Path) -> None:
    run_at(tmp_path / "out")
    metrics = {f"test_{number}": 1.0 for number in range(3000)}
    (tmp_path / "out" / "all_results.json").write_text(json.dumps(metrics))
    (run,) = bridges.read(tmp_path / "out")
    (told,) = [f for f in run.findings if f.code == "beside-unreadable"]
    assert "it contains 3,000 metrics, more than 2,000" in told.message
    rows = [{"loss": 1.0, "step": 1}, {str(number): 1 for number in range(20_001)} | {"step": 2}]
    (tmp_path / "out" / "trainer_state.json").write_bytes(state(rows))
    with pytest.raises(TreeError, match=r"found 20,002 different keys in its rows; expected at mo"):
        bridges.read(tmp_path / "out")
