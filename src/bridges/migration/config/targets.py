"""The config model of a target: a tracker, its exporter options, and overrides of the sources."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import (
    Field,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from bridges import plugins
from bridges.errors import BridgeError, ConfigError
from bridges.exporters.base import Exporter
from bridges.exporters.built_in import MODELS
from bridges.exporters.factory import make_exporters, model_of, option_names
from bridges.migration.config.models import Release, Strict
from bridges.option_names import CONFIG_KEYS
from bridges.stream.options import Duplicates, Style, XAxis

PLACES = ("experiment", "project")  # options for the location of a run in a target
OVERRIDE = Field(default=None, description="Overrides the choice of the sources.")


class TargetSpec(Strict, frozen=True, extra="allow"):
    """One target; its extra keys are options of its exporter."""

    to: StrictStr = Field(description=f"{', '.join(MODELS)} or a plug-in (`bridge targets`).")
    label: StrictStr = Field(
        default="",
        description="Name of the target in reports (default: its kind, numbered if repeated).",
    )
    limit: StrictInt | None = Field(
        default=None, ge=1, description="Maximum number of runs written at the same time."
    )
    x_axis: XAxis | None = OVERRIDE
    naming: Style | None = OVERRIDE
    duplicates: Duplicates | None = OVERRIDE
    callback_version: Release | None = OVERRIDE

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        """A plain string is short for a target without options."""
        return {"to": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _checked(self) -> TargetSpec:
        problems, errors = _problems(self.to, self.options)
        if problems or errors:
            words = [*problems.values(), *(f"{each['loc'][0]}: {each['msg']}" for each in errors)]
            text = "; ".join(words).replace("{", "{{").replace("}", "}}")
            raise PydanticCustomError("options", text, {"problems": problems, "errors": errors})
        return self

    @property
    def options(self) -> dict[str, object]:
        """The options of the exporter."""
        return {k: v for k, v in (self.model_extra or {}).items() if v is not None}

    @property
    def owns_directory(self) -> bool:
        """Whether its exporter has a directory of its own."""
        return hasattr(plugins.find("exporters", self.to).load(), "own_directory")

    def exporter(self, experiment: str | None = None) -> Exporter:
        """A new exporter. `experiment` applies if the target sets none. Raises ConfigError."""
        options = self.options
        takes = [name for name in PLACES if name in option_names(self.to)]
        if experiment is not None and takes:
            options.setdefault(takes[0], experiment)
        (made,) = make_exporters([self.to], options)
        return made


COMMON = tuple(TargetSpec.model_fields)


def _problems(to: str, options: Mapping[str, object]) -> tuple[dict[str, str], list[ErrorDetails]]:
    """The problems of a target: messages by key, and the errors of its options model."""
    try:
        taken, model = option_names(to), model_of(to)
    except BridgeError as error:
        return {"to": CONFIG_KEYS.message(str(error))}, []
    unknown = {name: _unknown(to, name, taken) for name in options if name not in taken}
    if model is None:
        return unknown, []
    try:
        TypeAdapter(model).validate_python({k: v for k, v in options.items() if k in taken})
    except ValidationError as error:
        return unknown, error.errors(include_url=False)
    except ConfigError as error:
        return {**unknown, "to": CONFIG_KEYS.message(str(error))}, []
    return unknown, []


def _unknown(to: str, name: str, taken: tuple[str, ...]) -> str:
    near = get_close_matches(name, [*taken, *COMMON], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"found the unknown key {name!r} for the target {to}; expected one of "
        f"{', '.join((*COMMON, *taken))}.{hint}"
    )
