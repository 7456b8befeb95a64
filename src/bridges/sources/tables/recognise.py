"""Which format a table has: by its name, its columns, and the values of its first rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

from pydantic_core import from_json

from bridges.sources.tables.cells import rows_of
from bridges.sources.tables.formats import Sign, TableFormat
from bridges.sources.tables.json_rows import row_of
from bridges.sources.tables.numbers import is_number
from bridges.sources.tables.text import BOM, NEWLINE, body_start, with_plain_ends

HEAD_BYTES = 1 << 16
FIRST_ROWS = 5
_SUFFIX = re.compile(r"(\.(csv|tsv|log|txt|jsonl|ndjson|json))?(\.gz)?\Z")


@dataclass(frozen=True)
class Recognised:
    """The format of a table, its columns, and the reason in words.

    separator: of the cells; empty for JSON lines
    is_certain: whether a directory's scan reads it
    """

    name: str
    format: TableFormat
    columns: tuple[str, ...]
    separator: str
    is_certain: bool
    why: str


@dataclass(frozen=True)
class Place:
    """A file, and a function `has`: whether a file such as `../NAME` lies beside it."""

    path: str
    has: Callable[[str], bool] = lambda name: False

    @property
    def parent(self) -> str:
        """The name of its directory."""
        return self.path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]


def recognise(
    place: Place, head: bytes, formats: Mapping[str, TableFormat], chosen: str | None = None
) -> Recognised | None:
    """The first format of a file, certain ones first; None if it has none.

    `head`: the first bytes of the file, unpacked. `chosen`: the name of the format, if given.
    """
    head = with_plain_ends(head.removeprefix(BOM))
    head = head[body_start(head) :]
    if chosen is not None:
        return _as(chosen, formats[chosen], place, head, is_chosen=True)
    possible = [
        found
        for name, each in formats.items()
        if each.takes(place.path) and (found := _as(name, each, place, head))
    ]
    return next((each for each in possible if each.is_certain), possible[0] if possible else None)


def _as(
    name: str, format: TableFormat, place: Place, head: bytes, *, is_chosen: bool = False
) -> Recognised | None:
    """The file as a table of this format; None if it is not one."""
    is_json = head.lstrip()[:1] == b"{"
    if format.format not in (None, "jsonl" if is_json else "csv"):
        return None
    separator = "" if is_json else _separator(head, format.separators)
    columns = _json_columns(head) if is_json else _columns(head, separator, format.strip)
    if not columns or (not is_chosen and format.lacks(columns)):
        return None
    why = _sign_of(format, columns, place)
    if is_chosen:
        why = "as it was chosen"
    is_certain = bool(why) and (is_json or _has_good_rows(head, separator, columns, format))
    return Recognised(name, format, columns, separator, is_certain, why)


def _sign_of(format: TableFormat, columns: Sequence[str], place: Place) -> str:
    """The first sign of certainty in words; empty without one."""
    named = f"its name is {place.path.replace(chr(92), '/').rpartition('/')[2]}"
    required = [name for names in format.require for name in names[:1]]
    known = f"{named} and its columns have {', '.join(required)}" if required else named
    if format.surely is None:
        return known
    found = next((why for sign in format.surely if (why := _why(sign, columns, place))), "")
    return f"{known}, {found}" if found else ""


def _why(sign: Sign, columns: Sequence[str], place: Place) -> str:
    """A sign in words if a file has it, else empty."""
    words = []
    if sign.columns:
        words += [f"with {' and '.join(sign.columns)}"] if {*sign.columns} <= {*columns} else [""]
    if sign.beside:
        words += [next((f"beside {name}" for name in sign.beside if place.has(name)), "")]
    if sign.parent:
        is_inside = any(fnmatchcase(place.parent, pattern) for pattern in sign.parent)
        words += [f"in {place.parent}" if is_inside else ""]
    if sign.pairs:
        own = [name for name in columns[1:] if name not in sign.without]
        words += ["each with its validation column" if _is_paired(own, sign.pairs) else ""]
    return ", ".join(words) if all(words) else ""


def _is_paired(columns: Sequence[str], pairs: str) -> bool:
    """Whether each column has its partner behind it, and the others are sorted."""
    known = {*columns}
    partners = {pairs.format(name) for name in columns}
    own = [name for name in columns if name not in partners]
    return own == sorted(own) and bool(own) and all(pairs.format(name) in known for name in own)


def _separator(head: bytes, separators: Sequence[str]) -> str:
    """The most frequent separator in the first line."""
    first = head.lstrip().partition(NEWLINE)[0].decode(errors="replace")
    return max(separators, key=first.count)


def _columns(head: bytes, separator: str, strip: bool) -> tuple[str, ...]:
    """The names in the first filled row."""
    first = next(iter(rows_of(head.lstrip().partition(NEWLINE)[0] + NEWLINE, separator)), None)
    return tuple(cell.strip() if strip else cell for cell in first[1]) if first else ()


def _json_columns(head: bytes) -> tuple[str, ...]:
    """The keys of the first objects; none if the first line is not an object."""
    rows = [_json_row(line) for line in head.lstrip().split(NEWLINE)[:FIRST_ROWS]]
    if not rows[0]:
        return ()
    return tuple(dict.fromkeys(str(key) for row in rows for key in row))


def _json_row(line: bytes) -> Mapping[str, object]:
    """The object in a line; empty for other lines."""
    try:
        row = from_json(line, allow_partial=True)
    except ValueError:
        return row_of(line) or {}
    return row if isinstance(row, dict) else {}


def _has_good_rows(
    head: bytes, separator: str, columns: Sequence[str], format: TableFormat
) -> bool:
    """Whether the first row has the width of the header, and the first steps are numbers."""
    whole = head[: head.rfind(NEWLINE) + 1]
    found = (cells for _, cells in islice(rows_of(whole, separator), 1, FIRST_ROWS + 1))
    names = [name.strip() for name in columns]
    rows = [cells for cells in found if [cell.strip() for cell in cells] != names]
    if rows and len(rows[0]) != len(columns):
        return False
    step = next((columns.index(name) for name in format.step if name in columns), None)
    steps = [cells[step] for cells in rows if step is not None and len(cells) == len(columns)]
    return all(not cell.strip() or is_number(cell.strip()) for cell in steps)


def stem(path: str) -> str:
    """The name of a file without its suffix."""
    return _SUFFIX.sub("", path.replace("\\", "/").rpartition("/")[2])
