"""What `bridge migrate` shows while it goes on: bars, the JSON document, a dry run's table."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import tracemalloc
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from typing import Any

import click
import pytest
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from bridges.cli.console import print_json
from bridges.cli.migrate import MigrationView
from bridges.cli.migrate_screen import (
    WINDOW_SECONDS,
    Count,
    JsonRuns,
    MigrationProgress,
    failure_line,
    time_left,
)
from bridges.cli.plan_table import PlanTable
from bridges.cli.signals import interrupts
from bridges.migration.config.config import SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.migration.tasks import Task
from bridges.report import RunReport, failure
from bridges.stream.finding import Finding, Severity

RUNS = (
    {"run": "a", "list": [1, {"b": float("nan")}], "empty": {}},
    {"run": "line\nbreaks\u2028of\x85all\x0bkinds", "none": None},
    {"run": "no text \udcff", "é": "学"},
)


def report(status: str = "exported", target: str = "memory", **fields: Any) -> RunReport:
    return RunReport("source", "run", target, status, **fields)


@pytest.mark.parametrize("count", range(len(RUNS) + 1))
def test_the_document_is_that_of_all_runs_at_once(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, totals = RUNS[:count], {"runs": count, "failed": 0}
    print_json({"runs": runs, "totals": totals})
    whole = capsys.readouterr().out
    document = JsonRuns()
    for run in runs:
        document.add(run)
    document.end(totals)
    assert capsys.readouterr().out == whole
    assert [run["run"] for run in json.loads(whole)["runs"]] == [run["run"] for run in runs]
    whole.encode("utf-8")


def test_the_document_is_not_kept() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        shown = MigrationView(as_json=True, quiet=True, verbose=False)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            for _ in range(count):
                shown.report(report(location="x" * 100))
            shown.end(0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what is imported and kept once
    assert peak(2_000) < peak(1_000) + 50_000


@pytest.mark.parametrize(("seconds", "shown"), [(300, "300 s"), (3 * 0.1, "0.3 s")])
def test_how_long_a_target_is_waited_for_is_told(
    seconds: float, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    MigrationView(as_json=False, quiet=False, verbose=False).wait("mlflow", "it is away", seconds)
    said = f"mlflow does not answer; waiting up to {shown}: it is away\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_what_is_begun_is_told_before_it_is_interrupted(kind: signal.Signals) -> None:
    told = []
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with interrupts() as ours:
        with suppress(KeyboardInterrupt):
            with ours.held():
                signal.raise_signal(kind)
                signal.raise_signal(kind)
                told.append("all of it")
            told.append("and more")
        with ours.held():
            told.append("the end")  # it came once
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(kind)
    assert told == ["all of it", "the end"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts() as ours:
            signal.raise_signal(signal.SIGINT)
            with ours.held():
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


KEY = "0123456789abcdef" * 2
PLANNED = (
    report("planned", plan="exported", key=KEY, rows=3, points=12, new_points=12),
    report("planned", plan="appended", key=KEY, rows=99_999, points=9_999_999, new_points=1),
    report("planned", plan="unchanged", key=KEY),
    report("planned", plan="unchanged", key=KEY, rows=123_456_789, points=12_345_678_901),
    replace(report("planned", plan="exported", key=KEY), run="学習" * 40 + "-lr3e-5"),
    replace(
        report("planned", plan="exported", key=KEY, target="x" * 50), run="nasty\n\x1b[2J\udcff"
    ),
    report("unchanged", rows=3),
    failure("a/very/long/path/to/a/trainer_state.json", "memory", "no such file"),
)


def lines_of(table: PlanTable, *reports: RunReport, verbose: bool = False) -> list[str]:
    return [line for each in reports for line in table.lines(each, verbose)]


@pytest.mark.parametrize("width", [80, 81, 99, 100, 120, 200])
def test_rows_of_a_plan_fit_the_terminal_and_stay_in_their_columns(width: int) -> None:
    header, *rows = lines_of(PlanTable(["memory", "x" * 50], width), *PLANNED)
    shown = [row for row in map(click.unstyle, rows) if row[0] != " "]
    assert len(shown) == len(PLANNED)
    assert all(cell_len(row) <= width for row in shown)
    place = click.unstyle(header).index("identity")
    for row, each in zip(shown, PLANNED, strict=True):
        assert set_cell_size(row, place)[-2:] == "  "
        assert cell_len(row) == place + 12 if each.key else cell_len(row) <= place
        assert row.isprintable()
    assert shown[4].startswith("学習")
    assert "r3e-5  " in shown[4]
    assert "…" in shown[4]


def test_names_of_a_plan_are_whole_where_there_is_no_terminal() -> None:
    _, *rows = lines_of(PlanTable(["memory"], None), PLANNED[4], PLANNED[7])
    assert rows[0].startswith(f"{PLANNED[4].run}  memory  ")
    assert rows[1].startswith(f"{PLANNED[7].run}  memory  ")


@pytest.mark.parametrize(
    ("width", "below"), [(None, []), (120, []), (80, ["    would be lost: a-loss (3×)"])]
)
def test_what_would_be_lost_is_told_by_code(width: int | None, below: list[str]) -> None:
    findings = (
        Finding("a-loss", Severity.LOSS, "here", "gone", 2),
        Finding("a-note", Severity.INFO, "here", "so"),
        Finding("b", Severity.WARNING, "here", "hm"),
        Finding("a-loss", Severity.LOSS, "there", "gone"),
    )
    lossy = replace(PLANNED[0], findings=findings)
    header, row, *rest = map(click.unstyle, lines_of(PlanTable(["memory"], width), lossy))
    assert rest == [*below, "    warning: b"]
    assert row.endswith(KEY[:12] if below else f"{KEY[:12]}  a-loss (3×)")
    assert header.endswith("identity" if below else "would be lost")
    in_full = lines_of(PlanTable(["memory"], width), lossy, verbose=True)
    assert sum("gone" in line or "so" in line or "hm" in line for line in in_full) == 4


def test_a_loss_that_is_longer_than_the_terminal_is_cut() -> None:
    found = tuple(Finding(f"code-{n}", Severity.LOSS, "x", "y") for n in range(40))
    *_, below = lines_of(PlanTable(["memory"], 80), replace(PLANNED[0], findings=found))
    assert len(click.unstyle(below)) == 80
    assert click.unstyle(below).endswith("…")


def task(*labels: str) -> Task:
    targets = tuple(TargetSpec(to="memory", label=label) for label in labels)
    return Task(SourceSpec(location="x"), "x", targets)


def screen(progress: MigrationProgress, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(progress._screen(width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def begun(labels: Sequence[str], tasks: int) -> MigrationProgress:
    progress = MigrationProgress(quiet=True)
    progress.plan([task(*labels)] * tasks)
    return progress


def test_bars_count_the_tasks_of_each_target_and_rates_their_runs() -> None:
    progress = begun(["a", "b"], 1_000)
    progress.task(task("a", "b"))
    progress.task(task("b"))  # of which the rest waits for a
    for target in ("a", "a", "b", "elsewhere"):
        progress.report(report(target=target))
    everything, a, b = screen(progress, 80)
    assert [line.split()[0] for line in (everything, a, b)] == ["all", "a", "b"]
    done = re.findall(r"\S+/\S+00", "\n".join((everything, a, b)))
    assert done == ["3/2,000", "1/1,000", "2/1,000"]
    assert [count.runs for count in progress._counts()] == [3, 2, 1]
    plain = progress._plain(61.0)
    assert plain.startswith("a 1/1,000, b 2/1,000; ")
    assert plain.endswith(" left (61 s)")


def test_one_target_has_one_bar() -> None:
    progress = begun(["only"], 3)
    assert len(screen(progress, 80)) == 1
    for _ in range(3):
        progress.task(task("only"))
    assert screen(progress, 80)[0].split()[2:] == ["3/3", "done"]
    assert progress._plain(5.0).startswith("only 3/3; ")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_nothing_on_the_screen_wraps_or_moves(width: int) -> None:
    labels = ["[red]hostile[/]\x1b[2J", "x" * 50, "学習" * 20]
    progress = begun(labels, 100_000)
    before = screen(progress, width)
    for number in range(7_777):
        progress.task(task(*labels))
        progress.report(failure(f"/a/{'long/' * 40}{number}", labels[1], "no\nline [bold]"))
    *after, failed = screen(progress, width)
    assert len(before) == len(after) == 4
    for line, then in zip(before, after, strict=True):
        assert cell_len(line) <= cell_len(then) <= width
        assert line.isprintable()
        assert line.index("/") == then.index("/")
        assert re.search(r" [0-9,.]+ runs/s +\S+ left$", then)
    assert failed.startswith("7,777 failed or lost data  …")
    assert cell_len(failed) <= width


def test_a_rate_is_that_of_late_and_reaches_back_to_the_last_task() -> None:
    count = Count("x", total=10_000)
    count.record(0.0)
    assert (count.rate, count.left) == (0.0, None)
    count.done, count.runs = 8_000, 8_000  # of a first part that was there already
    count.record(1.0)
    assert count.rate == 8_000
    for second in range(2, 100):
        count.done, count.runs = count.done + 1, count.runs + 2
        count.record(float(second))
    assert count.rate == pytest.approx(2.0)
    assert count.left == pytest.approx(10_000 - count.done)
    for second in range(100, 100 + int(10 * WINDOW_SECONDS)):
        count.record(float(second))
    assert len(count._past) < 2 * WINDOW_SECONDS
    assert 0 < count.rate < 0.5  # slower than ever, but not nothing
    count.done = count.total
    assert count.left == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-:--:-- left"),
        (0.0, "done"),
        (0.2, "0:00:00 left"),
        (59.6, "0:01:00 left"),
        (3_723.0, "1:02:03 left"),
        (360_000.0, "100:00:00 left"),
    ],
)
def test_the_time_that_is_left(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text


def test_a_failure_is_one_line() -> None:
    source = f"/{'deep/' * 20}run/trainer_state.json"
    message = f"{source}: line 1: no\nmore"
    assert failure_line(failure(source, "memory", message)) == (
        f"…{source[-29:]} → memory: line 1: no"
    )
    lost = report(findings=(Finding("a", Severity.LOSS, "x", "gone"),))
    assert failure_line(lost) == "run → memory: gone"


def test_a_plan_comes_before_the_bars() -> None:
    progress = MigrationProgress(quiet=True)
    progress.phase("migration.yaml", "planning")
    assert progress._plain(3.0) == "planning migration.yaml (3 s)"
    progress.report(failure("nowhere", "memory", "no such file"))  # of a place without tasks
    progress.plan([])
    assert progress._plain(3.0) == "planning migration.yaml (3 s)"
