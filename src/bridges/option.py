"""Option models: one declaration defines the flag, the config key, its schema and its check.

An option model is a frozen dataclass, a subclass of `Options` with an `Option` in the `Annotated`
type of each field. pydantic can validate it like its own models, but importing it does not import
pydantic, which would double the time of `--help` and of shell completion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from dataclasses import Field as DataclassField
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from bridges.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class Option(NamedTuple):
    """The description of one option, and the bounds of its value.

    `help` is a sentence, `unset` describes the default, `metavar` stands for the value in help
    texts, `flag` is the name on the command line if it differs from the field's, `alias` another
    one, `completes` is the kind of path for shell completion, and `examples` are well-known values
    of an open text.
    """

    help: str
    unset: str = ""
    metavar: str | None = None
    flag: str = ""
    alias: str = ""
    completes: Literal["file", "dir"] | None = None
    examples: tuple[str, ...] = ()
    at_least: int | None = None
    at_most: int | None = None

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: CoreSchema = self._bounded(handler(source))
        return schema

    def _bounded(self, schema: Any) -> Any:
        """The schema with the bounds, and strict: `true` is valid, 'yes' is not."""
        inner = {"nullable": "schema", "tuple": "items_schema"}.get(schema["type"])
        if inner == "items_schema":
            return {**schema, inner: [self._bounded(each) for each in schema[inner]]}
        if inner:
            return {**schema, inner: self._bounded(schema[inner])}
        if schema["type"] == "int":
            bounds = {"ge": self.at_least, "le": self.at_most}
            schema = {**schema, **{k: v for k, v in bounds.items() if v is not None}}
        return {**schema, "strict": True} if schema["type"] in ("str", "int", "bool") else schema

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        default = f" (default: {self.unset})." if self.unset else "."
        made: JsonSchemaValue = {**handler(schema), "description": self.help[:-1] + default}
        if self.examples:
            made["examples"] = [*self.examples]
        return made


class Field(NamedTuple):
    """A field of an option model.

    `kind` is str, int, float, bool, tuple or Mapping; `choices` are its values (empty: any).
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    default: object
    about: Option

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + (self.about.flag or self.name.replace("_", "-"))

    def check(self, value: object) -> None:
        """Raises ConfigError for a value out of bounds or outside the choices."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.flag} {value!r} is not one of {', '.join(self.choices)}")
        if self.kind is int:
            self._check_number(value)

    def _check_number(self, value: object) -> None:
        least, most = self.about.at_least, self.about.at_most
        if not isinstance(value, int):
            raise ConfigError(f"{self.flag} {value!r} is not a whole number")
        if least is not None and value < least:
            raise ConfigError(f"{self.flag} {value!r} is less than {least}")
        if most is not None and value > most:
            raise ConfigError(f"{self.flag} {value!r} is more than {most}")


_DESCRIBED: dict[type, tuple[Field, ...]] = {}


@dataclass(frozen=True, repr=False, eq=False)
class Options:
    """Base class of option models. Raises ConfigError for invalid values.

    A model is a dataclass with `repr=False, eq=False`: it inherits these methods, which a dataclass
    would compile for each model at the start of a command.
    """

    def __repr__(self) -> str:
        values = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))
        return f"{type(self).__qualname__}({', '.join(values)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __post_init__(self) -> None:
        for field in described(type(self)):
            field.check(getattr(self, field.name))

    @classmethod
    def parsed(cls, texts: Mapping[str, str]) -> dict[str, object]:
        """Parse the texts of `-o KEY=VALUE` to values. Raises ConfigError."""
        hints = get_type_hints(cls, include_extras=True)
        return {name: _parsed(name, hints[name], text) for name, text in texts.items()}


def _parsed(name: str, hint: Any, text: str) -> object:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_strings(text)
    except ValidationError as error:
        found = f"the option {name}={text!r}: {error.errors()[0]['msg']}"
        raise ConfigError(found) from None


def described(model: type[Options]) -> tuple[Field, ...]:
    """The fields of a model with an `Option`, in their order."""
    if model not in _DESCRIBED:
        hints = get_type_hints(model, include_extras=True)
        _DESCRIBED[model] = tuple(
            Field(each.name, *kind_of(get_args(hints[each.name])[0]), _default(each), about)
            for each in fields(model)
            for about in getattr(hints[each.name], "__metadata__", ())
            if isinstance(about, Option)
        )
    return _DESCRIBED[model]


def names(model: type[Options]) -> tuple[str, ...]:
    """The names of the described fields."""
    return tuple(field.name for field in described(model))


def _default(field: DataclassField[Any]) -> object:
    return None if field.default is MISSING else field.default


def kind_of(hint: Any) -> tuple[type, tuple[str, ...]]:
    """The type of a hint without None, and its choices."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) is Literal:
        return str, get_args(hint)
    return get_origin(hint) or hint, ()
