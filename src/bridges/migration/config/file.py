"""Loads the config file of a migration: YAML or TOML in, a validated MigrationConfig out.

All problems are reported together, each with its line, the value found and the value expected.
Local paths in the file are relative to the file's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from os import PathLike, fspath

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridges.errors import ConfigFileError
from bridges.migration.config.config import Defaults, EngineSpec, MigrationConfig, SourceSpec
from bridges.migration.config.models import Filter, KeyFilter, StepFilter
from bridges.migration.config.targets import TargetSpec
from bridges.migration.config.text import Document, Loc, read_toml_text, read_yaml_text
from bridges.migration.config.values import Problems, complete
from bridges.stream.redact import redact_text

READERS = {".yaml": read_yaml_text, ".yml": read_yaml_text, ".toml": read_toml_text}
MODELS: dict[str, type[BaseModel]] = {
    "defaults": Defaults,
    "sources": SourceSpec,
    "targets": TargetSpec,
    "engine": EngineSpec,
    "filter": Filter,
    "keys": KeyFilter,
    "steps": StepFilter,
}
EXPECTED = {  # pydantic's error types in plain words
    "string_type": "a text",
    "string_too_short": "a non-empty text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "mapping_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "too_short": "at least one",
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
            problems += _problems(error, data, {loc for loc, _ in problems})
    if problems:
        raise ConfigFileError(_messages(file, document, problems))
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
        found = _shown(document.data)
        raise ConfigFileError([f"{file}: found {found}; expected a mapping of keys to values."])
    return document


def _messages(file: str, document: Document, problems: Problems) -> list[str]:
    """The messages, ordered by line."""
    placed = [(document.line(loc) or 0, _place(loc), message) for loc, message in problems]
    unique = sorted(dict.fromkeys(placed), key=lambda each: each[0])
    return [
        f"{file}:{line}: {place}: {message}" if line else f"{file}: {place}: {message}"
        for line, place, message in unique
    ]


def _place(loc: Loc) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


def _problems(error: ValidationError, data: object, known: set[Loc]) -> Problems:
    found: Problems = []
    for one in _flat(error.errors(include_url=False)):
        if one["type"] == "too_short" and one["input"]:
            continue  # its items are wrong, and each has an error
        loc = _location(one["loc"])
        more = one.get("ctx", {}).get("problems")
        each = (
            {(*loc, key): text for key, text in more.items()} if more else {loc: _words(one, loc)}
        )
        found += [(place, text) for place, text in each.items() if place not in known]
    return found


def _flat(errors: Iterable[ErrorDetails]) -> Iterator[ErrorDetails]:
    """The errors, with the errors of a target's options as separate items."""
    for one in errors:
        inner = one.get("ctx", {}).get("errors", ())
        if not inner or one["ctx"]["problems"]:
            yield one
        for each in inner:
            each["loc"] = (*one["loc"], *each["loc"])
            yield each


def _location(loc: Loc) -> Loc:
    """The location of an error, without pydantic's union members of a param."""
    return loc[: loc.index("params") + 2] if "params" in loc else loc


def _words(error: ErrorDetails, loc: Loc) -> str:
    """The message of an error: the value found and the value expected."""
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown(str(loc[-1]), [*_model(loc).model_fields])
    if kind == "missing":
        known = _model(loc).model_fields[str(loc[-1])].description
        return f"found no such key; it is required: {known}"
    if "error" in error.get("ctx", {}):
        text = str(error["ctx"]["error"])
        return text if text.endswith((".", "?")) else f"{text}."
    if kind == "literal_error":
        return _unlisted(value, str(error["ctx"]["expected"]))
    if "params" in loc:
        return f"found {_shown(value)}; expected a value, or a list of values."
    if loc[-1:] == ("callback_version",) and isinstance(value, float):
        return f"found {_shown(value)}; expected a text in quotes: as a number, 4.50 is 4.5."
    if kind == "greater_than_equal":
        return f"found {_shown(value)}; expected no less than {error['ctx']['ge']}."
    if kind == "less_than_equal":
        return f"found {_shown(value)}; expected no more than {error['ctx']['le']:,}."
    if kind == "string_too_long":
        most = error["ctx"]["max_length"]
        return f"found a text of {len(value):,} characters; expected no more than {most:,}."
    expected = EXPECTED.get(kind) or error["msg"].removeprefix("Input should be ")
    return f"found {_shown(value)}; expected {expected}."


def _model(loc: Loc) -> type[BaseModel]:
    """The model of the last key of a location."""
    names = [part for part in loc[:-1] if isinstance(part, str)]
    return MODELS[names[-1]] if names else MigrationConfig


def _unknown(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"found an unknown key; expected one of {', '.join(known)}.{hint}"


def _unlisted(value: object, expected: str) -> str:
    known = [part.strip("'") for part in expected.replace(" or ", ", ").split(", ")]
    near = get_close_matches(str(value), known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"found {_shown(value)}; expected {expected}.{hint}"


def _shown(value: object) -> str:
    """The description of a value in messages, with secrets redacted."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {redact_text(value)[:60]!r}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"the {type(value).__name__} {value}"
