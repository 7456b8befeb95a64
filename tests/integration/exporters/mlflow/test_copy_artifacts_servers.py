"""Artifact files from and to tracking servers (`--copy-artifacts`).

The judges are mlflow's own client and the digests of the files.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.artifacts
import pytest

from bridges import http
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.formats.mlflow_store.records import Experiment, RunRecord
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from bridges.report import ArtifactCounts, RunReport
from bridges.sources.mlflow.source import MlflowSource
from bridges.sources.options import ReadOptions
from bridges.stream.model import Run
from tests.integration.exporters.mlflow.support import MlflowClient
from tests.integration.exporters.mlflow.test_copy_artifacts import (
    Digests,
    at,
    digests,
    downloaded,
    files_of_run,
    refused,
)
from tests.mlflow_records import head, record, run
from tests.object_store import object_store
from tests.proxy import Cut, Fault, FaultyProxy, Refuse
from tests.servers import free_port, mlflow_server

FILES = {
    "a.txt": b"hello",
    "empty": b"",
    "deep/er/é b+c.bin": bytes(range(256)) * 9000,  # several chunks
    "deep/100 & =;+@.txt": b"odd",
}
WANTED: Digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
SIZE = sum(map(len, FILES.values()))
MODEL_FILE = b"flavors: {}\n"


@dataclass(frozen=True)
class Logged:
    """A run with files and a logged model, as mlflow's client logged it to a server."""

    url: str
    experiment: str
    run_id: str
    model_id: str
    location: str

    def read(self, through: str = "") -> Run:
        """The run as our source reads it; `through` is the URL of a proxy."""
        location = f"mlflow+{through or self.url}#/experiments/{self.experiment}/runs/{self.run_id}"
        (found,) = MlflowSource().read(location, ReadOptions())
        return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def downloaded_model(client: Any, model: Any, folder: Path) -> Digests:
    """What mlflow downloads of a logged model."""
    into = folder / "model"
    into.mkdir()
    mlflow.artifacts.download_artifacts(
        artifact_uri=model.artifact_location, dst_path=str(into), tracking_uri=client.tracking_uri
    )
    return {Path(name).name: digest for name, digest in digests(into).items()}


def write_files(folder: Path) -> Path:
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def logged(url: str, folder: Path) -> Logged:
    client: Any = MlflowClient(url)
    experiment = client.create_experiment(uuid.uuid4().hex)
    made = client.create_run(experiment).info
    client.log_metric(made.run_id, "loss", 1.0)
    client.log_artifacts(made.run_id, str(write_files(folder / "files")))
    (folder / "model").mkdir()
    (folder / "model" / "MLmodel").write_bytes(MODEL_FILE)
    model = client.create_logged_model(experiment, "iris", made.run_id)
    client.log_model_artifacts(model.model_id, str(folder / "model"))
    client.set_terminated(made.run_id)
    return Logged(url, experiment, made.run_id, model.model_id, made.artifact_uri)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A server with the usual settings: it stores and sends the artifacts."""
    folder = tmp_path_factory.mktemp("proxied")
    with mlflow_server(f"sqlite:///{folder}/server.db", workers=1) as url:
        yield logged(url, folder)


@pytest.fixture(scope="module")
def unproxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A server whose clients write artifacts to a disk; it only sends them to its page."""
    folder = tmp_path_factory.mktemp("unproxied")
    options = ["--no-serve-artifacts", "--default-artifact-root", str(folder / "disk")]
    backend = f"sqlite:///{folder}/server.db"
    with mlflow_server(backend, workers=1, options=options) as url:
        yield logged(url, folder)


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def send(each: Run, uri: str) -> RunReport:
    exporter = MlflowExporter(MlflowOptions(uri, copy_artifacts=True))
    return export_run(each, exporter, ExportOptions())


def check(each: Run, uri: str) -> RunReport:
    exporter = MlflowExporter(MlflowOptions(uri, copy_artifacts=True))
    return verify_run(each, exporter, ExportOptions())


@pytest.mark.parametrize("kind", ["proxied", "unproxied"])
def test_from_a_server_into_a_database(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Logged = request.getfixturevalue(kind)
    uri = f"sqlite:///{tmp_path}/target.db"
    report = send(source.read(), uri)
    size = SIZE + len(MODEL_FILE)
    assert report.artifacts == ArtifactCounts(5, size, 5, size)
    assert not report.failed
    client: Any = MlflowClient(uri)
    copied = client.get_run(source.run_id).info.artifact_uri
    assert copied.startswith((tmp_path / "target-artifacts").as_uri())
    assert downloaded(copied, tmp_path) == WANTED
    model = client.get_logged_model(source.model_id).artifact_location
    assert downloaded(model, tmp_path) == {"MLmodel": hashlib.sha256(MODEL_FILE).hexdigest()}

    again = send(source.read(), uri)
    assert (again.status, again.artifacts) == ("unchanged", ArtifactCounts(5, size, 0, 0))
    assert check(source.read(), uri).verified
    (copy,) = (tmp_path / "target-artifacts").rglob("a.txt")
    copy.write_bytes(b"hallo")
    assert [f.where for f in check(source.read(), uri).findings if f.fails] == ["a.txt"]
    assert send(source.read(), uri).artifacts == ArtifactCounts(5, size, 1, 5)
    assert copy.read_bytes() == b"hello"


def on_disk(folder: Path) -> RunRecord:
    """A run in a file store with the files."""
    own = folder / "store" / "1" / head().run_id / "artifacts"
    experiment = Experiment("1", uuid.uuid4().hex)
    return at(write_files(own), of=head(1, experiment))


def test_into_a_server(proxied: Logged, tmp_path: Path) -> None:
    own = on_disk(tmp_path)
    report = send(run(own), proxied.url)
    assert report.artifacts == ArtifactCounts(4, SIZE, 4, SIZE)
    assert not report.failed
    client: Any = MlflowClient(proxied.url)
    assert files_of_run(client, report.run_id) == sorted(WANTED)
    local = client.download_artifacts(report.run_id, "", str(tmp_path))
    assert {name: digests(local)[name] for name in WANTED} == WANTED

    again = send(run(own), proxied.url)
    assert (again.status, again.artifacts) == ("unchanged", ArtifactCounts(4, SIZE, 0, 0))
    assert check(run(own), proxied.url).verified
    client.log_text(report.run_id, "hallo", "a.txt")
    assert [f.code for f in check(run(own), proxied.url).findings if f.fails] == [
        "artifacts-differ"
    ]
    assert send(run(own), proxied.url).artifacts == ArtifactCounts(4, SIZE, 1, 5)


def test_from_a_server_into_another(proxied: Logged, unproxied: Logged, tmp_path: Path) -> None:
    report = send(unproxied.read(), proxied.url)
    assert report.artifacts is not None
    assert (report.artifacts.files, report.artifacts.copied_files) == (5, 5)
    assert not report.failed
    client: Any = MlflowClient(proxied.url)
    (model,) = client.search_logged_models([report.place], f"source_run_id = '{report.run_id}'")
    assert downloaded_model(client, model, tmp_path) == {"MLmodel": sha256(MODEL_FILE)}
    assert check(unproxied.read(), proxied.url).verified
    assert files_of_run(MlflowClient(proxied.url), report.run_id) == sorted(WANTED)


def test_names_that_a_server_changes_are_refused(proxied: Logged, tmp_path: Path) -> None:
    """MLflow's server decodes paths twice, and cuts them at # and ?."""
    own = on_disk(tmp_path)
    assert own.artifact_folder
    for name in ("100%41", "a#b", "a?b"):
        (Path(own.artifact_folder) / name).write_text("odd")
    report = send(run(own), proxied.url)
    assert refused(report) == [("100%41, a#b, a?b", 3)]
    assert files_of_run(MlflowClient(proxied.url), report.run_id) == sorted(WANTED)


def test_a_server_that_takes_no_files(unproxied: Logged, tmp_path: Path) -> None:
    report = send(run(on_disk(tmp_path)), unproxied.url)
    (loss,) = (found for found in report.findings if found.code == "artifacts-not-copied")
    assert "on its own disk" in loss.message
    assert report.failed


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of an object store with an empty bucket."""
    with object_store() as (environment, files):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield files


def test_from_and_to_an_object_store(bucket: Any, tmp_path: Path) -> None:
    """The store is reached through the installed mlflow."""
    source, target = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    client: Any = MlflowClient(source)
    made = client.create_run(client.create_experiment("s3", "s3://bucket/source")).info
    client.log_metric(made.run_id, "loss", 1.0)
    client.log_artifacts(made.run_id, str(write_files(tmp_path / "files")))

    def read() -> Run:
        (found,) = MlflowSource().read(f"{tmp_path}/source.db", ReadOptions())
        return found

    report = send(read(), target)
    assert report.artifacts == ArtifactCounts(4, SIZE, 4, SIZE)
    assert not report.failed
    assert (
        downloaded(MlflowClient(target).get_run(made.run_id).info.artifact_uri, tmp_path) == WANTED
    )

    other = f"sqlite:///{tmp_path}/other.db"
    MlflowClient(other).create_experiment("s3", "s3://bucket/other")
    assert send(read(), other).artifacts == ArtifactCounts(4, SIZE, 4, SIZE)
    copied = MlflowClient(other).get_run(made.run_id).info.artifact_uri
    assert copied == f"s3://bucket/other/{made.run_id}/artifacts"
    assert downloaded(copied, tmp_path) == WANTED
    assert send(read(), other).artifacts == ArtifactCounts(4, SIZE, 0, 0)
    assert check(read(), other).verified


def test_an_object_store_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    uri = "s3://bucket/1/artifacts"
    report = send(run(record(artifact_uri=uri)), f"sqlite:///{tmp_path}/target.db")
    assert refused(report) == [(uri, 1)]


@pytest.mark.parametrize("fault", [Cut(), Refuse(503)], ids=["cut", "busy"])
def test_a_server_that_fails_at_times(fault: Fault, proxied: Logged, tmp_path: Path) -> None:
    """Each file and each listing fails once, on both sides."""

    def script(method: str, path: str, number: int) -> Fault | None:
        return fault if "artifacts" in path and number == 1 else None

    with FaultyProxy(proxied.url, script) as source:
        report = send(proxied.read(source.url), f"sqlite:///{tmp_path}/target.db")
        assert source.faults.total() >= len(FILES)
    assert not report.failed
    copied: Any = MlflowClient(f"sqlite:///{tmp_path}/target.db").get_run(proxied.run_id)
    assert downloaded(copied.info.artifact_uri, tmp_path) == WANTED
    with FaultyProxy(proxied.url, script) as target:
        report = send(run(on_disk(tmp_path)), target.url)
        assert target.faults.total() >= len(FILES)
    assert not report.failed
    assert files_of_run(MlflowClient(proxied.url), report.run_id) == sorted(WANTED)


def test_a_file_that_a_server_cannot_send_is_a_loss(proxied: Logged, tmp_path: Path) -> None:
    """MLflow 3.12 answers 500 for names beyond ASCII; all other files are copied."""

    def script(method: str, path: str, number: int) -> Fault | None:
        is_file = method == "GET" and "artifact" in path and "list" not in path
        return Refuse(500) if is_file and "%C3%A9" in path else None

    with FaultyProxy(proxied.url, script) as source, pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "FIRST_PAUSE", 0.01)
        report = send(proxied.read(source.url), f"sqlite:///{tmp_path}/target.db")
    assert report.verified, report.findings
    (lost,) = (found for found in report.findings if found.fails)
    assert (lost.code, lost.where, lost.count) == ("artifacts-not-copied", "deep/er/é b+c.bin", 1)
    assert "answers 500" in lost.message
    assert report.artifacts is not None
    assert report.artifacts.copied_files == len(FILES)  # the file of the model is one more


def test_a_server_that_is_gone_is_asked_again_by_a_later_export(
    proxied: Logged, tmp_path: Path
) -> None:
    """What was copied before stays; the next export copies the rest."""
    uri = f"sqlite:///{tmp_path}/target.db"

    def script(method: str, path: str, number: int) -> Fault | None:
        return Refuse(503) if path.endswith("empty") else None

    with FaultyProxy(proxied.url, script) as source, pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "FIRST_PAUSE", 0.0)
        report = send(proxied.read(source.url), uri)
    assert (report.status, report.transient) == ("failed", True)
    before = {path.name for path in (tmp_path / "target-artifacts").rglob("*") if path.is_file()}
    assert before
    report = send(proxied.read(), uri)
    assert not report.failed
    assert report.artifacts is not None
    assert report.artifacts.copied_files == 5 - len(before)


def test_a_file_may_be_larger_than_other_answers(
    proxied: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 100_000)
    report = send(proxied.read(), f"sqlite:///{tmp_path}/target.db")
    assert report.artifacts is not None
    assert report.artifacts.copied_files == 5
    assert not report.failed


def test_files_of_a_server_s_disk_are_not_read_from_ours(unproxied: Logged, tmp_path: Path) -> None:
    """A server may name any local path: its files come from the server."""
    hidden = Path(unproxied.location)
    found = unproxied.read()
    moved = hidden.rename(hidden.with_name("moved"))
    try:
        report = send(found, f"sqlite:///{tmp_path}/target.db")
    finally:
        moved.rename(hidden)
    assert report.artifacts is not None
    assert report.artifacts.files == 1  # that of the model: the server has no others now
