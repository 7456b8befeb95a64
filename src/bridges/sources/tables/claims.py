"""The directories of tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bridges.sources.folders import Claim, Folder, folder_at
from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.event_names import is_event_name

if TYPE_CHECKING:
    from bridges.sources.tables.formats import Formats
    from bridges.sources.tables.units import Unit

SUFFIXES = (".csv", ".tsv", ".log", ".json", ".gz")
TREES = ("plots", "scalars")  # directories of a tree of tables


def claims_of(folder: Folder) -> Collection[str] | None:
    """The directories of a tree of tables; none of those beside a table."""
    has_files = any(name.endswith(SUFFIXES) for name in folder.files)
    if not has_files and not any(name in TREES for name in folder.folders):
        return None
    from bridges.sources.tables.formats import built_in  # not needed for most trees

    return _claimed(built_in(), folder, shared=True)


def claim_by(options: ReadOptions, *, shared: bool = True) -> Claim:
    """The claim of the directories with tables of the formats in the options.

    `shared`: without those that belong to the event files in their directories. Raises ConfigError.
    """
    from bridges.sources.tables.own_formats import in_trees

    return partial(_claimed, in_trees(options), shared=shared)


def _claimed(formats: Formats, folder: Folder, *, shared: bool) -> Collection[str] | None:
    """The same for a directory that may have tables of these formats."""
    from bridges.sources.tables.units import has_usual_name, tables_in

    found = tables_in(folder, formats)
    if shared and has_events(folder, found.units):
        return None  # the event files inside are the same training, and find these tables
    is_empty = any(has_usual_name(path, formats) for path in found.empty)
    if not (found.units or found.errors or is_empty):
        return None
    has_tree = any(unit.format.join == "tree" and unit.root != folder.path for unit in found.units)
    return [name for name in folder.folders if name in TREES] if has_tree else ()


def has_events(folder: Folder, units: Sequence[Unit]) -> bool:
    """Whether event files lie in a directory with tables, or inside it if it is one run."""
    if any(map(is_event_name, folder.files)):
        return True
    if not units or any(unit.format.join != "directory" for unit in units):
        return False
    inner = (folder_at(folder.join(name)) for name in folder.folders)
    return any(is_event_name(name) for each in inner if each for name in each.files)


def is_table(path: str, options: ReadOptions | None = None) -> bool:
    """Whether a file is certainly the log of a training, by its name and content."""
    from bridges.sources.tables.own_formats import formats_of
    from bridges.sources.tables.paths import head_of
    from bridges.sources.tables.recognise import recognise
    from bridges.sources.tables.units import place_of

    formats, _ = formats_of(options or ReadOptions())
    found = recognise(place_of(path), head_of(path), formats)
    return found is not None and found.is_certain
