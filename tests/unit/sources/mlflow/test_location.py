"""Locations of MLflow stores: told by structure, whatever their directories are called."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import bridges
from bridges.errors import SourceError, TreeError
from bridges.formats.mlflow_store.records import Experiment, RunHead
from bridges.sources.mlflow.location import stores_at
from bridges.sources.mlflow.source import MlflowSource
from bridges.sources.options import ReadOptions
from bridges.sources.place import sources_at
from bridges.stream.model import Run
from tests.bounds import HANGS

RUN = "0123456789abcdef0123456789abcdef"


def make_store(root: Path, *experiments: str) -> None:
    for name in experiments:
        run = root / name / RUN
        run.mkdir(parents=True)
        (run / "meta.yaml").write_text(f"artifact_uri: x\nrun_id: {RUN}\nstatus: 3\n")
        (root / name / "meta.yaml").write_text(f"experiment_id: '{name}'\nname: n\n")


def make_database(path: Path, *tables: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for table in tables:
            database.execute(f"create table {table} (x int)")


def found(location: str | Path) -> list[tuple[str, str, str | None, str | None]]:
    stores = stores_at(str(location))
    return [(store.kind, store.address, store.experiment, store.run) for store in stores]


@pytest.mark.parametrize("name", ["mlruns", "runs/mlflow", "logs of me"])
def test_a_root_an_experiment_and_a_run_are_told_by_structure(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    make_store(root, "0", "312345678901234567")
    assert found(root) == [("files", str(root), None, None)]
    assert found(f"{root}/") == [("files", str(root), None, None)]
    assert found(root / "0") == [("files", str(root), "0", None)]
    assert found(root / "0" / RUN) == [("files", str(root), "0", RUN)]
    assert found(tmp_path) == [("files", str(root), None, None)]


def test_a_root_is_known_by_its_trash_or_by_runs_without_an_experiment(tmp_path: Path) -> None:
    make_store(tmp_path / "a" / ".trash", "1")
    make_store(tmp_path / "b", "1")
    (tmp_path / "b" / "1" / "meta.yaml").unlink()
    assert [store.address for store in stores_at(str(tmp_path))] == [
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]
    assert found(tmp_path / "a" / ".trash" / "1") == [("files", str(tmp_path / "a"), "1", None)]


def test_databases_beside_file_stores_are_found_if_they_have_the_tables(tmp_path: Path) -> None:
    make_store(tmp_path / "mlruns", "0")
    make_database(tmp_path / "mlflow.db", "runs", "metrics", "experiments")
    make_database(tmp_path / "other.db", "users")
    (tmp_path / "empty.db").touch()
    assert found(tmp_path) == [
        ("sqlite", str(tmp_path / "mlflow.db"), None, None),
        ("files", str(tmp_path / "mlruns"), None, None),
    ]


@pytest.mark.parametrize(
    ("location", "kind", "address"),
    [
        ("sqlite:///a/b.db", "sqlite", "a/b.db"),
        ("sqlite:////tmp/b.db", "sqlite", "/tmp/b.db"),
        ("postgresql://u@h/db", "postgresql", "postgresql://u@h/db"),
        ("postgresql+psycopg2://h/db", "postgresql", "postgresql+psycopg2://h/db"),
        ("mysql+pymysql://h/db", "client", "mysql+pymysql://h/db"),
        ("databricks", "client", "databricks"),
        ("databricks://profile", "client", "databricks://profile"),
        ("mlflow+http://host:5000/", "server", "http://host:5000"),
        ("mlflow+https://host/mlflow", "server", "https://host/mlflow"),
    ],
)
def test_addresses_have_the_forms_of_tracking_uris(location: str, kind: str, address: str) -> None:
    assert found(location) == [(kind, address, None, None)]
    assert sources_at(location) == ("mlflow",)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://ada:secret@host/db", "postgresql://ada@host/db"),
        ("mysql+pymysql://ada:secret@host/db", "mysql+pymysql://ada@host/db"),
        ("sqlite:///a:b@c/m.db", "sqlite:///a:b@c/m.db"),
    ],
)
def test_the_location_of_a_run_has_no_password(given: str, shown: str) -> None:
    (store,) = stores_at(given)
    run = RunHead(RUN, Experiment("3", "vision"), "where")
    assert store.source_of(run) == f"{shown}#/experiments/3/runs/{RUN}"


def test_an_empty_file_with_the_name_of_a_database_is_one(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(SourceError, match=r"mlflow.db: found an empty file; expected an MLflow"):
        bridges.read(tmp_path / "mlflow.db")


def test_a_page_of_the_ui_names_an_experiment_or_a_run() -> None:
    base = "mlflow+http://host:5000"
    assert found(f"{base}/#/") == [("server", "http://host:5000", None, None)]
    assert found(f"{base}/#/experiments/3") == [("server", "http://host:5000", "3", None)]
    run = f"{base}/#/experiments/3/runs/{RUN}/model-metrics"
    assert found(run) == [("server", "http://host:5000", "3", RUN)]
    page = f"sqlite:///m.db#/experiments/3/runs/{RUN}"
    assert found(page) == [("sqlite", "m.db", "3", RUN)]
    assert found(f"sqlite:///m.db#/runs/{RUN}") == [("sqlite", "m.db", None, RUN)]
    searched = f"{base}/#/experiments/3/runs?searchFilter=&orderByAsc=false"
    assert found(searched) == [("server", "http://host:5000", "3", None)]


@pytest.mark.parametrize("page", ["#/models", "#/compare-runs?runs=[1,2]", "#/run/1"])
def test_another_page_of_the_ui_is_an_error(page: str) -> None:
    with pytest.raises(SourceError, match="expected a page of an experiment or a run"):
        bridges.read(f"sqlite:///m.db{page}")


def test_a_page_names_a_part_of_a_file_store(tmp_path: Path) -> None:
    make_store(tmp_path / "c#/runs", "3")
    root = tmp_path / "c#/runs"
    for page in ("#/experiments/3", f"/#/experiments/3/runs/{RUN}"):
        location = f"{root}{page}"
        assert sources_at(location) == ("mlflow",)
        assert found(location) == [("files", str(root), "3", RUN if "runs/" in page else None)]
    assert found(root) == [("files", str(root), None, None)]
    assert sources_at(str(root)) == ("mlflow",)


def test_a_file_uri_is_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "my runs"
    make_store(root, "3")
    monkeypatch.chdir(tmp_path)
    for uri, address in ((root.as_uri(), str(root)), ("file:my%20runs", "my runs")):
        assert sources_at(uri) == ("mlflow",)
        assert found(uri) == [("files", address, None, None)]


@pytest.mark.parametrize("inside", [".", "3", f"3/{RUN}"])
def test_a_path_without_its_parents_is_told_by_structure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    root = tmp_path / "mlruns"
    make_store(root, "3")
    run = RUN if RUN in inside else None
    monkeypatch.chdir(root / inside)
    (found_here,) = stores_at(".")
    assert os.path.abspath(found_here.address) == str(root)
    assert (found_here.experiment, found_here.run) == (None if inside == "." else "3", run)
    if inside != ".":
        monkeypatch.chdir(root / inside / "..")
        assert found(os.path.basename(inside)) == [("files", str(root), "3", run)]


def test_a_plain_url_is_a_file_unless_the_source_is_named() -> None:
    assert sources_at("https://host/trainer_state.json") == ()
    assert found("http://host:5000") == [("server", "http://host:5000", None, None)]


def test_states_of_the_trainer_come_first(tmp_path: Path) -> None:
    make_store(tmp_path / "mlruns", "0")
    assert sources_at(str(tmp_path)) == ("mlflow",)
    artifacts = tmp_path / "mlruns" / "0" / RUN / "artifacts"
    artifacts.mkdir()
    (artifacts / "trainer_state.json").write_text("{}")
    assert sources_at(str(tmp_path)) == ()


def test_other_directories_are_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "conda").mkdir()
    (tmp_path / "conda" / "meta.yaml").write_text("package:\n  name: x\n")
    assert sources_at(str(tmp_path)) == ()
    assert found(tmp_path) == []


def test_a_pattern_names_several_stores(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_store(tmp_path / name / "mlruns", "0")
    pattern = str(tmp_path / "*" / "mlruns")
    assert [store.address for store in stores_at(pattern)] == [
        str(tmp_path / name / "mlruns") for name in ("a", "b")
    ]
    assert sources_at(pattern) == ("mlflow",)


def test_a_pattern_names_databases(tmp_path: Path) -> None:
    core = ("runs", "metrics", "experiments")
    for name, tables in (("a.db", core), ("b.db", core), ("other.db", ("users",))):
        make_database(tmp_path / name, *tables)
    pattern = str(tmp_path / "*.db")
    expected = [("sqlite", str(tmp_path / name), None, None) for name in ("a.db", "b.db")]
    assert (found(pattern), sources_at(pattern)) == (expected, ("mlflow",))


def test_named_pipes_are_not_opened(tmp_path: Path) -> None:
    """Nobody writes into them, so opening one would never end."""
    make_store(tmp_path / "mlruns", "0", "1")
    pipes = [tmp_path / "mlruns" / "0" / "meta.yaml", tmp_path / "mlflow.db"]
    for pipe in pipes:
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
    code = f"""if True:
        from bridges.sources.place import sources_at
        from bridges.sources.mlflow.location import stores_at
        print(sources_at({str(tmp_path)!r}), [one.address for one in stores_at({str(tmp_path)!r})])
        print(sources_at({str(pipes[1])!r}))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS, check=True
    )
    assert done.stdout == f"('mlflow',) [{str(tmp_path / 'mlruns')!r}]\n()\n"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "back").symlink_to(tmp_path)
    assert found(tmp_path) == []


def test_what_cannot_be_read_beside_a_store_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable store must not be missing in silence. (Root may read everything.)"""
    make_store(tmp_path / "a" / "mlruns", "0")
    make_store(tmp_path / "b" / "mlruns", "0")
    (tmp_path / "mlflow.db").touch()
    closed = str(tmp_path / "b" / "mlruns")
    list_folder, may = os.listdir, os.access

    def listed(path: str) -> list[str]:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return list_folder(path)

    monkeypatch.setattr(os, "listdir", listed)
    monkeypatch.setattr(os, "access", lambda path, how: "mlflow.db" not in path and may(path, how))
    unreadable: dict[str, str] = {}
    (store,) = stores_at(str(tmp_path), unreadable)
    assert store.address == str(tmp_path / "a" / "mlruns")
    assert unreadable == dict.fromkeys([str(tmp_path / "mlflow.db"), closed], "Permission denied")
    for reads in (MlflowSource().read(str(tmp_path), ReadOptions()), _by_parts(tmp_path)):
        with pytest.raises(TreeError) as caught:
            list(reads)
        assert [error.source for error in caught.value.errors][:2] == [*unreadable]


def _by_parts(folder: Path) -> Iterator[Run]:
    source = MlflowSource()
    for part in source.split(str(folder)):
        yield from source.read_part(part, ReadOptions())
