"""SQLite stores: every schema, odd values, and files that are in use, damaged or read-only."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from bridges.errors import SourceError
from bridges.formats.mlflow_store.records import Dataset, Experiment, Metric, RunHead, RunRecord
from bridges.sources.mlflow import sqlite as sqlite_module
from bridges.sources.mlflow.database import DatabaseStore, Session
from bridges.sources.mlflow.runs import run_of
from bridges.sources.mlflow.sqlite import SqliteDatabase
from bridges.sources.mlflow.store import Store
from bridges.stream.finding import Severity
from tests.golden import mlflow_run as golden
from tests.unit.sources.mlflow.tables import (
    FILES,
    RUN,
    START,
    add_points,
    add_run,
    fingerprint,
    make_database,
)

LARGEST = sys.float_info.max
NOBODY = 65_534
INPUT_TABLES = """
create table datasets (dataset_uuid text, experiment_id integer, name text, digest text,
    dataset_source_type text, dataset_source text, dataset_schema text, dataset_profile text);
create table inputs (input_uuid text, source_type text, source_id text, destination_type text,
    destination_id text, step bigint);
create table input_tags (input_uuid text, name text, value text);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with the run RUN, alone in its folder."""
    folder = tmp_path / "store"
    folder.mkdir()
    make_database(folder / "mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        yield database


def opened(path: Path) -> Store:
    return DatabaseStore(SqliteDatabase(str(path)))


def heads_of(store: Store) -> dict[str, RunHead]:
    return {head.run_id: head for each in store.experiments() for head in store.heads(each)}


def read(path: Path, run: str = RUN) -> tuple[RunRecord, dict[str, Metric]]:
    store = opened(path)
    record, metrics = store.read(heads_of(store)[run])
    return record, {metric.key: metric for metric in metrics}


def points_of(metrics: dict[str, Metric]) -> Counter[tuple[str, str, int, int]]:
    """The points with values as texts, so that NaN equals NaN."""
    return Counter(
        (key, repr(value), time, step)
        for key, metric in metrics.items()
        for value, time, step in zip(
            metric.value.tolist(), metric.time.tolist(), metric.step.tolist(), strict=True
        )
    )


def codes_of(record: RunRecord) -> dict[str, int]:
    return {finding.code: finding.count for finding in record.findings}


# --- content ----------------------------------------------------------------------------------


def as_stored(value: float) -> str:
    """A value as MLflow's databases hold it."""
    return repr(float(value) if value != value else min(max(float(value), -LARGEST), LARGEST) + 0.0)


@pytest.mark.parametrize("script", FILES, ids=lambda file: file.stem)
def test_the_run_of_every_release_is_read(script: Path, tmp_path: Path) -> None:
    make_database(tmp_path / "mlflow.db", script)
    record, metrics = read(tmp_path / "mlflow.db", golden.RUN_ID)
    assert record.params == golden.PARAMS
    assert golden.TAGS.items() | golden.BATCH_TAGS.items() <= record.tags.items()
    head = record.head
    assert (head.name, head.status, head.stage) == (golden.RUN_NAME, golden.STATUS, "active")
    assert (head.start, head.end, record.user) == (golden.START, golden.END, golden.USER)
    assert head.experiment.name == golden.EXPERIMENT
    assert golden.EXPERIMENT_TAGS.items() <= head.experiment.tags.items()
    logged = [*golden.METRICS, *golden.LATER_METRICS]
    expected = {(key, as_stored(value), time, step) for key, value, time, step in logged}
    found = points_of({key: metrics[key] for key in metrics if ":" not in key})
    assert found == Counter(expected)


def test_values_that_are_hard_to_keep(path: Path, writer: sqlite3.Connection) -> None:
    values = [
        ("n", 0.0, 1, 1, -(2**63)),
        ("n", 5e-324, 0, 2, 2**60 + 1),
        ("größe/学", 0.1, 0, 0, 0),
    ]
    add_points(writer, [*values, ("n", LARGEST, 0, 3, 0), ("n", -LARGEST, 0, 3, 1)])
    record, metrics = read(path)
    n = metrics["n"]
    assert np.isnan(n.value[0])
    assert n.value[1:].tolist() == [5e-324, LARGEST, -LARGEST]
    assert n.step.tolist() == [-(2**63), 2**60 + 1, 0, 1]
    assert n.time.tolist() == [1, 2, 3, 3]
    assert [n.value.dtype, n.step.dtype, n.time.dtype] == [np.float64, np.int64, np.int64]
    assert metrics["größe/学"].value.tolist() == [0.1]
    assert codes_of(record) == {"infinity-in-database": 2}


def test_steps_with_a_fraction_are_cut_and_told(path: Path, writer: sqlite3.Connection) -> None:
    add_points(writer, [("m", 1.0, 0, 1, 1.5), ("m", 2.0, 0, 2, 2**60 + 1), ("m", 3.0, 0, 3, 4.0)])
    record, metrics = read(path)
    assert metrics["m"].step.tolist() == [1, 2**60 + 1, 4]
    assert codes_of(record) == {"step-with-fraction": 1}
    assert record.findings[0].severity is Severity.LOSS


def test_points_that_are_not_numbers_are_counted(path: Path, writer: sqlite3.Connection) -> None:
    odd = [("m", "tensor(0.5)", 0, 1, 1), ("m", 1.0, 0, "now", 1), ("m", 1.0, 0, 1, 1e300)]
    add_points(writer, [*odd, ("m", 7.0, 0, 5, 5), ("m", 8.0, 1, 6, 6)])
    record, metrics = read(path)
    assert points_of(metrics) == Counter({("m", "7.0", 5, 5): 1, ("m", "nan", 6, 6): 1})
    assert codes_of(record) == {"point-not-a-number": 3}


def test_many_points_keep_their_order_in_the_file(path: Path, writer: sqlite3.Connection) -> None:
    steps = np.random.default_rng(1).permutation(3_000)
    rows = [(f"m{step % 3}", float(step), 0, START, int(step)) for step in steps]
    add_points(writer, rows)
    _, metrics = read(path)
    assert [*metrics] == [f"m{step % 3}" for step in steps][:1] + [
        key for key in metrics if key != f"m{steps[0] % 3}"
    ]
    for key, metric in metrics.items():
        assert metric.step.tolist() == [step for name, _, _, _, step in rows if name == key]


def test_text_that_is_not_utf8(path: Path, writer: sqlite3.Connection) -> None:
    latin = "größe".encode("latin-1")
    text = "insert into {} (key, value, run_uuid) values (cast(? as text), cast(? as text), ?)"
    writer.execute(text.format("params"), (b"ok", latin, RUN))
    writer.execute(text.format("tags"), (latin, b"fine", RUN))
    add_points(writer, [("m", 1.0, 0, 1, 1)])
    record, metrics = read(path)
    assert record.params == {"ok": "gr\ufffd\ufffde"}
    assert record.tags == {"gr\ufffd\ufffde": "fine"}
    assert codes_of(record) == {"text-not-utf8": 2}
    assert [*metrics] == ["m"]


def test_names_stages_and_experiments(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute(
        "insert into experiments values (2, 'bridges', 's3://a', 'deleted', 3, 4, 'other')"
    )
    add_run(writer, "old", name=None, experiment_id=2, start_time=None, end_time=None)
    add_run(writer, "gone", lifecycle_stage="deleted", deleted_time=9)
    writer.execute("insert into tags values ('mlflow.runName', 'from the tag', 'old')")
    add_run(writer, "lost", experiment_id=77)
    store = opened(path)
    experiment = Experiment("2", "bridges", "deleted", "s3://a", 3, 4, {}, "other")
    assert store.experiments()[2] == experiment
    heads = heads_of(store)
    assert heads.keys() == {golden.RUN_ID, RUN, "old", "gone"}
    assert (heads["old"].stage, heads["old"].start, heads["old"].end) == ("deleted", None, None)
    assert run_of(*store.read(heads["old"]), str(path)).name == "from the tag"
    assert store.read(heads["gone"])[0].deleted == 9
    assert heads["gone"].stage == "deleted"
    assert store.left_out() == {"runs without an experiment": 1}


def test_datasets_and_inputs_without_one(path: Path, writer: sqlite3.Connection) -> None:
    writer.executescript(INPUT_TABLES)
    writer.execute("insert into datasets values ('d', 1, 'train', 'x1', 'local', '{}', null, 'p')")
    for id, dataset in (("i", "d"), ("j", "missing")):
        writer.execute(
            f"insert into inputs values ('{id}', 'DATASET', '{dataset}', 'RUN', ?, 0)", (RUN,)
        )
    writer.execute("insert into input_tags values ('i', 'mlflow.data.context', 'training')")
    record, _ = read(path)
    (found,) = record.inputs
    assert found.dataset == Dataset("train", "x1", "local", "{}", None, "p")
    assert found.tags == {"mlflow.data.context": "training"}
    assert codes_of(record) == {"dataset-missing": 1}


def test_artifacts_beside_the_file(path: Path, writer: sqlite3.Connection) -> None:
    dead = f"file:///home/someone/mlruns/1/{RUN}/artifacts"
    writer.execute("update runs set artifact_uri = ? where run_uuid = ?", (dead, RUN))
    assert read(path)[0].artifact_folder is None
    folder = path.parent / "mlruns" / "1" / RUN / "artifacts"
    folder.mkdir(parents=True)
    assert read(path)[0].artifact_folder == str(folder)
    writer.execute("update runs set artifact_uri = ?", (path.parent.as_uri(),))
    assert read(path)[0].artifact_folder == str(path.parent)
    writer.execute("update runs set artifact_uri = 's3://bucket/1'")
    assert read(path)[0].artifact_folder is None


def test_more_runs_than_a_query_takes(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("begin")
    for index in range(1_201):
        add_run(writer, f"run {index}", start_time=START - index)
        writer.execute("insert into tags values ('n', ?, ?)", (str(index), f"run {index}"))
    writer.execute("commit")
    store = opened(path)
    (experiment,) = (each for each in store.experiments() if each.id == "1")
    heads = [*store.heads(experiment)]
    assert [head.start for head in heads] == sorted(head.start or 0 for head in heads)
    assert len(heads) == 1_203
    assert {head.tags["n"] for head in heads if head.name == "a run" and head.run_id != RUN} == {
        str(index) for index in range(1_201)
    }


def test_tables_of_the_oldest_releases_suffice(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.executescript(
            """
            create table experiments (experiment_id integer, name text);
            create table runs (run_uuid text, experiment_id integer, start_time bigint);
            create table metrics (key text, value float, timestamp bigint, run_uuid text);
            insert into experiments values (0, 'Default');
            insert into runs values ('r', 0, 5);
            insert into metrics values ('loss', 0.5, 7, 'r');
            """
        )
    record, metrics = read(tmp_path / "old.db", "r")
    assert points_of(metrics) == Counter({("loss", "0.5", 7, 0): 1})
    assert (record.head.status, record.params, record.tags) == ("RUNNING", {}, {})


# --- files in use -----------------------------------------------------------------------------


def in_wal_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("pragma journal_mode = wal")


def test_a_file_in_wal_mode_is_left_alone(path: Path) -> None:
    in_wal_mode(path)
    before = fingerprint(path.parent)
    assert [*before] == ["", "mlflow.db"]
    read(path)
    store = opened(path)
    assert fingerprint(path.parent) == before  # also while it is open
    assert RUN in heads_of(store)


def test_points_in_the_wal_are_read(path: Path) -> None:
    in_wal_mode(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        add_points(writer, [("in the wal", 1.0, 0, 1, 1)])
        before = fingerprint(path.parent)
        assert before["mlflow.db-wal"][0] != before["mlflow.db"][0]
        store = opened(path)
        _, metrics = store.read(heads_of(store)[RUN])
        assert [metric.key for metric in metrics] == ["in the wal"]
        assert fingerprint(path.parent) == before
        add_points(writer, [("later", 1.0, 0, 1, 1)])
        _, metrics = store.read(heads_of(store)[RUN])  # a new list makes a new copy
        assert [metric.key for metric in metrics] == ["in the wal", "later"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder whose parents every account may enter."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_wal_left_behind_by_a_crash(path: Path, open_folder: Path) -> None:
    """The file and its log without the `-shm` file, in a folder that cannot be written."""
    in_wal_mode(path)
    copy = open_folder
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        add_points(writer, [("in the wal", 1.0, 0, 1, 1)])
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", copy)
    before = fingerprint(copy)
    with as_another(copy):
        assert [*read(copy / path.name)[1]] == ["in the wal"]
    assert fingerprint(copy) == before


@pytest.mark.parametrize("has_wal_mode", [False, True])
def test_a_reader_who_is_not_the_owner(has_wal_mode: bool, open_folder: Path) -> None:
    path = open_folder / "mlflow.db"
    make_database(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        add_points(database, [("m", 1.0, 0, 1, 1)])
        if has_wal_mode:
            database.execute("pragma journal_mode = wal")
    before = fingerprint(open_folder)
    with as_another(open_folder):
        assert [*read(path)[1]] == ["m"]
    assert fingerprint(open_folder) == before


@contextmanager
def as_another(folder: Path) -> Iterator[None]:
    """In the block, this process can write neither the folder nor its files."""
    folder.chmod(0o555)
    for file in folder.iterdir():
        file.chmod(0o444)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        yield
    finally:
        if is_root:
            os.seteuid(0)
            os.setegid(0)
        folder.chmod(0o755)


def test_a_write_that_begins_later_is_seen(path: Path) -> None:
    """Without a log the file is read without locks, until another program opens it."""
    in_wal_mode(path)
    store = opened(path)
    head = heads_of(store)[RUN]
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        add_points(writer, [("m", 1.0, 0, 1, 1)])
        assert [metric.key for metric in store.read(head)[1]] == ["m"]
    assert [metric.key for metric in store.read(head)[1]] == ["m"]


def test_a_write_during_a_read_without_locks(path: Path, writer: sqlite3.Connection) -> None:
    in_wal_mode(path)
    database = SqliteDatabase(str(path))
    calls = []

    def work(session: Session) -> list[tuple[object, ...]]:
        calls.append(1)
        found = session.rows("select count(*) from metrics where run_uuid = ?", (RUN,))
        if len(calls) == 1:
            add_points(writer, [("m", 1.0, 0, 1, 1)])
        return found

    assert database.read(work) == [(1,)]
    assert len(calls) == 2
    database.close()
    writer.close()
    with pytest.raises(SourceError, match="another program is writing"):
        database.read(lambda _: touch(path))


def touch(path: Path) -> None:
    os.utime(path, ns=(path.stat().st_mtime_ns + 1, path.stat().st_mtime_ns + 1))


def test_a_run_is_read_as_of_one_moment(path: Path) -> None:
    """A writer waits until the run is read, and its points are seen by the next read."""
    database = SqliteDatabase(str(path))
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as writer:

        def work(session: Session) -> list[tuple[object, ...]]:
            before = session.rows("select count(*) from metrics")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                add_points(writer, [("m", 1.0, 0, 1, 1)])
            writer.execute("rollback")
            return before + session.rows("select count(*) from metrics")

        before, after = database.read(work)
        assert before == after
        add_points(writer, [("m", 1.0, 0, 1, 1)])
    assert [*read(path)[1]] == ["m"]


def test_a_write_that_goes_on_is_left_out(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("begin immediate")
    add_points(writer, [("m", 1.0, 0, 1, 1)])
    assert Path(f"{path}-journal").exists()
    assert read(path)[1] == {}


def test_an_unfinished_write_is_left_out(path: Path, tmp_path: Path) -> None:
    """A crash in a transaction leaves pages in the file that its journal takes back."""
    add = "insert into tags values ('k' || ?, ?, ?)"
    folder = tmp_path / "crashed"
    folder.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("pragma cache_size = 10")
        writer.execute("begin immediate")
        for index in range(200):
            writer.execute(add, (index, "x" * 4_000, RUN))
        for suffix in ("", "-journal"):
            shutil.copy(f"{path}{suffix}", folder)
        writer.execute("rollback")
    before = fingerprint(folder)
    assert [*before] == ["", "mlflow.db", "mlflow.db-journal"]
    record, _ = read(folder / "mlflow.db")
    assert record.tags == {}
    assert fingerprint(folder) == before


def test_a_file_that_stays_locked(
    path: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_SECONDS", 0.01)
    writer.execute("begin exclusive")
    with pytest.raises(SourceError, match="found a database in use"):
        opened(path)


# --- files that cannot be read ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"accuracy: 0.5\n", "a file of another type"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer"),
        (b"SQLite format 3\0" + b"x" * 4_000, "an unreadable database|a damaged database"),
    ],
)
def test_files_that_are_not_databases(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"^{re.escape(str(path))}: found ({found})"):
        opened(path)
    assert path.read_bytes() == content


def test_paths_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found no such file"):
        opened(tmp_path / "none.db")
    with pytest.raises(SourceError, match="found a directory"):
        opened(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_another_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("create table runs (id integer)")
    with pytest.raises(SourceError, match="without the tables experiments, metrics"):
        opened(tmp_path / "other.db")


def test_a_damaged_page_fails_the_runs_on_it_only(path: Path, writer: sqlite3.Connection) -> None:
    rows = [("m", float(step), 0, step, step) for step in range(20_000)]
    add_points(writer, rows)
    (pages,) = writer.execute("pragma page_count").fetchone()
    (size,) = writer.execute("pragma page_size").fetchone()
    writer.close()
    with path.open("r+b") as file:
        file.seek((pages // 2) * size)
        file.write(b"\xff" * size * 8)
    store = opened(path)
    heads = heads_of(store)
    with pytest.raises(SourceError, match="found a damaged database"):
        store.read(heads[RUN])
    assert store.read(heads[golden.RUN_ID])[1]


def test_a_run_that_was_removed(path: Path, writer: sqlite3.Connection) -> None:
    store = opened(path)
    head = heads_of(store)[RUN]
    writer.execute("delete from runs where run_uuid = ?", (RUN,))
    with pytest.raises(SourceError, match=f"run {RUN}: found no run of this id"):
        store.read(head)
