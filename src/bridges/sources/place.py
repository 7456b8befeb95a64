"""Which tracker's source reads a place whose form does not tell.

A directory with states of the Trainer, or logs of its tools, is the Trainer's. Otherwise it is a
tracker's, if it contains one of its stores.
"""

from __future__ import annotations

import os
import re

from bridges.sources.file_names import STATE_NAME, TOOL_LOG_NAME
from bridges.sources.trainer.locations import GLOB

TRACKERS = ("mlflow",)  # sources of trackers
# forms of the addresses of MLflow stores
SERVER = re.compile(r"(?:mlflow\+)?(https?://.*)", re.DOTALL)
DATABASE = re.compile(r"(sqlite|postgres(ql)?(\+\w+)?|mysql(\+\w+)?|mssql(\+\w+)?)://")
CLIENT_ONLY = re.compile(r"(mysql|mssql)(\+\w+)?://|databricks(-uc)?(://|\Z)")
DATABASE_FILES = (".db", ".sqlite", ".sqlite3")
SQLITE, SQLITE_HEADER = "sqlite:///", b"SQLite format 3\0"


def tracker_of(location: str) -> str | None:
    """The tracker of a location, by the name of its source; None for other sources."""
    address, _ = without_page(location)
    if is_address(address):
        return "mlflow"
    tree = local_path(address)
    if "://" in tree:
        return None
    is_pattern = GLOB.search(tree) is not None and not os.path.exists(tree)
    return _tracker_in(tree) if is_pattern or os.path.isdir(tree) else None


def without_page(location: str) -> tuple[str, str]:
    """The address of a store, and the page of MLflow's UI behind it, such as `#/experiments/1`."""
    page = location.rfind("#/")
    if page < 0 or os.path.exists(location):
        return location, ""
    return location[:page], location[page:]


def local_path(location: str) -> str:
    """The path of a URI such as file:///logs/mlruns; other locations stay as they are."""
    if not location.startswith("file:") or os.path.exists(location):
        return location
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return url2pathname(urlsplit(location).path)


def _tracker_in(tree: str) -> str | None:
    """The tracker with a store in a tree; None if the tree holds histories of the Trainer."""
    from bridges.sources.trainer.discovery import walk

    names = (path.replace(os.sep, "/").rpartition("/")[2] for path in walk(tree))
    if any(STATE_NAME.match(name) or TOOL_LOG_NAME.match(name) for name in names):
        return None
    from bridges.sources.mlflow.location import stores_at  # not needed for the Trainer's

    return "mlflow" if next(stores_at(tree), None) else None


def is_address(location: str) -> bool:
    """Whether a location is a database or server of MLflow, judged by its form."""
    return bool(
        DATABASE.match(location)
        or CLIENT_ONLY.match(location)
        or location.startswith("mlflow+http")
        or (location.endswith(DATABASE_FILES) and is_sqlite(location))
    )


def is_sqlite(path: str) -> bool:
    """Whether a file is an SQLite database."""
    try:
        with open(path, "rb") as file:
            return file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    except OSError:
        return False
