"""Open the store of a location with the reader of its kind."""

from __future__ import annotations

from importlib import import_module

from bridges.errors import SourceError
from bridges.sources.mlflow.location import StoreLocation
from bridges.sources.mlflow.store import Store


def open_store(place: StoreLocation) -> Store:
    """The store, opened for reading only. Raises SourceError."""
    if place.kind == "sqlite":
        from bridges.sources.mlflow.database import DatabaseStore
        from bridges.sources.mlflow.sqlite import SqliteDatabase

        return DatabaseStore(SqliteDatabase(place.address))
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
