"""Fingerprints change with each thing that may change what comes of a source, and with no other."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from bridges.migration import fingerprint
from bridges.migration.config.config import MigrationConfig, SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.migration.tasks import plan
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.partitions import Partition
from bridges.sources.trainer.run_directory import RunDirectorySource
from tests.support import packed, state

ROWS = [{"loss": 2.5, "step": 1}, {"loss": 1.5, "step": 2}]
SOURCE = SourceSpec(location="here", name="{name}", tags={"a": "b"})
TARGET = TargetSpec.model_validate(
    {"to": "mlflow", "tracking_uri": "sqlite:///x.db", "label": "one"}
)


def of_tree(folder: Path, *, of_trials: bool = False) -> dict[str, str]:
    """The digests of the parts of a tree, by the first state of each."""
    said = {"sources": [str(folder)], "targets": [{"to": "tensorboard"}]}
    tasks, failed = plan(MigrationConfig.model_validate(said))
    assert failed == []
    found = {}
    for task in tasks:
        assert isinstance(task.place, Partition)
        name = os.path.relpath(task.place.found.states[0], folder)
        found[name] = contents_of(task.place)[of_trials]
    return found


def contents_of(place: Partition | str) -> list[str]:
    """The digests of the bytes of its files."""
    found = [*fingerprint.digests_of(place)]
    return [digest for digest in found if digest != fingerprint.Files(place).stat_fingerprint]


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A run of two checkpoints and settings beside it, and two other runs."""
    folder = tmp_path / "tree"
    for count in (1, 2):
        name = f"a/checkpoint-{count}/trainer_state.json"
        write(folder / name, state(ROWS[:count], global_step=count))
    write(folder / "a" / "all_results.json", b'{"eval_loss": 1.0}')
    for name in ("b", "c"):
        write(folder / name / "trainer_state.json", state(ROWS, global_step=2))
    return folder


def content_of_first(tree: Path) -> None:
    path = tree / "a" / "checkpoint-1" / "trainer_state.json"
    write(path, path.read_bytes().replace(b"2.5", b"2.6"))


def time_of_change(tree: Path) -> None:
    os.utime(tree / "a" / "checkpoint-2" / "trainer_state.json", ns=(10**18, 10**18 + 1))


def path(tree: Path) -> None:
    (tree / "a" / "checkpoint-1").rename(tree / "a" / "checkpoint-3")


def file_beside(tree: Path) -> None:
    write(tree / "a" / "all_results.json", b'{"eval_loss": 2.0}')


def new_file_beside(tree: Path) -> None:
    write(tree / "a" / "train_results.json", b"{}")


def new_checkpoint(tree: Path) -> None:
    write(tree / "a" / "checkpoint-9" / "trainer_state.json", state(ROWS, global_step=9))


def checkpoint_without_state(tree: Path) -> None:
    write(tree / "a" / "checkpoint-9" / "model.safetensors", b"")


def gone_file(tree: Path) -> None:
    (tree / "a" / "all_results.json").unlink()


CHANGES: list[Callable[[Path], None]] = [
    content_of_first,
    time_of_change,
    path,
    file_beside,
    new_file_beside,
    new_checkpoint,
    checkpoint_without_state,
    gone_file,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_a_run_changes_its_fingerprint_and_no_other(
    tree: Path, change: Callable[[Path], None]
) -> None:
    before = of_tree(tree)
    assert of_tree(tree) == before
    change(tree)
    after = of_tree(tree)
    kept = {name for name in after if after[name] == before.get(name)}
    if change is not path:  # the state by which others are told to be trials, were they some
        assert kept == {"b/trainer_state.json", "c/trainer_state.json"}
    assert not any(name.startswith("a/") for name in kept)


def test_of_trials_the_neighbour_counts(tree: Path) -> None:
    names = {f"{name}/trainer_state.json" for name in "bc"}
    earlier = [of_tree(tree, of_trials=of_trials) for of_trials in (False, True)]
    content_of_first(tree)
    later = [of_tree(tree, of_trials=of_trials) for of_trials in (False, True)]
    same = [
        {name for name in names if one[name] == other[name]}
        for one, other in zip(earlier, later, strict=True)
    ]
    assert same == [names, set()]


@pytest.mark.parametrize("pack", [bytes, packed])
@pytest.mark.parametrize(
    "trial",
    [
        {},
        {"trial_name": None, "trial_params": None},
        {"trial_name": "", "trial_params": {}},
        {"trial_name": "x"},
        {"trial_params": {"lr": 0.1}},
    ],
)
def test_what_was_read_as_a_history_is_not_read_again(
    tmp_path: Path, trial: dict[str, Any], pack: Callable[[bytes], bytes]
) -> None:
    """The digest is one of those of files that were not read, by which a run is known again."""
    name = "trainer_state.json.gz" if pack is packed else "trainer_state.json"
    for folder in "ab":
        write(tmp_path / folder / name, pack(state(ROWS, **trial)))
    bundle, _ = RunDirectorySource().split(str(tmp_path))
    path, expected = bundle.found.states[0], contents_of(bundle)
    files = fingerprint.Files(bundle)
    (run,) = RunDirectorySource().read_part(bundle, ReadOptions())
    files.was_read(run)
    write(Path(path), b"not read again")
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert files.digest() == expected[any(trial.values())]
    assert files.digest() not in contents_of(bundle)


def test_what_changes_meanwhile_is_not_known(tree: Path) -> None:
    bundle = RunDirectorySource().split(str(tree))[0]
    files = fingerprint.Files(bundle)
    (run,) = RunDirectorySource().read_part(bundle, ReadOptions())
    files.was_read(run)
    write(tree / "a" / "all_results.json", b'{"eval_loss": 2.0}')
    os.utime(tree / "a" / "all_results.json", ns=(10**18, 10**18 + 1))
    assert files.digest() not in contents_of(bundle)


def test_a_name_that_needs_more_of_its_path_is_another(tmp_path: Path) -> None:
    """Two directories of one name are told apart by those above them."""
    write(tmp_path / "x" / "run" / "trainer_state.json", state(ROWS, global_step=2))
    write(tmp_path / "y" / "other" / "trainer_state.json", state(ROWS, global_step=2))
    before = of_tree(tmp_path)
    write(tmp_path / "z" / "run" / "trainer_state.json", state(ROWS[:1], global_step=1))
    after = of_tree(tmp_path)
    assert after["x/run/trainer_state.json"] != before["x/run/trainer_state.json"]
    assert after["y/other/trainer_state.json"] == before["y/other/trainer_state.json"]


def test_a_single_file(tmp_path: Path) -> None:
    file, copy = tmp_path / "a.json", tmp_path / "b.json"
    for each in (file, copy):
        write(each, b"[]")
    (digest,) = contents_of(str(file))
    assert contents_of(str(file)) == [digest] != contents_of(str(copy))
    file.write_bytes(b"[{}]")
    assert contents_of(str(file)) != [digest]
    file.unlink()
    assert contents_of(str(file)) == []


def test_remote_files_count_by_the_version_that_their_store_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/fingerprint/a.json", b"[]")
    url = "memory://fingerprint/a.json"
    (first,) = contents_of(url)
    assert first is not None
    assert contents_of(url) == [first]
    memory.pipe("/fingerprint/a.json", b"{}")
    assert contents_of(url) not in ([first], [])
    monkeypatch.setattr(type(memory), "info", lambda self, path, **_: {"size": 2})
    assert contents_of(url) == []  # it tells nothing


def settings(
    source: SourceSpec = SOURCE, target: TargetSpec = TARGET, place: str = "experiment"
) -> str:
    return fingerprint.settings_of(source, target, place)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "{parent}"},
        {"tags": {"a": "c"}},
        {"group": "g"},
        {"experiment": "{parent}"},
        {"drop": ("loss",)},
        {"rename": {"loss": "train_loss"}},
        {"salvage": True},
        {"redact_home": True},
        {"attach_source": True},
        {"verify": False},
        {"clock": "synthetic"},
        {"duplicates": "last"},
        {"x_axis": "epoch"},
        {"naming": "raw"},
        {"callback_version": "4.30.0"},
        {"source": "trainer_state"},
        {"filter": {"min_rows": 3}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_setting_of_a_source(changed: dict[str, Any]) -> None:
    said = {**SOURCE.model_dump(exclude_unset=True), **changed}
    assert settings(source=SourceSpec.model_validate(said)) != settings()


@pytest.mark.parametrize(
    "changed",
    [
        {"to": "tensorboard", "tracking_uri": None},
        {"experiment": "other"},
        {"naming": "raw"},
        {"x_axis": "epoch"},
        {"duplicates": "last"},
        {"callback_version": "4.30.0"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_setting_of_a_target(changed: dict[str, Any]) -> None:
    said = {**TARGET.model_dump(exclude_unset=True), **changed}
    assert settings(target=TargetSpec.model_validate(said)) != settings()


@pytest.mark.parametrize(
    "changed",
    [
        {"label": "two"},
        {"limit": 3},
        {"tracking_uri": "sqlite:///y.db"},
        {"mlflow_writer": "client"},
        {"force": True},
    ],
)
def test_how_a_target_is_reached_does_not_matter(changed: dict[str, Any]) -> None:
    said = {**TARGET.model_dump(exclude_unset=True), **changed}
    assert settings(target=TargetSpec.model_validate(said)) == settings()


def test_place_and_release_matter_and_the_location_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = settings()
    assert settings(source=SOURCE.model_copy(update={"location": "there"})) == before
    assert settings(place="other") != before
    monkeypatch.setattr(fingerprint, "__version__", "9.9.9")
    assert settings() != before


def test_both_halves_matter() -> None:
    made = {fingerprint.combined(files, said) for files in ("a", "b") for said in ("c", "d")}
    assert len(made) == 4


# --- how files look -------------------------------------------------------------------------------


def settle(monkeypatch: pytest.MonkeyPatch, seconds: float = 2.5) -> None:
    """As if so much time had gone by."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + int(seconds * 1e9))


def rewritten(path: Path) -> None:
    content, then = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(content.replace(b"2.5", b"2.6"))
    os.utime(path, ns=(then, then))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    os.replace(other, path)


def grown(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b" ")


@pytest.mark.skipif(os.name != "posix", reason="Windows does not tell when a file was changed")
@pytest.mark.parametrize("change", [rewritten, replaced, grown, Path.unlink])
def test_files_that_look_as_they_did_are_not_read(
    tree: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = RunDirectorySource().split(str(tree))[0]
    settle(monkeypatch)
    stat_fingerprint = fingerprint.Files(bundle).stat_fingerprint
    with monkeypatch.context() as reading:
        reading.delattr(fingerprint, "_sha256")
        assert next(fingerprint.digests_of(bundle)) == stat_fingerprint != ""
        assert [*fingerprint.digests_of(bundle)] == [stat_fingerprint]
    assert len([*fingerprint.digests_of(bundle)]) == 3
    change(tree / "a" / "checkpoint-1" / "trainer_state.json")
    settle(monkeypatch)
    assert stat_fingerprint not in fingerprint.digests_of(bundle)


@pytest.mark.skipif(os.name != "posix", reason="Windows does not tell when a file was changed")
def test_a_file_that_may_change_unseen_has_no_looks(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was changed just now may be changed again within a tick of the disk's clock."""
    bundle = RunDirectorySource().split(str(tree))[0]
    assert fingerprint.Files(bundle).stat_fingerprint == ""
    settle(monkeypatch)
    assert fingerprint.Files(bundle).stat_fingerprint != ""
    (tree / "a" / "all_results.json").write_bytes(b"{}")
    settle(monkeypatch, -2.0)
    assert fingerprint.Files(bundle).stat_fingerprint == ""
