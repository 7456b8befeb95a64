"""The formats of tables: which files a format claims, and the meaning of their columns.

Built-in formats are in `formats.toml`; users declare further ones in the same form.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Unit = Literal["s", "ms", "us", "iso"]
KEY = "tables"  # of the formats in a file
MICROSECONDS = {"s": 1_000_000, "ms": 1000, "us": 1}  # by unit


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_elapsed(value: object) -> object:
    return {"columns": value} if isinstance(value, str | list | tuple) else value


_NAMES_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Formats = Mapping[str, "TableFormat"]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), WithJsonSchema(_NAMES_SCHEMA)]


class _Model(BaseModel, frozen=True, extra="forbid"):
    """Base of frozen models without unknown keys."""


class Timestamp(_Model, frozen=True):
    """A column of times."""

    column: str = Field(min_length=1, description="The name of the column.")
    unit: Unit = Field(default="s", description="s, ms or us since 1970 UTC, or iso for text.")


class Elapsed(_Model, frozen=True):
    """A column of durations since the start."""

    columns: Names = Field(min_length=1, description="The name of the column: the first found.")
    unit: Literal["s", "ms", "us"] = Field(default="s", description="Unit of the durations.")
    file: str = Field(default="", description="The file with the column, beside the table.")


class Sign(_Model, frozen=True):
    """A sign of certainty for a format; all conditions must hold."""

    columns: Names = Field(default=(), description="Columns of the table.")
    beside: Names = Field(default=(), description="One of these files is in its directory.")
    parent: Names = Field(default=(), description="Patterns of the name of its directory.")
    pairs: str = Field(default="", description="Each column k has a partner, such as val_{}.")
    without: Names = Field(default=(), description="Columns without a partner.")


class TableFormat(_Model, frozen=True):
    """A format of tables."""

    about: str = Field(default="", description="The writing program.")
    files: Names = Field(description="Patterns of file names; of paths if they have a slash.")
    format: Literal["csv", "jsonl"] | None = Field(
        default=None, description="csv or jsonl (JSON lines); by default, as the content is."
    )
    separators: Names = Field(
        default=(",", "\t", ";"), min_length=1, description="Possible separators of cells."
    )
    require: tuple[Names, ...] = Field(
        default=(), description="Required columns, as patterns; of a list one suffices."
    )
    first: str = Field(default="", description="The name of the first column.")
    surely: tuple[Sign, ...] | None = Field(
        default=None,
        description="Any of these signs makes the format certain. A scan of a directory reads only "
        "certain files. By default, its files and columns suffice; [] is never certain.",
    )
    step: Names = Field(
        default=(), description="The column of the step: the first existing one, else the row."
    )
    epoch: Names = Field(
        default=("epoch",),
        description="The column of the epoch, for the x-axis: the first existing one.",
    )
    timestamp: Timestamp | None = Field(default=None, description="The column of the time.")
    elapsed: Annotated[Elapsed | None, BeforeValidator(_as_elapsed)] = Field(
        default=None, description="The column of the time since the start, in seconds."
    )
    missing: Names = Field(default=(), description="Cells without a value, as blank ones.")
    blank: Literal["absent", "nan"] = Field(
        default="absent", description="Cells without a value were not logged, or are NaN."
    )
    strip: bool = Field(default=True, description="Remove blanks around the names of columns.")
    keep: Names = Field(default=(), description="Patterns of metrics, if not all columns are.")
    exclude: Names = Field(default=(), description="Patterns of columns which are no metrics.")
    join: Literal["directory", "tree"] | None = Field(
        default=None,
        description="The tables of a directory, or of all directories in it, are one run.",
    )
    roots: Names = Field(default=(".",), description="Where the tables of a tree lie in it.")
    key: Literal["column", "path"] = Field(
        default="column",
        description="Names of metrics: of their columns, or the path of their table.",
    )
    prefix: str = Field(
        default="",
        description="Put before the names of metrics; {stem} is the file's name without suffix, {*}"
        " the text of * in it.",
    )
    group_by_parent: Names = Field(
        default=(),
        description="Patterns of the directory's name: its parent names the group of the runs.",
    )
    params: Names = Field(default=(), description="Files of settings, relative to the table.")
    last_step: str = Field(default="", description="The param with the planned number of steps.")

    def takes(self, path: str) -> bool:
        """Whether the path of a file matches one of the patterns, compressed or not."""
        path = path.replace("\\", "/").removesuffix(".gz")
        name = path.rpartition("/")[2]
        return any(
            fnmatchcase(path, f"*/{pattern}") or fnmatchcase(path, pattern)
            if "/" in pattern
            else fnmatchcase(name, pattern)
            for pattern in self.files
        )

    def lacks(self, columns: Iterable[str]) -> str:
        """An absent required column; empty without one."""
        known = [*columns]
        if self.first and known[:1] != [self.first]:
            return f"{self.first} as the first column"
        for names in self.require:
            if not any(fnmatchcase(column, name) for name in names for column in known):
                return " or ".join(names)
        return ""

    def is_metric(self, column: str) -> bool:
        """Whether a column is a metric, unless it is the step's or a time's."""
        if self.keep and not _matches(column, self.keep):
            return False
        return not _matches(column, self.exclude)


MODELS: Mapping[str, type[BaseModel]] = {
    "timestamp": Timestamp,
    "elapsed": Elapsed,
    "surely": Sign,
}


def model_at(loc: Sequence[str | int]) -> type[BaseModel]:
    """The model of the last key of a location in a format, such as `timestamp.unit`."""
    return MODELS[str(loc[0])] if len(loc) > 1 and loc[0] in MODELS else TableFormat


def _matches(column: str, patterns: Names) -> bool:
    return any(fnmatchcase(column, pattern) for pattern in patterns)


@cache
def built_in() -> Mapping[str, TableFormat]:
    """The built-in formats by name, in the order in which they are tried."""
    text = files("bridges.sources.tables").joinpath("formats.toml").read_text(encoding="utf-8")
    return {name: TableFormat.model_validate(entry) for name, entry in tomllib.loads(text).items()}
