"""Exporters from their names and options.

The attribute `Options` of an exporter class is the model of its options: a subclass of
`bridges.option.Options`, a pydantic model or a dataclass. The class is built with an instance of
it. A class without a model gets the options as keyword arguments.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, TypeVar

from bridges import plugins
from bridges.errors import ConfigError
from bridges.exporters.base import Exporter, OwnsDirectory
from bridges.option import Options

V = TypeVar("V")


def model_of(target: str) -> Any:
    """The model of a target's options; None if its exporter has none.

    Imports the exporter. Raises BridgeError if it is not installed.
    """
    return getattr(plugins.find("exporters", target).load(), "Options", None)


def option_names(target: str) -> tuple[str, ...]:
    """The names of a target's options. Raises BridgeError if its exporter is not installed."""
    model = model_of(target)
    if model is None:
        made = plugins.find("exporters", target).load()
        kinds = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        given = signature(made).parameters.items()
        return tuple(name for name, each in given if each.kind not in kinds)
    if dataclasses.is_dataclass(model):
        return tuple(each.name for each in dataclasses.fields(model))
    return tuple(model.model_fields)


def make_exporters(
    targets: Sequence[str],
    options: Mapping[str, object],
    texts: Mapping[str, str] | None = None,
    others: Sequence[str] = (),
) -> list[Exporter]:
    """The exporters of these names; each gets the options that it accepts.

    `texts` are options with unparsed values, from `-o KEY=VALUE`; `others` are names of options
    that are no target's, for suggestions. Raises ConfigError for a missing target, an unknown
    option and an illegal value.
    """
    texts = texts or {}
    taken = [option_names(target) for target in targets]
    unknown = {*options, *texts}.difference(*taken)
    if unknown:
        raise _unknown(min(unknown), targets, sorted(set().union(*taken)), others)
    exporters = [
        _made(target, _taken(options, names), _taken(texts, names))
        for target, names in zip(targets, taken, strict=True)
    ]
    require_own_directories(exporters)
    return exporters


def require_own_directories(exporters: Sequence[Exporter]) -> None:
    """Raises ConfigError if two targets share a directory that is to be of one target."""
    owners: dict[str, Exporter] = {}
    for exporter in exporters:
        if isinstance(exporter, OwnsDirectory):
            path = exporter.own_directory
            owner = owners.setdefault(os.path.realpath(path), exporter)
            if owner.name != exporter.name:
                raise ConfigError(
                    f"--out {path}: found the targets {owner.name} and {exporter.name}; expected "
                    "a directory for each. Give each its own --out (on the command line: in two "
                    "exports), or leave --out away."
                )


def _unknown(
    option: str, targets: Sequence[str], known: Sequence[str], others: Sequence[str]
) -> ConfigError:
    import difflib

    near = difflib.get_close_matches(option, [*known, *others], 1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return ConfigError(
        f"unknown option {option!r} for {', '.join(targets)}. "
        f"{hint}Options: {', '.join(known) or 'none'}."
    )


def _taken(options: Mapping[str, V], names: Sequence[str]) -> dict[str, V]:
    return {name: value for name, value in options.items() if name in names}


def _made(target: str, options: Mapping[str, object], texts: Mapping[str, str]) -> Exporter:
    made, model = plugins.find("exporters", target).load(), model_of(target)
    if model is None:
        exporter: Exporter = made(**{**options, **texts})
    elif issubclass(model, Options):
        exporter = made(model(**{**options, **model.parsed(texts)}))
    else:
        exporter = made(_validated(target, model, {**options, **texts}))
    return exporter


def _validated(target: str, model: Any, options: Mapping[str, object]) -> object:
    """The options as a plug-in's own model. Raises ConfigError."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(model).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"the option {name!r} of the target {target}: {first['msg']}") from None
