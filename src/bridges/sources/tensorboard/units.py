"""The directories with event files below a location, in units to read together.

A unit has the possible parts of one run: directories with names such as `train` and
`validation`, those named after a time by `add_hparams`, and those inside a directory with event
files of the same process. Nothing is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bridges.sources.folders import Folder, folder_at, folders, joined
from bridges.sources.place import local_path
from bridges.sources.remote import opened
from bridges.sources.tensorboard.event_names import (
    SPLITS,
    is_event_name,
    is_session_name,
    process_of,
)
from bridges.sources.trainer.locations import GLOB

TABLE_SUFFIXES = (".csv", ".tsv", "progress.json")
SETTINGS_SUFFIXES = (".yaml", ".yml", ".json")
NUMBERED = re.compile(
    r"version_\d+\Z"
)  # poor names of runs, to be completed by the outer directory


@dataclass(frozen=True, slots=True)
class EventFolder:
    """A directory with event files.

    path: its path or URL
    name: its path below the location, the name of its run
    within: its path below the directory of its unit; empty for that directory
    events: the names of its event files, in natural order
    beside: the names of its other files
    folders: the names of the directories in it
    """

    path: str
    name: str
    within: str
    events: Sequence[str]
    beside: Sequence[str] = ()
    folders: Sequence[str] = ()

    def join(self, name: str) -> str:
        """The path of a file in it."""
        return joined(self.path, name)


@dataclass(frozen=True, slots=True)
class Unit:
    """Directories to read together, the outer ones first; a part of a location.

    path, name: of their common directory, which may have no event files itself
    """

    location: str
    path: str
    name: str
    members: tuple[EventFolder, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all event files, and of tables and settings beside them."""
        found = [each.join(name) for each in self.members for name in each.events]
        for folder in self.folders:
            if any(name.endswith(TABLE_SUFFIXES) for name in folder.files):
                suffixes = (*TABLE_SUFFIXES, *SETTINGS_SUFFIXES)
                found += [folder.join(name) for name in folder.files if name.endswith(suffixes)]
        return tuple(found)

    @property
    def folders(self) -> list[Folder]:
        """The directories with files beside the event files: those of the event files, and the
        common one.
        """
        found = [Folder(each.path, each.beside, each.folders) for each in self.members]
        if self.path not in {folder.path for folder in found}:
            found += filter(None, [folder_at(self.path)])
        return found

    @property
    def size(self) -> int:
        """The bytes of all local files; 0 if unknown."""
        return sum(map(_size, self.files))

    @property
    def neighbour(self) -> str | None:
        """None: the names of its runs depend on no other file."""
        return None

    @property
    def names(self) -> tuple[object, ...]:
        """Its name, and the names of its directories and of the files in them."""
        return (self.name, *((each.name, *each.beside, *each.folders) for each in self.members))


def units_at(location: str, unlisted: dict[str, str]) -> list[Unit]:
    """The units below a directory or pattern, in the order of their first directories.

    `unlisted` gets each unreadable directory, with the reason.
    """
    place = local_path(location)
    if "://" not in place:
        place = place.rstrip("/") or place
    base = ""
    drafts: dict[str, _Draft] = {}  # by path
    homes: dict[str, str] = {}  # the path of the unit of each directory
    for folder in folders(place, unlisted):
        base = base or _base(place, folder.path)
        if folder.source != "tensorboard":
            continue
        home = _home(folder, base, drafts, homes)
        homes[folder.path] = home
        within = _below(folder.path, home)
        drafts.setdefault(home, _Draft()).add(_event_folder(folder, base, within))
    return [
        Unit(location, home, _name(home, base), tuple(draft.members))
        for home, draft in drafts.items()
    ]


def unit_of(path: str) -> Unit:
    """The unit of a single file, whose run is named after its directory."""
    folder, name = _split(path)
    label = _name(folder, folder)
    member = EventFolder(folder, label, "", (name,))
    return Unit(path, folder, label, (member,))


@dataclass
class _Draft:
    """The members of a unit so far, and the processes that wrote them."""

    members: list[EventFolder] = field(default_factory=list)
    processes: set[str] = field(default_factory=set)

    def add(self, member: EventFolder) -> None:
        """Add a directory."""
        self.members.append(member)
        self.processes |= _processes(member.events)


def _home(folder: Folder, base: str, drafts: dict[str, _Draft], homes: dict[str, str]) -> str:
    """The path of the unit of a directory."""
    if folder.path == base:
        return folder.path
    parent, name = _split(folder.path)
    outer = next((path for path in _above(folder.path, base) if path in homes), None)
    if outer is not None:
        home = homes[outer]
        is_part = name in SPLITS or is_session_name(name)
        if (is_part and outer == parent) or _processes(folder.files) & drafts[home].processes:
            return home
    return parent if name in SPLITS else folder.path


def _size(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_size
    return 0


def _processes(names: Sequence[str]) -> set[str]:
    """The processes in the names of some event files."""
    return {process for process in map(process_of, names) if process}


def _event_folder(folder: Folder, base: str, within: str) -> EventFolder:
    events = tuple(name for name in folder.files if is_event_name(name))
    beside = tuple(name for name in folder.files if name not in events)
    return EventFolder(
        folder.path, _name(folder.path, base), within, events, beside, tuple(folder.folders)
    )


def _name(path: str, base: str) -> str:
    """The name of a run in a directory: its path below the base, or the name of the base."""
    below = _below(path, base)
    parts = _parts(base)
    if not below:
        count = 2 if NUMBERED.match(parts[-1]) else 1
        return "/".join(parts[-count:])
    return f"{parts[-1]}/{below}" if NUMBERED.match(below.partition("/")[0]) else below


def _parts(path: str) -> list[str]:
    """The names in a path, with the current directory's."""
    if "://" not in path:
        path = os.path.abspath(path).replace(os.sep, "/")
    names = [name for name in path.partition("://")[2 if "://" in path else 0].split("/") if name]
    return names or ["run"]


def _base(location: str, first: str) -> str:
    """The directory below which runs are named: the location, or the part before its pattern."""
    pattern = GLOB.search(location)
    if pattern is None or ("://" not in location and os.path.isdir(location)):
        return first.rstrip("/") or first
    fixed = location[: pattern.start()].rpartition("/")[0]
    if "://" not in location:
        return fixed or os.curdir
    files, path = opened(fixed)
    return str(files.unstrip_protocol(path)).rstrip("/")


def _below(path: str, base: str) -> str:
    """The relative path of a directory below another one, with slashes; empty for itself."""
    if path == base:
        return ""
    if "://" in path:
        return path.removeprefix(base).strip("/")
    if path.startswith(f"{base}{os.sep}"):  # the usual case
        return path[len(base) + 1 :].replace(os.sep, "/")
    return os.path.relpath(path, base).replace(os.sep, "/")


def _above(path: str, base: str) -> Iterator[str]:
    """The directories around one, the inner first, up to the base."""
    while path not in (base, ""):
        outer, _ = _split(path)
        if outer == path:
            return
        path = outer
        yield path


def _split(path: str) -> tuple[str, str]:
    """The directory of a path, and its last name."""
    if "://" in path:
        head, _, name = path.rstrip("/").rpartition("/")
        return head, name
    head, name = os.path.split(path.rstrip("/"))
    return head or os.curdir, name
