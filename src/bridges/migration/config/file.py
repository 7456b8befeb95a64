"""Loads the config file of a migration: YAML or TOML in, a validated MigrationConfig out.

All problems are reported together, each with its line, the value found and the value expected.
Local paths in the file are relative to the file's folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike, fspath

from pydantic import BaseModel, ValidationError

from bridges.errors import ConfigFileError
from bridges.migration.config.config import Defaults, EngineSpec, MigrationConfig, SourceSpec
from bridges.migration.config.models import Filter, KeyFilter, StepFilter
from bridges.migration.config.targets import TargetSpec
from bridges.migration.config.values import complete
from bridges.option import Options
from bridges.sources.config_errors import messages, problems_of, shown
from bridges.sources.config_text import READERS, Document, Loc
from bridges.sources.tables.formats import KEY, model_at

MODELS: dict[str, type[BaseModel]] = {
    "defaults": Defaults,
    "sources": SourceSpec,
    "targets": TargetSpec,
    "engine": EngineSpec,
    "filter": Filter,
    "keys": KeyFilter,
    "steps": StepFilter,
}

CONFIG_FILE = f"a config file ({', '.join(READERS)})"
INSTEAD = "For histories and directories, use `bridge export`."


def load(path: str | PathLike[str], environ: Mapping[str, str] = os.environ) -> MigrationConfig:
    """The config in a `.yaml`, `.yml` or `.toml` file. Raises ConfigFileError with all problems."""
    file = fspath(path)
    document = _read(file)
    problems = list(document.problems)
    if not problems:
        folder = os.path.dirname(os.path.abspath(file))
        data, problems = complete(document.data or {}, folder, environ)
        try:
            config = MigrationConfig.model_validate(data)
        except ValidationError as error:
            problems += problems_of(error, _model, {loc for loc, _ in problems})
    if problems:
        raise ConfigFileError(messages(file, document, problems))
    return config


def _read(file: str) -> Document:
    """Parse the file. Raises ConfigFileError if it is not a YAML or TOML mapping."""
    reader = READERS.get(os.path.splitext(file)[1].lower())
    if reader is None:
        suffix = os.path.splitext(file)[1]
        found = f"the suffix {suffix!r}" if suffix else "no suffix"
        found = "a directory" if os.path.isdir(file) else found
        raise ConfigFileError([f"{file}: found {found}; expected {CONFIG_FILE}. {INSTEAD}"])
    try:
        with open(file, "rb") as stream:
            document = reader(stream.read())
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        found = "nothing there" if missing else str(error.strerror or error)
        message = f"{file}: found {found}; expected {CONFIG_FILE}. Check the path."
        raise ConfigFileError([message]) from None
    except ValueError as error:
        raise ConfigFileError([f"{file}: found no config: {error}."]) from None
    if not isinstance(document.data, dict | None):
        found = shown(document.data)
        raise ConfigFileError([f"{file}: found {found}; expected a mapping of keys to values."])
    return document


def _model(loc: Loc) -> type[BaseModel] | type[Options]:
    """The model of the last key of a location."""
    if loc[0] == KEY and len(loc) > 2:
        return model_at(loc[2:])
    names = [part for part in loc[:-1] if isinstance(part, str)]
    return MODELS[names[-1]] if names else MigrationConfig
