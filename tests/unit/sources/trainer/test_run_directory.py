"""Directory trees: which states are one run, what each run is called, what is told of the rest."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.errors import SourceError, TreeError
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import read_runs
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.discovery import FoundFiles, natural
from bridges.sources.trainer.folding import Save, fold
from bridges.sources.trainer.locations import is_tree
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.model import Run
from tests.support import DATA, GROUNDTRUTH, make_run, needs_groundtruth, state

HISTORY: list[dict[str, Any]] = [
    {"loss": 3.0 - step / 10, "learning_rate": 0.1, "epoch": step / 4, "step": step}
    for step in range(1, 9)
]


def put(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> Path:
    """A state of these rows in that directory."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trainer_state.json"
    file.write_bytes(state(rows, **fields))
    return file


def read(location: Path | str) -> list[Run]:
    return list(RunDirectorySource().read(str(location), ReadOptions()))


def told(run: Run) -> list[str]:
    return [finding.code for finding in run.findings]


def test_checkpoints_fold_into_their_run(tmp_path: Path) -> None:
    for rows in (2, 4, 10):
        put(tmp_path / "out" / f"checkpoint-{rows}", HISTORY[:rows])
    put(tmp_path / "out", HISTORY)
    (run,) = read(tmp_path)
    assert (run.name, len(run.stream)) == ("out", 8)
    assert run.source == str(tmp_path / "out" / "trainer_state.json")
    (folded,) = [finding for finding in run.findings if finding.code == "checkpoints-folded"]
    assert folded.count == 3
    assert "checkpoint-2" in folded.message


def test_the_largest_checkpoint_is_the_run_where_no_state_lies_above(tmp_path: Path) -> None:
    for rows in (2, 6, 4):
        put(tmp_path / f"checkpoint-{rows * 100}", HISTORY[:rows])
    (run,) = read(tmp_path)
    assert (run.name, len(run.stream)) == (tmp_path.name, 6)


def test_several_runs_in_one_directory_have_names_of_their_own(tmp_path: Path) -> None:
    other = [{**row, "loss": 9.0} for row in HISTORY]
    put(tmp_path / "out" / "checkpoint-2", HISTORY[:2])
    put(tmp_path / "out" / "checkpoint-4", HISTORY[:4])
    put(tmp_path / "out" / "checkpoint-6", other[:6])
    runs = read(tmp_path)
    assert [(run.name, len(run.stream)) for run in runs] == [
        ("out/checkpoint-4", 4),
        ("out/checkpoint-6", 6),
    ]
    assert "forked" not in told(runs[0]) + told(runs[1])


def test_equal_names_get_more_of_their_path(tmp_path: Path) -> None:
    for number, name in enumerate(("a/results", "b/results", "c")):
        put(tmp_path / name, [{**row, "loss": number} for row in HISTORY])
    assert [run.name for run in read(tmp_path)] == ["a/results", "b/results", "c"]


def test_a_fork_is_a_run_of_its_own(tmp_path: Path) -> None:
    fork = [*HISTORY[:3], *({**row, "loss": 9.0} for row in HISTORY[3:6])]
    put(tmp_path / "checkpoint-8", HISTORY)
    put(tmp_path / "checkpoint-6", fork)
    put(tmp_path / "checkpoint-3", HISTORY[:3])
    runs = {run.name.split("/")[-1]: run for run in read(tmp_path)}
    assert sorted(runs) == ["checkpoint-6", "checkpoint-8"]
    (finding,) = [f for f in runs["checkpoint-6"].findings if f.code == "forked"]
    assert "the first 3 rows equal those of" in finding.message
    assert "checkpoint-8" in finding.message
    assert "forked" not in told(runs["checkpoint-8"])


def test_runs_that_share_rate_and_epoch_never_fold(tmp_path: Path) -> None:
    rows = [{"learning_rate": 0.1, "epoch": 0.1, "step": 1}]
    put(tmp_path / "checkpoint-1", [*rows, {"loss": 1.0, "step": 2}])
    put(tmp_path / "checkpoint-2", [*rows, {"loss": 2.0, "step": 2}, {"loss": 3.0, "step": 3}])
    assert [len(run.stream) for run in read(tmp_path)] == [2, 3]


def test_trials_are_runs_of_one_search(tmp_path: Path) -> None:
    for number in (0, 1):
        rows = [{**row, "loss": number} for row in HISTORY]
        more = {"trial_params": {"learning_rate": number}, "is_hyper_param_search": True}
        put(tmp_path / "out" / f"run-{number}" / "checkpoint-4", rows[:4], **more)
        put(tmp_path / "out" / f"run-{number}" / "checkpoint-6", rows[:6], **more)
    put(tmp_path / "out", rows, **more)  # the state beside them is the last trial's
    runs = read(tmp_path)
    assert sorted((run.name, run.group, len(run.stream)) for run in runs) == [
        ("run-0", "out", 6),
        ("run-1", "out", 8),
    ]


def test_a_state_without_rows_is_no_run_beside_others(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-1", [])
    assert [len(run.stream) for run in read(tmp_path)] == [0]
    put(tmp_path / "checkpoint-4", HISTORY[:4])
    assert [len(run.stream) for run in read(tmp_path)] == [4]


def test_what_is_no_history_is_counted_once(tmp_path: Path) -> None:
    for number in (0, 1):
        out = tmp_path / f"exp{number}"
        put(out / "checkpoint-4", [{**row, "loss": number} for row in HISTORY[:4]])
        (out / "checkpoint-4" / "model.safetensors").touch()
        (out / "checkpoint-8").mkdir()
        (out / "checkpoint-8" / "optimizer.pt").touch()
    first, second = read(tmp_path)
    (ignored,) = [f for f in first.findings if f.code == "files-ignored"]
    assert (ignored.count, "2 .safetensors, 2 .pt" in ignored.message) == (4, True)
    assert "files-ignored" not in told(second)
    for run in (first, second):
        (broken,) = [f for f in run.findings if f.code == "checkpoint-without-state"]
        assert broken.message.startswith("checkpoint-8: no trainer_state.json")
        assert broken.where == str(tmp_path / run.name)


def test_links_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "out", HISTORY)
    os.symlink(tmp_path, tmp_path / "out" / "up")
    os.symlink(tmp_path / "nowhere", tmp_path / "gone")
    assert len(read(tmp_path)) == 1


def test_broken_states_are_told_after_the_others(tmp_path: Path) -> None:
    put(tmp_path / "good", HISTORY)
    for name in ("bad1", "bad2"):
        put(tmp_path / name, []).write_text("{")
    runs = RunDirectorySource().read(str(tmp_path), ReadOptions())
    assert next(runs).name == "good"
    with pytest.raises(TreeError) as caught:
        next(runs)
    names = [os.path.basename(os.path.dirname(error.source)) for error in caught.value.errors]
    assert names == ["bad1", "bad2"]


def test_a_tree_without_states_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(SourceError, match=r"no trainer_state.json below it \(1 .safetensors\)"):
        read(tmp_path)
    with pytest.raises(SourceError, match="no match for this pattern"):
        read(tmp_path / "no*")


def test_a_directory_of_uncertain_tables_says_when_tables_are_read(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("name,comment\na,b\n")
    with pytest.raises(SourceError, match=r"Name .* the file itself .* certainly logs"):
        [*read_runs(str(tmp_path), ExportOptions())]


def test_patterns_name_directories_and_files(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"exp{number}", [{**row, "loss": number} for row in HISTORY])
    assert [run.name for run in read(tmp_path / "exp[01]")] == ["exp0", "exp1"]
    assert [run.name for run in read(tmp_path / "**" / "trainer_state.json")] == [
        "exp0",
        "exp1",
        "exp2",
    ]


def test_remote_trees_are_read_alike(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for rows in (4, 8):
        name = f"/tree/out/checkpoint-{rows}/trainer_state.json"
        files.pipe(name, state(HISTORY[:rows]))
    files.pipe("/tree/out/model.bin", b"never read")
    for location in ("memory://tree", "memory://tree/", "memory://tree/out/checkpoint-*"):
        assert RunDirectorySource().claims(location)
        (run,) = read(location)
        assert (run.name, len(run.stream)) == ("out", 8)
        assert run.source == "memory:///tree/out/checkpoint-8/trainer_state.json"
    assert not RunDirectorySource().claims("memory://tree/out/checkpoint-8/trainer_state.json")


def test_what_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "odd[1]").touch()
    assert is_tree(str(tmp_path))
    assert is_tree(str(tmp_path / "a*"))
    assert not is_tree(str(tmp_path / "odd[1]"))
    assert not is_tree("-")
    assert not is_tree(str(DATA / "seed.txt"))
    assert sorted(["checkpoint-1000", "checkpoint-500"], key=natural)[0] == "checkpoint-500"


def test_the_pipeline_reads_directories(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-2", HISTORY[:2])
    (run,) = read_runs(str(tmp_path), ExportOptions(run_name="mine"))
    assert run.name == "mine"


@needs_groundtruth
@pytest.mark.parametrize("scenario", sorted(p.name for p in GROUNDTRUTH.glob("*") if p.is_dir()))
def test_live_output_directories_hold_their_runs(scenario: str) -> None:
    runs = read(GROUNDTRUTH / scenario / "out")
    assert len(runs) == (2 if scenario == "hp_search_unnamed" else 1)
    assert all("forked" not in told(run) for run in runs)


@given(
    st.integers(1, 40),
    st.lists(st.integers(0, 40), max_size=8),
    st.randoms(use_true_random=False),
)
def test_any_saves_in_any_order_fold_back(rows: int, cuts: list[int], chance: Any) -> None:
    history = [{"loss": step * 0.5, "step": step} for step in range(rows)]
    other = [{"loss": step * 0.5 + 100, "step": step} for step in range(rows)]
    runs: dict[str, Run] = {}
    for name, whole in (("a", history), ("b", other)):
        for cut in {rows, *(max(1, min(cut, rows)) for cut in cuts)}:
            runs[f"{name}{cut}"] = make_run(whole[:cut], source=f"{name}{cut}")
    saves = [Save.of(run) for run in runs.values()]
    chance.shuffle(saves)
    folded = fold(saves, lambda at: runs[at].stream, lambda at: runs[at].settings)
    assert sorted(run.longest.location for run in folded) == [f"a{rows}", f"b{rows}"]
    assert sum(len(run.saves) for run in folded) == len(runs)
    assert all(run.forked is None for run in folded)


def ends(runs: list[Run]) -> list[tuple[str, int]]:
    return [
        (finding.message, finding.count)
        for run in runs
        for finding in run.findings
        if finding.code == "resume-other-max-steps"
    ]


def test_a_resume_with_another_length_is_told(tmp_path: Path) -> None:
    for rows, end in ((2, 4), (4, 4), (6, 8), (7, -1)):
        put(tmp_path / "out" / f"checkpoint-{rows}", HISTORY[:rows], max_steps=end)
    put(tmp_path / "out", HISTORY, max_steps=8000)
    runs = read(tmp_path)
    assert ends(runs) == [
        (
            "checkpoint-6 was to end at step 8 and out at step 8,000: "
            "resumed with another max_steps",
            3,
        )
    ]
    for rows in (2, 4, 6, 7):
        put(tmp_path / "out" / f"checkpoint-{rows}", HISTORY[:rows], max_steps=8000)
    assert ends(read(tmp_path)) == []


def test_a_hundred_thousand_other_files_are_counted_and_not_held() -> None:
    found = FoundFiles()
    tracemalloc.start()
    for number in range(100_000):
        found.add(f"/data/out/shard-{number // 1000}/part-{number}.safetensors")
    found.add("/data/out/checkpoint-5/trainer_state.json")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.others == {".safetensors": 100_000}
    assert found.states == ["/data/out/checkpoint-5/trainer_state.json"]
    assert held < 100_000  # bytes: not one for each file
