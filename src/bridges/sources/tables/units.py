"""The tables of a directory, each with its format: those read as runs, and those left out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from bridges.errors import SourceError
from bridges.sources.fetch import LFS_POINTER
from bridges.sources.folders import Folder
from bridges.sources.tables.formats import Formats, TableFormat
from bridges.sources.tables.paths import beside, exists, folder_of, head_of, unreadable, within
from bridges.sources.tables.recognise import HEAD_BYTES, Place, Recognised, recognise, stem
from bridges.sources.tables.text import EXPECTED, NEWLINE
from bridges.sources.trainer.discovery import natural, walk

TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
WIDE = "wide"
OUR_TABLES = {  # written by the target `csv`: the first columns by directory
    "metrics": b"run,key,row,step,",
    "texts": b"run,key,row,step,",
    "params": b"run,param,",
    "runs": b"run,name,group,key,",
    WIDE: b"row,step,epoch,time,",
}


@dataclass(frozen=True)
class Unit:
    """The tables of a run (or of several trainings, one after the other).

    root: the directory to which the names of metrics are relative, if they are paths
    folder: the directory of the run
    """

    folder: str
    root: str
    files: tuple[tuple[str, Recognised], ...]

    @property
    def format(self) -> TableFormat:
        """The format of its tables."""
        return self.files[0][1].format

    @property
    def location(self) -> str:
        """Its file; its directory, if it has several."""
        return self.folder if self.format.join else self.files[0][0]

    @property
    def paths(self) -> list[str]:
        """The paths of its tables, and of the files of settings beside them."""
        names = [*self.format.params]
        if self.format.elapsed and self.format.elapsed.file:
            names.append(self.format.elapsed.file)
        near = dict.fromkeys(within(self.folder, name) for name in names)
        return [*(path for path, _ in self.files), *filter(exists, near)]


@dataclass
class Found:
    """The tables of a directory. `empty` and `uncertain` are its unread files."""

    units: list[Unit] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    uncertain: list[str] = field(default_factory=list)
    errors: list[SourceError] = field(default_factory=list)


def tables_in(folder: Folder, formats: Formats) -> Found:
    """The tables in a directory with certainly one of the formats."""
    found, used = Found(), _clocks(folder, formats)
    for name, each in formats.items():
        if each.join == "tree" and (unit := _tree(folder, name, each, found.uncertain)):
            found.units.append(unit)
            used.update(path for path, _ in unit.files)
    joined: dict[str, list[tuple[str, Recognised]]] = {}
    for name in folder.files:
        path = folder.join(name)
        if path in used or not any(each.takes(path) for each in formats.values()):
            continue
        table = _certain(path, formats, found)
        if table is None:
            continue
        if table.format.join:
            joined.setdefault(table.name, []).append((path, table))
        else:
            found.units.append(Unit(folder.path, folder.path, ((path, table),)))
    found.units += [Unit(folder.path, folder.path, tuple(files)) for files in joined.values()]
    return found


def _clocks(folder: Folder, formats: Formats) -> set[str]:
    """The tables with the times of others only."""
    columns = (each.elapsed for each in formats.values())
    return {folder.join(column.file) for column in columns if column and column.file}


def _is_ours(path: str, head: bytes) -> bool:
    """Whether a table was written by an export, so that repeating it does not read its output."""
    first = OUR_TABLES.get(place_of(path).parent)
    return first is not None and head.startswith(first)


def _certain(path: str, formats: Formats, found: Found) -> Recognised | None:
    """The format of a table if it is certain; else the file is added to `found`."""
    head = head_of(path)
    table = None if not head.strip() else recognise(place_of(path), head, formats)
    is_certain = table is not None and table.is_certain and table.format.join != "tree"
    if is_certain and not _is_ours(path, head):
        return table
    is_usual = has_usual_name(path, formats)
    error = lfs_pointer(path) if head.startswith(LFS_POINTER) else None
    error = error if head else unreadable(path)
    if error and is_usual:
        found.errors.append(error)
    elif not (head.strip() or error):
        found.empty.append(path)
    elif path.endswith(TABLE_SUFFIXES):
        found.uncertain.append(path)
    return None


def has_usual_name(path: str, formats: Formats) -> bool:
    """Whether a format names a file by more than its suffix."""
    name = path.replace("\\", "/").rpartition("/")[2].removesuffix(".gz")
    return any(
        fnmatchcase(name, pattern)
        for each in formats.values()
        for pattern in each.files
        if not pattern.startswith("*.")
    )


def named_table(path: str, formats: Formats, chosen: str | None, text: bytes) -> Unit:
    """The table of a file named by the user. Raises SourceError if it is not a table."""
    place, head = place_of(path), text[:HEAD_BYTES]
    if chosen is None and place.parent != WIDE and _is_ours(path, head):
        raise SourceError(
            path,
            found="a table that an export wrote",
            expected=EXPECTED,
            remedy="Name the source of its run, or its file in the folder `wide`.",
        )
    table = recognise(place, head, formats, chosen)
    if table is None and chosen is None:
        name = "jsonl" if head.lstrip()[:1] == b"{" else "csv"
        table = recognise(place, head, formats, name)
    if table is None:
        expected = EXPECTED
        if chosen is not None:
            expected = f"a table of the format {chosen}"
        raise SourceError(
            path,
            found=f"a first line {_first_line(head)}",
            expected=expected,
            remedy="Check which file this is; `bridge sources` lists the formats of tables.",
        )
    folder = folder_of(path)
    return Unit(folder, folder, ((path, table),))


def place_of(path: str) -> Place:
    """A file with its surroundings."""
    return Place(path, lambda name: exists(beside(path, name)))


def lfs_pointer(path: str) -> SourceError:
    """The error for a pointer of git-LFS in place of a table."""
    return SourceError(
        path,
        found="a git-LFS pointer, not the file itself",
        expected=EXPECTED,
        remedy="Run `git lfs pull` in its repository.",
    )


def _first_line(head: bytes) -> str:
    line = head.strip().partition(NEWLINE)[0].decode(errors="replace").strip()
    return repr(line if len(line) <= 60 else f"{line[:57]}...")


def _tree(folder: Folder, name: str, format: TableFormat, others: list[str]) -> Unit | None:
    """The tables of a tree at and below a directory; None without any.

    Tables of another form in it are added to `others`.
    """
    for root in format.roots:
        is_inner = root != "."
        if is_inner and root.partition("/")[0] not in folder.folders:
            continue
        top = within(folder.path, root) if is_inner else folder.path
        paths = _files_below(top) if is_inner else [folder.join(file) for file in folder.files]
        files, left = _of_tree(paths, top, name, format, is_certain=is_inner)
        if files:
            others += left
            return Unit(folder.path, top, tuple(files))
    return None


def _of_tree(
    paths: Sequence[str], top: str, name: str, format: TableFormat, *, is_certain: bool
) -> tuple[list[tuple[str, Recognised]], list[str]]:
    """The tables of the format, and others with its names."""
    files, others = [], []
    for path in filter(format.takes, paths):
        table = recognise(place_of(path), head_of(path), {name: format})
        is_taken = table is not None and (is_certain or table.is_certain)
        if table is not None and is_taken and _is_own(path, top, table, format):
            files.append((path, table))
        else:
            others.append(path)
    return files, others


def _is_own(path: str, top: str, table: Recognised, format: TableFormat) -> bool:
    """Whether a table has one metric, with the name of its file or path."""
    if format.key != "path":
        return True
    stamp = format.timestamp.column if format.timestamp else None
    own = [name for name in table.columns if name not in (*format.step, stamp)]
    return len(own) == 1 and own[0] in (stem(path), key_of(path, top))


def key_of(path: str, root: str) -> str:
    """The name of a metric from the path of its table, relative to `root`."""
    inner = path.replace("\\", "/").removeprefix(root.replace("\\", "/")).strip("/")
    return f"{inner.rpartition('/')[0]}/{stem(inner)}".strip("/")


def _files_below(folder: str) -> list[str]:
    """The files at and below a directory or URL; none if it cannot be listed."""
    with suppress(Exception):  # deliberately broad: an unreadable directory has none
        return sorted(walk(folder), key=natural)
    return []
