"""Databases of every release against mlflow's own client: SQLite files and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mlflow.store.db.utils import _upgrade_db
from sqlalchemy import create_engine

from bridges.errors import SourceError
from bridges.sources.mlflow.client_store import ClientStore
from bridges.sources.mlflow.database import DatabaseStore
from bridges.sources.mlflow.mysql import MysqlDatabase
from bridges.sources.mlflow.postgres import PostgresDatabase
from bridges.sources.mlflow.sqlite import SqliteDatabase
from tests.integration.sources.mlflow.oracle import by_mlflow, by_us, copy_database
from tests.mlflow_stores import DATABASE_RELEASES, unpack_database
from tests.servers import MariaDB, PostgreSQL

pytestmark = pytest.mark.slow

NEWEST = DATABASE_RELEASES[-1]


@pytest.mark.parametrize("release", DATABASE_RELEASES)
def test_sqlite_files_of_every_release(release: str, tmp_path: Path) -> None:
    """mlflow's client reads a copy, which it has to upgrade."""
    (tmp_path / "copy").mkdir()
    copy = f"sqlite:///{unpack_database(release, tmp_path / 'copy')}"
    engine = create_engine(copy)
    _upgrade_db(engine)
    engine.dispose()
    found = by_us(DatabaseStore(SqliteDatabase(str(unpack_database(release, tmp_path)))))
    expected = by_mlflow(copy)
    assert found.keys() == expected.keys()
    for run in expected:
        assert found[run] == expected[run]


# --- PostgreSQL -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uri(postgres: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the runs of the newest release."""
    uri = postgres.create_database("source")
    file = unpack_database(NEWEST, tmp_path_factory.mktemp("store"))
    copy_database(file, uri.replace("postgresql://", "postgresql+psycopg://"))
    return uri


def test_a_postgresql_store(uri: str) -> None:
    expected = by_mlflow(uri.replace("postgresql://", "postgresql+psycopg://"))
    store = DatabaseStore(PostgresDatabase(uri))
    found = by_us(store)
    assert found.keys() == expected.keys()
    for run in expected:
        assert found[run] == expected[run]
    assert store.left_out()["traces"] == 1
    assert len(found) == 19


def test_a_reader_without_the_right_to_write(uri: str, postgres: PostgreSQL) -> None:
    reader = postgres.create_login("reader", "p@ss/word", "postgres")
    database = uri.rpartition("/")[2]
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("grant select on all tables in schema public to reader")
    login = f"{reader.rpartition('/')[0]}/{database}"
    store = DatabaseStore(PostgresDatabase(login))
    assert by_us(store).keys() == by_us(DatabaseStore(PostgresDatabase(uri))).keys()
    assert "p%40ss" not in store.location


def test_nothing_can_be_written(uri: str) -> None:
    with pytest.raises(SourceError, match="read-only transaction"):
        PostgresDatabase(uri).read(lambda session: session.rows("delete from tags"))


def test_a_run_is_read_as_of_one_moment(uri: str) -> None:
    add = "insert into metrics values ('m', 1, 1, %s, 1, false)"

    def counts(session: Any) -> list[Any]:
        before = session.rows("select count(*) from metrics")
        with psycopg.connect(uri, autocommit=True) as connection:
            (run,) = connection.execute("select run_uuid from runs limit 1").fetchone() or ("",)
            connection.execute(add, (run,))
            connection.execute("delete from metrics where key = 'm' and step = 1 and value = 1")
            connection.execute(add, (run,))
        return [before, session.rows("select count(*) from metrics")]

    before, after = PostgresDatabase(uri).read(counts)
    assert before == after
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("delete from metrics where key = 'm' and timestamp = 1")


def test_a_lost_connection_is_opened_again(uri: str) -> None:
    database = PostgresDatabase(uri)
    (process,) = database.read(lambda session: session.rows("select pg_backend_pid()"))
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(%s)", process)
    assert database.read(lambda session: session.rows("select 1")) == [(1,)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"password": "s3cret-word"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"port": "1"}, "[Rr]efused"),
        ({"database": "postgres"}, "without the tables experiments, runs, metrics"),
    ],
)
def test_errors_do_not_show_the_password(
    change: dict[str, str], found: str, uri: str, postgres: PostgreSQL
) -> None:
    user = f"guarded{len(found)}"
    postgres.create_login(user, "correct-horse", "postgres")
    password, port = change.get("password", "correct-horse"), change.get("port", str(postgres.port))
    place = f"127.0.0.1:{port}/{change.get('database', 'postgres')}"
    with pytest.raises(SourceError, match=found) as raised:
        DatabaseStore(PostgresDatabase(f"postgresql://{user}:{password}@{place}"))
    assert password not in str(raised.value)
    assert "Check" in str(raised.value)


# --- MySQL ------------------------------------------------------------------------------------


def test_a_mysql_store(maria: MariaDB, tmp_path: Path) -> None:
    """The same runs as in the SQLite file; a login that may only read is enough."""
    uri = maria.create_database("source", reader="reader")
    file = unpack_database(NEWEST, tmp_path)
    copy_database(file, uri)
    login = uri.replace("root@", "reader:p@ss/word@")
    store = DatabaseStore(MysqlDatabase(login))
    assert "p@ss" not in store.location
    found, expected = by_us(store), by_us(DatabaseStore(SqliteDatabase(str(file))))
    assert found.keys() == expected.keys()
    for run in expected:
        assert found[run] == expected[run]
    assert found == by_mlflow(uri)
    assert store.left_out()["traces"] == 1


def test_nothing_is_written_into_mysql(maria: MariaDB) -> None:
    """mlflow's client would create its tables in an empty database."""
    database = MysqlDatabase(maria.create_database("nothing"))
    with pytest.raises(SourceError, match="without the tables experiments, runs, metrics"):
        DatabaseStore(database)
    with pytest.raises(SourceError, match="READ ONLY transaction"):
        database.read(lambda session: session.rows("create table t (a int)"))


def test_mysql_errors_do_not_show_the_password(maria: MariaDB) -> None:
    with pytest.raises(SourceError, match="Access denied") as raised:
        MysqlDatabase(f"mysql+pymysql://me:s3cret@127.0.0.1:{maria.port}/x").schema()
    assert "s3cret" not in str(raised.value)
    with pytest.raises(SourceError, match=r"[Cc]onnect"):
        MysqlDatabase("mysql+pymysql://me:s3cret@127.0.0.1:1/x").schema()


# --- through the installed client -------------------------------------------------------------


def test_a_store_through_the_client(tmp_path: Path) -> None:
    uri = f"sqlite:///{unpack_database(NEWEST, tmp_path)}"
    store = ClientStore(uri)
    assert by_us(store) == by_mlflow(uri)
    (experiment, *_) = store.experiments()
    (head, *_) = store.heads(experiment)
    with pytest.raises(SourceError, match="found no run of this id"):
        store.read(replace(head, run_id="0" * 32))


def test_errors_of_the_client() -> None:
    with pytest.raises(SourceError, match="found an error of the installed mlflow"):
        ClientStore("nowhere://me:s3cret@host").experiments()
