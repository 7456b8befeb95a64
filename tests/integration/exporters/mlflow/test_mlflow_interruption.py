"""Exports killed at any moment, and run again: the store holds what one clean export leaves."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests import kills, mlflow_records
from tests.bounds import HANGS
from tests.integration.exporters.mlflow.support import Judged, command, judge, long_history
from tests.integration.exporters.mlflow.test_mlflow_same_tables import Tables, tables
from tests.mlflow_stores import unpack_store
from tests.proxy import FaultyProxy
from tests.servers import PostgreSQL

pytestmark = pytest.mark.slow
KILLS_OF_STORE = 20
KILLS = 6  # of a new run, and as many of what a longer history adds to it
WRITES = ("/create", "/log-batch", "/log-metric", "/set-tag", "/update")  # ends of paths
HasBegun = Callable[[], bool]


class Exports:
    """`bridge export` processes into one experiment of a store."""

    def __init__(self, uri: str, *more: str) -> None:
        self.uri = uri
        self.more = more
        self.experiment = uuid.uuid4().hex

    def order(self, file: Path) -> list[str]:
        return command(self.uri, file, "--experiment", self.experiment, *self.more)

    def whole(self, file: Path) -> None:
        """Let one finish."""
        done = subprocess.run(self.order(file), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def runs(self) -> list[Judged]:
        return judge(self.uri, self.experiment)


class Copies(Exports):
    """Processes that export a run of another MLflow store; a `file` names every n-th step."""

    def order(self, file: Path) -> list[str]:
        writer = "client" if "client" in self.more else "auto"
        arguments = [self.uri, self.experiment, file.name, writer]
        return [sys.executable, mlflow_records.__file__, *arguments]

    def runs(self) -> list[Judged]:
        """The runs without the key, and without the state, which has the order of rows."""
        own = ("bridges.key", "bridges.state")
        return [
            replace(run, tags={k: v for k, v in run.tags.items() if k not in own})
            for run in super().runs()
        ]


def interrupt_copies(uri: str, watch: Callable[[], HasBegun], *more: str) -> None:
    """Kill exports of a run of another store; it grows by points between those it has."""
    half, full = Path("2"), Path("1")
    Exports.whole(Copies(uri, *more), half)
    for before, file in ((None, half), (half, full)):
        interrupt_one(lambda: Copies(uri, *more), before, file, watch)


def interrupt(uri: str, folder: Path, watch: Callable[[], HasBegun], *more: str) -> None:
    """Kill exports in the midst of their work; then let one finish.

    `watch` begins to watch the store, and tells whether an export has changed it since.
    """
    short, longer = long_history(folder, 3000), long_history(folder, 6000)
    Exports(uri, *more).whole(short)  # makes the store, where there is none
    for before, file in ((None, short), (short, longer)):
        interrupt_one(lambda: Exports(uri, *more), before, file, watch)


def interrupt_one(
    make: Callable[[], Exports], before: Path | None, file: Path, watch: Callable[[], HasBegun]
) -> None:
    exports = clean = make()
    for each in (before, file):
        if each:
            clean.whole(each)
    (expected,) = clean.runs()

    def begin() -> kills.Command:
        nonlocal exports
        exports = make()
        if before:
            exports.whole(before)
        return kills.Command(kills.start(exports.order(file)), watch())

    def check() -> None:
        exports.whole(file)
        assert exports.runs() == [expected]

    kills.kill_often(KILLS, 7, begin, check)


class Pairs:
    """Two exports of a run at the same time, of which the first is killed."""

    def __init__(self, make: Callable[[], Exports], file: Path, watch: Callable[[], HasBegun]):
        self.make, self.file, self.watch = make, file, watch
        clean = make()
        clean.whole(file)
        (self.expected,) = clean.runs()
        self.exports = clean
        self.other: subprocess.Popen[bytes] | None = None

    def begin(self) -> kills.Command:
        self.exports = self.make()
        command, has_begun = self.exports.order(self.file), self.watch()
        self.other = kills.start(command)
        return kills.Command(kills.start(command), has_begun)

    def check(self) -> None:
        """The export that was left alone ends, and one more leaves exactly one complete run."""
        assert self.other is not None
        assert self.other.wait(HANGS) == 0
        self.exports.whole(self.file)
        assert self.exports.runs() == [self.expected]


def interrupt_one_of_two(
    uri: str, folder: Path, kind: str, watch: Callable[[], HasBegun], *more: str
) -> None:
    """Kill one of two exports at random moments."""
    file = Path("1") if kind == "copies" else long_history(folder, 3000)
    make = Copies if kind == "copies" else Exports
    pairs = Pairs(lambda: make(uri, *more), file, watch)
    kills.kill_often(KILLS, 11, pairs.begin, pairs.check)


Interrupt = Callable[[str, Callable[[], HasBegun]], None]
KINDS = pytest.mark.parametrize("kind", ["trainings", "copies"])


def by_kind(kind: str, folder: Path, *more: str) -> Interrupt:
    """What interrupts exports of trainings, or of runs of another store."""
    if kind == "copies":
        return lambda uri, watch: interrupt_copies(uri, watch, *more)
    return lambda uri, watch: interrupt(uri, folder, watch, *more)


@KINDS
def test_through_a_server(mlflow_url: str, tmp_path: Path, kind: str) -> None:
    with FaultyProxy(mlflow_url) as proxy:

        def watch() -> HasBegun:
            before = writes()
            return lambda: writes() > before

        def writes() -> int:
            return sum(path.endswith(WRITES) for _, path, _ in [*proxy.log])

        by_kind(kind, tmp_path)(proxy.url, watch)
        interrupt_one_of_two(proxy.url, tmp_path, kind, watch)


@KINDS
def test_straight_into_postgresql(postgres: PostgreSQL, tmp_path: Path, kind: str) -> None:
    uri = postgres.create_database(uuid.uuid4().hex)
    with psycopg.connect(uri, autocommit=True) as connection:

        def position() -> object:
            return connection.execute("select pg_current_wal_insert_lsn()").fetchone()

        def watch() -> HasBegun:
            before = position()
            return lambda: position() != before

        by_kind(kind, tmp_path)(uri, watch)
        interrupt_one_of_two(uri, tmp_path, kind, watch)


@KINDS
def test_through_the_installed_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def watch() -> HasBegun:
        before = kills.look(tmp_path)
        return lambda: kills.look(tmp_path) != before

    uri, more = f"sqlite:///{tmp_path}/mlflow.db", ("--mlflow-writer", "client")
    by_kind(kind, tmp_path, *more)(uri, watch)
    interrupt_one_of_two(uri, tmp_path, kind, watch, *more)


@KINDS
def test_one_of_two_straight_into_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def watch() -> HasBegun:
        before = kills.look(tmp_path)
        return lambda: kills.look(tmp_path) != before

    interrupt_one_of_two(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, kind, watch)


def test_exports_of_a_store_killed_at_random_moments(tmp_path: Path) -> None:
    """The next export leaves the tables of one that was never killed; one more changes nothing."""
    store, folder = unpack_store("3.17.2", tmp_path), tmp_path / "0"

    def order() -> list[str]:
        return command(f"sqlite:///{folder}/target.db", store, "--deleted")

    def finish() -> Tables:
        done = subprocess.run(order(), capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        with closing(sqlite3.connect(folder / "target.db")) as database:
            return tables(database)

    def begin() -> kills.Command:
        nonlocal folder
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        before = kills.look(folder)
        return kills.Command(kills.start(order(), cwd=folder), lambda: kills.look(folder) != before)

    def check() -> None:
        assert finish() == expected

    folder.mkdir()
    expected = finish()
    assert len(expected["runs"]) == 19
    with sqlite3.connect(folder / "target.db") as database:
        before = [*database.iterdump()]
        assert finish() == expected
        assert [*database.iterdump()] == before
    kills.kill_often(KILLS_OF_STORE, 13, begin, check)
