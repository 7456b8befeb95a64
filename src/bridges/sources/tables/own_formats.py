"""The formats to read tables with: the built-in ones, and those of a user's file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache

from pydantic import ValidationError

from bridges.errors import BridgeError, ConfigError
from bridges.sources.fetch import fetch
from bridges.sources.sidecars.yaml_settings import read_yaml
from bridges.sources.tables.formats import TableFormat, built_in

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 250_000
SUFFIXES = (".yaml", ".yml", ".toml")
KEY = "tables"  # of the formats in a file


def formats_of(choice: str | None) -> tuple[Mapping[str, TableFormat], str | None]:
    """The formats for `--format`, the user's first, and the name of the chosen one, if any.

    `choice`: the name of a built-in format, or a YAML or TOML file with the key `tables`, with
    `#NAME` behind it if one of its formats is meant. Raises ConfigError.
    """
    if choice is None:
        return built_in(), None
    path, _, name = choice.partition("#")
    if not path.lower().endswith(SUFFIXES):
        if choice not in built_in():
            raise ConfigError(
                f"--format {choice!r}: expected {', '.join(built_in())}, or a YAML or TOML file "
                f"with the key {KEY!r}"
            )
        return built_in(), choice
    own = _read(path, _changed(path))
    if name and name not in own:
        raise ConfigError(f"--format {choice!r}: {path} has the formats {', '.join(own)}")
    chosen = name or (next(iter(own)) if len(own) == 1 else None)
    return {**own, **built_in(), **own}, chosen


@lru_cache(maxsize=16)
def _read(path: str, changed: int) -> Mapping[str, TableFormat]:
    """The formats in a file. Raises ConfigError."""
    try:
        data = fetch(path, MAX_BYTES, "a file with formats of tables")
        is_toml = path.lower().endswith(".toml")
        found = tomllib.loads(data.decode()) if is_toml else read_yaml(data)
    except (BridgeError, ValueError, TypeError) as error:
        raise ConfigError(f"--format {path}: {error}") from None
    entries = found.get(KEY)
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(
            f"--format {path}: found no formats; expected the key {KEY!r} with a format by name"
        )
    return {str(name): parsed(path, str(name), entry) for name, entry in entries.items()}


def parsed(path: str, name: str, entry: object) -> TableFormat:
    """A format in a file. Raises ConfigError."""
    try:
        return TableFormat.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, (KEY, name, *first["loc"])))
        raise ConfigError(f"--format {path}: {place}: {first['msg']}") from None


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
