"""The sources that read a place, by its form or its content.

A tree with states of the Trainer, or logs of its tools, is the Trainer's alone. In other trees each
directory has its own source (see `bridges.sources.folders`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bridges.sources.file_names import EVENT_FILE_NAME, HISTORY_NAME
from bridges.sources.trainer.locations import is_tree

if TYPE_CHECKING:
    from bridges.sources.folders import Claim
    from bridges.sources.options import ReadOptions

ORDER = ("mlflow", "wandb", "tensorboard", "tables")  # sources of trackers and loggers
# forms of the addresses of MLflow stores
SERVER = re.compile(r"(?:mlflow\+)?(https?://.*)", re.DOTALL)
DATABASE = re.compile(r"(sqlite|postgres(ql)?(\+\w+)?|mysql(\+\w+)?|mssql(\+\w+)?)://")
CLIENT_ONLY = re.compile(r"(mysql|mssql)(\+\w+)?://|databricks(-uc)?(://|\Z)")
FILE_NAMES: dict[str, re.Pattern[str]] = {  # of single files, by source
    "wandb": re.compile(r"\.wandb\Z|\Awandb-history\.jsonl\Z"),
    "tensorboard": EVENT_FILE_NAME,
}
TABLE_NAME = re.compile(r"\.(csv|tsv)(\.gz)?\Z", re.IGNORECASE)
_MAYBE_TABLE = re.compile(r"\.(csv|tsv|log)\Z|\A(metrics|progress[\w.-]*)\.json\Z", re.IGNORECASE)
DATABASE_FILES = (".db", ".sqlite", ".sqlite3")
WANDB = "wandb://"  # ENTITY/PROJECT[/RUN]
SQLITE, SQLITE_HEADER = "sqlite:///", b"SQLite format 3\0"


def sources_at(location: str, options: ReadOptions | None = None) -> tuple[str, ...]:
    """The names of the sources in `ORDER` that read a location; none if others do.

    The formats of tables in the options count, too.
    """
    address, _ = without_page(location)
    if is_address(address):
        return ("mlflow",)
    if address.startswith(WANDB):
        return ("wandb",)
    tree = local_path(address)
    if not is_tree(tree):
        return _by_name(tree, options)
    if _has_histories(tree):
        return ()
    from bridges.sources.folders import folders  # not needed for the Trainer's

    found = {folder.source for folder in folders(tree, claim=_claims_of(options))}
    return tuple(name for name in ORDER if name in found)


def _claims_of(options: ReadOptions | None) -> Mapping[str, Claim]:
    """The claims of directories for the formats of tables in the options."""
    if options is None or not options.tables:
        return {}
    from bridges.sources.tables.claims import claim_by

    return {"tables": claim_by(options)}


def _by_name(location: str, options: ReadOptions | None) -> tuple[str, ...]:
    """The source of a single file with this name."""
    name = location.replace(os.sep, "/").rpartition("/")[2].removesuffix(".gz")
    if found := [source for source, pattern in FILE_NAMES.items() if pattern.search(name)]:
        return tuple(found[:1])
    has_formats = options is not None and bool(options.tables)
    if not (has_formats or _MAYBE_TABLE.search(name)):
        return ()
    from bridges.sources.tables.claims import is_table  # not needed for other files

    return ("tables",) if is_table(location, options) else ()


def last_source(location: str) -> str:
    """The source of a location that no other one claims."""
    return "tables" if TABLE_NAME.search(location) else "trainer_state"


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


def _has_histories(tree: str) -> bool:
    """Whether a tree has a file with the name of a history of the Trainer."""
    from bridges.sources.trainer.discovery import has_name, walk

    if os.path.isdir(tree):  # faster, as paths are not made
        return has_name(tree, HISTORY_NAME)
    names = (path.replace(os.sep, "/").rpartition("/")[2] for path in walk(tree))
    return any(map(HISTORY_NAME.match, names))


def is_address(location: str) -> bool:
    """Whether a location is a database or server of MLflow, judged by its form."""
    return bool(
        DATABASE.match(location)
        or CLIENT_ONLY.match(location)
        or location.startswith("mlflow+http")
        or (location.endswith(DATABASE_FILES) and (is_sqlite(location) or _is_empty(location)))
    )


def _is_empty(path: str) -> bool:
    return os.path.isfile(path) and not os.path.getsize(path)


def is_sqlite(path: str) -> bool:
    """Whether a file is an SQLite database."""
    if not os.path.isfile(path):  # opening a named pipe may never end
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    except OSError:
        return False
