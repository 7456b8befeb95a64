"""MLflow in an SQLite file: equal to what the client writes and what the live callback received.

The judge is the installed mlflow: its client writes the same run into a database of its own, reads
ours, and its tables are compared with ours row by row.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.errors import ConfigError, ExportError
from bridges.exporters.factory import make_exporters
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.mlflow.params import ParamRules, params_of
from bridges.exporters.mlflow.rows import metric_columns, tags
from bridges.exporters.state import State, whole_state
from bridges.formats.mlflow_store.records import STATE_TAG
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.report import RunReport
from bridges.stream.layout import lay_out
from bridges.stream.model import Run
from bridges.testing.exporters import ROWS
from tests import kills
from tests.bounds import HANGS
from tests.support import CORPUS, DATA, make_run, needs_corpus, read_one, state

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

GROUNDTRUTH = DATA / "groundtruth"
TABLES = {
    "runs": "name, source_type, source_name, entry_point_name, user_id, status, start_time,"
    " end_time, deleted_time, source_version, lifecycle_stage, experiment_id",
    "params": "key, value",
    "tags": "key, value",
    "metrics": "key, value, timestamp, step, is_nan",
    "latest_metrics": "key, value, timestamp, step, is_nan",
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "mlflow.db"


def export(run: Run, path: Path, **options: Any) -> RunReport:
    return export_run(
        run, MlflowExporter(MlflowOptions(f"sqlite:///{path}", **options)), ExportOptions()
    )


def table(path: Path, name: str, columns: str = "*") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return sorted(database.execute(f"select {columns} from {name}").fetchall(), key=repr)


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {name: table(path, name) for name in TABLES}


def by_client(run: Run, path: Path) -> None:
    """The same run, written by mlflow's own client."""
    layout = lay_out(run, "mlflow", LayoutOptions())
    client = MlflowClient(f"sqlite:///{path}")
    experiment = client.create_experiment("bridges")
    own = {**tags(layout, Limits()), STATE_TAG: whole_state(layout).text(8000)}
    made = client.create_run(experiment, layout.clock.start // 1000, own, layout.run.name)
    run_id = made.info.run_id
    series = [part for part in layout.stream.numbers if len(part.rows)]
    for original, column in zip(series, metric_columns(layout, 0), strict=True):
        values = [float(value) for value in original.values.tolist()]
        points = zip(values, column.time.tolist(), column.step.tolist(), strict=True)
        client.log_batch(run_id, [Metric(column.key, *point) for point in points])
    params, _ = params_of(layout, Limits(), ParamRules())
    client.log_batch(run_id, params=[Param(*pair) for pair in params.items()])
    client.set_terminated(run_id, "FINISHED", layout.clock.end // 1000)


def test_the_five_tables_equal_the_clients(path: Path, tmp_path: Path) -> None:
    run = make_run(ROWS, params={"lr": 1e-5, "flag": True, "none": None}, status="finished")
    export(run, path)
    by_client(run, tmp_path / "client.db")
    for name, columns in TABLES.items():
        assert table(path, name, columns) == table(tmp_path / "client.db", name, columns), name


def test_the_client_reads_the_run(path: Path) -> None:
    run = read_one(GROUNDTRUTH / "nan_loss" / "trainer_state.json")
    report = export(run, path)
    run_id = str(report.location).rpartition("/")[2]
    client = MlflowClient(f"sqlite:///{path}")
    found = client.get_run(run_id)
    assert (found.info.run_name, found.info.status) == ("nan_loss", "FINISHED")
    assert found.data.params["max_steps"] == "16"
    assert found.info.artifact_uri == f"{path.parent}/mlruns/1/{run_id}/artifacts"
    assert "Times are synthetic" in found.data.tags["mlflow.note.content"]
    history = client.get_metric_history(run_id, "loss")
    rows, values = run.stream.column("loss")
    assert [repr(point.value) for point in history] == [repr(v) for v in values.tolist()]
    assert [point.step for point in history] == run.stream.step[rows].tolist()
    assert len({point.timestamp for point in history}) == len(history)


# what the state holds and the live callback did not get into MLflow: one key of more than 250
# characters made it lose the whole row
STATE_ONLY = {"odd_values": 12}
LIVE_ONLY = {"crash_resume_new_run": 23, "crash_resume_same_run": 23, "hp_search_unnamed": 6}


@pytest.mark.parametrize("scenario", sorted(path.name for path in GROUNDTRUTH.iterdir()))
def test_the_export_equals_the_live_run(scenario: str, path: Path) -> None:
    folder = GROUNDTRUTH / scenario
    for file in folder.rglob("trainer_state.json"):
        assert export(read_one(file), path).verified
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("select key, step, value, is_nan from metrics").fetchall()
    ours = Counter((key, step, "nan" if nan else repr(value)) for key, step, value, nan in rows)
    received = [json.loads(line) for line in (folder / "mlflow.jsonl").read_text().splitlines()]
    live = Counter(
        (key, step, "nan" if value.startswith("nan") else value) for key, step, value in received
    )
    extra, missing = ours - live, live - ours
    assert sum(extra.values()) == STATE_ONLY.get(scenario, 0)
    assert {step for _, step, _ in extra} <= {1}
    assert sum(missing.values()) == LIVE_ONLY.get(scenario, 0)
    if scenario.startswith("crash"):
        assert {step for _, step, _ in missing} == {12, 14, 15, 16, 18}
    if scenario == "hp_search_unnamed":
        assert {key for key, _, _ in missing} >= {"train_loss", "total_flos", "train_runtime"}


@needs_corpus
def test_the_corpus_fits_into_one_store(path: Path) -> None:
    files = sorted(str(file) for file in CORPUS.glob("*.json"))
    first = bridges.export(files, to="mlflow", tracking_uri=f"sqlite:///{path}")
    assert first.totals["runs"] == 273
    assert all(run.verified for run in first.runs), [r for r in first.runs if not r.verified]
    before = content(path)
    again = bridges.export(files, to="mlflow", tracking_uri=f"sqlite:///{path}")
    assert again.totals["unchanged"] == 273
    assert content(path) == before


def command(path: Path, source: Path) -> list[str]:
    target = ["--to", "mlflow", "--tracking-uri", f"sqlite:///{path}"]
    return [sys.executable, "-m", "bridges", "export", str(source), *target]


def long_history(folder: Path, rows: int) -> Path:
    log = [{"loss": 1 / (n + 1), "epoch": n / 9, "step": n} for n in range(rows)]
    file = folder / f"long{rows}.json"
    file.write_bytes(state(log))
    return file


@pytest.mark.slow
def test_a_killed_export_leaves_nothing(path: Path, tmp_path: Path) -> None:
    """Of a new run, and of what a longer history adds to it."""
    before, clean, place = (tmp_path / name for name in ("before", "clean", "place"))
    before.mkdir()

    def begin() -> kills.Command:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(before, place)
        seen = kills.look(place)
        process = kills.start(command(place / path.name, file))
        return kills.Command(process, lambda: kills.look(place) != seen)

    def check() -> None:
        if (place / path.name).exists():
            (count,) = table(place / path.name, "metrics", "count(*)")
            assert count in [(0,), (8000,), (2 * rows,)]
        finish(place)
        for name in ("metrics", "latest_metrics"):
            columns = "key, value, timestamp, step, is_nan, run_uuid"
            assert table(place / path.name, name, columns) == table(
                clean / path.name, name, columns
            )

    def finish(folder: Path) -> None:
        subprocess.run(command(folder / path.name, file), check=True, capture_output=True)

    for rows in (4000, 8000):
        file = long_history(tmp_path, rows)
        shutil.copytree(before, clean)
        finish(clean)
        kills.kill_often(12, 3, begin, check)
        shutil.rmtree(before)
        clean.rename(before)


@pytest.mark.slow
def test_exports_at_the_same_time_make_one_run(path: Path, tmp_path: Path) -> None:
    file = long_history(tmp_path, 2000)
    children = [subprocess.Popen(command(path, file), stdout=subprocess.PIPE) for _ in range(4)]
    said = [child.communicate(timeout=HANGS)[0].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0, 0], said
    assert [count for (count,) in table(path, "runs", "count(*)")] == [1]
    assert [count for (count,) in table(path, "metrics", "count(*)")] == [4000]
    assert sorted(os.listdir(tmp_path)) == ["long2000.json", "mlflow.db"]


def test_an_existing_database_needs_no_mlflow(path: Path) -> None:
    export(make_run(ROWS), path)
    code = (
        "import sys\nfrom bridges.cli.main import run\n"
        f"code = run({command(path, DATA / 'seed.txt')[3:]!r})\n"
        "assert code == 0 and 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def failure(report: RunReport) -> str:
    assert report.status == "failed"
    return report.findings[-1].message


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


def test_what_cannot_be_written_is_told(path: Path, tmp_path: Path) -> None:
    run = make_run(ROWS)
    export(run, path)
    change(path, "update runs set lifecycle_stage = 'deleted'")
    assert "exported before and then deleted in MLflow" in failure(export(run, path))
    assert export(run, path, force=True).verified
    change(path, "update tags set value = '{' where key = 'bridges.state'")
    assert "its tag bridges.state was changed" in failure(export(run, path))
    change(path, "update experiments set lifecycle_stage = 'deleted'")
    assert "the experiment 'bridges' is deleted" in failure(export(run, path))
    change(path, "update alembic_version set version_num = 'abc'")
    message = failure(export(run, path))
    assert "Detected out-of-date database schema" in message  # says the installed client
    assert "its schema abc is unknown; known are the schemas of mlflow" in message
    with pytest.raises(ConfigError, match=r"direct: sqlite:.*schema abc is unknown"):
        export(run, path, mlflow_writer="direct")
    (tmp_path / "other.db").write_bytes(b"no database at all")
    assert "file is not a database" in failure(export(run, tmp_path / "other.db"))
    with closing(sqlite3.connect(tmp_path / "empty.db")) as database:
        database.execute("create table x (y)")
    assert "this is not an MLflow database" in failure(export(run, tmp_path / "empty.db"))
    assert failure(
        export_run(run, MlflowExporter(MlflowOptions("file:./mlruns")), ExportOptions())
    ).startswith("file:./mlruns: the installed mlflow does not write file stores")
    with pytest.raises(ConfigError, match="database in memory"):
        export_run(run, MlflowExporter(MlflowOptions("sqlite:///:memory:")), ExportOptions())
    with pytest.raises(ConfigError, match="'fast' is not one of auto, direct, client"):
        make_exporters(["mlflow"], {"mlflow_writer": "fast"})


def test_a_changed_value_does_not_verify(path: Path) -> None:
    run = make_run(ROWS)
    export(run, path)
    change(path, "update metrics set value = 2.50000001 where key = 'loss' and step = 1")
    report = export(run, path)
    assert (report.status, report.verified) == ("failed", False)
    codes = [finding.code for finding in report.findings]
    assert codes[-2:] == ["missing-points", "unexpected-points"]


def test_what_mlflow_cannot_hold_is_counted(path: Path) -> None:
    row = {"a" * 251: 1.0, "../x": 2.0, "a//b": 3.0, "p@1": 4.0, "p_1": 5.0, "z": -0.0, "step": 1}
    run = make_run([row], params={"long": "x" * 7000}, tags={"bad@key": "x", "ok": "y" * 9000})
    report = export(run, path)
    assert report.verified
    counts = {finding.code: finding.count for finding in report.findings}
    assert counts["key-renamed"] == 3
    assert counts["tag-collision"] == 1
    assert counts["param-refused"] == 1
    codes = [finding.code for finding in report.findings]
    assert codes.count("tag-refused") == 2
    assert counts["negative-zero"] == 1
    assert (
        dict(table(path, "metrics", "key, value"))
        == {
            f"{'a' * 241}-{hashlib.sha256(b'a' * 251).hexdigest()[:8]}": 1.0,
            "_/x": 2.0,
            "a/_/b": 3.0,
            "p_1": 5.0,  # as live, where the last of the row stays
            f"p_1-{hashlib.sha256(b'p@1').hexdigest()[:8]}": 4.0,
            "z": 0.0,
        }
    )


def test_very_many_writes_fit_into_the_state_tag() -> None:
    layout = lay_out(make_run(ROWS), "mlflow", LayoutOptions())
    writes = (*range(100_000, 102_000), layout.rows)
    many = replace(whole_state(layout), append_rows=writes).text(8000)
    assert len(many) <= 8000
    assert State.parse(many).append_rows == (layout.rows,)
    few = replace(whole_state(layout), append_rows=(1, layout.rows)).text(8000)
    assert State.parse(few).append_rows == (1, layout.rows)
    last = lay_out(make_run(ROWS), "mlflow", LayoutOptions(duplicates="last"))
    with pytest.raises(ExportError, match="written in 2001 parts"):
        replace(whole_state(last), append_rows=writes).text(8000)


def test_a_new_database_needs_mlflow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr("bridges.exporters.mlflow.schema.releases", lambda names: {})
    assert failure(export(make_run(ROWS), path)) == (
        "mlflow is not installed. Install it with: pip install 'tracker-bridges[mlflow]'"
    )
    assert os.listdir(path.parent) == []


def test_a_database_that_cannot_be_made_is_told(path: Path) -> None:
    (path.parent / "file").write_text("in the way")
    report = export(make_run(ROWS), path.parent / "file" / "mlflow.db")
    assert failure(report).endswith("/file is not a directory")
    assert os.listdir(path.parent) == ["file"]
