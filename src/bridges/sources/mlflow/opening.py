"""Open the store of a location with the reader of its kind."""

from __future__ import annotations

from importlib import import_module

from bridges.errors import SourceError
from bridges.sources.mlflow.location import StoreLocation
from bridges.sources.mlflow.store import Store


def open_store(place: StoreLocation) -> Store:
    """The store, opened for reading only. Raises SourceError."""
    if place.kind == "server":
        return _server(place.address)
    if place.kind == "client" and not place.address.startswith("mysql"):
        from bridges.sources.mlflow.client_store import ClientStore

        return ClientStore(place.address)
    return _files(place) if place.kind == "files" else _database(place)


def _database(place: StoreLocation) -> Store:
    from bridges.sources.mlflow.database import DatabaseStore

    if place.kind == "sqlite":
        from bridges.sources.mlflow.sqlite import SqliteDatabase

        return DatabaseStore(SqliteDatabase(place.address))
    if place.kind == "postgresql":
        from bridges.sources.mlflow.postgres import PostgresDatabase

        return DatabaseStore(PostgresDatabase(place.address))
    from bridges.sources.mlflow.mysql import MysqlDatabase

    return DatabaseStore(MysqlDatabase(place.address))


def _server(url: str) -> Store:
    """The store of a server, by mlflow's own client if settings for that are in use."""
    from bridges.formats.mlflow_store.rest import needs_mlflow

    if needs_mlflow(url):
        from bridges.sources.mlflow.client_store import ClientStore

        return ClientStore(url)
    from bridges.sources.mlflow.server import ServerStore

    return ServerStore(url)


def _files(place: StoreLocation) -> Store:
    try:
        module = import_module("bridges.sources.mlflow.file_store")
        store: Store = module.FileStore(place.address)
    except ImportError:
        raise SourceError(
            place.given,
            found=f"an MLflow store of the kind {place.kind!r}",
            expected="an SQLite database",
            remedy="Other stores cannot be read yet.",
        ) from None
    return store
