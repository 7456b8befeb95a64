"""The command line: its documents, exit codes, messages and screens."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest

from bridges import __version__
from bridges.cli import console
from bridges.cli.main import app, run
from bridges.cli.version import TRACKERS
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from tests.bounds import HANGS
from tests.support import DATA, state

SEED = str(DATA / "seed.txt")
ROWS = [{"loss": 0.5, "epoch": 0.5, "step": 1}, {"loss": 0.25, "epoch": 1.0, "step": 2}]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "small.json").write_bytes(state(ROWS))


def bridge(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """What a command prints to stdout and stderr; its exit code must be the given one."""
    capsys.readouterr()
    assert run(list(arguments)) == code
    out, err = capsys.readouterr()
    return out, err


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    out, _ = bridge(capsys, *arguments, "--json", code=code)
    parsed: dict[str, Any] = json.loads(out)
    return parsed


def test_export_prints_one_line_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = bridge(capsys, "export", "small.json", "--to", "tensorboard")
    first, notes, look = out.splitlines()
    assert first.startswith("✓ exported  small  2 rows, 4 points, verified → runs/small")
    assert notes.strip() == "notes   clock-synthetic (-v explains)"
    assert look == "View: tensorboard --logdir runs"
    assert err == ""


def test_the_page_of_an_mlflow_run_or_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.json").write_bytes(state([{"loss": 3.0, "step": 1}]))
    store = ("--to", "mlflow", "--tracking-uri", "sqlite:///m.db")
    page = "http://127.0.0.1:5000/#/experiments/1/runs"
    one, _ = bridge(capsys, "export", "small.json", *store)
    command, address = one.splitlines()[-2:]
    assert command == "View: mlflow ui --backend-store-uri sqlite:///m.db"
    assert address.strip().rpartition("/")[0] == page
    several, _ = bridge(capsys, "export", "small.json", "other.json", *store)
    assert several.splitlines()[-2] == command
    assert several.splitlines()[-1].strip() == f"{page}?workflowType=machine_learning"


def test_runs_in_several_experiments_are_shown_by_the_list_of_experiments() -> None:
    exporter = MlflowExporter(MlflowOptions(tracking_uri="sqlite:///m.db"))
    places = [f"sqlite:///m.db#/experiments/{number}/runs/a{number}" for number in (1, 2)]
    assert exporter.view_page(places) == "http://127.0.0.1:5000/#/experiments"


def test_the_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    report = document(capsys, "export", "small.json", "--to", "tensorboard")
    (entry,) = report["runs"]
    assert entry.pop("seconds") > 0
    assert len(bytes.fromhex(entry.pop("key"))) == 16
    assert entry == {
        "source": "small.json",
        "run": "small",
        "target": "tensorboard",
        "status": "exported",
        "rows": 2,
        "points": 4,
        "new_points": 4,
        "location": "runs/small",
        "verified": True,
        "findings": [
            {
                "code": "clock-synthetic",
                "severity": "info",
                "where": "all rows",
                "message": "times are synthetic and start on 2000-01-01: the log contains no "
                "times, so each step counts as one second",
                "count": 1,
            }
        ],
    }
    assert report["totals"] == {
        "runs": 1,
        "exported": 1,
        "appended": 0,
        "unchanged": 0,
        "failed": 0,
        "planned": 0,
        "points": 4,
        "new_points": 4,
        "findings": 1,
    }


def test_a_bad_source_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text("{}")
    arguments = ["export", "bad.json", "nope.json", "small.json", "--to", "tensorboard"]
    report = document(capsys, *arguments, code=1)
    assert [entry["status"] for entry in report["runs"]] == ["failed", "failed", "exported"]
    assert [entry["findings"][-1]["code"] for entry in report["runs"][:2]] == ["source", "source"]


def test_no_such_source_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = bridge(capsys, "export", "nope.json", "--to", "tensorboard", code=2)
    assert out.startswith("✗ failed    nope.json  (tensorboard)")
    assert "nope.json: found nothing there; expected a trainer_state.json" in out
    assert out.count("nope.json") == 2  # of the run, and of the message
    assert not Path("runs").exists()
    _, err = bridge(capsys, "inspect", "nope.json", code=2)
    assert err.startswith("error: nope.json: found nothing there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tensorbord"], "Did you mean 'tensorboard'?"),
        (["--to", "tensorboard", "--callback-version", "banana"], "'banana' is not a version"),
        (["--to", "tensorboard", "--callback-version", "2.1"], "'2.1' is not known"),
        (["--to", "tensorboard", "--tag", "x"], "--tag 'x': expected KEY=VALUE"),
        (["--to", "tensorboard", "--tag", "mlflow.user=eve"], "--tag: found 'mlflow.user'; tags"),
        (["--to", "tensorboard", "--tag", "mlflow.runName=x"], "Use --run-name to name runs."),
        (["--to", "tensorboard", "--tag", "bridges.key=x"], "expected another name"),
        (
            ["--to", "tensorboard", "-o", "depth=1"],
            "unknown option 'depth' for tensorboard. Options: logdir.",
        ),
        (["--to", "tensorboard", "-o", "logdr=x"], "Did you mean 'logdir'? Options: logdir."),
        (
            ["--to", "memory", "--logdir", "x"],
            "--logdir is an option of tensorboard, and --to names memory. ",
        ),
        (
            ["--to", "tensorboard,csv", "--tracking-uri", "x"],
            "--tracking-uri is an option of mlflow, and --to names tensorboard, csv. ",
        ),
        (["--to", "mlflow", "--out", "x"], "--out is an option of csv and parquet, and"),
        (["--to", "tensorboard", "--logdir", "s3://b/x"], "local directory"),
        (["small.json", "--run-name", "x", "--to", "tensorboard"], "--run-name names one run"),
        (["--to", "tensorboard", "--source", "xml"], "unknown source 'xml'"),
        (["--to", "tensorboard", "--x-axis", "time"], "'time' is not one of 'step', 'epoch'"),
        ([], "Missing option '--to'"),
        (["--to", "tensorboard", "--nothing"], "No such option"),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    _, err = bridge(capsys, "export", "small.json", *arguments, code=2)
    assert message in err
    assert not Path("runs").exists()


def test_duplicates_error_names_key_and_step(capsys: pytest.CaptureFixture[str]) -> None:
    Path("twice.json").write_bytes(state([*ROWS, {"loss": 1.0, "step": 2}]))
    arguments = ["export", "twice.json", "--to", "tensorboard", "--duplicates", "error"]
    out, _ = bridge(capsys, *arguments, code=1)
    assert "key 'loss' is logged more than once at step 2 (rows 1, 2)" in out
    assert not Path("runs").exists()


def test_quiet_prints_failures_only(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--to", "tensorboard", "--quiet"]
    assert bridge(capsys, "export", "small.json", *arguments) == ("", "")
    out, _ = bridge(capsys, "export", "small.json", "nope.json", *arguments, code=2)
    assert "small" not in out.replace("nope.json", "")
    assert "nope.json" in out


def test_dry_run_then_export_then_verify(capsys: pytest.CaptureFixture[str]) -> None:
    target = ["small.json", "--to", "tensorboard"]
    out, _ = bridge(capsys, "export", *target, "--dry-run")
    assert out.startswith("○ planned   small  2 rows, 4 points, 4 new → tensorboard")
    assert not Path("runs").exists()
    out, _ = bridge(capsys, "verify", *target, code=1)
    assert "not-in-target" in out
    bridge(capsys, "export", *target)
    out, _ = bridge(capsys, "verify", *target)
    assert out.startswith("✓ verified  small  2 rows, 4 points → runs/small")


def test_an_error_of_many_runs_is_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.json", "c.json"):
        Path(name).write_bytes(state([{"loss": 3.0, "step": 1}]))
    out, _ = bridge(capsys, "verify", "small.json", "b.json", "c.json", "--to", "tensorboard",
                    code=1)  # fmt: skip
    assert out.count("the target holds no such run") == 1
    assert out.count("not-in-target · as for small above") == 2
    assert "3 runs: 3 failed; 6 points." in out
    out, _ = bridge(capsys, "verify", "small.json", "b.json", "--to", "tensorboard", "-v", code=1)
    assert out.count("the target holds no such run") == 2


def test_a_mistake_is_printed_once_for_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    files = ("small.json", "b.json", "c.json")
    for name in files[1:]:
        Path(name).write_bytes(Path("small.json").read_bytes())
    out, _ = bridge(capsys, "export", *files, "--to", "tensorboard", "--clock", "events", code=1)
    assert out.count("found no such times for this run") == 1
    assert out.count("failed · as for small above") == 2


def test_several_targets_with_commas(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = bridge(capsys, "export", "small.json", "--to", "tensorboard,mlflow",
                    "--tracking-uri", "sqlite:///m.db")  # fmt: skip
    assert "1 run × 2 targets: 2 exported; 8 points." in out
    assert "→ runs/small" in out
    assert "→ sqlite:///m.db#" in out


def test_a_run_with_another_name_in_one_target_is_counted_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    order = ["export", "small.json", "--to", "tensorboard,mlflow", "--tracking-uri"]
    bridge(capsys, *order, "sqlite:///m.db")
    with closing(sqlite3.connect("m.db")) as database, database:
        database.execute("update runs set name = 'other'")
        database.execute("update tags set value = 'other' where key = 'mlflow.runName'")
    out, _ = bridge(capsys, *order, "sqlite:///m.db")
    assert "= unchanged other" in out
    assert "1 run × 2 targets: 2 unchanged; 8 points." in out


def test_without_a_target_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = bridge(capsys, "export", "small.json", code=2)
    names = "csv, memory, mlflow, parquet, tensorboard, trackio, wandb"
    assert f"Missing option '--to'. Choose from: {names}" in err


def test_a_list_of_targets_with_a_blank_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = bridge(capsys, "export", "small.json", "--to", "tensorboard,", "mlflow", code=2)
    assert "'tensorboard,' ends with a comma. Write several targets without blanks" in err
    assert not Path("runs").exists()


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_first_help_lists_each_command_without_a_cut(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown, _ = bridge(capsys, "--help")
    assert max(map(len, shown.splitlines())) <= int(columns)
    listed = [line.split()[0] for line in shown.splitlines() if re.match(r"  [a-z]+  +[A-Z]", line)]
    assert sorted(listed) == sorted(name for name in commands() if name != "bridge")
    assert not [line for line in shown.splitlines() if line.endswith("...") and "ARGS" not in line]


@pytest.mark.parametrize("name", ["export", "verify", "inspect", "ls", "migrate"])
def test_help_fits_the_screen_and_names_the_help_with_all_options(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    short, _ = bridge(capsys, name, "--help")
    complete, _ = bridge(capsys, name, "--help-all")
    assert len(short.splitlines()) <= 55
    assert max(map(len, complete.splitlines())) <= 80
    flags = {each.opts[-1] for each in commands()[name].params if isinstance(each, click.Option)}
    assert not [flag for flag in flags if flag not in complete]
    hidden = [flag for flag in flags if f"  {flag}" not in short and f", {flag}" not in short]
    assert (f"{len(hidden)} more options: bridge {name} --help-all" in short) == bool(hidden)


def test_help_lists_the_options_of_each_target(capsys: pytest.CaptureFixture[str]) -> None:
    shown, _ = bridge(capsys, "export", "--help-all")
    own = shown[shown.index("\nMLflow:") : shown.index("\nWeights & Biases:")]
    assert "--experiment" in own
    assert "--mlflow-writer" in own
    assert "--project" not in own


@pytest.mark.parametrize(
    ("options", "variables", "colored"),
    [([], {}, True), (["--no-color"], {}, False), ([], {"NO_COLOR": "1"}, False)],
)
def test_colors(options: list[str], variables: dict[str, str], colored: bool) -> None:
    environment = {**os.environ, "TERM": "xterm", **variables}
    for arguments in (["inspect", "small.json"], ["verify", "small.json", "--to", "tensorboard"]):
        command = [sys.executable, "-m", "bridges", *options, *arguments]
        assert (b"\x1b[3" in on_terminal(command, environment)) == colored


def on_terminal(command: list[str], environment: dict[str, str]) -> bytes:
    """What a command prints on a terminal."""
    ours, its = os.openpty()
    with subprocess.Popen(command, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        printed = b""
        with suppress(OSError):  # it has ended
            while more := os.read(ours, 65536):
                printed += more
        process.wait(HANGS)
    os.close(ours)
    return printed


def test_a_changed_file_does_not_verify(capsys: pytest.CaptureFixture[str]) -> None:
    bridge(capsys, "export", "small.json", "--to", "tensorboard")
    (path,) = Path("runs/small").iterdir()
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(bytes(data))
    out, _ = bridge(capsys, "verify", "small.json", "--to", "tensorboard", code=1)
    assert "is damaged: the CRC of its data is wrong" in out


def test_names_groups_and_tags(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--run-name", "base", "--group", "old", "--tag", "team=nlp"]
    bridge(capsys, "export", "small.json", "--to", "tensorboard", *arguments)
    (path,) = Path("runs/old/base").iterdir()
    assert b'"team": "nlp"' in path.read_bytes()


def test_verbose_explains_every_note(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = bridge(capsys, "export", "small.json", "--to", "tensorboard", "-v")
    assert "info    clock-synthetic · all rows" in out
    assert "each step counts as one second" in out


def test_inspect_is_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = bridge(capsys, "inspect", SEED)
    for text in (
        "rows       101 (100 train, 1 eval), 405 points",
        "steps      100 to 10,000",
        "written by transformers 4.41-4.49",
        "learning_rate",
        "clock-synthetic",
    ):
        assert text in out
    assert any("▁" in line and "█" in line for line in out.splitlines())


def test_inspect_document(capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = document(capsys, "inspect", SEED)["runs"]
    assert (entry["rows"], entry["points"], entry["steps"]) == (101, 405, [100, 10000])
    assert entry["kinds"] == {"train": 100, "eval": 1}
    loss = next(key for key in entry["keys"] if key["key"] == "loss")
    assert (loss["count"], loss["first"], loss["last"]) == (100, 227.5515, 110.9712)


def test_inspect_tells_what_it_cannot_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text("{}")
    out, err = bridge(capsys, "inspect", "bad.json", "small.json", code=1)
    assert "small" in out
    assert err.startswith("error: bad.json: found a JSON object without 'log_history'")


def test_version_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = bridge(capsys, "--version")[0].splitlines()
    assert first == f"bridge {__version__}"
    trackers = [f"{name} {version(name)}" for name in TRACKERS]
    assert second == f"trackers: {', '.join(trackers)}"
    out, _ = bridge(capsys, "targets")
    assert "tensorboard" in out
    assert "trainer_state" in out


def test_sources_are_named_by_what_they_read(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = bridge(capsys, "sources")
    for name in ("MLflow", "Trainer", "TensorBoard", "W&B", "LLaMA-Factory", "CSV, TSV"):
        assert name in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    out, _ = bridge(capsys, "completion", shell)
    assert "_BRIDGE_COMPLETE" in out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("bridge export --x", ["plain,--x-axis"]),
        ("bridge export --clock dur", ["plain,duration"]),
        ("bridge l", ["plain,ls"]),
        ("bridge explain clock-s", ["plain,clock-source", "plain,clock-synthetic"]),
    ],
)
def test_completion_completes(words: str, completed: list[str]) -> None:
    typed = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    environment = {**os.environ, "_BRIDGE_COMPLETE": "bash_complete", **typed}
    bridge_command = Path(sys.executable).with_name("bridge")
    done = subprocess.run([bridge_command], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == completed


def commands() -> dict[str, click.Command]:
    assert isinstance(app, click.Group)
    context = click.Context(app)
    found = {name: app.get_command(context, name) for name in app.list_commands(context)}
    return {"bridge": app, **{name: command for name, command in found.items() if command}}


def test_commands_that_are_imported_on_first_use() -> None:
    from bridges.cli.looking import COMMANDS
    from bridges.cli.main import LOOKING

    assert sorted(str(command.name) for command in COMMANDS) == [*LOOKING]
    assert {*LOOKING} < {*commands()}


@pytest.mark.parametrize("name", commands())
def test_every_command_teaches_by_example(name: str) -> None:
    command = commands()[name]
    assert command.help
    assert "Example" in command.help
    for parameter in command.get_params(click.Context(command)):
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name} has no help"


def test_standard_input(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "bridges", "export", "-", "--to", "tensorboard"]
    done = subprocess.run(command, input=Path("small.json").read_bytes(), capture_output=True)
    assert done.returncode == 0
    assert "stdin  2 rows" in done.stdout.decode()
    done = subprocess.run(command, input=b"\n", capture_output=True)
    assert done.returncode == 2
    assert "-: found no input; expected" in done.stdout.decode()


def slow_source(folder: Path) -> list[str]:
    """A command that waits for ever: standard input stays open."""
    return [sys.executable, "-m", "bridges", "export", "small.json", "-", "--to", "tensorboard"]


def test_interrupted_keeps_what_was_finished(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [*slow_source(tmp_path), "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith(b"1/2 reading - ")  # the first one is finished
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=HANGS)
    assert child.returncode == 130
    assert [entry["status"] for entry in json.loads(out)["runs"]] == ["exported"]
    assert err.decode().strip() == (
        "interrupted; finished runs are kept: rerun the same command for the rest"
    )


def test_the_progress_ends_before_the_totals_of_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal, the totals would end up in its live line."""
    ended: list[bool] = []

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridges.pipeline.batch.for_each_run", interrupted)
    monkeypatch.setattr(console.Progress, "__exit__", lambda *_: ended.append(True))
    monkeypatch.setattr(console, "print_end", lambda *_, **__: ended.append(False))
    bridge(capsys, "export", "small.json", "--to", "memory", code=130)
    assert ended == [True, False]


@pytest.mark.parametrize(
    ("command", "is_kept"),
    [("export", True), ("migrate", True), ("verify", False), ("inspect", False), ("ls", False)],
)
def test_only_commands_that_write_say_that_runs_are_kept(
    command: str, is_kept: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**options: object) -> None:
        raise KeyboardInterrupt

    chosen = app.get_command(click.Context(app), command)
    monkeypatch.setattr(chosen, "callback", interrupted)
    target = ["--to", "memory"] if command in ("export", "verify") else []
    _, err = bridge(capsys, command, "small.json", *target, code=130)
    kept = "; finished runs are kept: rerun the same command for the rest" if is_kept else ""
    assert err == f"interrupted{kept}\n"


def test_progress_is_shown_after_a_second(tmp_path: Path) -> None:
    child = subprocess.Popen(
        slow_source(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith("1/2 reading - (1 s)")
    child.kill()
    child.communicate()


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"loss": float("nan"), "step": 1}, {"loss": float("-inf"), "step": 2}]
    Path("odd.json").write_bytes(state(rows))
    out, _ = bridge(capsys, "inspect", "odd.json", "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (entry,) = json.loads(out, parse_constant=refuse)["runs"]
    assert (entry["keys"][0]["first"], entry["keys"][0]["last"]) == ("NaN", "-Infinity")


def test_any_terminal_and_any_name_will_do(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    (tmp_path / "ü\x1b[2J.json").write_bytes(state([{"é\x07": 1.5, "step": 1}]))
    with open(folder + b"/\xff.json", "wb") as file:
        file.write(state(ROWS))
    names = [os.fsdecode(b"\xff.json"), "ü\x1b[2J.json"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for command in (["inspect"], ["inspect", "--json"], ["export", "--to", "tensorboard"]):
        done = subprocess.run(
            [sys.executable, "-m", "bridges", *command, *names],
            env=environment,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        assert b"\x1b" not in done.stdout
        assert b"\x07" not in done.stdout


def test_closed_standard_input() -> None:
    command = f"{sys.executable} -m bridges inspect - <&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: -: found standard input closed; expected")
