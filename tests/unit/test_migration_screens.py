"""What `bridge migrate` shows while it goes on: the JSON document."""

from __future__ import annotations

import json
import os
import signal
import tracemalloc
from contextlib import redirect_stdout, suppress
from typing import Any

import pytest

from bridges.cli_follow import terminated_as_interrupted, undisturbed
from bridges.cli_migrate import Shown
from bridges.console import print_json
from bridges.console_migrate import JsonRuns
from bridges.report import RunReport

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
