"""The directories of tables."""

from __future__ import annotations

from collections.abc import Collection

from bridges.sources.folders import Folder, folder_at
from bridges.sources.tensorboard.event_names import is_event_name

SUFFIXES = (".csv", ".tsv", ".log", ".json", ".gz")
TREES = ("plots", "scalars")  # directories of a tree of tables


def claims_of(folder: Folder) -> Collection[str] | None:
    """The directories of a tree of tables; none of those beside a table."""
    has_files = any(name.endswith(SUFFIXES) for name in folder.files)
    if not has_files and not any(name in TREES for name in folder.folders):
        return None
    return _claimed(folder)


def _claimed(folder: Folder) -> Collection[str] | None:
    """The same for a directory that may have tables."""
    # slow to import, and not needed for most trees
    from bridges.sources.tables.formats import built_in
    from bridges.sources.tables.units import has_usual_name, tables_in

    found = tables_in(folder, built_in())
    if found.units and all(unit.format.join == "directory" for unit in found.units):
        inner = (folder_at(folder.join(name)) for name in folder.folders)
        if any(is_event_name(name) for each in inner if each for name in each.files):
            return None  # the event files inside are the same training, and find these tables
    is_empty = any(has_usual_name(path, built_in()) for path in found.empty)
    if not (found.units or found.errors or is_empty):
        return None
    has_tree = any(unit.format.join == "tree" and unit.root != folder.path for unit in found.units)
    return [name for name in folder.folders if name in TREES] if has_tree else ()


def is_table(path: str) -> bool:
    """Whether a file is certainly the log of a training, by its name and content."""
    from bridges.sources.tables.formats import built_in
    from bridges.sources.tables.paths import head_of
    from bridges.sources.tables.recognise import recognise
    from bridges.sources.tables.units import place_of

    found = recognise(place_of(path), head_of(path), built_in())
    return found is not None and found.is_certain
