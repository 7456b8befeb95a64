"""What `bridge migrate` shows while it goes on: the JSON document, the table of a dry run."""

from __future__ import annotations

import json
import os
import signal
import tracemalloc
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from typing import Any

import click
import pytest
from rich.cells import cell_len, set_cell_size

from bridges.cli_follow import terminated_as_interrupted, undisturbed
from bridges.cli_migrate import Shown
from bridges.console import print_json
from bridges.console_migrate import JsonRuns
from bridges.migration.plan_table import PlanTable
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
        shown = Shown(as_json=True, quiet=True, verbose=False)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            for _ in range(count):
                shown.report(report(location="x" * 100))
            shown.end(0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what is imported and kept once
    assert peak(2_000) < peak(1_000) + 50_000


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_what_is_begun_is_told_before_it_is_interrupted(kind: signal.Signals) -> None:
    told = []
    with terminated_as_interrupted():
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        with suppress(KeyboardInterrupt):
            with undisturbed():
                signal.raise_signal(kind)
                told.append("all of it")
            told.append("and more")
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert told == ["all of it"]


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


@pytest.mark.parametrize(("width", "below"), [(None, []), (120, []), (80, ["    a-loss (3×), b"])])
def test_what_would_be_lost_is_told_by_code(width: int | None, below: list[str]) -> None:
    findings = (
        Finding("a-loss", Severity.LOSS, "here", "gone", 2),
        Finding("a-note", Severity.INFO, "here", "so"),
        Finding("b", Severity.WARNING, "here", "hm"),
        Finding("a-loss", Severity.LOSS, "there", "gone"),
    )
    lossy = replace(PLANNED[0], findings=findings)
    header, row, *rest = map(click.unstyle, lines_of(PlanTable(["memory"], width), lossy))
    assert rest == below
    assert row.endswith(KEY[:12] if below else f"{KEY[:12]}  a-loss (3×), b")
    assert header.endswith("identity" if below else "would be lost")
    in_full = lines_of(PlanTable(["memory"], width), lossy, verbose=True)
    assert sum("gone" in line or "so" in line or "hm" in line for line in in_full) == 4


def test_a_loss_that_is_longer_than_the_terminal_is_cut() -> None:
    found = tuple(Finding(f"code-{n}", Severity.LOSS, "x", "y") for n in range(40))
    *_, below = lines_of(PlanTable(["memory"], 80), replace(PLANNED[0], findings=found))
    assert len(click.unstyle(below)) == 80
    assert click.unstyle(below).endswith("…")
