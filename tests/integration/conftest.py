"""Real servers, one of each for a test process: started by the first test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import MariaDB, PostgreSQL, mariadb, mlflow_server, postgresql

WORKERS = 2  # enough for requests to meet in different processes, and half the time to start


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """A PostgreSQL; a test makes its own databases on it."""
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def maria() -> Iterator[MariaDB]:
    """A MariaDB, in place of MySQL; a test makes its own databases on it."""
    with mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An `mlflow server` over an SQLite file; a test makes its own experiments in it."""
    store = tmp_path_factory.mktemp("mlflow") / "server.db"
    with mlflow_server(f"sqlite:///{store}", workers=WORKERS) as url:
        yield url


@pytest.fixture(scope="session")
def mlflow_pg_url(postgres: PostgreSQL) -> Iterator[str]:
    """An `mlflow server` over PostgreSQL (its database `mlflow_server`)."""
    with mlflow_server(postgres.create_database("mlflow_server"), workers=WORKERS) as url:
        yield url
