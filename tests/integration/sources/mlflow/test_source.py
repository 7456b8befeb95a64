"""MLflow stores through the command line and Python: locations, selection, nesting, growth."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.sources.mlflow.source import MlflowSource
from bridges.sources.options import ReadOptions
from bridges.testing.sources import SourceContract
from tests.mlflow_stores import REPEATS, unpack_database, unpack_store
from tests.support import DATA, state

RELEASE = "2.9.2"
POINTS = (
    "select runs.name, key, step, timestamp, value, is_nan from metrics join runs using (run_uuid)"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file store."""
    return unpack_store(RELEASE, tmp_path)


def run(*arguments: str | Path, code: int = 0) -> str:
    """The output of a command; with errors, unless it is JSON."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        ended = bridge([*map(str, arguments)])
    assert ended == code, err.getvalue()
    return out.getvalue() if "--json" in arguments else out.getvalue() + err.getvalue()


def listed(*arguments: str | Path) -> list[str]:
    """The names of the runs that `bridge ls` lists."""
    return [row["name"] for row in json.loads(run("ls", *arguments, "--json"))["runs"]]


def points_in(database: Path) -> Counter[tuple[Any, ...]]:
    """The points of all runs in a database."""
    with closing(sqlite3.connect(database)) as connection:
        return Counter(connection.execute(POINTS).fetchall())


def export(store: Path | str, folder: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """The JSON report of an export into an SQLite database."""
    target = ["--to", "mlflow", "--tracking-uri", f"sqlite:///{folder / 'target.db'}"]
    report: dict[str, Any] = json.loads(
        run("export", store, *target, *options, "--json", code=code)
    )
    return report


class TestContract(SourceContract):
    """The contract of sources, with a file store of one run."""

    source = MlflowSource

    def write_run(self, folder: Path) -> str:
        run_id, experiment = "ab" * 16, folder / "mlruns" / "1"
        metrics = experiment / run_id / "metrics"
        metrics.mkdir(parents=True)
        (experiment / "meta.yaml").write_text("experiment_id: '1'\nname: one\n")
        meta = f"run_id: {run_id}\nrun_name: first\nstatus: 3\nstart_time: 1600000000000\n"
        (experiment / run_id / "meta.yaml").write_text(meta)
        (metrics / "loss").write_text("1600000001000 0.5 1\n1600000002000 0.25 2\n")
        return str(folder / "mlruns")

    def write_broken(self, folder: Path) -> str:
        location = self.write_run(folder)
        (Path(location) / "1" / ("ab" * 16) / "meta.yaml").write_bytes(b"\x00\xff broken")
        return location


def test_a_file_store_and_the_database_of_one_release_hold_the_same_runs(tmp_path: Path) -> None:
    files = bridges.read(unpack_store(RELEASE, tmp_path / "files"))
    database = bridges.read(unpack_database(RELEASE, tmp_path / "database"))
    # a made-up name, and keys that cannot be files beside each other
    unequal = {"exp A/parent", *(one.path for one in (*files, *database) if one.group == "Default")}
    found = [
        sorted((one.path, one.stream.points) for one in runs if one.path not in unequal)
        for runs in (files, database)
    ]
    assert found[0] == found[1]
    assert len(files) == len(database)


@pytest.mark.parametrize("form", ["directory", "experiment", "run", "page", "pattern"])
def test_a_location_names_all_runs_an_experiment_or_a_run(form: str, tmp_path: Path) -> None:
    store = unpack_store(RELEASE, tmp_path)
    child = next(one for one in bridges.read(store) if one.name == "child 1 é")
    folder = Path(child.source)
    every, of_experiment = listed(store), listed(folder.parent)
    if form == "directory":
        assert listed(tmp_path) == every
    elif form == "experiment":
        assert of_experiment == [name for name in every if name.startswith("exp A/")]
    elif form == "run":
        assert listed(folder) == ["exp A/parent/child 1 é"]
    elif form == "pattern":
        assert listed(f"{tmp_path}/ml*") == every
    else:
        database = unpack_database(RELEASE, tmp_path)
        known = next(one for one in bridges.read(database) if one.name == "child 1 é")
        assert listed(known.source) == ["exp A/parent/child 1 é"]
        assert known.source.startswith(f"{database}#/experiments/")


def test_runs_are_selected_by_experiment_name_status_and_tag(store: Path) -> None:
    every = listed(store)
    assert listed(store, "--select", "experiment=fluent") == [
        "fluent/fluent run",
        "fluent/fluent run/nested",
    ]
    children = listed(store, "--select", "run=child*", "--select", "status=failed")
    assert children == ["exp A/parent/child 1 é"]
    tagged = listed(store, "--select", "tag.note=long*")
    assert tagged == ["exp A/parent"]
    assert len(listed(store, "--deleted")) > len(every)
    result = run("ls", store, "--select", "run=nothing", code=2)
    assert "19 runs, none of them selected" in result
    result = run("ls", f"{store}#/experiments/0/runs/nothing", code=2)
    assert "1 run, none of them selected" in result
    assert "the run in the address" in result


def test_deleted_runs_are_counted_and_exported_as_deleted_on_request(
    store: Path, tmp_path: Path
) -> None:
    report = export(store, tmp_path)
    notes = [note for one in report["runs"] for note in one["findings"]]
    assert sum(note["count"] for note in notes if note["code"] == "deleted-runs") == 2
    names = {one["run"] for one in report["runs"]}
    with_deleted = export(store, tmp_path, "--deleted")
    assert {one["run"] for one in with_deleted["runs"]} - names == {
        "deleted run",
        "in deleted exp",
    }
    with closing(sqlite3.connect(tmp_path / "target.db")) as database:
        query = "select name from runs where lifecycle_stage = 'deleted' order by name"
        assert database.execute(query).fetchall() == [("deleted run",), ("in deleted exp",)]


def test_the_tree_shows_experiments_and_nested_runs(store: Path) -> None:
    lines = run("inspect", store).splitlines()
    depth = {
        name: next(line.index(name) for line in lines if name in line)
        for name in ("exp A/", "parent ·", "child 0 é", "grandchild")
        if any(name in line for line in lines)
    }
    assert depth["exp A/"] < depth["parent ·"] < depth["child 0 é"]


def test_a_second_export_changes_nothing_and_new_points_are_appended(
    store: Path, tmp_path: Path
) -> None:
    first = export(store, tmp_path)
    assert {one["status"] for one in first["runs"]} == {"exported"}
    before = points_in(tmp_path / "target.db")
    again = export(store, tmp_path)
    assert {one["status"] for one in again["runs"]} == {"unchanged"}
    assert points_in(tmp_path / "target.db") == before
    child = next(one for one in bridges.read(store) if one.name == "child 1 é")
    loss = Path(child.source) / "metrics" / "loss"
    with loss.open("a") as file:
        file.write("1600000000500 0.75 50\n")  # between known points
        file.write("1600009000000 0.125 900\n")
    grown = export(store, tmp_path)
    assert Counter(one["status"] for one in grown["runs"])["appended"] == 1
    added = points_in(tmp_path / "target.db") - before
    assert added == Counter(
        {
            ("child 1 é", "loss", 50, 1600000000500, 0.75, 0): 1,
            ("child 1 é", "loss", 900, 1600009000000, 0.125, 0): 1,
        }
    )
    assert not before - points_in(tmp_path / "target.db")


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_a_database_exported_into_itself_stays_as_it_is(writer: str, tmp_path: Path) -> None:
    """With logged models, datasets and links."""
    file = unpack_database("3.17.2", tmp_path)
    before = tables_of(file)
    to_itself = ("--to", "mlflow", "--tracking-uri", f"sqlite:///{file}", "--mlflow-writer", writer)
    found = json.loads(run("export", file, *to_itself, "--json"))["totals"]
    assert (found["runs"], found["unchanged"]) == (17, 17)
    assert tables_of(file) == before


def tables_of(database: Path) -> list[str]:
    """The content of a database as SQL."""
    with closing(sqlite3.connect(database)) as connection:
        return [*connection.iterdump()]


def test_a_dry_run_has_the_numbers_of_the_export(store: Path, tmp_path: Path) -> None:
    planned = export(store, tmp_path, "--dry-run")
    assert not (tmp_path / "target.db").exists()
    done = export(store, tmp_path)
    numbers = [
        sorted((one["source"], one["rows"], one["points"]) for one in report["runs"])
        for report in (planned, done)
    ]
    assert numbers[0] == numbers[1]
    child = next(one for one in bridges.read(store) if one.name == "child 1 é")
    with (Path(child.source) / "metrics" / "loss").open("a") as file:
        file.write("1600009000000 0.125 900\n1600009000001 0.25 901\n")
    before = points_in(tmp_path / "target.db")
    planned = export(store, tmp_path, "--dry-run", "--deleted")
    assert points_in(tmp_path / "target.db") == before
    done = export(store, tmp_path, "--deleted")
    added = (points_in(tmp_path / "target.db") - before).total()
    assert [report["totals"]["new_points"] for report in (planned, done)] == [added, added]
    assert added == 2 + 2  # of the child, and of the deleted runs
    new = [{one["source"]: one["new_points"] for one in r["runs"]} for r in (planned, done)]
    assert new[0] == new[1]


def test_one_bad_run_stops_no_other(store: Path, tmp_path: Path) -> None:
    every = bridges.read(store)
    child = next(one for one in every if one.name == "child 1 é")
    (Path(child.source) / "meta.yaml").write_text("<<<<<<< HEAD\n")
    report = export(store, tmp_path, code=1)
    (bad,) = [one for one in report["runs"] if one["status"] == "failed"]
    assert bad["findings"][0]["message"].startswith(f"{child.source}/meta.yaml")
    assert sum(one["status"] == "exported" for one in report["runs"]) == len(every) - 1


def test_a_point_logged_twice_is_exported_once(tmp_path: Path) -> None:
    report = export(unpack_store(REPEATS, tmp_path), tmp_path)
    codes = [note["code"] for one in report["runs"] for note in one["findings"]]
    assert "exact-repeats" in codes
    assert max(points_in(tmp_path / "target.db").values()) == 1


def test_a_store_beside_states_of_the_trainer_is_reported(store: Path, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    (one,) = bridges.read(tmp_path)
    (note,) = [note for note in one.findings if note.code == "other-store"]
    assert note.where == str(store)
    assert len(bridges.read(tmp_path, source="mlflow")) == len(bridges.read(store))
    assert listed(tmp_path, "--from", "mlflow") == listed(store)


@pytest.mark.parametrize("is_migration", [False, True])
def test_a_store_beside_an_unreadable_state_is_reported(
    store: Path, tmp_path: Path, is_migration: bool
) -> None:
    (tmp_path / "trainer_state.json").write_text('{"log_history": [')
    target = f"{{to: tensorboard, logdir: {tmp_path}/runs}}"
    config = tmp_path / "config.yaml"
    config.write_text(f"sources: [{{location: {tmp_path}}}]\ntargets: [{target}]\n")
    to_tensorboard = ("export", tmp_path, "--to", "tensorboard", "--logdir", tmp_path / "runs")
    report = run(*(("migrate", config) if is_migration else to_tensorboard), "--json", code=1)
    assert f"{store}: an MLflow store, not read beside states of the Trainer" in report


def test_workers_leave_no_journal(store: Path, tmp_path: Path) -> None:
    """In a process of its own, which may start a fork server."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"sources: [{{location: {store}}}]\nengine: {{workers: 2}}\n"
        f"targets: [{{to: mlflow, tracking_uri: 'sqlite:///{tmp_path}/target.db'}}]\n"
    )
    command = [sys.executable, "-m", "bridges", "migrate", str(config)]
    subprocess.run(command, check=True, capture_output=True)
    assert [path.name for path in tmp_path.glob("target.db*")] == ["target.db"]


def test_an_inspected_run_was_not_written_by_a_trainer(store: Path) -> None:
    assert "written by" not in run("inspect", store, "-v")


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    experiment = tmp_path / "mlruns" / "0"
    experiment.mkdir(parents=True)
    (experiment / "meta.yaml").write_text("experiment_id: '0'\nname: Default\n")
    result = run("export", tmp_path, "--to", "tensorboard", "--logdir", tmp_path / "tb", code=2)
    assert "an MLflow store with 0 runs" in result


def test_an_experiment_without_runs_is_reported(store: Path) -> None:
    experiment = store / "77"
    experiment.mkdir()
    (experiment / "meta.yaml").write_text("experiment_id: '77'\nname: waiting\n")
    notes = [note for one in bridges.read(store) for note in one.findings]
    (note,) = [note for note in notes if note.code == "empty-experiment"]
    assert note.where == "experiment 'waiting'"


def test_a_place_without_a_store_says_what_is_expected(tmp_path: Path) -> None:
    result = run("ls", tmp_path, "--from", "mlflow", code=2)
    assert "found no MLflow store" in result


@pytest.mark.parametrize("database", [False, True])
def test_a_migration_splits_a_store_and_knows_its_runs_again(
    database: bool, tmp_path: Path
) -> None:
    place = (unpack_database if database else unpack_store)(RELEASE, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"sources: [{{location: {place}}}]\n"
        f"targets: [{{to: mlflow, tracking_uri: 'sqlite:///{tmp_path}/target.db'}},\n"
        f"  {{to: tensorboard, logdir: {tmp_path}/runs}}]\n"
        "engine: {workers: 2}\n"
    )
    first = json.loads(run("migrate", config, "--json"))
    assert first["totals"]["failed"] == 0
    assert not [*tmp_path.glob("target.db-*")]
    again = json.loads(run("migrate", config, "--json"))
    assert again["totals"]["unchanged"] == first["totals"]["exported"] > 0
    known = [note["code"] for one in again.get("runs", ()) for note in one["findings"]]
    assert not known or database or "known-by-its-files" in known


def migrate(store: Path, folder: Path, code: int = 0, **source: Any) -> dict[str, Any]:
    """The JSON report of a migration into an SQLite database."""
    target = {"to": "mlflow", "tracking_uri": f"sqlite:///{folder}/target.db"}
    config = {"sources": [{"location": str(store), **source}], "targets": [target]}
    (folder / "config.yaml").write_text(json.dumps(config))
    report: dict[str, Any] = json.loads(run("migrate", folder / "config.yaml", "--json", code=code))
    return report


def test_a_migration_reports_a_run_that_cannot_be_read(store: Path, tmp_path: Path) -> None:
    """Its `meta.yaml` is damaged, so that no part of the store has it."""
    every = bridges.read(store)
    child = next(one for one in every if one.name == "child 1 é")
    (Path(child.source) / "meta.yaml").write_text("<<<<<<< HEAD\n")
    report = migrate(store, tmp_path, code=1)
    (bad,) = [one for one in report["runs"] if one["status"] == "failed"]
    assert bad["findings"][0]["message"].startswith(f"{child.source}/meta.yaml: line 1: found a")
    assert sum(one["status"] == "exported" for one in report["runs"]) == len(every) - 1


def test_a_migration_exports_the_store_beside_a_damaged_one(store: Path, tmp_path: Path) -> None:
    database = unpack_database(RELEASE, tmp_path)
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"damaged")
    report = migrate(tmp_path, tmp_path, code=1)
    (bad,) = [one for one in report["runs"] if one["status"] == "failed"]
    assert "found a damaged database" in bad["findings"][0]["message"]
    assert report["totals"]["exported"] == len(bridges.read(store))


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("none selected", "19 runs, none of them selected"),
        ("deleted", "an MLflow store with deleted runs only (19)"),
        ("empty", "an MLflow store with 0 runs"),
    ],
)
def test_a_migration_without_a_run_fails(
    kind: str, found: str, store: Path, tmp_path: Path
) -> None:
    if kind == "deleted":
        for meta in store.rglob("meta.yaml"):
            meta.write_text(meta.read_text().replace("stage: active", "stage: deleted"))
    elif kind == "empty":
        for path in (path for path in store.iterdir() if path.name != "0"):
            shutil.rmtree(path)
        for path in (path for path in (store / "0").iterdir() if path.is_dir()):
            shutil.rmtree(path)
    select = ["run=nothing"] if kind == "none selected" else []
    (failed,) = migrate(store, tmp_path, code=2, select=select)["runs"]
    assert (failed["status"], failed["source"]) == ("failed", str(store))
    assert found in failed["findings"][0]["message"]


def test_a_migration_has_the_notes_of_an_export(tmp_path: Path) -> None:
    """Also of experiments of which it reads no run."""
    store = unpack_store("3.17.2", tmp_path)
    of_store = {"not-carried", "empty-experiment", "deleted-runs"}

    def notes(report: dict[str, Any]) -> Counter[tuple[str, str]]:
        found = [note for one in report["runs"] for note in one["findings"]]
        return Counter(
            {(each["code"], each["where"]): each["count"] for each in found
             if each["code"] in of_store}
        )  # fmt: skip

    exported = notes(export(store, tmp_path))
    assert {code for code, _ in exported} == of_store
    assert exported.total() == 4 + 1 + 2
    (tmp_path / "target.db").unlink()
    assert notes(migrate(store, tmp_path)) == exported


def test_a_trainers_run_in_mlflow_is_the_same_run_when_it_is_read_from_there(
    tmp_path: Path,
) -> None:
    source = tmp_path / "trainer_state.json"
    shutil.copy(DATA.parents[1] / "configs" / "example-run" / "trainer_state.json", source)
    uri = f"sqlite:///{tmp_path / 'tracking.db'}"
    bridges.export(source, to="mlflow", tracking_uri=uri)
    logdir = tmp_path / "runs"
    direct = bridges.export(source, to="tensorboard", logdir=logdir)
    (stored,) = bridges.read(uri)
    (original,) = bridges.read(source)
    numbers = [
        sorted(
            (key, step, float(value))
            for row in one.stream
            for step in [row["step"]]
            for key, value in row.items()
            if key != "step" and isinstance(value, int | float)
        )
        for one in (stored, original)
    ]
    assert numbers[0] == numbers[1]
    onward = bridges.export(uri, to="tensorboard", logdir=logdir)
    assert [one.status for one in onward.runs] == ["unchanged"]
    assert onward.runs[0].key == direct.runs[0].key
    assert len([*logdir.rglob("*tfevents*")]) == 1


def test_following_a_store_takes_new_points_until_its_run_ends(tmp_path: Path) -> None:
    store = unpack_store(REPEATS, tmp_path)
    report = bridges.follow(
        store, to="mlflow", tracking_uri=f"sqlite:///{tmp_path}/target.db", interval=0.01
    )
    assert report.exit_code == 0
    assert len(report.runs) == len(bridges.read(store))


def test_reading_changes_nothing_in_a_store(store: Path) -> None:
    def listing() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in store.rglob("*")
        }

    before = listing()
    for one in MlflowSource().read(str(store), ReadOptions(deleted=True)):
        assert one.record is not None
    assert listing() == before
    assert os.path.isdir(store)
