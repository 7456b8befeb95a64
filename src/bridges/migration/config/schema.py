"""The JSON Schema of a config, for completion and checks in editors."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from bridges.exporters.built_in import MODELS
from bridges.exporters.factory import model_of
from bridges.migration.config.config import MigrationConfig
from bridges.migration.config.targets import COMMON

SHORT = {  # models with the value of one key as short form
    "SourceSpec": "location",
    "TargetSpec": "to",
    "Elapsed": "columns",
}

FORM = ("type", "anyOf", "description")


def config_schema() -> dict[str, Any]:
    """The schema, with the short form as alternative of the models in SHORT."""
    schema = MigrationConfig.model_json_schema()
    for name, key in SHORT.items():
        model = schema["$defs"][name]
        text = {name: each for name, each in model["properties"][key].items() if name in FORM}
        kinds = _targets(model) if name == "TargetSpec" else [model]
        schema["$defs"][name] = {"title": name, "anyOf": [text, *kinds]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the text of `bridge schema`."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def _targets(model: dict[str, Any]) -> list[dict[str, Any]]:
    """One object for each built-in target with its options, and one for plug-ins."""
    common = {name: model["properties"][name] for name in COMMON}
    known = [_target(name, common, model) for name in sorted(MODELS)]
    other = {**common["to"], "not": {"enum": sorted(MODELS)}}
    plug_in = {**model, "title": "plug-in", "properties": {**common, "to": other}}
    return [*known, plug_in]


def _target(name: str, common: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    options = TypeAdapter(model_of(name)).json_schema()["properties"]
    properties = {**common, "to": {**common["to"], "const": name}, **options}
    return {**model, "title": name, "properties": properties, "additionalProperties": False}
