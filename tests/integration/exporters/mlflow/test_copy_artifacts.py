"""Artifact files of MLflow stores, copied with the runs (`--copy-artifacts`).

The judges are mlflow's own client and the digests of the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mlflow.artifacts
import pytest
import yaml

from bridges.cli.main import run as bridge_command
from bridges.exporters import atomic_files
from bridges.exporters.mlflow.artifact_copy import local_tree
from bridges.exporters.mlflow.artifact_copy.local_tree import PARTIAL
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.formats.mlflow_store.records import LoggedModel, RunRecord
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import ArtifactCounts, RunReport
from bridges.testing.exporters import ROWS
from tests.bounds import HANGS
from tests.integration.exporters.mlflow.support import MlflowClient
from tests.kills import Command, kill_often, start
from tests.mlflow_records import VISION, head, record, run
from tests.mlflow_stores import unpack_store
from tests.servers import PostgreSQL
from tests.support import make_run

MODEL = "m-50a7db406f2f4a05a779977dc8dbcec4"  # of the run MODEL_RUN in the store of 3.17.2
MODEL_RUN, FILE_RUN = "f1aafe643bc14a45809f0519a4701cb4", "cea1f5de255e470c9628f072df65181b"
FILES = 6  # of the runs and the model in that store
Digests = dict[str, str]


def digests(folder: Path | str) -> Digests:
    """The SHA-256 of all files below a directory, by path."""
    root = Path(folder)
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def downloaded(uri: str, folder: Path) -> Digests:
    """What mlflow downloads from an artifact location."""
    into = folder / "downloads" / uuid.uuid4().hex
    into.mkdir(parents=True)
    return digests(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into)))


def files_of_run(client: Any, run_id: str, path: str | None = None) -> list[str]:
    """The files of a run as mlflow lists them."""
    found: list[str] = []
    for each in client.list_artifacts(run_id, path):
        found += files_of_run(client, run_id, each.path) if each.is_dir else [each.path]
    return sorted(found)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="b") as folder:
        yield Path(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database; the working directory is a new one.

    PostgreSQL has 200 characters for a location, so the path is a short one.
    """
    if request.param == "sqlite":
        monkeypatch.chdir(tmp_path)
        return f"sqlite:///{tmp_path}/target.db"
    monkeypatch.chdir(request.getfixturevalue("short_folder"))
    postgres: PostgreSQL = request.getfixturevalue("postgres")
    return postgres.create_database(uuid.uuid4().hex)


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty SQLite store; the working directory is a new one."""
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/target.db"


def bridge(*words: str) -> int:
    """The exit code of a command."""
    return bridge_command([*words])


def export(store: Path, uri: str, *more: str) -> int:
    """Export a store with its artifacts; the exit code."""
    return bridge("export", str(store), "--to", "mlflow", "--tracking-uri", uri, *more)


def counts(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """The sums of the artifact counts in the JSON document on standard output."""
    runs = json.loads(capsys.readouterr().out)["runs"]
    keys = ("files", "bytes", "copied_files", "copied_bytes")
    return {key: sum(run["artifacts"][key] for run in runs) for key in keys}


def test_the_files_of_a_store_are_in_the_target(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    before = digests(store)
    (own,) = store.glob(f"*/{FILE_RUN}/artifacts")
    (own_of_model,) = store.glob(f"*/models/{MODEL}/artifacts")
    long_tag_is_cut = uri.startswith("postgres")
    assert export(store, uri, "--copy-artifacts", "--json") == long_tag_is_cut
    files = [path for each in (own, own_of_model) for path in each.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    everything = {"files": FILES, "bytes": size}
    assert counts(capsys) == {**everything, "copied_files": FILES, "copied_bytes": size}
    assert digests(store) == before
    of_run, of_model = digests(own), digests(own_of_model)
    store.rename(tmp_path / "moved away")  # nothing points to it
    client: Any = MlflowClient(uri)
    assert files_of_run(client, FILE_RUN) == [*of_run]
    assert downloaded(client.get_run(FILE_RUN).info.artifact_uri, tmp_path) == of_run
    assert downloaded(client.get_logged_model(MODEL).artifact_location, tmp_path) == of_model
    for experiment in client.search_experiments():
        assert str(store) not in experiment.artifact_location


def test_a_second_export_copies_only_what_is_missing_or_different(
    sqlite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    assert export(store, sqlite, "--copy-artifacts") == 0
    copies = tmp_path / "target-artifacts"
    stamps = {path: path.stat().st_mtime_ns for path in copies.rglob("*") if path.is_file()}
    assert len(stamps) == FILES
    capsys.readouterr()
    assert export(store, sqlite, "--copy-artifacts", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {run["status"] for run in document["runs"]} == {"unchanged"}
    assert {path: path.stat().st_mtime_ns for path in copies.rglob("*") if path.is_file()} == stamps

    (own,) = store.glob(f"*/{FILE_RUN}/artifacts")
    (own / "deep" / "er").mkdir(parents=True)
    (own / "deep" / "er" / "é %41#.bin").write_bytes(b"new")
    (copy,) = copies.glob(f"*/{FILE_RUN}/artifacts/a.txt")
    text = copy.read_bytes()
    copy.write_bytes(b"X" + text[1:])  # of the same size
    assert export(store, sqlite, "--copy-artifacts", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    by_status = {run["status"]: run["artifacts"] for run in document["runs"]}
    size = len(text) + 3
    assert by_status["appended"] == {
        "files": 2, "bytes": size, "copied_files": 2, "copied_bytes": size
    }  # fmt: skip
    assert digests(copy.parent) == digests(own)
    others = {path for path in stamps if path != copy}
    assert all(path.stat().st_mtime_ns == stamps[path] for path in others)


def test_verify_compares_the_files(
    sqlite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    assert export(store, sqlite, "--copy-artifacts") == 0
    check = ["verify", str(store), "--to", "mlflow", "--tracking-uri", sqlite, "--copy-artifacts"]
    assert bridge(*check) == 0
    (copy,) = (tmp_path / "target-artifacts").glob(f"*/models/{MODEL}/artifacts/MLmodel")
    content = copy.read_bytes()
    copy.write_bytes(content[:-1] + b"?")
    capsys.readouterr()
    assert bridge(*check, "--json") == 1
    runs = json.loads(capsys.readouterr().out)["runs"]
    (failed,) = (run for run in runs if run["status"] == "failed")
    (found,) = (each for each in failed["findings"] if each["code"] == "artifacts-differ")
    assert (found["where"], found["count"]) == (f"models/{MODEL}/MLmodel", 1)
    copy.unlink()
    assert bridge(*check) == 1
    assert export(store, sqlite, "--copy-artifacts") == 0
    assert copy.read_bytes() == content
    assert bridge(*check) == 0


def test_links_of_an_earlier_export_become_copies(uri: str, tmp_path: Path) -> None:
    """Runs, models and experiments pointed to the source."""
    (tmp_path / "source").mkdir()
    source = f"sqlite:///{tmp_path}/source/mlflow.db"
    client: Any = MlflowClient(source)
    experiment = client.create_experiment("linked", (tmp_path / "source" / "files").as_uri())
    made = client.create_run(experiment)
    client.log_metric(made.info.run_id, "loss", 1.0)
    client.log_text(made.info.run_id, "hello", "notes/a.txt")
    database = tmp_path / "source" / "mlflow.db"
    assert export(database, uri) == 0
    target: Any = MlflowClient(uri)
    assert target.get_run(made.info.run_id).info.artifact_uri == made.info.artifact_uri
    assert export(database, uri, "--copy-artifacts") == 0
    copied = target.get_run(made.info.run_id).info
    assert "source" not in copied.artifact_uri
    hello = hashlib.sha256(b"hello").hexdigest()
    assert downloaded(copied.artifact_uri, tmp_path) == {"notes/a.txt": hello}
    location = target.get_experiment(copied.experiment_id).artifact_location
    assert copied.artifact_uri == f"{location}/{made.info.run_id}/artifacts"
    assert digests(tmp_path / "source" / "files") == {
        f"{made.info.run_id}/artifacts/notes/a.txt": hello
    }


def test_nothing_is_written_into_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the usual place of the target's artifacts is the file store itself."""
    store = unpack_store("3.17.2", tmp_path)
    assert store == tmp_path / "mlruns"
    monkeypatch.chdir(tmp_path)
    before = digests(store)
    client: Any = MlflowClient("sqlite:///target.db")
    client.create_experiment("mine")  # in ./mlruns
    assert export(store, "sqlite:///target.db", "--experiment", "mine", "--copy-artifacts") == 0
    assert digests(store) == before
    found = client.get_run(FILE_RUN).info.artifact_uri
    assert found.startswith((tmp_path / "target-artifacts").as_uri())


def test_the_store_itself_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client: Any = MlflowClient(uri)
    made = client.create_run(client.create_experiment("one"))
    client.log_metric(made.info.run_id, "loss", 1.0)
    client.log_text(made.info.run_id, "hello", "a.txt")
    before = digests(tmp_path / "mlruns")
    assert export(tmp_path / "mlflow.db", uri, "--copy-artifacts") == 0
    assert client.get_run(made.info.run_id).info.artifact_uri == made.info.artifact_uri
    assert digests(tmp_path / "mlruns") == before
    assert not (tmp_path / "mlflow-artifacts").exists()


def test_a_dry_run_counts_the_files(
    sqlite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    assert export(store, sqlite, "--copy-artifacts", "--dry-run", "--json") == 0
    planned = counts(capsys)
    assert planned["copied_files"] == FILES
    assert planned["copied_bytes"] == planned["bytes"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert export(store, sqlite, "--copy-artifacts", "--json") == 0
    assert counts(capsys) == planned
    assert export(store, sqlite, "--copy-artifacts", "--dry-run", "--json") == 0
    assert counts(capsys) == {**planned, "copied_files": 0, "copied_bytes": 0}


def test_without_the_option_reports_have_no_counts(
    sqlite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    assert export(store, sqlite, "--json") == 0
    assert all("artifacts" not in run for run in json.loads(capsys.readouterr().out)["runs"])
    assert not (tmp_path / "target-artifacts").exists()


# --- hostile stores, and files that cannot be copied --------------------------------------------


def send(record: RunRecord, uri: str) -> RunReport:
    exporter = MlflowExporter(MlflowOptions(uri, copy_artifacts=True))
    return export_run(run(record), exporter, ExportOptions())


def refused(report: RunReport) -> list[tuple[str, int]]:
    """Where and how often files were not copied."""
    assert report.failed
    assert report.verified
    return [(f.where, f.count) for f in report.findings if f.code == "artifacts-not-copied"]


def at(folder: Path, **changes: Any) -> RunRecord:
    """A run with its artifacts in a directory."""
    uri = folder.as_uri()
    return record(**{"artifact_uri": uri, "artifact_folder": str(folder), **changes})


@pytest.mark.parametrize("name", ["etc", "artifacts", f"{1:032x}"])
def test_directories_of_others_are_not_read(name: str, sqlite: str, tmp_path: Path) -> None:
    """A store can name any directory; only the last names of the path are MLflow's own."""
    outside = tmp_path / "outside" / name
    outside.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    report = send(at(outside), sqlite)
    assert refused(report) == [(outside.as_uri(), 1)]
    assert "secret" not in {path.name for path in tmp_path.glob("target*/**/*")}
    found = MlflowClient(sqlite).get_run(head().run_id).info.artifact_uri
    assert found == outside.as_uri()  # as without copies


def test_a_directory_with_the_id_of_the_run_is_read_wherever_it_is(
    sqlite: str, tmp_path: Path
) -> None:
    folder = tmp_path / "disk" / "7" / head().run_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    report = send(at(folder), sqlite)
    assert report.artifacts == ArtifactCounts(1, 1, 1, 1)
    assert not report.failed


def test_a_link_out_of_the_store_is_not_followed(sqlite: str, tmp_path: Path) -> None:
    outside, store = tmp_path / "outside", tmp_path / "mlruns"
    folder = store / "1" / head().run_id / "artifacts"
    folder.parent.mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("secret")
    folder.symlink_to(outside)
    report = send(at(folder, store_folders=(str(store),)), sqlite)
    assert refused(report) == [(folder.as_uri(), 1)]


def test_links_and_special_files_are_counted(sqlite: str, tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    folder = store / "1" / head().run_id / "artifacts"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "good").write_text("good")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    report = send(at(folder, store_folders=(str(store),)), sqlite)
    assert refused(report) == [("link, up", 2), ("pipe", 1)]
    assert report.artifacts == ArtifactCounts(4, 4, 1, 4)
    found = MlflowClient(sqlite).get_run(head().run_id).info.artifact_uri
    assert digests(found.removeprefix("file://")).keys() == {"in/good"}


@pytest.mark.parametrize("name", ["../../escaped", "..", "a/b"])
def test_an_id_that_leads_out_of_the_target_has_no_copies(
    name: str, sqlite: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mlruns" / "1" / "run" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    known: dict[str, Any] = {"store_folders": (str(tmp_path / "mlruns"),)}
    hostile = replace(at(folder, **known), head=replace(head(), run_id=name))
    assert refused(send(hostile, sqlite)) == [(folder.as_uri(), 1)]
    model = LoggedModel(
        name, "iris", "READY", artifact_location=folder.as_uri(), artifact_folder=str(folder)
    )
    assert refused(send(record(models=(model,), **known), sqlite)) == [(folder.as_uri(), 1)]
    assert [path.name for path in tmp_path.rglob("a")] == ["a"]


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_a_link_of_an_earlier_export_is_no_place_for_copies(
    writer: Literal["direct", "client"], sqlite: str, tmp_path: Path
) -> None:
    """A store names a directory of others first, and files to be put into it later."""
    outside, store = tmp_path / "outside", tmp_path / "mlruns"
    folder = store / "1" / head().run_id / "artifacts"
    folder.mkdir(parents=True)
    outside.mkdir()
    (folder / "authorized_keys").write_text("mine")
    there = replace(VISION, artifact_location=outside.as_uri())
    exporter = MlflowExporter(MlflowOptions(sqlite))
    linked = record(head(1, there), artifact_uri=outside.as_uri())
    assert export_run(run(linked), exporter, ExportOptions()).verified
    exporter = MlflowExporter(MlflowOptions(sqlite, mlflow_writer=writer, copy_artifacts=True))
    for experiment in (there, VISION):
        known = at(folder, of=head(1, experiment), store_folders=(str(store),))
        report = export_run(run(known), exporter, ExportOptions())
        assert report.failed is (writer == "client")
    assert [*outside.iterdir()] == []
    copies = [*(tmp_path / "target-artifacts").rglob("authorized_keys")]
    assert len(copies) == (writer == "direct")


def test_a_link_in_the_target_is_not_followed(sqlite: str, tmp_path: Path) -> None:
    store, outside = tmp_path / "mlruns", tmp_path / "outside"
    folder = store / "1" / head().run_id / "artifacts"
    (folder / "in" / "deeper").mkdir(parents=True)
    (folder / "in" / "deeper" / "a").write_text("a")
    (folder / "b").write_text("b")
    outside.mkdir()
    known = at(folder, store_folders=(str(store),))
    send(known, sqlite)
    copy = Path(
        MlflowClient(sqlite).get_run(head().run_id).info.artifact_uri.removeprefix("file://")
    )
    shutil.rmtree(copy / "in")
    (copy / "in").symlink_to(outside)
    (copy / "b").unlink()
    (copy / "b").symlink_to(outside / "b")
    assert refused(send(known, sqlite)) == [("in/deeper/a", 1)]
    assert [*outside.iterdir()] == []
    assert (copy / "b").read_text() == "b"


def test_a_missing_location_is_a_loss_unless_it_is_the_run_s_own(
    sqlite: str, tmp_path: Path
) -> None:
    """Git keeps no empty directories: a run without files has no `artifacts`."""
    own = f"file:///C:/Users/me/mlruns/{head().experiment.id}/{head().run_id}/artifacts"
    empty = record(artifact_uri=own)
    report = send(empty, sqlite)
    assert not report.failed
    assert report.artifacts == ArtifactCounts()
    elsewhere = record(replace(head(2)), artifact_uri="file:///data/gone")
    assert refused(send(elsewhere, sqlite)) == [("file:///data/gone", 1)]
    remote = record(replace(head(3)), artifact_uri="mlflow-artifacts:/1/2/artifacts")
    assert refused(send(remote, sqlite)) == [("mlflow-artifacts:/1/2/artifacts", 1)]


def test_too_long_a_location_is_a_loss(
    postgres: PostgreSQL, tmp_path: Path, short_folder: Path
) -> None:
    """PostgreSQL has 200 characters for that of a run, and 256 for that of its experiment."""
    deep = short_folder / ("d" * 120)
    deep.mkdir()
    folder = tmp_path / head().run_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(deep)
        report = send(at(folder), postgres.create_database(uuid.uuid4().hex))
    assert refused(report) == [(folder.as_uri(), 1)]
    assert "200 characters" in next(f.message for f in report.findings if f.fails)


def test_other_bytes_on_disk_are_found(
    sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / head().run_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "a").write_text("good")
    write = atomic_files.write_file

    def wrong(path: str, content: Any) -> None:
        write(path, content)
        Path(path).write_text("evil")

    monkeypatch.setattr(local_tree, "write_file", wrong)
    report = send(at(folder), sqlite)
    assert refused(report) == [("a", 1)]
    assert not [*tmp_path.glob("target-artifacts/**/a")]


# --- interruptions, and other ways --------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_export_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/target.db"
    client: Any = MlflowClient(f"sqlite:///{tmp_path}/source.db")
    made = client.create_run(client.create_experiment("one", (tmp_path / "files").as_uri()))
    client.log_metric(made.info.run_id, "loss", 1.0)
    folder = tmp_path / "files" / made.info.run_id / "artifacts"
    folder.mkdir(parents=True)
    for number in range(8):
        (folder / f"{number}.bin").write_bytes(os.urandom(8 << 20))
    wanted, copies = digests(folder), tmp_path / "target-artifacts"
    command = [sys.executable, "-m", "bridges", "export", "source.db", "--to", "mlflow"]
    command += ["--tracking-uri", uri, "--copy-artifacts", "--quiet"]

    def begin() -> Command:
        for path in copies.rglob("*.bin"):
            path.unlink()
        return Command(start(command, cwd=tmp_path), lambda: any(copies.rglob("*.bin")))

    def check() -> None:
        found = {Path(name).name: digest for name, digest in digests(copies).items()}
        found = {name: at for name, at in found.items() if not name.startswith(PARTIAL)}
        assert found.items() <= wanted.items()
        assert set(files_of_run(MlflowClient(uri), made.info.run_id)) <= set(wanted)

    kill_often(8, 20, begin, check)
    assert export(tmp_path / "source.db", uri, "--copy-artifacts") == 0
    copied = MlflowClient(uri).get_run(made.info.run_id).info.artifact_uri
    assert downloaded(copied, tmp_path) == wanted
    assert not [*copies.rglob(f"{PARTIAL}*")]


def test_a_migration_copies_files_that_appeared_later(
    sqlite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The receipt of a run does not cover its artifacts, so the run is read again."""
    store = unpack_store("3.17.2", tmp_path / "source")
    target = {"to": "mlflow", "tracking_uri": sqlite, "copy_artifacts": True}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"sources": [str(store)], "targets": [target]}))
    assert bridge("migrate", str(config), "--quiet") == 0
    (own,) = store.glob(f"*/{FILE_RUN}/artifacts")
    (own / "later.txt").write_text("later")
    assert bridge("migrate", str(config), "--quiet") == 0
    assert [*(tmp_path / "target-artifacts").rglob("later.txt")]


def test_the_client_writer_copies_into_its_own_location(sqlite: str, tmp_path: Path) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    assert export(store, sqlite, "--mlflow-writer", "client", "--copy-artifacts") == 1
    client: Any = MlflowClient(sqlite)
    runs = [
        run
        for each in client.search_experiments()
        for run in client.search_runs([each.experiment_id], "tags.`bridges.key` != ''")
    ]
    listed = {run.info.run_name: files_of_run(client, run.info.run_id) for run in runs}
    assert listed["parent"] == ["a.txt"]
    assert len([*tmp_path.glob("mlruns/*/models/*/artifacts/MLmodel")]) == 1


def test_the_client_writer_does_not_write_into_the_source(sqlite: str, tmp_path: Path) -> None:
    """The usual place of its files is the file store."""
    store = unpack_store("3.17.2", tmp_path)
    before = digests(store)
    assert export(store, sqlite, "--mlflow-writer", "client", "--copy-artifacts") == 1
    assert digests(store) == before


def test_two_exports_at_the_same_time_copy_each_file_whole(tmp_path: Path) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    (own,) = store.glob(f"*/{FILE_RUN}/artifacts")
    for number in range(40):
        (own / f"{number}.bin").write_bytes(os.urandom(100_000))
    command = [sys.executable, "-m", "bridges", "export", str(store), "--to", "mlflow"]
    command += ["--tracking-uri", f"sqlite:///{tmp_path}/target.db", "--copy-artifacts", "--quiet"]
    both = [subprocess.Popen(command, cwd=tmp_path) for _ in range(2)]
    assert [each.wait(HANGS) for each in both] == [0, 0]
    (copy,) = (tmp_path / "target-artifacts").glob(f"*/{FILE_RUN}/artifacts")
    assert digests(copy) == digests(own)
    assert not [*copy.parent.glob(f"{PARTIAL}*")]


def test_a_database_of_a_server_is_told(sqlite: str, tmp_path: Path) -> None:
    """Its files are on the server, whose address the database does not have."""
    folder = tmp_path / head().run_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    MlflowClient(sqlite).create_experiment("vision", "mlflow-artifacts:/1")
    report = send(at(folder), sqlite)
    assert refused(report) == [(folder.as_uri(), 1)]
    assert "export to its URL" in next(f.message for f in report.findings if f.fails)


def test_follow_copies_the_files_at_its_end(sqlite: str, tmp_path: Path) -> None:
    store = unpack_store("3.17.2", tmp_path / "source")
    waits = ["--follow", "--interval", "0.1", "--idle-timeout", "0.3"]
    assert export(store, sqlite, "--copy-artifacts", *waits) == 0
    assert len([p for p in (tmp_path / "target-artifacts").rglob("*") if p.is_file()]) == FILES


def test_a_trainer_s_run_has_no_artifacts(sqlite: str) -> None:
    exporter = MlflowExporter(MlflowOptions(sqlite, copy_artifacts=True))
    report = export_run(make_run(ROWS), exporter, ExportOptions())
    assert report.verified
    assert report.artifacts is None
