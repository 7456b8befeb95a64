"""`bridge migrate` as people type it: the screen at its end, reports, Ctrl-C, broken workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import IO

import pytest

from bridges.cli.main import run
from bridges.migration.config.config import EngineSpec
from bridges.migration.engine import Engine
from bridges.migration.tasks import Done, Task, plan
from tests.bounds import HANGS, until
from tests.integration.migration.test_migrate import config, make_tree, rows_of
from tests.support import REPOSITORY, state

pytestmark = pytest.mark.slow


def write(tmp_path: Path, runs: int, broken: int = 0) -> Path:
    make_tree(tmp_path / "tree", runs, broken)
    file = tmp_path / "migration.yaml"
    file.write_text(
        "sources: [{location: tree, filter: {min_rows: 4}}]\n"
        "targets: [{to: tensorboard, logdir: tb}]\n"
        "engine: {workers: 2}\n"
    )
    return file


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bridges", "migrate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        start_new_session=True,
    )


def held(tmp_path: Path, file: Path) -> tuple[subprocess.Popen[str], IO[str]]:
    """A migration in its midst, and its report, of which the first line is read.

    The report is a pipe that holds the lines of some runs: the migration goes on while it is read.
    """
    lines = tmp_path / "runs.jsonl"
    os.mkfifo(lines)
    process = start(file, "--report", lines)
    report = lines.open()
    assert report.readline()
    return process, report


def started(process: subprocess.Popen[str]) -> dict[int, str]:
    """The commands of the processes that it started, and that live."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(group) == process.pid and state != "Z":
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_text()
    found.pop(process.pid, None)
    return found


def test_the_screen_and_the_reports(tmp_path: Path) -> None:
    file = write(tmp_path, 30, 1)
    lines, page = tmp_path / "runs.jsonl", tmp_path / "runs.html"
    process = start(file, "--report", lines, "--html", page)
    shown, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 1
    short = sum(len(rows_of(number)) < 4 for number in range(1, 30))
    good = 29 - short
    assert short > 0
    assert re.search(rf"^tensorboard +{good} +0 +0 +1 ", shown, re.M)
    assert f"{short} run left out by the filters." in shown
    assert "run0/checkpoint-5" in shown  # the broken one, by its file
    *runs, last = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(runs) == last["totals"]["runs"] == good + 1
    assert last["exit_code"] == 1
    assert page.read_text().count("<details") >= 1
    process = start(file, "--json")
    document = json.loads(process.communicate(timeout=HANGS)[0])
    assert document["totals"]["unchanged"] == good
    assert document["totals"]["left_out"] == short


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_what_was_begun_and_tells(
    tmp_path: Path, signal_: signal.Signals
) -> None:
    file = write(tmp_path, 600)
    process, report = held(tmp_path, file)
    with report:
        process.send_signal(signal_)
        done = 1 + len(report.readlines())
    shown, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 130
    assert "interrupted; finished runs are kept" in errors
    assert 0 < done < 500
    assert f"{done} run" in shown.replace(",", "")
    assert not [*(tmp_path / "tb").rglob("*partial*")]  # nothing is half-written
    process = start(file, "--json", "-q")
    totals = json.loads(process.communicate(timeout=HANGS)[0])["totals"]
    assert totals["unchanged"] >= done
    assert totals["exported"] + totals["unchanged"] == totals["runs"]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_ctrl_c_is_the_affair_of_the_migration_alone(tmp_path: Path, processes: int) -> None:
    """It goes to all processes of a terminal, also to those which are importing still."""
    process = start(write(tmp_path, 20))
    others: dict[int, str] = {}

    def are_there() -> bool:
        others.update(started(process))
        return len(others) >= processes and any("forkserver" in at for at in others.values())

    until(are_there, process)
    for other in others:
        with suppress(ProcessLookupError):
            os.kill(other, signal.SIGINT)
    _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 0
    assert [line for line in errors.splitlines() if not line.startswith("tensorboard ")] == []


def test_without_the_migration_there_is_no_worker(tmp_path: Path) -> None:
    process, report = held(tmp_path, write(tmp_path, 600))
    with report:
        assert len(started(process)) > 2
        process.kill()
    process.communicate(timeout=HANGS)
    until(lambda: not started(process))


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_the_document_comes_as_the_runs_do_and_is_whole_when_interrupted(
    tmp_path: Path, signal_: signal.Signals
) -> None:
    process = start(write(tmp_path, 600), "--json")
    assert process.stdout is not None
    begin = "".join(process.stdout.readline() for _ in range(40))
    process.send_signal(signal_)
    document = json.loads(begin + process.stdout.read())
    process.communicate(timeout=HANGS)
    assert process.returncode == 130
    assert 0 < len(document["runs"]) == document["totals"]["runs"] < 500
    assert document["totals"]["exported"] == document["totals"]["runs"]


def test_the_document_of_no_runs(tmp_path: Path) -> None:
    file = write(tmp_path, 1)
    file.write_text(file.read_text().replace("min_rows: 4", "min_rows: 99"))
    process = start(file, "--json")
    document = json.loads(process.communicate(timeout=HANGS)[0])
    assert document["runs"] == []
    assert (document["totals"]["runs"], document["totals"]["left_out"]) == (0, 1)


def on_terminal(*arguments: object) -> str:
    """What a migration writes on the terminal of 80 columns that its stderr is."""
    terminal, other_end = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-m", "bridges", "migrate", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=other_end,
        env=environment,
    ):
        os.close(other_end)
        shown = b""
        with suppress(OSError):  # which is how a terminal says that the other end is closed
            while True:
                shown += os.read(terminal, 10_000)
    os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")


def test_a_terminal_shows_bars_and_a_log_lines(tmp_path: Path) -> None:
    file = write(tmp_path, 600)
    broken = tmp_path / "tree" / "broken" / "trainer_state.json"
    broken.parent.mkdir()
    broken.write_bytes(state(rows_of(3) * 1_000)[:-9])  # the largest is read first
    text = file.read_text().replace("logdir: tb}", "logdir: tb}, {to: tensorboard, logdir: tb2}")
    file.write_text(text)
    lines = on_terminal(file).splitlines()
    bars = [line for line in lines if re.search(r"/601 .* left$", line)]
    assert {re.split("  |[━╸╺]", bar)[0] for bar in bars} == {"tensorboard", "tensorboard 2"}
    assert any(
        re.match(r"all .*/1,202 +[0-9.,]+ runs/s +\d:\d\d:\d\d left$", line) for line in lines
    )
    assert any(re.match(r"2 failed or lost data  …\S+ → tensorboard", line) for line in lines)
    assert max(map(len, lines)) <= 80
    assert on_terminal(file, "-q") == ""
    shutil.rmtree(tmp_path / "tb")
    process, report = held(tmp_path, file)
    with report:
        assert process.stderr is not None
        first = process.stderr.readline()  # it comes after a second
        report.read()
    process.communicate(timeout=HANGS)
    assert re.match(r"tensorboard \d+/601, tensorboard 2 \d+/601; [0-9.]+ runs/s, ", first)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    process = start(write(tmp_path, 10), "--dry-run", "--json")
    document = json.loads(process.communicate(timeout=HANGS)[0])
    assert {run["status"] for run in document["runs"]} == {"planned"}
    assert {run["would"] for run in document["runs"]} == {"exported"}
    assert document["totals"]["would_be_exported"] == len(document["runs"])
    assert all(run["new_points"] == run["points"] > 0 for run in document["runs"])
    assert not (tmp_path / "tb").exists()


def test_a_dry_run_is_a_table_of_what_would_be_done(tmp_path: Path) -> None:
    """One run of each kind: new, grown, as it was, broken."""
    file = write(tmp_path, 4, 1)
    file.write_text(file.read_text().replace("min_rows: 4", "min_rows: 1"))
    start(file).communicate(timeout=HANGS)
    shutil.rmtree(tmp_path / "tb" / "run1")
    rows = [*rows_of(2), {"loss": 1e39, "step": 99}]
    grown = tmp_path / "tree" / "exp2" / "run2" / f"checkpoint-{len(rows)}" / "trainer_state.json"
    grown.parent.mkdir()
    grown.write_bytes(state(rows, global_step=99))
    shown, _ = start(file, "--dry-run").communicate(timeout=HANGS)
    table, _, end = shown.partition("\n\n")
    header, *lines = table.splitlines()
    assert header.split("  ")[0] == "run"
    hexes = "[0-9a-f]{12}"
    told = "\n".join(sorted(line for line in lines if line.startswith("run")))
    assert re.fullmatch(
        rf"run1 +tensorboard  new +4 +8 +8  {hexes}\n"
        rf"run2 +tensorboard  append +6 +11 +1  {hexes}\n"
        rf"run3 +tensorboard  unchanged +\d+ +\d+ +0  {hexes}",
        told,
    )
    (grown_at,) = (at for at, line in enumerate(lines) if line.startswith("run2"))
    assert lines[grown_at + 1] == "    warning: overflow-to-infinity"  # as live: no loss
    assert sum("  tensorboard  failed" in line for line in lines) == 1
    assert "found the end of the file inside a value" in table  # why it failed
    assert "read its complete rows with `salvage: true`" in table
    assert "clock-synthetic" not in table  # a note
    assert re.search(r"^tensorboard +1 +1 +1 +1 +4 ", end, re.M)
    assert "nothing written; 1 run failed" in end
    verbose, _ = start(file, "--dry-run", "-v").communicate(timeout=HANGS)
    assert verbose.count("clock-synthetic · all rows") == 2
    assert verbose.count("known-by-its-files") == 2  # the run that is unchanged, and the totals


@pytest.mark.parametrize("name", ["one-run", "fan-out", "hyperparameter-search"])
def test_the_examples(tmp_path: Path, name: str) -> None:
    """Each works as it stands, from any directory; of the search there has to be one."""
    place = tmp_path / "configs"
    shutil.copytree(REPOSITORY / "configs", place)
    for number in range(2):
        rows = rows_of(number + 3)
        trial = place / "outputs" / "search" / f"run-{number}"
        folder = trial / f"checkpoint-{len(rows)}"
        folder.mkdir(parents=True)
        params = {"learning_rate": 0.1 + number}
        (folder / "trainer_state.json").write_bytes(state(rows, trial_params=params))
        (folder / "config.json").write_text('{"model_type": "qwen2"}')
    process = start(place / f"{name}.yaml", "--json")
    document = json.loads(process.communicate(timeout=HANGS)[0])
    assert process.returncode == 0
    assert document["runs"]
    assert {run["status"] for run in document["runs"]} == {"exported"}


def test_a_task_that_kills_its_workers_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 12, 0)
    (tmp_path / "wb").mkdir()
    tasks, failed = plan(config(tmp_path))
    assert not failed
    deadly = Deadly(tasks[0].source, tasks[0].place, tasks[0].targets, tasks[0].size)
    done: list[tuple[Task, Done]] = []
    engine = Engine(EngineSpec(workers=2, retries=1), on_done=lambda *each: done.append(each))
    engine.run([deadly, *tasks[1:]])
    assert len(done) == 12
    reports = [report for _, each in done for report in each.reports]
    lost = [report for report in reports if report.failed]
    assert {report.findings[-1].code for report in lost} == {"worker"}
    assert "its worker was lost 2 times" in lost[0].findings[-1].message
    assert len(lost) == 3  # its neighbours were lost with it, but not for ever
    assert sum(not report.failed for report in reports) == 33


class Deadly(Task):
    """A task that takes its process with it, as one that needs too much memory does."""

    @property
    def location(self) -> str:
        if parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return "deadly"


def test_runs_that_are_left_out_are_counted_once(tmp_path: Path) -> None:
    """A target with a limit has its runs read again: each is told once all the same."""
    file = write(tmp_path, 40)
    file.write_text(
        "sources: [{location: tree, filter: {min_rows: 4}}]\n"
        "targets: [{to: tensorboard, logdir: tb}, {to: tensorboard, logdir: tb2, limit: 1},\n"
        "  {to: tensorboard, logdir: tb3, limit: 1}]\n"
    )
    process = start(file, "--json", "--workers", 2)
    totals = json.loads(process.communicate(timeout=HANGS)[0])["totals"]
    short = sum(len(rows_of(number)) < 4 for number in range(40))
    assert totals["left_out"] == short > 0
    assert totals["exported"] == 3 * (40 - short)
    shown = start(file, "-v").communicate(timeout=HANGS)[0]
    told = re.findall(
        r"^- left out  (.*)/checkpoint-3/\S+: it has 3 rows, fewer .* 4$", shown, re.M
    )
    assert len({*told}) == len(told) == short
    assert "left out  " not in start(file).communicate(timeout=HANGS)[0]


def test_workers_end_with_the_migration_that_is_killed(tmp_path: Path) -> None:
    file = write(tmp_path, 300)
    process, report = held(tmp_path, file)
    with report:
        group = children(process.pid)
        assert len(group) >= 2
        process.kill()
    process.communicate(timeout=HANGS)
    until(lambda: not any(map(is_alive, group)))
    process = start(file, "--json")
    totals = json.loads(process.communicate(timeout=HANGS)[0])["totals"]
    assert totals["exported"] + totals["unchanged"] == totals["runs"]


def children(parent: int) -> list[int]:
    """The processes that a process started."""
    stats = [(int(p.name), p / "stat") for p in Path("/proc").iterdir() if p.name.isdigit()]
    return [pid for pid, stat in stats if parent_of(stat) == parent]


def parent_of(stat: Path) -> int | None:
    try:
        state_, parent = stat.read_text().rpartition(")")[2].split()[:2]
    except OSError:  # it has just ended
        return None
    return None if state_ == "Z" else int(parent)


def is_alive(pid: int) -> bool:
    return parent_of(Path(f"/proc/{pid}/stat")) is not None


def test_the_end_names_reports_and_what_to_type_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for loss, name in enumerate("ab"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"loss": loss, "step": 1}]))
    (tmp_path / "c.yaml").write_text(
        "sources: ['*.json']\n"
        "targets: [{to: tensorboard, logdir: tb}, {to: mlflow, tracking_uri: 'sqlite:///m.db'},"
        " {to: wandb}]\nengine: {workers: 1}\n"
    )
    for _ in range(2):  # known runs have the same end
        assert run(["migrate", "c.yaml", "--report", "r.jsonl", "--html", "r.html"]) == 0
        end = capsys.readouterr().out.splitlines()[-7:]
        assert end[0].startswith("2 runs × 3 targets, 6 points")
        assert end[1:] == [
            "Report: r.jsonl",
            f"Report: {tmp_path}/r.html",
            f"View: tensorboard --logdir {tmp_path}/tb",
            f"View: mlflow ui --backend-store-uri sqlite:///{tmp_path}/m.db",
            "      http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning",
            "Upload: wandb sync ./wandb/offline-run-*",
        ]
