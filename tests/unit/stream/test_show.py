"""Objects in a Python session: short texts, tables with sparklines in notebooks, secrets masked."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import bridges
from bridges.pipeline.key_rules import with_key_rules
from bridges.report import BatchReport, RunReport
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run
from bridges.stream.runs import Runs
from tests.support import DATA, read_bytes, state

ROWS = [{"loss": 4.0 / step, "step": step} for step in range(1, 5)]
TOKEN = "hf_" + "a1B2" * 9


def made(folder: Path, name: str = "a", more: dict[str, float] | None = None) -> Run:
    rows = [*ROWS, {"eval_f1": 0.5, "step": 4, **(more or {})}]
    run = with_key_rules(read_bytes(folder, state(rows)))
    return Run(**{**vars(run), "name": name, "source": "out/a/trainer_state.json"})


def test_a_run_is_one_line(tmp_path: Path) -> None:
    run = made(tmp_path)
    stream = "5 rows, steps 1 to 4: loss, eval_f1"
    assert repr(run) == f"<Run 'a': {stream}; from 'out/a/trainer_state.json'>"
    assert repr(run.stream) == f"<MetricStream: {stream}>"
    assert repr(run.stream.series[0]) == "<Series 'loss': 4 values of float64>"


def test_texts_stay_short() -> None:
    (run,) = bridges.read(DATA / "seed.txt")
    assert len(repr(run)) < 300
    assert len(repr(run.stream)) < 300


def test_a_run_is_a_table_with_sparklines(tmp_path: Path) -> None:
    page = made(tmp_path, more={"x": math.nan})._repr_html_()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert cells[:6] == ["loss", "4", "1", "1", "4", "█▃▁▁"]
    assert cells[-6:] == ["x", "1", "nan", "", "", "·"]
    assert page.startswith("<b>a</b> 5 rows, steps 1 to 4")


def test_many_runs_are_a_table(tmp_path: Path) -> None:
    runs = Runs(made(tmp_path, f"run-{number}") for number in range(60))
    assert len(repr(runs).splitlines()) == 51
    assert repr(runs).endswith("… and 10 more]")
    page = runs._repr_html_()
    assert page.count("<tr>") == 51
    assert "<th>run</th><th>rows</th><th>steps</th><th>loss</th><th>eval_f1</th>" in page
    assert "… and 10 more" in page
    assert repr(Runs()) == "[]"


def test_reports(tmp_path: Path) -> None:
    found = Finding("text-dropped", Severity.LOSS, "key 'note'", "the target holds numbers only")
    report = RunReport("x", "a", "mlflow", "exported", 5, 9, 9, verified=True, findings=(found,))
    line = "<RunReport 'a' in mlflow: exported, 5 rows, 9 points, verified, 1 finding>"
    assert repr(report) == line
    batch = BatchReport((report, RunReport("y", "b", "mlflow", "unchanged")))
    assert repr(batch) == "<BatchReport: 1 exported, 1 unchanged, exit code 1>"
    for page in (report._repr_html_(), batch._repr_html_()):
        assert "text-dropped" in page
    assert repr(BatchReport(())) == "<BatchReport: no runs, exit code 0>"


def test_markup_and_secrets_in_names(tmp_path: Path) -> None:
    name = f"<script>{TOKEN}"
    run = made(tmp_path, name, {f"<b> {TOKEN}": 1.0})
    report = RunReport(name, name, name, "exported")
    for each in (run, run.stream, Runs([run]), report, BatchReport((report,))):
        page = each._repr_html_()
        assert "<script>" not in page
        assert "<b> " not in page
        assert TOKEN not in page
        assert TOKEN not in repr(each)


def test_read_takes_several_locations_and_patterns(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        (tmp_path / f"{name}.json").write_bytes(state([{"loss": number, "step": 1}]))
    both = bridges.read([tmp_path / "a.json", str(tmp_path / "[bc].json")])
    assert [run.name for run in both] == ["a", "b", "c"]
    assert isinstance(both, list)
    assert [run.name for run in bridges.read(str(tmp_path / "*.json"))] == ["a", "b", "c"]
    with pytest.raises(bridges.SourceError):
        bridges.read([tmp_path / "a.json", tmp_path / "no.json"])
