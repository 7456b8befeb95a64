"""`bridge inspect` of a place: the tree of searches, runs and forks, and what each is made of."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.cli.main import run
from bridges.cli.run_page import inspect, print_page
from bridges.cli.tree import Place, print_tree
from bridges.stream.finding import Finding, Severity
from tests.support import GROUNDTRUTH, make_run, needs_corpus, needs_groundtruth
from tests.unit.sources.trainer.test_run_corpus import lay_out
from tests.unit.sources.trainer.test_run_directory import HISTORY, put

OTHER = [{**row, "loss": 9.0} for row in HISTORY]
EVAL = {"eval_loss": 0.5, "eval_runtime": 9.0, "epoch": 2.0, "step": 8}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def screen(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """The lines that a command prints."""
    capsys.readouterr()
    assert run(["inspect", *arguments]) == code
    out: str = capsys.readouterr().out
    return out.splitlines()


def documents(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads("\n".join(screen(capsys, *arguments, "--json")))["runs"]
    return runs


def trials(folder: Path, count: int) -> None:
    for number in range(count):
        rows = [{**row, "loss": row["loss"] + number} for row in HISTORY]
        more = {"trial_params": {"lr": number / 7, "bs": 8}, "max_steps": 6}
        put(folder / f"lr{number}" / "checkpoint-6", rows[:6], **more)


def test_one_run_is_a_tree_and_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "exp" / "out"
    for rows in range(1, 7):
        put(out / f"checkpoint-{rows * 100}", HISTORY[:rows], max_steps=8)
    put(out, [*HISTORY, EVAL], global_step=8, max_steps=8)
    (out / "config.json").write_text('{"hidden_size": 8}')
    (out / "test_results.json").write_text('{"test_accuracy": 0.5}')
    (out / "model.bin").touch()
    lines = screen(capsys, "exp")
    assert lines[:7] == [
        "exp · 1 run · 7 states",
        "  info files-ignored · files that are not histories, settings or results: 1 .bin",
        "└── out · 10 rows · steps 1 to 8 · finished · loss 2.2 █▇▆▅▄▃▂▁ · eval_loss 0.5 ▅",
        "      from 6 checkpoints (checkpoint-100, -200 … -600) and trainer_state.json · 1 row of "
        "results",
        "      settings of config.json",
        "",
        "out " + "─" * 116,
    ]
    assert "rows       10 (8 train, 1 eval, 1 test), 28 points" in lines


def test_runs_of_one_directory_with_their_forks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    put(out / "checkpoint-8", HISTORY)
    put(out / "checkpoint-4", HISTORY[:4])
    put(out / "checkpoint-2", HISTORY[:2])
    put(out / "checkpoint-6", [*HISTORY[:3], *OTHER[3:6]])
    put(out / "checkpoint-7", OTHER[:7])
    assert screen(capsys, "out") == [
        "out · 3 runs · 5 states",
        "├── checkpoint-7 · 7 rows · steps 1 to 7 · unknown · loss 9 ▅▅▅▅▅▅▅",
        "└── checkpoint-8 · 8 rows · steps 1 to 8 · unknown · loss 2.2 █▇▆▅▄▃▂▁",
        "      from 3 checkpoints (checkpoint-2, -4, -8)",
        "    └── checkpoint-6 · 6 rows · steps 1 to 6 · unknown · loss 9 ▁▁▁███",
        "          forks from checkpoint-8 after 3 rows",
        "",
        "View one: bridge inspect out/checkpoint-7",
        "",
    ]


def test_directories_and_searches_are_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials(tmp_path / "all" / "search", 2)
    put(tmp_path / "all" / "single" / "deep", OTHER)
    put(tmp_path / "all" / "top" / "checkpoint-3", [{"reward": 0.25, "step": 3}])
    assert screen(capsys, "all") == [
        "all · 4 runs · 4 states",
        "├── search/ · search of 2 trials",
        "│   ├── lr0 · 6 rows · steps 1 to 6 · unfinished · loss 2.4 █▇▅▄▂▁",
        "│   │     lr=0, bs=8 · from checkpoint-6",
        "│   └── lr1 · 6 rows · steps 1 to 6 · unfinished · loss 3.4 █▇▅▄▂▁",
        "│         lr=0.1429, bs=8 · from checkpoint-6",
        "├── single/deep · 8 rows · steps 1 to 8 · unknown · loss 9 ▅▅▅▅▅▅▅▅",
        "│     from trainer_state.json",
        "└── top · 1 row · step 3 · unknown · reward 0.25 ▅",
        "      from checkpoint-3",
        "",
        "View one: bridge inspect all/search/lr0",
        "",
    ]


def test_the_hint_shows_the_first_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where other runs lie in its directory, or below it, and the name needs quotes."""
    put(tmp_path / "my out", HISTORY)
    put(tmp_path / "my out" / "zero", OTHER)
    hint = screen(capsys, "my out")[-2]
    assert hint == "View one: bridge inspect 'my out/trainer_state.json'"
    (shown,) = documents(capsys, "my out/trainer_state.json")
    assert shown["rows"] == 8


def test_many_runs_are_abbreviated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials(tmp_path / "search", 43)
    lines = screen(capsys, "search")
    assert lines[0] == "search · search of 43 trials · 43 states"
    assert sum("lr=" in line for line in lines) == 40
    assert "└── … and 3 more (-v shows all)" in lines
    lines = screen(capsys, "search", "-v")
    assert sum("lr=" in line and "from" in line for line in lines) == 43
    assert sum(line.startswith("written by") for line in lines) == 43
    assert not [line for line in lines if "more" in line or "View one" in line]


def test_the_gravest_finding_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jumps = [{"learning_rate": 1.0 + (n > 9), "loss": 1.0, "step": n} for n in range(1, 20)]
    back = [{"loss": 1.0, "step": 5}, {"loss": 1.0, "step": 4}]
    put(tmp_path / "out", [*jumps, *back])
    assert screen(capsys, "out")[1].endswith(" · warning steps-go-back and 1 more")


def test_what_is_told_of_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        put(tmp_path / "tree" / f"exp{number}", [{**row, "loss": number} for row in HISTORY])
        (tmp_path / "tree" / f"exp{number}" / "checkpoint-9").mkdir()
        (tmp_path / "tree" / f"exp{number}" / "checkpoint-9" / "w.pt").touch()
    for number in range(5):
        put(tmp_path / "tree" / f"bad{number}", []).write_text("{")
    lines = screen(capsys, "tree", code=1)
    assert lines[:5] == [
        "tree · 3 runs · 3 states",
        "  info files-ignored (3×) · files that are not histories, settings or results: 3 .pt",
        "  warning checkpoint-without-state (3×) · "
        "checkpoint-9: no trainer_state.json, as after a crash while saving",
        "  error not read · tree/bad0/trainer_state.json, tree/bad1/trainer_state.json, "
        "tree/bad2/trainer_state.json and 2 more",
        "├── exp0 · 8 rows · steps 1 to 8 · unknown · loss 0 ▅▅▅▅▅▅▅▅",
    ]


def test_narrow_terminals_break_between_the_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "48")
    trials(tmp_path / "search", 2)
    lines = screen(capsys, "search")
    assert lines[1:4] == [
        "├── lr0 · 6 rows · steps 1 to 6 · unfinished",
        "│     loss 2.4 █▇▅▄▂▁",
        "│     lr=0, bs=8 · from checkpoint-6",
    ]
    assert max(map(len, lines)) <= 48


def test_the_document_tells_what_runs_are_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials(tmp_path / "search", 2)
    one, two = documents(capsys, "search")
    assert (one["run"], one["group"], two["run"]) == ("lr0", "search", "lr1")
    assert two["trial"] == {"name": None, "params": {"lr": 1 / 7, "bs": 8}}
    assert one["saves"] == ["search/lr0/checkpoint-6/trainer_state.json"]
    put(tmp_path / "fork" / "checkpoint-8", HISTORY)
    put(tmp_path / "fork" / "checkpoint-6", [*HISTORY[:3], *OTHER[3:6]])
    fork, first = documents(capsys, "fork")
    assert fork["forked"] == {"from": "fork/checkpoint-8/trainer_state.json", "rows": 3}
    assert (first["forked"], first["group"], first["trial"]) == (None, None, None)


def test_a_file_is_its_page_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "out", HISTORY)
    assert screen(capsys, "out/trainer_state.json")[0].startswith("out ───")
    (shown,) = documents(capsys, "out/trainer_state.json")
    told = (shown["saves"], shown["forked"], shown["group"], shown["trial"])
    assert told == (["out/trainer_state.json"], None, None, None)


def test_quiet_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials(tmp_path / "search", 2)
    assert screen(capsys, "search", "--quiet") == []


def test_several_runs_of_another_source(capsys: pytest.CaptureFixture[str]) -> None:
    """A plug-in's runs may come from one file: no path shows one of them alone."""
    place = Place("runs.db")
    for number in range(2):
        place.add(make_run(HISTORY, name=f"r{number}", group="g", source="runs.db"))
    print_tree(place, verbose=False)
    assert capsys.readouterr().out.splitlines() == [
        "runs.db · 2 runs",
        "├── g/r0 · 8 rows · steps 1 to 8 · unknown · loss 2.2 █▇▆▅▄▃▂▁",
        "└── g/r1 · 8 rows · steps 1 to 8 · unknown · loss 2.2 █▇▆▅▄▃▂▁",
        "",
        "-v shows the page of each",
        "",
    ]


def test_runs_of_a_tracker_without_a_group_are_not_below_an_empty_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = Place("wandb")
    for name, group in (("alone", None), ("grouped", "sweep"), ("other", "sweep")):
        source = f"wandb/run-{name}/run-{name}.wandb"
        one = make_run(HISTORY, name=name, group=group, source=source, record=object())
        place.add(replace(one, saves=(source,)))
    print_tree(place, verbose=False)
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split(" · ")[0] for line in lines if " · " in line]
    assert lines[0] == "wandb · 3 runs"
    assert heads == ["wandb", "├── alone", "└── sweep/", "    ├── grouped", "    └── other"]


def test_notes_of_one_kind_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    place = Place("mlruns")
    for name, kinds in (("a", "traces (1)"), ("b", "traces (2)"), ("c", "traces (2)")):
        note = Finding("not-carried", Severity.INFO, name, f"not exported: {kinds}", 2)
        place.add(make_run(HISTORY, name=name, source=f"mlruns/{name}", findings=(note,)))
    print_tree(place, verbose=False)
    second = capsys.readouterr().out.splitlines()[1]
    assert second == (
        "  info not-carried (6×) · not exported: traces (1); 1 more of this kind (-v shows all)"
    )


def test_with_all_details_each_note_of_the_place_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = Place("mlruns")
    for name, kinds in (("a", "traces (1)"), ("b", "traces (2)"), ("c", "traces (2)")):
        note = Finding("not-carried", Severity.INFO, name, f"not exported: {kinds}", 2)
        place.add(make_run(HISTORY, name=name, source=f"mlruns/{name}", findings=(note,)))
    print_tree(place, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "  info not-carried (2×) · not exported: traces (1)",
        "  info not-carried (4×) · not exported: traces (2)",
    ]
    assert "-v shows all" not in "".join(lines)


def test_runs_are_below_their_own_parent_if_others_have_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As MLflow's stores have them: each parent is followed by its children."""
    place = Place("mlruns")
    for number, (name, parents) in enumerate(
        [("search", ()), ("a", ("search",)), ("search", ()), ("search", ()), ("b", ("search",))]
    ):
        source = f"mlruns/{number}"
        one = make_run(HISTORY, name=name, group="exp", source=source, record=object())
        place.add(replace(one, parents=parents, saves=(source,)))
    print_tree(place, verbose=False)
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split(" · ")[0] for line in lines if " · 8 rows" in line]
    assert heads == [
        "├── search",
        "│   └── a",
        "├── search",
        "└── search",
        "    └── b",
    ]


def test_the_page_of_a_run_cuts_long_params_and_counts_one_point(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = inspect(make_run([{"loss": 1.0, "step": 1}], params={"text": "x" * 6000}))
    print_page(document | {"kinds": {"custom": 1}}, verbose=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    (rows,) = [line for line in lines if line.startswith("rows")]
    assert rows.split(maxsplit=1)[1] == "1, 1 point"
    assert "x… (6,000 characters, -v shows all)" in " ".join(line.strip() for line in lines)
    assert len(lines) < 30


def test_of_many_runs_no_stream_is_kept() -> None:
    place, streams = Place("out"), []
    for number in range(5):
        one = make_run(HISTORY, source=f"out/{number}/trainer_state.json", name=str(number))
        streams.append(weakref.ref(one.stream.step))
        place.add(one)
        del one
    gc.collect()
    assert [stream() for stream in streams] == [None] * 5
    assert (len(place.records), place.pages) == (5, [])


@pytest.mark.parametrize("severity", list(Severity))
def test_control_characters_reach_no_terminal(
    severity: Severity, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place("out\x1b[2J")
    finding = Finding("odd\x07", severity, "row 1", "m")
    params = {"lr\x1b[2J": "\x07"}
    rows = [{"lo\x1b[2Jss": 1.0, "step": 1}]
    saves = ("out\x07/a\x1b/trainer_state.json",)
    place.add(make_run(rows, saves=saves, trial_params=params, findings=(finding,)))
    print_tree(place, verbose=False)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_any_terminal_will_do(tmp_path: Path) -> None:
    trials(tmp_path / "sürch", 2)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "bridges", "inspect", "sürch"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"+-- lr0 \\xb7 6 rows" in done.stdout
    done = subprocess.run(command, env={**os.environ, "FORCE_COLOR": "1"}, capture_output=True)
    assert b"\x1b[1;36mlr0\x1b[0m" in done.stdout


@needs_groundtruth
def test_a_real_search(capsys: pytest.CaptureFixture[str]) -> None:
    lines = screen(capsys, str(GROUNDTRUTH / "hp_search_unnamed" / "out"))
    assert lines[0].endswith("out · search of 2 trials · 4 states")
    text = "\n".join(lines)
    assert "run-0 · 6 rows · steps 2 to 8 · finished" in text
    assert "learning_rate=0.01051, per_device_train_batch_size=8" in text
    assert "from checkpoint-4 and trainer_state.json" in text
    assert "settings of training_args.bin and config.json" in text


@needs_corpus
def test_a_real_directory_of_many_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TANGHULU6: ten runs in one directory; one was resumed twice from one state."""
    lay_out("TANGHULU6/Llama3-8B-Mob outputs", tmp_path / "outputs")
    lines = screen(capsys, "outputs")
    assert lines[0] == "outputs · 10 runs · 15 states"
    text = "\n".join(lines)
    assert "warning learning-rate-jumps and 2 more" in text
    assert "from 5 checkpoints (checkpoint-500, -1000 … -3500)" in text
    assert "forks from checkpoint-3500 after 1,515 rows" in text


def test_states_of_other_directories_are_shown_with_their_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fork names the run it left, and copies in two directories are told apart."""
    other = [*HISTORY[:4], *({**row, "loss": 9.0} for row in HISTORY[4:])]
    put(tmp_path / "a", HISTORY)
    put(tmp_path / "b", other)
    put(tmp_path / "c", HISTORY)
    run(["inspect", str(tmp_path)])
    out = " ".join(capsys.readouterr().out.split())
    assert "forks from a/trainer_state.json after" in out
    assert "from trainer_state.json and c/trainer_state.json" in out
