"""Processes that fill one folder of offline runs learn of each other without listing it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bridges.exporters.base import ConflictError
from bridges.exporters.wandb.folder import ABANDONED_SECONDS, JOURNAL, STAGING, RunFolder


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were listed."""
    found: list[str] = []
    listdir = os.listdir

    def counting(path: str) -> list[str]:
        found.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counting)
    return found


def put(folder: RunFolder, number: int) -> str:
    """Publish a run whose id begins with the number."""
    run_id = f"{number:010d}abcdef"
    there = folder.places(run_id[:10])
    with folder.staged() as staged:
        return folder.publish(staged, folder.new_name(number, run_id, []), run_id[:10], there)


def seen(folder: RunFolder, number: int) -> list[str]:
    return [place.path for place in folder.places(f"{number:010d}")]


def test_three_processes_list_a_folder_once_each(tmp_path: Path, listed: list[str]) -> None:
    folders = [RunFolder(str(tmp_path)) for _ in range(3)]
    paths = [put(folders[number % 3], number) for number in range(60)]
    for folder in folders:
        assert [seen(folder, number) for number in range(60)] == [[path] for path in paths]
    assert len(listed) <= 4  # the first of them twice: the folder was new


def test_what_others_do_is_seen(tmp_path: Path, listed: list[str]) -> None:
    first, second = RunFolder(str(tmp_path)), RunFolder(str(tmp_path))
    put(first, 1)
    assert len(seen(second, 1)) == 1
    (tmp_path / "offline-run-20200101_000000-0000000002abcdef").mkdir()
    before = len(listed)
    assert len(seen(first, 2)) == len(seen(second, 2)) == 1
    assert len(listed) > before
    put(first, 3)
    assert [len(seen(second, number)) for number in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize("harm", ["gone", "nonsense", "shorter", "cut"])
def test_a_damaged_journal_costs_a_listing(tmp_path: Path, harm: str) -> None:
    first, second = RunFolder(str(tmp_path)), RunFolder(str(tmp_path))
    for number in range(5):
        put(first, number)
    seen(second, 1)
    journal = tmp_path / STAGING / JOURNAL
    put(first, 5)
    text = journal.read_bytes()
    if harm == "gone":
        journal.unlink()
    else:
        content = {"nonsense": b"\xff x y\n1 2\n", "shorter": text[-30:], "cut": text[:-9]}
        journal.write_bytes(content[harm])
    put(first, 6)
    assert [len(seen(second, number)) for number in range(7)] == [1] * 7


def test_a_run_that_another_process_published_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    first, second = RunFolder(str(tmp_path)), RunFolder(str(tmp_path))
    put(first, 0)
    there = second.places("0000000007")
    put(first, 7)
    name = "offline-run-20200101_000000-0000000007ffffff"
    with second.staged() as staged, pytest.raises(ConflictError):
        second.publish(staged, name, "0000000007", there)


def test_what_killed_exports_left_is_removed_a_day_later(tmp_path: Path) -> None:
    put(RunFolder(str(tmp_path)), 1)
    old, new = (tmp_path / STAGING / name for name in ("0" * 12, "1" * 12))
    for left in (old, new):
        (left / "files").mkdir(parents=True)
        (left / "run-x.wandb").write_bytes(b"x")
    then = time.time() - 2 * ABANDONED_SECONDS
    os.utime(old, (then, then))
    put(RunFolder(str(tmp_path)), 2)
    assert {path.name for path in (tmp_path / STAGING).iterdir()} == {JOURNAL, new.name}
