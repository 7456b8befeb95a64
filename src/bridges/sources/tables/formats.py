"""The formats of tables: which files a format claims, and the meaning of their columns.

Built-in formats are in `formats.toml`; users declare further ones in the same form. pydantic checks
these: the built-in ones are read without its import, which takes as long as reading most tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from bridges.option import Option, Options, described

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Unit = Literal["s", "ms", "us", "iso"]
KEY = "tables"  # of the formats in a file
MICROSECONDS = {"s": 1_000_000, "ms": 1000, "us": 1}  # by unit


class _NotEmpty:
    """Marks a text or a list that may not be empty."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: Any = handler(source)
        return {**schema, "min_length": 1}


class _Short(NamedTuple):
    """Marks a value that may be given in a short form. `complete` makes the value of it."""

    complete: Callable[[object], object]

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core.core_schema import no_info_before_validator_function

        return no_info_before_validator_function(self.complete, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        made = handler(schema)
        return {"anyOf": [{"type": "string"}, made]} if made.get("type") == "array" else made


def _as_tuple(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


def _as_elapsed(value: object) -> object:
    return {"columns": value} if isinstance(value, str | list | tuple) else value


Formats = Mapping[str, "TableFormat"]
Names = Annotated[tuple[str, ...], _Short(_as_tuple)]
SomeNames = Annotated[tuple[str, ...], _NotEmpty(), _Short(_as_tuple)]
Text = Annotated[str, _NotEmpty()]


class _Model(Options):
    """Base of the models, which refuse unknown keys."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Timestamp(_Model):
    """A column of times."""

    column: Annotated[Text, Option("The name of the column.")]
    unit: Annotated[Unit, Option("s, ms or us since 1970 UTC, or iso for text.")] = "s"


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Elapsed(_Model):
    """A column of durations since the start."""

    columns: Annotated[SomeNames, Option("The name of the column: the first found.")]
    unit: Annotated[Literal["s", "ms", "us"], Option("Unit of the durations.")] = "s"
    file: Annotated[str, Option("The file with the column, beside the table.")] = ""


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Sign(_Model):
    """A sign of certainty for a format; all conditions must hold."""

    columns: Annotated[Names, Option("Columns of the table.")] = ()
    beside: Annotated[Names, Option("One of these files is in its directory.")] = ()
    parent: Annotated[Names, Option("Patterns of the name of its directory.")] = ()
    pairs: Annotated[str, Option("Each column k has a partner, such as val_{}.")] = ""
    without: Annotated[Names, Option("Columns without a partner.")] = ()


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class TableFormat(_Model):
    """A format of tables."""

    about: Annotated[str, Option("The writing program.")] = ""
    files: Annotated[Names, Option("Patterns of file names; of paths if they have a slash.")]
    format: Annotated[
        Literal["csv", "jsonl"] | None,
        Option("csv or jsonl (JSON lines); by default, as the content is."),
    ] = None
    separators: Annotated[SomeNames, Option("Possible separators of cells.")] = (",", "\t", ";")
    require: Annotated[
        tuple[Names, ...], Option("Required columns, as patterns; of a list one suffices.")
    ] = ()
    first: Annotated[str, Option("The name of the first column.")] = ""
    surely: Annotated[
        tuple[Sign, ...] | None,
        Option(
            "Any of these signs makes the format certain. A scan of a directory reads only "
            "certain files. By default, its files and columns suffice; [] is never certain."
        ),
    ] = None
    step: Annotated[
        Names, Option("The column of the step: the first existing one, else the row.")
    ] = ()
    epoch: Annotated[
        Names, Option("The column of the epoch, for the x-axis: the first existing one.")
    ] = ("epoch",)
    timestamp: Annotated[Timestamp | None, Option("The column of the time.")] = None
    elapsed: Annotated[
        Elapsed | None,
        _Short(_as_elapsed),
        Option("The column of the time since the start, in seconds."),
    ] = None
    missing: Annotated[Names, Option("Cells without a value, as blank ones.")] = ()
    blank: Annotated[
        Literal["absent", "nan"], Option("Cells without a value were not logged, or are NaN.")
    ] = "absent"
    strip: Annotated[bool, Option("Remove blanks around the names of columns.")] = True
    keep: Annotated[Names, Option("Patterns of metrics, if not all columns are.")] = ()
    exclude: Annotated[Names, Option("Patterns of columns which are no metrics.")] = ()
    join: Annotated[
        Literal["directory", "tree"] | None,
        Option("The tables of a directory, or of all directories in it, are one run."),
    ] = None
    roots: Annotated[Names, Option("Where the tables of a tree lie in it.")] = (".",)
    key: Annotated[
        Literal["column", "path"],
        Option("Names of metrics: of their columns, or the path of their table."),
    ] = "column"
    prefix: Annotated[
        str,
        Option(
            "Put before the names of metrics; {stem} is the file's name without suffix, {*} the "
            "text of * in it."
        ),
    ] = ""
    group_by_parent: Annotated[
        Names, Option("Patterns of the directory's name: its parent names the group of the runs.")
    ] = ()
    params: Annotated[Names, Option("Files of settings, relative to the table.")] = ()
    last_step: Annotated[str, Option("The param with the planned number of steps.")] = ""

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


MODELS: Mapping[str, type[Options]] = {
    "timestamp": Timestamp,
    "elapsed": Elapsed,
    "surely": Sign,
}


def model_at(loc: Sequence[str | int]) -> type[Options]:
    """The model of the last key of a location in a format, such as `timestamp.unit`."""
    return MODELS[str(loc[0])] if len(loc) > 1 and loc[0] in MODELS else TableFormat


def _matches(column: str, patterns: Names) -> bool:
    return any(fnmatchcase(column, pattern) for pattern in patterns)


@cache
def built_in() -> Mapping[str, TableFormat]:
    """The built-in formats by name, in the order in which they are tried."""
    text = files("bridges.sources.tables").joinpath("formats.toml").read_text(encoding="utf-8")
    return {name: _format(entry) for name, entry in tomllib.loads(text).items()}


def _format(entry: Mapping[str, Any]) -> TableFormat:
    """The format of a valid entry."""
    made = _with_tuples(TableFormat, entry)
    made["require"] = tuple(map(_as_tuple, entry.get("require", ())))
    if "timestamp" in entry:
        made["timestamp"] = Timestamp(**entry["timestamp"])
    if "elapsed" in entry:
        made["elapsed"] = Elapsed(**_with_tuples(Elapsed, _as_elapsed(entry["elapsed"])))
    if "surely" in entry:
        made["surely"] = tuple(Sign(**_with_tuples(Sign, sign)) for sign in entry["surely"])
    return TableFormat(**made)


def _with_tuples(model: type[Options], entry: Any) -> dict[str, Any]:
    """The values of a model's keys, with a tuple for each list of names."""
    names = {field.name for field in described(model) if field.kind is tuple}
    return {key: _as_tuple(value) if key in names else value for key, value in entry.items()}
