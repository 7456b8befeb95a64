"""The reports of a migration: what they tell of many runs, and that they keep none of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bridges.cli.migrate_summary import print_summary, rate_line
from bridges.errors import ConfigError, ExportError
from bridges.exporters.memory import MemoryExporter
from bridges.findings import explanations
from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.migration.reports.html import HtmlReport
from bridges.migration.reports.html_parts import escaped
from bridges.migration.reports.html_runs import row
from bridges.migration.reports.json_lines import ReportLines
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import BatchReport, RunReport, Totals, failure
from bridges.stream.finding import Finding, Severity
from bridges.stream.trend import TREND_VALUES, main_metric, trend
from tests.support import make_run, make_stream

NOTE = Finding("clock-synthetic", Severity.INFO, "all rows", "no times", 3)
LOSS = Finding("text-dropped", Severity.LOSS, "key 'a'", "gone", 2)


def report(status: str = "exported", target: str = "memory", **fields: Any) -> RunReport:
    return RunReport("source", "run", target, status, **fields)


def missing(target: str = "memory") -> RunReport:
    return failure("nowhere", target, "no such file", code="source", missing=True)


REPORTS = (
    report(points=10, new_points=10, findings=(NOTE, NOTE)),
    report("unchanged", "mlflow", points=7),
    report("appended", points=5, new_points=2, findings=(LOSS, NOTE)),
    report("planned", points=1, plan="appended"),
    failure("source", "mlflow", "no"),
    missing(),
)


@pytest.mark.parametrize("chosen", [*product([False, True], repeat=len(REPORTS))])
def test_totals_are_those_of_all_reports_at_once(chosen: tuple[bool, ...]) -> None:
    runs = tuple(run for run, is_in in zip(REPORTS, chosen, strict=True) if is_in)
    totals, batch = Totals(runs), BatchReport(runs)
    failed = [run for run in runs if run.failed]
    code = 2 if failed and all(run.missing for run in failed) else int(bool(failed))
    assert totals.exit_code == batch.exit_code == code
    assert totals.failed == len(failed)
    assert totals.totals == batch.totals
    names = ("exported", "appended", "unchanged", "failed", "planned")
    is_dry = any(run.status == "planned" for run in runs)
    assert totals.totals == {
        "runs": len(runs),
        **{name: sum(run.status == name for run in runs) for name in names},
        **({f"would_be_{name}": int(name == "appended") for name in names[:3]} if is_dry else {}),
        "points": sum(run.points for run in runs),
        "new_points": sum(run.new_points for run in runs),
        "findings": sum(len(run.findings) for run in runs),
    }


def test_findings_are_counted_by_code_the_gravest_first() -> None:
    assert [(*vars(found).values(),) for found in Totals(REPORTS).findings] == [
        ("failed", Severity.ERROR, 1, 1),
        ("source", Severity.ERROR, 1, 1),
        ("text-dropped", Severity.LOSS, 1, 2),
        ("clock-synthetic", Severity.INFO, 2, 9),  # in two runs, three times three
    ]


def test_a_report_has_the_trend_of_its_loss_and_the_json_has_not() -> None:
    rows = [{"step": step, "lr": 0.1, "loss": loss} for step, loss in enumerate((4.0, 3.0, 2.5))]
    done = export_run(make_run(rows), MemoryExporter(), ExportOptions())
    assert done.trend == (4.0, 3.0, 2.5)
    assert done.trend_metric == "loss"
    assert "trend" not in done.as_dict()


def test_a_long_trend_is_the_means_of_its_parts() -> None:
    values = [float(value) for value in range(2 * TREND_VALUES)]
    rows = [{"step": step, "loss": value} for step, value in enumerate(values)]
    rows[1:1] = [{"step": 0, "loss": value} for value in (float("nan"), float("inf"))]
    assert trend(make_stream(rows), "loss") == tuple(2 * part + 0.5 for part in range(TREND_VALUES))


@pytest.mark.parametrize("count", [1, TREND_VALUES - 1, TREND_VALUES, TREND_VALUES + 1, 1000])
def test_a_trend_is_short_and_finite(count: int) -> None:
    values = trend(
        make_stream([{"step": n, "loss": sys.float_info.max} for n in range(count)]), "loss"
    )
    assert len(values) == min(count, TREND_VALUES)
    assert all(value == pytest.approx(sys.float_info.max) for value in values)


@pytest.mark.parametrize(
    ("row", "metric", "values"),
    [
        ({"learning_rate": 0.5, "reward": 7.0, "eval_x": 2.0}, "reward", (7.0,)),
        ({"eval_x": 2.0}, "eval_x", (2.0,)),
        ({"learning_rate": 0.5}, "", ()),
    ],
)
def test_a_run_without_a_loss_shows_its_first_metric(
    row: dict[str, float], metric: str, values: tuple[float, ...]
) -> None:
    stream = make_stream([{"step": 1, **row}])
    assert main_metric(stream, TRAINER_RULES) == metric
    assert trend(stream, metric) == values
    assert main_metric(make_stream([]), TRAINER_RULES) == ""


def test_lines_hold_each_report_and_then_the_totals(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text("an earlier one\n")
    hostile = RunReport("x\udc80\n\u2028", "run", "memory", "exported")
    with ReportLines(str(path)) as lines:
        for run in (*REPORTS, hostile):
            lines.add(run)
    *shown, end = map(json.loads, path.read_text().splitlines())
    assert shown == [run.as_dict() for run in (*REPORTS, hostile)]
    assert end["totals"] == BatchReport((*REPORTS, hostile)).totals
    assert end["exit_code"] == 1
    assert end["findings"][2] == {
        "code": "text-dropped", "severity": "loss", "runs": 1, "count": 2
    }  # fmt: skip


def test_lines_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    code = (
        "import os, signal\n"
        "from bridges.migration.reports.json_lines import ReportLines\n"
        "from bridges.report import RunReport\n"
        f"with ReportLines({str(path)!r}) as lines:\n"
        "    lines.add(RunReport('source', 'run', 'memory', 'exported'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [json.loads(line) for line in path.read_text().splitlines()] == [report().as_dict()]


def test_lines_of_what_did_not_end_have_no_totals(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    with suppress(KeyboardInterrupt), ReportLines(str(path)) as lines:
        lines.add(report())
        raise KeyboardInterrupt
    assert [json.loads(line) for line in path.read_text().splitlines()] == [report().as_dict()]


def test_lines_that_cannot_be_written_are_bad_usage(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "report.jsonl")
    message = f"the report {path!r} cannot be written: No such file or directory"
    with pytest.raises(ConfigError) as caught, ReportLines(path):
        pass
    assert str(caught.value) == message


def test_the_summary_counts_by_target(capsys: pytest.CaptureFixture[str]) -> None:
    many = [report(points=1_000, new_points=1_000) for _ in range(1_234)]
    print_summary(Totals([*many, *REPORTS]), 2.0)
    *tables, end = capsys.readouterr().out.splitlines()
    assert [line.split() for line in tables] == [
        ["target", "new", "appended", "unchanged", "failed", "runs", "points"],
        ["memory", "1,235", "2", "0", "1", "1,238", "1,234,016"],
        ["mlflow", "0", "0", "1", "1", "2", "7"],
        ["all", "1,235", "2", "1", "2", "1,240", "1,234,023"],
        [],
        ["severity", "finding", "runs", "times"],
        ["error", "failed", "1", "1"],
        ["error", "source", "1", "1"],
        ["loss", "text-dropped", "1", "2"],
        ["info", "clock-synthetic", "2", "9"],
        [],
    ]
    assert end == (
        "1,240 runs, 1,234,023 points (1,234,012 new) in 2.0 s, 620.0 runs/s, nothing written; "
        "3 runs failed or lost data"
    )


def test_the_summary_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(Totals(), 0.0)
    assert capsys.readouterr().out.split() == rate_line(Totals(), 0.0).split()
    assert rate_line(Totals(), 0.0) == "0 runs, 0 points (0 new) in 0.0 s"


def test_a_hostile_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    found = Finding("[red]code[/]\x1b[2J", Severity.INFO, "x", "y")
    print_summary(Totals([report(target="[bold]t[/]", findings=(found,))]), 1.0)
    out = capsys.readouterr().out
    assert "[bold]t[/]" in out
    assert "[red]code[/]" in out
    assert "\x1b" not in out


def page_of(path: Path, *reports: RunReport, title: str = "a title") -> str:
    with HtmlReport(str(path), title) as page:
        for run in reports:
            page.add(run)
    return path.read_text()


def row_of(*reports: RunReport) -> str:
    targets = {name: at for at, name in enumerate(dict.fromkeys(run.target for run in reports))}
    codes = dict.fromkeys((found.code for run in reports for found in run.findings), 0)
    return row(reports, targets, codes)


def test_the_page_has_the_totals_and_each_run_once(tmp_path: Path) -> None:
    text = page_of(tmp_path / "report.html", *REPORTS)
    assert "3 of 3 runs failed or lost data</span> (exit code 1). 23 points" in text
    assert re.findall('(?m)^<tr data-states="([^"]*)"', text) == [
        "0-exported 1-unchanged 0-appended-bad 0-planned",
        "1-failed-bad",
        "0-failed-bad",
    ]
    assert "interrupted" not in text
    assert re.search("@[A-Z]+@", text) is None


def test_reports_of_a_run_meet_though_others_lie_between(tmp_path: Path) -> None:
    def one(name: str, target: str) -> RunReport:
        return RunReport("source", name, target, "exported", points=3)

    mixed = (one("a", "mlflow"), one("b", "mlflow"), one("b", "wandb"), one("a", "wandb"))
    text = page_of(tmp_path / "report.html", *mixed)
    assert re.findall('<th scope="row"><bdi>(.)</bdi><br>', text) == ["a", "b"]
    assert re.findall('(?m)^<tr data-states="([^"]*)"', text) == ["0-exported 1-exported"] * 2


def test_a_finding_of_one_target_names_it() -> None:
    both = row_of(report(findings=(NOTE,)), report(target="mlflow", findings=(NOTE, LOSS)))
    assert "1 loss, 1 info" in both
    assert "<bdi>text-dropped</bdi> (2×) [<bdi>mlflow</bdi>]" in both
    assert "<bdi>clock-synthetic</bdi> (3×), " in both


def test_findings_are_explained_as_by_the_command(tmp_path: Path) -> None:
    plain = report(findings=(NOTE, Finding("of-a-plugin", Severity.INFO, "x", "y")))
    text = page_of(tmp_path / "report.html", plain, report(target="mlflow", findings=(NOTE,)))
    entry = explanations()["clock-synthetic"]
    assert f"<td>{escaped(entry.meaning)} <b>To do:</b> {escaped(entry.action)}<td" in text
    assert text.count('<td class="n">1<td class="n">3') == 1  # one run, though two targets
    assert "<bdi>of-a-plugin</bdi><td><td" in text


def test_the_sparkline_names_its_metric() -> None:
    text = row_of(report(trend=(2.0, 0.5), trend_metric="train<loss"))
    assert "<small><bdi>train&lt;loss</bdi><br>2 → 0.5</small>" in text


def test_the_page_masks_logins() -> None:
    found = Finding("source", Severity.ERROR, "http://me:pw@host/x", "http://me:pw@host/x failed")
    text = row_of(RunReport("http://me:pw@host/x", "run", "memory", "failed", findings=(found,)))
    assert "pw" not in text
    assert text.count("&lt;LOGIN&gt;") == 3


def test_the_page_says_what_is_planned() -> None:
    text = row_of(report("planned", plan="appended"))
    assert '<li class="planned"><b><bdi>memory</bdi></b> <span class="state">planned: app' in text


def test_the_page_appears_whole_and_replaces_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("the earlier one")
    with HtmlReport(str(path), "t") as page:
        page.add(report())
        assert path.read_text() == "the earlier one"
    assert path.read_text().endswith("</html>\n")
    assert [*tmp_path.iterdir()] == [path]


def test_a_page_that_cannot_be_finished_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "report.html"
    path.write_text("the earlier one")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ExportError, match="cannot be written: No space left on device"):
        page_of(path, report())
    assert path.read_text() == "the earlier one"
    assert [*tmp_path.iterdir()] == [path]


def test_the_page_of_what_was_interrupted_says_so(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with suppress(KeyboardInterrupt), HtmlReport(str(path), "t") as page:
        page.add(report())
        raise KeyboardInterrupt
    assert "This migration was interrupted: only finished runs are listed." in path.read_text()


def test_a_page_is_written_through_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "report.html", tmp_path / "latest.html"
    link.symlink_to(path)
    page_of(link, report())
    assert link.is_symlink()
    assert path.is_file()


@pytest.mark.parametrize("name", ["no/report.html", "."])
def test_a_page_that_cannot_be_written_is_bad_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written: "):
        page_of(tmp_path / name)


def test_a_device_is_not_replaced_by_a_page() -> None:
    with pytest.raises(ConfigError, match="it is not a file"), HtmlReport(os.devnull, ""):
        pass
    assert not os.path.isfile(os.devnull)


def test_memory_does_not_grow_with_the_runs(tmp_path: Path) -> None:
    values = tuple(map(float, range(TREND_VALUES)))

    def peak(count: int) -> int:
        tracemalloc.start()
        path = f"{tmp_path}/report"
        with HtmlReport(f"{path}.html", "t") as page, ReportLines(f"{path}.jsonl") as lines:
            for index in range(count):
                run = RunReport(f"s{index}", f"r{index}", "memory", "exported", trend=values)
                page.add(run)
                lines.add(run)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what is imported and kept once
    assert peak(4_000) < peak(2_000) + 100_000  # half a page of a million bytes
    assert os.path.getsize(tmp_path / "report.html") > 1_000_000


def test_texts_cannot_leave_their_place(tmp_path: Path) -> None:
    nasty = "<script>&\"'\0\x1b\udc80@ROWS@"
    found = Finding(nasty, Severity.INFO, nasty, nasty)
    run = RunReport(nasty, nasty, nasty, "exported", location=nasty, findings=(found,))
    text = page_of(tmp_path / "report.html", run, title=nasty)
    shown = "&lt;script&gt;&amp;&quot;&#x27;\u2400\u241b\\udc80@ROWS@"
    # title, option, chip, run, its target and finding, location (twice), totals
    assert text.count(shown) == 2 + 1 + 1 + 2 + 1 + 3 + 2 + 2
    assert text.count("<script") == 1
    assert not set(text) & {"\0", "\x1b"}


@pytest.mark.parametrize(
    ("location", "link"),
    [
        ("https://host/#/runs/1?a=1&b", "https://host/#/runs/1?a=1&amp;b"),
        ("http://host", "http://host"),
        ("file:///tb/run", "file:///tb/run"),
        ("/tb/a run", "file:///tb/a%20run"),
        ("tb/run", None),
        ("sqlite:///mlflow.db#/experiments/1", None),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("http://[", None),
        ("/tb/\ud800", None),
        (None, None),
    ],
)
def test_only_pages_and_files_are_linked(location: str | None, link: str | None) -> None:
    assert re.findall('href="([^"]*)"', row_of(report(location=location))) == (
        [link] if link else []
    )


@pytest.mark.parametrize(
    ("trend", "line"),
    [
        ((2.0, 1.0, 0.0), "M0 0 2 10 4 20"),
        ((1.0, 1.0), "M0 10 2 10"),
        ((3.0,), "M0 10h94"),
        ((1.7e308, -1.7e308), "M0 0 2 20"),
        ((5e-324, 0.0), "M0 10 2 10"),  # too near to each other to be told apart
        ((), None),
    ],
)
def test_a_sparkline_stays_in_its_frame(trend: tuple[float, ...], line: str | None) -> None:
    assert re.findall('<path d="([^"]*)"', row_of(report(trend=trend))) == ([line] if line else [])
