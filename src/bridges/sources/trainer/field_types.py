"""Check fields of a history against type hints.

pydantic's core checks them. Its models are not used: their import takes a sixth of a small export.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic_core import CoreSchema, SchemaValidator, core_schema

Int64 = Annotated[int, "int64"]
Number = int | float

INT64 = "an integer between -2^63 and 2^63-1"
_EXPECTED = {  # expected type in messages, by pydantic's error type
    "bool_type": "true, false or null",
    "dict_type": "an object or null",
    "int_type": "an integer or null",
    "float_type": "a number or null",
    "string_type": "text or null",
    "string_unicode": "text without lone surrogates",
}
_SCHEMAS: dict[object, CoreSchema] = {
    Int64: core_schema.int_schema(ge=-(2**63), le=2**63 - 1),
    bool: core_schema.bool_schema(),
    float: core_schema.float_schema(),
    int: core_schema.int_schema(),
    object: core_schema.any_schema(),
    str: core_schema.str_schema(),
}


def validator_of(types: Mapping[str, object], required: Collection[str]) -> SchemaValidator:
    """The strict validator of a dict with fields of these types, which drops other fields.

    A type is one of `_SCHEMAS`, a list or dict of types, or a union of types.
    """
    fields = {
        name: core_schema.typed_dict_field(_schema_of(hint), required=name in required)
        for name, hint in types.items()
    }
    config = core_schema.CoreConfig(strict=True)
    return SchemaValidator(core_schema.typed_dict_schema(fields, config=config))


def _schema_of(hint: object) -> CoreSchema:
    if hint in _SCHEMAS:
        return _SCHEMAS[hint]
    parts, kind = get_args(hint), get_origin(hint)
    schemas = [_schema_of(part) for part in parts if part is not NoneType]
    if kind is list:
        return core_schema.list_schema(*schemas)
    if kind is dict:
        return core_schema.dict_schema(*schemas)
    assert kind in (Union, UnionType), hint
    schema = schemas[0] if len(schemas) == 1 else core_schema.union_schema([*schemas])
    return core_schema.nullable_schema(schema) if NoneType in parts else schema


def expected_type(key: str, error_types: Sequence[str]) -> str:
    """The expected type of a key, for a message, from pydantic's error types."""
    if key == "log_history":
        return "a list of log rows"
    if {"greater_than_equal", "less_than_equal", "int_parsing_size"} & set(error_types):
        return INT64
    words = _EXPECTED.get(error_types[-1], "another value")  # a union's last type is the widest
    return words.removesuffix(" or null") if key in ("global_step", "step") else words
