"""The rows of Trackio's files, read by SQL alone; files of other versions and other programs."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridges
from bridges.errors import ConfigError
from bridges.exporters.factory import make_exporters
from bridges.exporters.trackio import stored
from bridges.exporters.trackio.database import ProjectFile
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.report import RunReport
from bridges.stream.model import MetricStream, Run, Series
from bridges.testing.exporters import ROWS
from bridges.views.viewers import viewers
from tests.golden.make_trackio_files import FOLDER
from tests.integration.exporters.tensorboard.support import training_rows, write_state
from tests.support import make_run

FIVE = {"train_runtime": 9.5, "train_loss": 1.25, "total_flos": 10**15}
Found = tuple[int, str, dict[str, Any]]  # step, timestamp, metrics


def export(
    run: Run, folder: Path, layout: LayoutOptions | None = None, **options: Any
) -> RunReport:
    (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(folder), **options})
    report = export_run(run, exporter, ExportOptions(layout=layout or LayoutOptions()))
    assert report.verified, report.findings
    return report


def query(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, values).fetchall()


def rows_of(path: Path, run_id: str) -> list[Found]:
    """The rows of a run as Trackio reads them."""
    sql = "SELECT step, timestamp, metrics FROM metrics WHERE run_id = ? ORDER BY timestamp, id"
    return [(step, time, json.loads(text)) for step, time, text in query(path, sql, run_id)]


def config_of(path: Path, run_id: str) -> dict[str, Any]:
    ((text,),) = query(path, "SELECT config FROM configs WHERE run_id = ?", run_id)
    return dict(json.loads(text))


def test_the_rows_are_those_of_the_live_callback(tmp_path: Path) -> None:
    """Its names, the index as step, the five values of the summary in the config."""
    params = {"lr": 1e-5, "_name_or_path": "m", "bad": math.nan, "nested": {"a": [1]}}
    run = make_run(ROWS, name="my run", params=params, group="g", tags={"who": "me"})
    report = export(run, tmp_path)
    path = tmp_path / "huggingface.db"
    assert report.location == f"{path}#{report.run_id}"
    found = rows_of(path, report.run_id)
    assert [(step, metrics) for step, _, metrics in found] == [
        (0, {"train/loss": 2.5, "train/grad_norm": 1.5, "train/learning_rate": 0,
             "train/epoch": 0.5, "train/global_step": 1}),
        (1, {"train/loss": "NaN", "train/grad_norm": "Infinity", "train/learning_rate": 1e-4,
             "train/epoch": 1.0, "train/global_step": 2}),
        (2, {"eval/loss": 0.1, "eval/flag": True, "eval/big": 2**53 + 1, "train/epoch": 1.0,
             "train/global_step": 2}),
        (3, {"train/loss": -0.0, "train/grad_norm": "-Infinity", "train/learning_rate": 5e-5,
             "train/epoch": 1.5, "train/global_step": 3}),
        (4, {"train/note": "fine", "eval/list": [1, 2], "eval/none": None, "eval/dict": {"a": 1},
             "train/global_step": 3}),
        (5, {"train/epoch": 1.5, "train/global_step": 3}),
    ]  # fmt: skip
    assert math.copysign(1, found[3][2]["train/loss"]) == -1
    config = config_of(path, report.run_id)
    about = config.pop("bridges")
    assert config.pop("_Created") == "2000-01-01T00:00:00+00:00"
    assert config == {
        **{"lr": 1e-5, "_name_or_path": "m", "bad": "NaN", "nested": {"a": [1]}},
        **{f"summary/{key}": value for key, value in FIVE.items()},
        **{"tags/who": "me", "_Group": "g", "_Username": None},
    }
    assert (about["source"], about["clock"]) == ("test", "duration")
    assert query(path, "SELECT DISTINCT run_name FROM metrics") == [("my run",)]


def test_the_global_step_may_be_the_step(tmp_path: Path) -> None:
    first = export(make_run(ROWS), tmp_path)
    second = export(make_run(ROWS), tmp_path, trackio_step="global_step")
    assert second.run_id != first.run_id
    found = rows_of(tmp_path / "huggingface.db", second.run_id)
    assert [step for step, _, _ in found] == [1, 2, 2, 3, 3, 3]
    assert [row["train/global_step"] for _, _, row in found] == [1, 2, 2, 3, 3, 3]


def test_the_epoch_may_be_the_step(tmp_path: Path) -> None:
    report = export(make_run(ROWS), tmp_path, LayoutOptions(x_axis="epoch"))
    found = rows_of(tmp_path / "huggingface.db", report.run_id)
    assert [step for step, _, _ in found][:4] == [500, 1000, 1000, 1500]
    assert all("train/global_step" not in row for _, _, row in found)


def test_tags_of_a_tracker_keep_their_steps_and_times(tmp_path: Path) -> None:
    """A row for each time: points of one row may have several."""
    start = 1_700_000_000_123_456
    times = np.array([start, start - 1, start + 2, start + 2])
    parts = [
        Series(key, np.array([0, 1]), np.array([1.0, 2.0]) + i, times[i::2])
        for i, key in enumerate("ab")
    ]
    step = Series("step", np.array([0]), np.array([7]), np.array([start]))
    stream = MetricStream(np.array([5, 9]), np.zeros(2, np.uint8), (*parts, step))
    run = Run("r", stream, "test", key_style="tags", identity=("r",), start=start, end=start)
    report = export(run, tmp_path)
    assert [found.code for found in report.findings if found.code == "key-renamed"]
    stamp = "2023-11-14T22:13:20.1234"
    assert rows_of(tmp_path / "huggingface.db", report.run_id) == [
        (5, f"{stamp}55+00:00", {"b": 2.0}),
        (5, f"{stamp}56+00:00", {"a": 1.0, "__step": 7}),
        (9, f"{stamp}58+00:00", {"a": 2.0, "b": 3.0}),
    ]


def test_a_longer_history_adds_rows_only(tmp_path: Path) -> None:
    first = export(make_run(ROWS[:3]), tmp_path)
    path = tmp_path / "huggingface.db"
    before = query(path, "SELECT * FROM metrics ORDER BY id")
    second = export(make_run(ROWS), tmp_path)
    assert (second.status, second.run_id, second.new_points) == ("appended", first.run_id, 9)
    assert query(path, "SELECT * FROM metrics ORDER BY id")[:3] == before
    assert config_of(path, first.run_id)["summary/train_runtime"] == 9.5
    assert export(make_run(ROWS), tmp_path).status == "unchanged"


def test_an_equal_export_writes_nothing(tmp_path: Path) -> None:
    export(make_run(ROWS), tmp_path)
    path = tmp_path / "huggingface.db"
    before = (path.stat().st_mtime_ns, path.read_bytes())
    assert export(make_run(ROWS), tmp_path).status == "unchanged"
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert sorted(os.listdir(tmp_path)) == ["huggingface.db", "huggingface.lock"]


CHANGES = {
    "a value": "UPDATE metrics SET metrics = replace(metrics, '2.5', '2.25') WHERE step = 0",
    "a time": "UPDATE metrics SET timestamp = replace(timestamp, '03.', '04.') WHERE step = 0",
    "a step": "UPDATE metrics SET step = 9 WHERE step = 0",
    "a row": "DELETE FROM metrics WHERE step = 0",
    "damaged JSON": "UPDATE metrics SET metrics = '{' WHERE step = 0",
    "a damaged time": "UPDATE metrics SET timestamp = 'today' WHERE step = 0",
    "a row without a step": "UPDATE metrics SET metrics = '{}' WHERE step = 0",
    "a summary": "UPDATE configs SET config = replace(config, '9.5', '9.25')",
    "a damaged config": "UPDATE configs SET config = '{'",
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_found(change: str, tmp_path: Path) -> None:
    export(make_run(ROWS), tmp_path)
    with closing(sqlite3.connect(tmp_path / "huggingface.db")) as connection, connection:
        assert connection.execute(CHANGES[change]).rowcount == 1
    (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(tmp_path)})
    report = verify_run(make_run(ROWS), exporter, ExportOptions())
    assert report.status == "failed"
    assert report.verified is not True
    assert report.findings[-1].code != "internal-error", report.findings[-1]


def test_a_project_in_a_read_only_directory_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite can make no files there. (Root may write everywhere, so the check is replaced.)"""
    export(make_run(ROWS), tmp_path)
    (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(tmp_path)})
    names = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, how: how != os.W_OK)
    with ProjectFile(str(tmp_path), "huggingface").reading() as database:
        assert database is not None
        assert database.execute("SELECT count(*) FROM metrics").fetchone()[0] == len(ROWS)
        assert sorted(os.listdir(tmp_path)) == names
    assert verify_run(make_run(ROWS), exporter, ExportOptions()).verified


def test_a_deleted_run_is_written_again(tmp_path: Path) -> None:
    first = export(make_run(ROWS), tmp_path)
    with closing(sqlite3.connect(tmp_path / "huggingface.db")) as connection, connection:
        for table in ("metrics", "configs"):
            connection.execute(f"DELETE FROM {table}")
    assert export(make_run(ROWS), tmp_path).status == "exported"
    assert len(rows_of(tmp_path / "huggingface.db", first.run_id)) == len(ROWS)


def test_rows_of_others_stay_and_are_counted(tmp_path: Path) -> None:
    """A training resumed under the run's name, which replaces its config; and other runs."""
    report = export(make_run(ROWS[:3]), tmp_path)
    path, live = tmp_path / "huggingface.db", '{"train/loss": 9}'
    with closing(sqlite3.connect(path)) as connection, connection:
        for run_id in (report.run_id, "f" * 32):
            values = (run_id, "2026-01-01T00:00:00+00:00", "run", 3, live)
            columns = "run_id, timestamp, run_name, step, metrics"
            connection.execute(f"INSERT INTO metrics ({columns}) VALUES (?, ?, ?, ?, ?)", values)
        connection.execute("UPDATE configs SET config = ?", ('{"lr": 3}',))
    again = export(make_run(ROWS), tmp_path)
    assert (again.status, again.run_id) == ("appended", report.run_id)
    (finding,) = (found for found in again.findings if found.code == "foreign-rows")
    assert (finding.count, finding.severity.value) == (1, "info")
    live_rows = query(path, "SELECT run_id FROM metrics WHERE metrics = ?", live)
    assert live_rows == [(report.run_id,), ("f" * 32,)]
    assert config_of(path, report.run_id)["lr"] == 3


def test_values_that_trackio_cannot_hold_are_changed_and_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"a": "NaN", "b": [math.nan, math.inf], "c": "\ud800", "d": {"x": "NaN"}, "step": 1},
        {"project": 1.0, "__x": 2.0, "train/global_step": 3.0, "step": 2},
    ]
    report = export(make_run(rows), tmp_path, LayoutOptions(naming="raw"))
    codes = {found.code: found.count for found in report.findings}
    assert codes.items() >= {"value-cleaned": 3, "key-renamed": 3}.items()
    found = rows_of(tmp_path / "huggingface.db", report.run_id)
    assert found[0][2] == {
        **{"a": "'NaN'", "b": ["NaN", "Infinity"], "c": "\\ud800", "d": {"x": "NaN"}},
        "train/global_step": 1,
    }
    assert found[1][2].keys() == {"__project", "____x", "__train/global_step", "train/global_step"}
    assert export(make_run(rows), tmp_path, LayoutOptions(naming="raw")).status == "unchanged"


def test_a_summary_keeps_nan_infinity_and_texts(tmp_path: Path) -> None:
    """Also a text that Trackio takes for a number, and NaN within a list."""
    last: dict[str, Any] = {"train_runtime": math.inf, "train_loss": math.nan, "total_flos": "NaN"}
    more = {"train_steps_per_second": [math.nan], "step": 1}
    rows = [{"loss": 1.0, "step": 1}, {**last, **more}]
    report = export(make_run(rows), tmp_path)
    assert [f.count for f in report.findings if f.code == "value-cleaned"] == [2]
    config = config_of(tmp_path / "huggingface.db", report.run_id)
    found = {key: value for key, value in config.items() if key.startswith("summary/")}
    assert found == {
        **{"summary/train_runtime": "Infinity", "summary/train_loss": "NaN"},
        **{"summary/total_flos": "'NaN'", "summary/train_steps_per_second": ["NaN"]},
    }
    assert export(make_run(rows), tmp_path).status == "unchanged"


def test_names_are_changed_where_they_are_asked_for(tmp_path: Path) -> None:
    state = write_state(tmp_path / "s" / "trainer_state.json", training_rows(3))
    folder = tmp_path / "t"
    bridges.export(state, to="trackio", trackio_dir=folder)
    path = folder / "huggingface.db"
    more: dict[str, Any] = {"run_name": "it's", "group": "g", "tags": {"a": "b"}}
    (report,) = bridges.export(state, to="trackio", trackio_dir=folder, **more).runs
    assert (report.status, report.run, report.verified) == ("unchanged", "it's", True)
    assert query(path, "SELECT DISTINCT run_name FROM metrics") == [("it's",)]
    config = config_of(path, report.run_id)
    assert (config["_Group"], config["tags/a"]) == ("g", "b")


def test_a_migration_skips_runs_with_receipts(tmp_path: Path) -> None:
    state = write_state(tmp_path / "s" / "trainer_state.json", training_rows(30))
    config = tmp_path / "c.yaml"
    config.write_text("sources: [s]\ntargets: [{to: trackio, trackio_dir: t, project: p}]\n")
    assert bridges.migrate(config).exit_code == 0
    (again,) = bridges.migrate(config).runs
    assert "known-by-its-files" in [found.code for found in again.findings]
    with closing(sqlite3.connect(tmp_path / "t" / "p.db")) as connection, connection:
        connection.execute("DELETE FROM metrics WHERE step = 5")
    (third,) = bridges.migrate(config).runs
    assert "known-by-its-files" not in [found.code for found in third.findings]
    assert third.status == "failed"
    assert state.exists()


# --- projects ---------------------------------------------------------------------------------


def test_a_project_is_named_as_trackio_names_it(tmp_path: Path) -> None:
    report = export(make_run(ROWS), tmp_path, project="my.model v2")
    assert report.place == "mymodelv2"
    assert (tmp_path / "mymodelv2.db").exists()
    assert "name-changed" in [found.code for found in report.findings]
    named = export(make_run(ROWS, project="from the run"), tmp_path)
    assert named.place == "fromtherun"


@pytest.mark.parametrize("name", ["registry-x", "a_system", "a_configs", "x.y_run_artifact_links"])
def test_names_that_trackio_keeps_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Choose another name"):
        make_exporters(["trackio"], {"project": name})
    (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(tmp_path)})
    report = export_run(make_run(ROWS, project=name), exporter, ExportOptions())
    assert report.status == "failed"
    assert "Trackio keeps names" in report.findings[-1].message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TRACKIO_DIR": "{}/a"}, "a"),
        ({"HF_HOME": "{}/hf"}, "hf/trackio"),
        ({"XDG_CACHE_HOME": "{}/cache"}, "cache/huggingface/trackio"),
        ({"HOME": "{}"}, ".cache/huggingface/trackio"),
    ],
)
def test_the_directory_is_trackios_own(
    environment: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRACKIO_DIR", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    (exporter,) = make_exporters(["trackio"], {})
    assert export_run(make_run(ROWS), exporter, ExportOptions()).verified
    assert (tmp_path / expected / "huggingface.db").exists()


def test_the_viewer_of_a_directory_and_of_a_project(tmp_path: Path) -> None:
    export(make_run(ROWS), tmp_path, project="p")
    (one,) = viewers([str(tmp_path)])
    assert one.shown == f"TRACKIO_DIR={tmp_path} trackio show"
    (one,) = viewers([str(tmp_path / "p.db")], port=7000)
    shown = f"TRACKIO_DIR={tmp_path} GRADIO_SERVER_PORT=7000 trackio show --project p"
    assert one.shown == shown


# --- versions ---------------------------------------------------------------------------------

FILES = {path.stem: path.read_text() for path in FOLDER.glob("*.sql")}  # of each release
OLD = ("0.15.0", "0.17.0", "0.20.2")
OF_0_24 = """
    CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
        timestamp TEXT NOT NULL, run_name TEXT NOT NULL, step INTEGER NOT NULL,
        metrics TEXT NOT NULL, log_id TEXT, space_id TEXT);
    CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
        run_name TEXT NOT NULL, config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id));
    INSERT INTO metrics (run_id, timestamp, run_name, step, metrics)
        VALUES ('a', '2026-01-01T00:00:00+00:00', 'r', 0, '{"x": 1}');"""
REFUSED = {
    "newer": (f"{OF_0_24} PRAGMA user_version = 3;", "version 3 of Trackio's tables"),
    **{
        release: (
            FILES[release],
            "tables of Trackio before 0.24. Start `trackio show` of release 0.41 or later once",
        )
        for release in OLD
    },
    "other": ("CREATE TABLE runs (x); CREATE TABLE metrics (x);", "is not a project of Trackio"),
}


def make_file(path: Path, script: str) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path.read_bytes()


@pytest.mark.parametrize("case", REFUSED)
def test_other_versions_are_refused_and_not_touched(case: str, tmp_path: Path) -> None:
    script, message = REFUSED[case]
    before = make_file(tmp_path / "huggingface.db", script)
    (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(tmp_path)})
    report = export_run(make_run(ROWS), exporter, ExportOptions())
    assert report.status == "failed"
    assert message in report.findings[-1].message
    assert (tmp_path / "huggingface.db").read_bytes() == before


def test_a_file_of_an_earlier_version_is_taken(tmp_path: Path) -> None:
    make_file(tmp_path / "huggingface.db", OF_0_24)
    report = export(make_run(ROWS), tmp_path)
    path = tmp_path / "huggingface.db"
    assert len(rows_of(path, report.run_id)) == len(ROWS)
    assert rows_of(path, "a") == [(0, "2026-01-01T00:00:00+00:00", {"x": 1})]
    assert query(path, "PRAGMA user_version") == [(0,)]


@pytest.mark.parametrize("release", sorted(FILES.keys() - {*OLD}))
def test_files_of_releases_are_written_and_foreign_rows_stay(release: str, tmp_path: Path) -> None:
    """Every row of every table that the release left is the same, to the byte."""
    path = tmp_path / "huggingface.db"
    make_file(path, FILES[release])
    before = content_of(path)
    report = export(make_run(ROWS[:3]), tmp_path)
    assert export(make_run(ROWS), tmp_path).status == "appended"
    assert len(rows_of(path, report.run_id)) == len(ROWS)
    after = content_of(path)
    assert {table: after[table][: len(rows)] for table, rows in before.items()} == before
    added = {table: len(after[table]) - len(rows) for table, rows in before.items()}
    expected = {"metrics": len(ROWS), "configs": 1, "project_metadata": 1}
    assert {table: count for table, count in added.items() if count} == expected
    versions = query(path, "PRAGMA user_version")
    assert versions == [(2 if release == "0.43.0" else 0,)]


def content_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, with their types; the counters of SQLite itself left out."""
    tables = query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    names = [name for (name,) in tables if not name.startswith("sqlite_")]
    return {name: query(path, f"SELECT rowid, * FROM {name} ORDER BY rowid") for name in names}


def test_a_source_file_is_kept_among_the_files_of_the_project(tmp_path: Path) -> None:
    state = write_state(tmp_path / "s" / "trainer_state.json", training_rows(3))
    options: dict[str, Any] = {"to": "trackio", "trackio_dir": tmp_path / "t", "project": "p"}
    (report,) = bridges.export(state, attach_source=True, **options).runs
    assert "source-not-attached" not in [found.code for found in report.findings]
    path = tmp_path / "t" / "media" / "p" / "files" / report.run_id / "trainer_state.json"
    assert path.read_bytes() == state.read_bytes()
    before = path.stat().st_mtime_ns
    bridges.export(state, attach_source=True, **options)
    assert path.stat().st_mtime_ns == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_no_database_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "huggingface.db").write_text("nothing of SQLite" * 100)
    (exporter,) = make_exporters(["trackio"], {"trackio_dir": str(tmp_path)})
    report = export_run(make_run(ROWS), exporter, ExportOptions())
    message = f"{tmp_path}/huggingface.db: cannot be read: file is not a database"
    assert (report.status, report.findings[-1].message) == ("failed", message)


# --- interruptions ----------------------------------------------------------------------------


class Crash(BaseException):
    """The end of a process."""


@pytest.fixture
def few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(stored, "SELECT", stored.SELECT.replace("100000", "4"))


@contextmanager
def crashing(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process end before the statement of this number."""
    done = 0
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def _count(self) -> None:
            nonlocal done
            done += 1
            if done == number:
                raise Crash

        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if not str(arguments[0]).startswith("ROLLBACK"):
                self._count()
            return super().execute(*arguments)

        def executemany(self, *arguments: Any) -> sqlite3.Cursor:
            self._count()
            return super().executemany(*arguments)

    def counted(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return connect(*arguments, **named, factory=Connection)

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", counted)
        yield


@pytest.mark.usefixtures("few_rows_at_once")
@pytest.mark.parametrize("before", [0, 3], ids=["new project", "longer"])
def test_every_statement_may_be_the_last(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers see whole transactions only; a rerun has every row once, with rows of others."""
    rows, number, is_done = training_rows(10), 0, False
    while not is_done:
        number, folder = number + 1, tmp_path / str(number)
        path = folder / "huggingface.db"
        if before:
            export(make_run(rows[:before]), folder)
        with suppress(Crash), crashing(number, monkeypatch):
            export(make_run(rows), folder)
            is_done = True
        seen = query(path, "SELECT count(*) FROM metrics") if path.exists() else [(0,)]
        assert seen[0][0] in {0, *range(before, len(rows), 3), len(rows)}
        report = export(make_run(rows), folder)
        assert [step for step, _, _ in rows_of(path, report.run_id)] == [*range(len(rows))]
        shutil.rmtree(folder)
    assert number > 30
