"""Messages for the errors in a config file: line, key, value found, value expected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridges.option import Options, described
from bridges.sources.config_text import Document, Loc
from bridges.stream.redact import redact_text

Problems = list[tuple[Loc, str]]
Model = type[BaseModel] | type[Options]
ModelOf = Callable[[Loc], Model]  # the model of the last key of a location
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
    "dataclass_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "too_short": "at least one",
}


def messages(file: str, document: Document, problems: Iterable[tuple[Loc, str]]) -> list[str]:
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


def problems_of(error: ValidationError, model_of: ModelOf, known: Collection[Loc] = ()) -> Problems:
    """The problems that a model found; those at `known` locations are left out."""
    found: Problems = []
    for one in _flat(error.errors(include_url=False)):
        if one["type"] == "too_short" and one["input"]:
            continue  # its items are wrong, and each has an error
        loc = _location(one["loc"])
        more = one.get("ctx", {}).get("problems")
        each = (
            {(*loc, *_keys(key)): text for key, text in more.items()}
            if more
            else {loc: _words(one, loc, model_of)}
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


def _keys(key: str | Loc) -> Loc:
    return (key,) if isinstance(key, str) else key


def _location(loc: Loc) -> Loc:
    """The location of an error, without pydantic's union members of a param."""
    return loc[: loc.index("params") + 2] if "params" in loc else loc


def _words(error: ErrorDetails, loc: Loc, model_of: ModelOf) -> str:
    """The message of an error: the value found and the value expected."""
    kind, value = error["type"], error["input"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown(str(loc[-1]), [*_keys_of(model_of(loc))])
    if kind == "missing":
        known = _keys_of(model_of(loc))[str(loc[-1])]
        return f"found no such key; it is required: {known}"
    if "error" in error.get("ctx", {}):
        text = str(error["ctx"]["error"])
        return text if text.endswith((".", "?")) else f"{text}."
    if kind == "literal_error":
        return _unlisted(value, str(error["ctx"]["expected"]))
    if "params" in loc:
        return f"found {shown(value)}; expected a value, or a list of values."
    if loc[-1:] == ("callback_version",) and isinstance(value, float):
        return f"found {shown(value)}; expected a text in quotes: as a number, 4.50 is 4.5."
    if kind == "greater_than_equal":
        return f"found {shown(value)}; expected no less than {error['ctx']['ge']}."
    if kind == "less_than_equal":
        return f"found {shown(value)}; expected no more than {error['ctx']['le']:,}."
    if kind == "string_too_long":
        most = error["ctx"]["max_length"]
        return f"found a text of {len(value):,} characters; expected no more than {most:,}."
    expected = EXPECTED.get(kind) or error["msg"].removeprefix("Input should be ")
    return f"found {shown(value)}; expected {expected}."


def _keys_of(model: Model) -> dict[str, str | None]:
    """The description of each key of a model."""
    if issubclass(model, BaseModel):
        return {name: field.description for name, field in model.model_fields.items()}
    return {field.name: field.about.help for field in described(model)}


def _unknown(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"found an unknown key; expected one of {', '.join(known)}.{hint}"


def _unlisted(value: object, expected: str) -> str:
    known = [part.strip("'") for part in expected.replace(" or ", ", ").split(", ")]
    near = get_close_matches(str(value), known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"found {shown(value)}; expected {expected}.{hint}"


def shown(value: object) -> str:
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
