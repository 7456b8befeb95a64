"""Check by real servers of older MLflow releases that their runs are read as by mlflow's client.

For each release a virtual environment is made and thrown away. Its `mlflow server` offers the
database and the file store of tests/data/mlflow_stores, with the pages of histories cut short;
the judge is the client of the installed mlflow. Then the artifact files of a run are copied into
the server, and from there into a database: with the usual settings, with mlflow's plug-in
`basic-auth`, and with a server that accepts no uploads. From the repository's root:

    python -m tests.golden.check_mlflow_servers                # 2.22.0 and 3.12.0
    python -m tests.golden.check_mlflow_servers 2.9.2          # or another one of the stores
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.formats.mlflow_store import rest
from bridges.formats.mlflow_store.records import Experiment
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import ArtifactCounts, RunReport
from bridges.sources.mlflow.server import ServerStore
from bridges.sources.mlflow.source import MlflowSource
from bridges.sources.options import ReadOptions
from bridges.stream.model import Run
from tests.golden.make_mlflow_stores import RECIPES, environment_of
from tests.integration.sources.mlflow.oracle import by_mlflow, by_us
from tests.mlflow_records import head, record, run
from tests.mlflow_stores import unpack_database, unpack_store
from tests.servers import mlflow_server

RELEASES = ("2.22.0", "3.12.0")
POINTS_PER_PAGE = 30  # of 100: releases before 3 ignore pages
PASSWORD = "at least 12 characters".replace(" ", "-")
# names beyond ASCII make the server of these releases answer 500
ASCII_ONLY = ("3.12.0",)
FILES = {"a.txt": b"hello", "model/MLmodel": b"x" * 1000, "a b/ü.bin": b"\0\xff", "empty": b""}


def main(releases: Sequence[str]) -> None:
    """Check these releases. Raises AssertionError."""
    rest.POINTS_PER_PAGE = POINTS_PER_PAGE
    for release in releases or RELEASES:
        with tempfile.TemporaryDirectory(prefix="mlflow-server-") as name:
            folder = Path(name)
            python = str(environment_of(RECIPES[release], folder / "venv"))
            check(release, f"sqlite:///{unpack_database(release, folder)}", python)
            check(release, str(unpack_store(release, folder)), python)
            check_artifacts(release, folder, python)


def check(release: str, store: str, python: str) -> None:
    """Compare all runs of a server over a store."""
    has_models = int(release.split(".")[0]) >= 3
    with mlflow_server(store, workers=1, python=python) as url:
        found, expected = by_us(ServerStore(url)), by_mlflow(url, has_models=has_models)
    points = sum(run.points.total() for run in expected.values())
    assert found == expected, f"{release}, {store}: not as mlflow's client reads it"
    assert points > 600, f"{release}, {store}: {points} points"
    print(f"{release}, {store.partition(':')[0]}: {len(found)} runs, {points:,} points")


def check_artifacts(release: str, folder: Path, python: str) -> None:
    """Copy artifact files through servers with several settings."""
    if release in ASCII_ONLY:
        FILES["a b/u.bin"] = FILES.pop("a b/ü.bin", FILES.get("a b/u.bin", b""))
    root = ["--no-serve-artifacts", "--default-artifact-root", str(folder / "disk")]
    with artifact_server(folder / "usual", python) as url:
        copy_both_ways(url, folder / "usual")
    with artifact_server(folder / "unproxied", python, options=root) as url:
        assert lost(send(files_of(folder / "unproxied"), url)) == ["artifacts-not-copied"]
    packages = [python, "-m", "pip", "install", "--quiet", "Flask-WTF<2", "Flask-Cors"]
    subprocess.run(packages, check=True)
    with auth_server(folder / "auth", python) as url:
        with login("admin", PASSWORD):
            copy_both_ways(url, folder / "auth")
        with login("admin", "wrong"):
            report = send(files_of(folder / "auth"), url)
            assert report.failed
            assert "401" in report.findings[-1].message, report.findings
    print(f"{release}: artifact files are copied, with a login, too")


@contextmanager
def artifact_server(
    folder: Path,
    python: str,
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A server with an empty database."""
    folder.mkdir()
    with mlflow_server(
        f"sqlite:///{folder}/server.db",
        workers=1,
        python=python,
        options=options,
        environment=environment,
    ) as url:
        yield url


@contextmanager
def auth_server(folder: Path, python: str) -> Iterator[str]:
    """A server with accounts, and none of them known but `admin`."""
    settings = folder.with_suffix(".ini")
    settings.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder}/accounts.db\n"
        f"admin_username = admin\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD,
    }
    options = ["--app-name", "basic-auth"]
    with artifact_server(folder, python, options=options, environment=environment) as url:
        yield url


@contextmanager
def login(user: str, password: str) -> Iterator[None]:
    """Name and password for the block, where mlflow's client looks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        yield


def files_of(folder: Path) -> Run:
    """A run of a file store, with artifact files."""
    experiment = Experiment("1", uuid.uuid4().hex)
    own = folder / "store" / "1" / head().run_id / "artifacts"
    for name, content in FILES.items():
        path = own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    uri = own.as_uri()
    return run(record(head(1, experiment), artifact_uri=uri, artifact_folder=str(own)))


def send(each: Run, uri: str) -> RunReport:
    """Export a run with its artifact files."""
    exporter = MlflowExporter(MlflowOptions(uri, copy_artifacts=True))
    return export_run(each, exporter, ExportOptions())


def lost(report: RunReport) -> list[str]:
    """The codes of the losses of a run that is otherwise complete."""
    assert report.verified, report.findings
    return [finding.code for finding in report.findings if finding.fails]


def copy_both_ways(url: str, folder: Path) -> None:
    """Copy the files of a run into a server, and from there into a database."""
    own, size = files_of(folder), sum(map(len, FILES.values()))
    report = send(own, url)
    assert (lost(report), report.artifacts) == ([], ArtifactCounts(4, size, 4, size))
    again = send(own, url)
    assert (again.status, again.artifacts) == ("unchanged", ArtifactCounts(4, size, 0, 0))
    place = f"mlflow+{url}#/experiments/{report.place}/runs/{report.run_id}"
    (found,) = MlflowSource().read(place, ReadOptions())
    back = send(found, f"sqlite:///{folder}/copy.db")
    assert (lost(back), back.artifacts) == ([], ArtifactCounts(4, size, 4, size))
    copies = folder / "copy-artifacts"
    for name, content in FILES.items():
        (copy,) = (path for path in copies.rglob(Path(name).name) if path.is_file())
        assert copy.read_bytes() == content, name


if __name__ == "__main__":
    main(sys.argv[1:])
