"""What sources and defaults may say: how to read runs, which of them, and what to call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from bridges import plugins
from bridges.errors import ConfigError
from bridges.migration.templates import check_template
from bridges.stream.naming import parse_version, reserved_tag

XAxis = Literal["step", "epoch"]
Naming = Literal["live", "raw"]
Duplicates = Literal["all", "first", "last", "error"]
ClockName = Literal["events", "elapsed", "log", "mtimes", "duration", "synthetic"]
ParamValue = StrictBool | StrictInt | StrictFloat | StrictStr


def _version(text: str) -> str:
    try:
        parse_version(text)
    except ConfigError:
        raise ValueError(
            f"found {text!r}; expected a transformers release such as '5.24'"
        ) from None
    return text


def _reader(name: str) -> str:
    try:
        plugins.find("sources", name)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


def _rules(rules: Mapping[str, str]) -> Mapping[str, str]:
    for pattern, name in rules.items():
        if not pattern or not name or name.count("*") != pattern.count("*"):
            raise ValueError(
                f"found {pattern!r}: {name!r}; expected as many * in the new name as in the pattern"
            )
    return rules


def _tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    for key in tags:
        if problem := reserved_tag(key):
            raise ValueError(problem)
    return tags


LONGEST_NAME = 1000  # characters
Template = Annotated[StrictStr, Field(min_length=1), AfterValidator(check_template)]
Name = Annotated[
    StrictStr, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(check_template)
]
Release = Annotated[StrictStr, AfterValidator(_version)]
Reader = Annotated[StrictStr, AfterValidator(_reader)]
Rules = Annotated[Mapping[StrictStr, StrictStr], AfterValidator(_rules)]
Patterns = tuple[StrictStr, ...]
Tags = Annotated[Mapping[StrictStr, Template], AfterValidator(_tags)]


class Strict(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyFilter(Strict):
    """Which metrics: those of `include` that are none of `exclude`."""

    include: Patterns = Field(default=("*",), description="Patterns of the metrics that are taken.")
    exclude: Patterns = Field(default=(), description="Patterns of the metrics that are left out.")


class StepFilter(Strict):
    """Which rows: those whose step lies in [first, last]."""

    first: StrictInt | None = Field(default=None, description="The first step that is taken.")
    last: StrictInt | None = Field(default=None, description="The last step that is taken.")

    @model_validator(mode="after")
    def _rising(self) -> StepFilter:
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ValueError(
                f"found first {self.first} and last {self.last}; expected first to be no later"
            )
        return self


class Filter(Strict):
    """Which runs, rows and metrics are taken. All of its conditions must hold."""

    keys: KeyFilter = Field(default=KeyFilter(), description="Which metrics are taken.")
    steps: StepFilter = Field(default=StepFilter(), description="Which steps are taken.")
    min_rows: StrictInt = Field(
        default=0,
        ge=0,
        description="Leave out runs with fewer rows than this in their whole history.",
    )
    params: Mapping[StrictStr, ParamValue | tuple[ParamValue, ...]] = Field(
        default={},
        description="Take only runs with these params: a value, a pattern, or a list of several.",
    )


class RunSettings(Strict):
    """What may be said of runs: of those of one source, or as a default of all."""

    source: Reader | None = Field(
        default=None,
        description="Read with this source (`bridge targets`) instead of the one that fits.",
    )
    name: Name | None = Field(
        default=None, description="Template of the run's name, such as {parent}/{name}."
    )
    group: Name | None = Field(default=None, description="Template of the run's group.")
    experiment: Name | None = Field(
        default=None,
        description="MLflow experiment or W&B project, as a template, where the target names none.",
    )
    tags: Tags = Field(
        default={}, description="Tags of the runs, as templates; those of the defaults are added."
    )
    filter: Filter = Field(default=Filter(), description="Which runs, rows and metrics are taken.")
    rename: Rules = Field(
        default={}, description="Pattern of a metric to its new name; each * stays what it was."
    )
    drop: Patterns = Field(default=(), description="Patterns of metrics that are left out.")
    params: Patterns = Field(
        default=(), description="Patterns of the params that are written; else all are."
    )
    clock: ClockName | None = Field(
        default=None, description="Where times come from; else the best that there is."
    )
    duplicates: Duplicates = Field(
        default="all", description="What to keep of one metric logged twice at one step."
    )
    x_axis: XAxis = Field(default="step", description="epoch: the step is round(epoch × 1000).")
    naming: Naming = Field(
        default="live", description="Metrics as the live callback names them, or raw."
    )
    callback_version: Release | None = Field(
        default=None, description="Name metrics as this transformers release does, such as '4.57'."
    )
    salvage: StrictBool = Field(
        default=False, description="Read broken files up to their last whole row."
    )
    max_unpacked: PositiveInt | None = Field(
        default=None,
        description="Bytes that a gzip file may unpack to; else 100 times its own, or 64 MiB.",
    )
    redact_home: StrictBool = Field(
        default=False, description="Mask home directories in params, too."
    )
    fill_from_events: StrictBool = Field(
        default=False,
        description="Add rows of an ended training that only its event files hold, where they fit.",
    )
    attach_source: StrictBool = Field(
        default=False, description="Keep the source file beside the run."
    )
    verify: StrictBool = Field(default=True, description="Read every point back and compare it.")
