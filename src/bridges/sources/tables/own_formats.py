"""The formats to read tables with: the built-in ones, and those that users declare."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from bridges.errors import BridgeError, ConfigError, ConfigFileError
from bridges.sources.fetch import fetch
from bridges.sources.options import ReadOptions
from bridges.sources.tables.formats import KEY, Formats, TableFormat, built_in, model_at

if TYPE_CHECKING:
    from bridges.option import Options
    from bridges.sources.config_text import Document, Loc

MAX_BYTES = 250_000
SUFFIXES = (".yaml", ".yml", ".toml")


def formats_of(options: ReadOptions) -> tuple[Formats, str | None]:
    """The formats to read with, the user's first, and the name of the chosen one, if any.

    Raises ConfigError.
    """
    own, choice, chosen = declared(options), options.format, options.format
    if choice is not None and _is_file(choice):
        chosen = _chosen(choice)
    elif choice is not None and choice not in {**own, **built_in()}:
        known = ", ".join({**own, **built_in()})
        raise ConfigError(
            f"--format {choice!r}: expected {known}, or a YAML or TOML file with the key {KEY!r}"
        )
    return {**own, **built_in(), **own}, chosen


def declared(options: ReadOptions) -> Formats:
    """The formats that the user declares. Raises ConfigError."""
    own = {name: each for name, each in options.tables if isinstance(each, TableFormat)}
    if options.format is None or not _is_file(options.format):
        return own
    path = options.format.partition("#")[0]
    return {**own, **_read(path, _changed(path))}


def in_trees(options: ReadOptions) -> Formats:
    """The formats for the files in directories; a chosen one is certain by its name."""
    formats, chosen = formats_of(options)
    if chosen is None:
        return formats
    return {chosen: replace(formats[chosen], surely=None)}


def _is_file(choice: str) -> bool:
    return choice.partition("#")[0].lower().endswith(SUFFIXES)


def _chosen(choice: str) -> str | None:
    """The format that `FILE#NAME` chooses, or the only one in `FILE`. Raises ConfigError."""
    path, _, name = choice.partition("#")
    found = _read(path, _changed(path))
    if name and name not in found:
        raise ConfigError(f"--format {choice!r}: {path} has the formats {', '.join(found)}")
    return name or (next(iter(found)) if len(found) == 1 else None)


@lru_cache(maxsize=16)
def _read(path: str, changed: int) -> Formats:
    """The formats in a file. Raises ConfigError."""
    from pydantic import TypeAdapter, ValidationError  # not needed without a file

    from bridges.sources.config_errors import messages, problems_of

    document = _document(path)
    found = document.data.get(KEY) if isinstance(document.data, dict) else None
    problems = [*document.problems]
    if not problems and not (isinstance(found, dict) and found):
        raise ConfigError(
            f"--format {path}: found no formats; expected the key {KEY!r} with a format by name"
        )
    if not problems:
        try:
            return TypeAdapter(dict[str, TableFormat]).validate_python(found)
        except ValidationError as error:
            problems += [((KEY, *loc), text) for loc, text in problems_of(error, _model)]
    raise ConfigFileError([f"--format {text}" for text in messages(path, document, problems)])


def _model(loc: Loc) -> type[Options]:
    return model_at(loc[1:])


def _document(path: str) -> Document:
    """The text of a file, parsed. Raises ConfigError."""
    from bridges.sources.config_text import READERS

    suffix = os.path.splitext(path)[1].lower()
    try:
        return READERS[suffix](fetch(path, MAX_BYTES, "a file with formats of tables"))
    except BridgeError as error:
        raise ConfigError(f"--format {error}") from None
    except ValueError as error:
        raise ConfigError(f"--format {path}: {error}") from None


def _changed(path: str) -> int:
    """The time of the last change of a local file; 0 for other files."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
