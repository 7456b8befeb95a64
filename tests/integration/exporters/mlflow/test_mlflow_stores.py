"""Every way into MLflow against the contract of exporters.

Stores: SQLite by the client, PostgreSQL directly and by the client, and real tracking servers over
both. Each target is an experiment of its own in a store that all tests of a class share.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions, MlflowWriter
from bridges.testing.exporters import ExporterContract, OpenTarget
from tests.servers import PostgreSQL

pytestmark = pytest.mark.slow


class Store(ExporterContract):
    uri: str
    writer: MlflowWriter = "auto"

    def new_target(self, folder: Path) -> OpenTarget:
        experiment = uuid.uuid4().hex
        return lambda: MlflowExporter(MlflowOptions(self.uri, experiment, self.writer))


class TestSqliteByClient(Store):
    writer = "client"

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.uri = f"sqlite:///{tmp_path_factory.getbasetemp()}/client.db"


class TestPostgresDirectly(Store):
    writer = "direct"

    @pytest.fixture(autouse=True)
    def _store(self, postgres_store: str) -> None:
        self.uri = postgres_store


class TestPostgresByClient(Store):
    writer = "client"

    @pytest.fixture(autouse=True)
    def _store(self, postgres_store: str) -> None:
        self.uri = postgres_store.replace("postgresql:", "postgresql+psycopg:")


class TestServerOverSqlite(Store):
    @pytest.fixture(autouse=True)
    def _store(self, mlflow_url: str) -> None:
        self.uri = mlflow_url


class TestServerOverPostgres(Store):
    @pytest.fixture(autouse=True)
    def _store(self, mlflow_pg_url: str) -> None:
        self.uri = mlflow_pg_url


@pytest.fixture(scope="session")
def postgres_store(postgres: PostgreSQL) -> str:
    return postgres.create_database("contract")
