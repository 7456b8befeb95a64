"""Every kind of database and server as a location of `bridges.read`."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridges
from bridges.formats.mlflow_store import rest
from tests.integration.sources.mlflow.oracle import copy_database
from tests.mlflow_stores import DATABASE_RELEASES, unpack_database
from tests.servers import MariaDB, PostgreSQL, mlflow_server

pytestmark = pytest.mark.slow


def names_at(location: str, source: str | None = None) -> list[str]:
    """The names of all runs with their numbers of points."""
    runs = bridges.read(location, source=source)
    return sorted(f"{run.name} {sum(len(each.rows) for each in run.stream.series)}" for run in runs)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return unpack_database(DATABASE_RELEASES[-1], tmp_path)


@pytest.fixture
def expected(file: Path) -> list[str]:
    names = names_at(f"sqlite:///{file}")
    assert len(names) == 17  # of 19: two are deleted
    assert "child 0 é 200" in names
    return names


def test_postgresql(file: Path, expected: list[str], postgres: PostgreSQL) -> None:
    uri = postgres.create_database("opened")
    copy_database(file, uri.replace("postgresql://", "postgresql+psycopg://"))
    postgres.create_login("owner", "s3cret", "opened")
    postgres.execute("GRANT pg_read_all_data TO {}", "owner")
    login = uri.replace("bridges@", "owner:s3cret@")
    assert names_at(login) == expected
    assert names_at(login.replace("postgresql:", "postgresql+psycopg2:")) == expected


def test_mysql(file: Path, expected: list[str], maria: MariaDB) -> None:
    uri = maria.create_database("opened")
    copy_database(file, uri)
    assert names_at(uri) == expected


def test_servers(file: Path, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow_server(f"sqlite:///{file}", workers=1) as url:
        assert names_at(f"mlflow+{url}") == expected
        assert names_at(url, source="mlflow") == expected
        monkeypatch.setattr(rest, "needs_mlflow", lambda _: "a setting")
        assert names_at(f"mlflow+{url}") == expected
