"""Open the store of a location with the reader of its kind."""

from __future__ import annotations

from bridges.sources.mlflow.location import StoreLocation
from bridges.sources.mlflow.store import Store


def open_store(place: StoreLocation, *, is_growing: bool = False) -> Store:
    """The store, opened for reading only; `is_growing`: its runs are being logged.

    Raises SourceError.
    """
    if place.kind == "files":
        from bridges.sources.mlflow.file_store import FileStore

        return FileStore(place.address, is_growing=is_growing)
    if place.kind == "server":
        return _server(place.address)
    if place.kind == "client" and not place.address.startswith("mysql"):
        from bridges.sources.mlflow.client_store import ClientStore

        return ClientStore(place.address)
    return _database(place)


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
