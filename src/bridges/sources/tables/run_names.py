"""The names of the runs of tables, as their users know them: `lightning_logs/version_3`."""

from __future__ import annotations

import os
import re

from bridges.sources.tables.paths import is_url
from bridges.sources.tables.recognise import stem
from bridges.sources.tables.units import Unit
from bridges.sources.trainer.locations import GLOB

# usual names of directories: the directory around them is named, too
_USUAL = re.compile(
    r"(version_\d+|exp\d*|train\d*|run\d*|logs?|\d+|catboost_info|dvclive|output)\Z"
)
_OF_DIRECTORY = re.compile(r"(metrics|results|progress)\Z")  # usual names of tables


def name_of(unit: Unit, location: str) -> str:
    """The default name of the run of a unit below a location.

    It is the path of its directory or table, relative to the location.
    """
    if unit.location == "-":
        return "stdin"
    table = unit.location if not unit.format.join else ""
    is_named = bool(table) and not _OF_DIRECTORY.match(stem(table))
    parts = _parts(unit.folder)
    start = _common(parts, _parts(_root(location)))
    inner = parts[start:]
    if not inner and not is_named:
        inner = parts[-1:]
    names = [*inner, *([stem(table)] if is_named else [])]
    if len(names) == 1 and not is_named and _USUAL.match(names[0]) and len(parts) > 1:
        names = parts[-2:]
    return "/".join(names) or stem(table)


def _root(location: str) -> str:
    """The directory of a location: itself, or the fixed part of a file or pattern."""
    if GLOB.search(location) and not os.path.exists(location):
        return GLOB.split(location)[0].replace(os.sep, "/").rpartition("/")[0]
    if not is_url(location) and os.path.isfile(location):
        return os.path.dirname(location)
    return location


def _parts(path: str) -> list[str]:
    path = path.partition("://")[2] if is_url(path) else os.path.abspath(path)
    return [part for part in re.split(r"[/\\]", path) if part]


def _common(parts: list[str], others: list[str]) -> int:
    """The number of equal first parts."""
    count = 0
    for one, other in zip(parts, others, strict=False):
        if one != other:
            break
        count += 1
    return count
