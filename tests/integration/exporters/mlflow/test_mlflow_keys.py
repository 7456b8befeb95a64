"""MLflow: keys that it does not take, keys that meet in one metric, and numbers that it rounds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.report import RunReport
from bridges.stream.finding import Severity
from bridges.stream.layout import EARLIEST_RULES, Stored, lay_out
from bridges.stream.model import Run
from bridges.stream.options import Style
from tests.support import DATA, make_run

AT_K: list[dict[str, Any]] = [  # rows of a live run, in which the callback made one metric of them
    {"at%k": 2.0, "at@k": 1.0, "at_k": 3.0, "epoch": 0.25, "step": 2},
    {"at%k": 2.5, "epoch": 0.25, "step": 2},
    {"at@k": 1.5, "at_k": 3.5, "epoch": 0.25, "step": 2},
]
LIVE_AT_K = [3.0, 2.5, 3.5]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mlflow.db"


def exporter(path: Path, **options: Any) -> MlflowExporter:
    return MlflowExporter(MlflowOptions(f"sqlite:///{path}", **options))


def export(run: Run, path: Path, **layout: Any) -> RunReport:
    return export_run(run, exporter(path), ExportOptions(layout=LayoutOptions(**layout)))


def metrics(path: Path) -> dict[str, list[float]]:
    """The values of each metric, in the order of their times."""
    found: dict[str, list[float]] = {}
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("select key, value from metrics order by timestamp, key")
        for key, value in rows.fetchall():
            found.setdefault(key, []).append(value)
    return found


def counts(report: RunReport) -> dict[str, int]:
    return {finding.code: finding.count for finding in report.findings}


def test_the_metric_of_keys_that_meet_is_the_live_one(path: Path) -> None:
    report = export(make_run(AT_K), path)
    assert (report.verified, report.failed) == (True, False)
    assert counts(report)["tag-collision"] == 3
    found = metrics(path)
    assert found.pop("at_k") == LIVE_AT_K
    assert found.pop("epoch") == [0.25] * 3
    assert sorted(found.values()) == [[1.0, 1.5], [2.0]]
    assert all(key.startswith("at_k-") for key in found)


def test_raw_keys_that_mlflow_does_not_take_are_kept(path: Path) -> None:
    report = bridges.export(
        DATA / "faults" / "st_at" / "trainer_state.json",
        to="mlflow",
        tracking_uri=f"sqlite:///{path}",
        naming="raw",
    )
    (run,) = report.runs
    assert (report.exit_code, run.verified) == (0, True)
    assert counts(run)["key-renamed"] == 4
    assert counts(run)["tag-collision"] == 2
    assert "live" not in " ".join(f.message for f in run.findings if f.code == "key-renamed")
    found = metrics(path)
    assert found["eval_dim_768_cosine_ndcg_10"] == [0.8, 0.8]
    assert found["eval_cosine_accuracy_1"] == [0.11, 0.11]
    assert [0.71, 0.75] in found.values()


def stored_by_earlier_rules(run: Run, path: Path, naming: Style = "live") -> None:
    """Write the run as the first version did."""
    target = exporter(path)
    layout = lay_out(
        run, "mlflow", LayoutOptions(naming=naming), stored=Stored(rules=EARLIEST_RULES)
    )
    target.write(target.adapt(layout), [], None)


def test_a_stored_run_keeps_its_keys(path: Path) -> None:
    run = make_run(AT_K)
    stored_by_earlier_rules(run, path)
    first = metrics(path)
    assert first["at_k"] == [2.0, 2.5]  # the key that came first
    report = export(run, path)
    assert (report.status, report.verified) == ("unchanged", True)
    grown = make_run([*AT_K, {"at@k": 7.0, "at_k": 8.0, "epoch": 0.5, "step": 3}])
    report = export(grown, path)
    assert (report.status, report.verified) == ("appended", True)
    late = metrics(path)
    assert late["at_k"] == [2.0, 2.5]
    assert {key: late[key][: len(first[key])] for key in first} == first
    report = export(run, path)  # the shorter history
    assert (report.status, report.verified) == ("unchanged", True)


@pytest.mark.parametrize(("naming", "severity"), [("raw", "loss"), ("live", "warning")])
def test_what_a_stored_run_lacks_is_told(path: Path, naming: Style, severity: str) -> None:
    run = make_run([{"a@1": 1.0, "b//c": 2.0, "d": 3.0, "step": 1}])
    stored_by_earlier_rules(run, path, naming)
    report = export(run, path, naming=naming)
    assert (report.status, report.verified) == ("unchanged", True)
    (finding,) = [finding for finding in report.findings if finding.code == "key-refused"]
    assert finding.severity is Severity(severity)
    assert finding.count == (2 if naming == "raw" else 1)


def test_integers_that_are_rounded_are_counted(path: Path) -> None:
    values = [2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, 2**63 - 1, -(2**63)]
    report = export(make_run([{"n": n, "step": i} for i, n in enumerate(values)]), path)
    assert counts(report)["integer-rounded"] == 3
    assert report.verified
    assert "integer-rounded" not in counts(export(make_run([{"n": 2**53, "step": 1}]), path))
