"""The directories with event files, their names, and which are read together."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from bridges.sources.folders import folders
from bridges.sources.place import sources_at
from bridges.sources.tensorboard.event_names import is_event_name, process_of
from bridges.sources.tensorboard.units import unit_of, units_at
from tests.event_files import START, losses, write


def names(location: object) -> list[list[str]]:
    return [[each.name for each in unit.members] for unit in units_at(str(location), {})]


@pytest.mark.parametrize(
    ("name", "process"),
    [
        ("events.out.tfevents.1742826235.DESKTOP-41L2EO3.107869.0", "DESKTOP-41L2EO3.107869"),
        ("events.out.tfevents.1761569962.LAPTOP-K8UI079G.17296.4.v2", "LAPTOP-K8UI079G.17296"),
        ("events.out.tfevents.1745560412.kangs-MacBook-Pro.local.83896.0.gz", None),
        ("events.out.tfevents.1614214754.ip-172-31-12-175", "ip-172-31-12-175"),
        ("events.out.tfevents.1600154838.小白 票", "小白 票"),
        ("events.out.tfevents", ""),
        (f"events.out.tfevents.1700000000.bridges.{'ab' * 16}.0000000012", f"bridges.{'ab' * 16}"),
        (f"events.out.tfevents.17.bridges.{'ab' * 16}.0000000012.1234abcd.part", None),
    ],
)
def test_the_process_in_a_name(name: str, process: str | None) -> None:
    expected = {
        "events.out.tfevents.1745560412.kangs-MacBook-Pro.local.83896.0.gz": (
            "kangs-MacBook-Pro.local.83896"
        ),
    }.get(name, f"bridges.{'ab' * 16}")
    assert process_of(name) == (expected if process is None else process)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("events.out.tfevents.1.host", True),
        ("my.tfevents.log", True),
        ("events.out.tfevents.1.host.gz", True),
        ("._events.out.tfevents.1.host", False),
        ("tfevents.md", False),
        ("events.out.tfevents.1.host.profile-empty", False),
        ("events.out.tfevents.1.host.sagemaker-uploaded", False),
        (".1700000000.bridges.ab.0.partial", False),
        ("events.out", False),
    ],
)
def test_the_files_that_are_read(name: str, expected: bool, tmp_path: Path) -> None:
    assert is_event_name(name) is expected
    (tmp_path / name).write_bytes(b"")
    assert sources_at(str(tmp_path / name)) == (("tensorboard",) if expected else ())
    assert [folder.source for folder in folders(str(tmp_path))] == [
        "tensorboard" if expected else None
    ]


def test_runs_are_named_by_their_path_below_the_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grp/y y", "grp/x/PPO_10", "grp/x/PPO_9"):
        write(tmp_path / "runs" / name, losses(START, range(2)))
    expected = [["grp/x/PPO_9"], ["grp/x/PPO_10"], ["grp/y y"]]
    assert names(tmp_path / "runs") == expected
    assert names(f"{tmp_path}/runs/") == expected
    assert names(tmp_path / "runs" / "grp" / "y y") == [["y y"]]
    assert names(tmp_path / "runs" / "grp" / "x" / "PPO_*") == [["PPO_9"], ["PPO_10"]]
    assert names((tmp_path / "runs").as_uri()) == expected
    monkeypatch.chdir(tmp_path / "runs")
    assert names(".") == expected
    assert names("grp") == [["x/PPO_9"], ["x/PPO_10"], ["y y"]]
    monkeypatch.chdir(tmp_path / "runs" / "grp" / "y y")
    assert names(".") == [["y y"]]
    assert unit_of(os.listdir()[0]).name == "y y"


def test_a_pattern_names_event_files(tmp_path: Path) -> None:
    for name in ("a/x", "a/y", "b"):
        write(tmp_path / "runs" / name, losses(START, range(2)))
        write(tmp_path / "runs" / name, losses(START, range(2)), at=START + 1)
    pattern = f"{tmp_path}/runs/**/events.out.tfevents.1700000000*"
    found = units_at(pattern, {})
    assert [(unit.name, len(unit.files)) for unit in found] == [("a/x", 1), ("a/y", 1), ("b", 1)]
    assert sources_at(pattern) == ("tensorboard",)


def test_a_numbered_version_has_the_name_of_its_directory(tmp_path: Path) -> None:
    logs = tmp_path / "lightning_logs"
    for number in (3, 10):
        write(logs / f"version_{number}", losses(START, range(2)))
    expected = [["lightning_logs/version_3"], ["lightning_logs/version_10"]]
    assert names(logs) == names(tmp_path) == names(logs / "version_*") == expected
    assert names(logs / "version_3") == expected[:1]
    assert unit_of(str(next((logs / "version_3").iterdir()))).name == "lightning_logs/version_3"


def test_parts_of_a_run_are_read_together(tmp_path: Path) -> None:
    for name in ("keras/train", "keras/validation", "keras/other", "run", "run/acc_train"):
        write(tmp_path / name, losses(START, range(2)))
    write(tmp_path / "run" / "1700000000.25", losses(START, [0]), name="tfevents.1.other")
    write(tmp_path / "run" / "apart", losses(START, [0]), name="tfevents.1.another.5.0")
    write(tmp_path / "run" / "deep" / "val", losses(START, [0]), name="tfevents.1.another.5.0")
    found = {
        unit.name: [each.within for each in unit.members] for unit in units_at(str(tmp_path), {})
    }
    assert found == {
        "keras/other": [""],
        "keras": ["train", "validation"],
        "run": ["", "1700000000.25", "acc_train"],
        "run/apart": [""],
        "run/deep": ["val"],
    }


def test_a_directory_is_not_joined_with_one_above_the_location(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "train", losses(START, range(2)))
    (unit,) = units_at(str(tmp_path / "logs" / "train"), {})
    assert (unit.name, [each.within for each in unit.members]) == ("train", [""])


def test_directories_of_other_file_systems(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    data = write(tmp_path / "x", losses(START, range(2))).read_bytes()
    paths = ("/tree/a/train/tfevents.1.h.2.0.v2", "/tree/b/tfevents.1.h.3.0", "/tree/b/notes.txt")
    files.pipe(dict.fromkeys(paths, data))
    try:
        first, second = units_at("memory://tree", {})
        assert (first.name, first.members[0].within) == ("a", "train")
        assert (second.name, second.members[0].beside) == ("b", ("notes.txt",))
        assert second.files == ("memory:///tree/b/tfevents.1.h.3.0",)
        assert names("memory://tree/b*") == [["b"]]
    finally:
        files.rm("/tree", recursive=True)
