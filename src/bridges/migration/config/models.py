"""The config models of sources and defaults: reading, filters and names of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bridges import plugins
from bridges.errors import ConfigError
from bridges.huggingface.callback_releases import parse_version
from bridges.migration.config.templates import check_template
from bridges.pipeline.options import LayoutOptions, RunChoices, clock_names, reserved_tag
from bridges.sources.options import ReadChoices

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


MAX_NAME_CHARS = 1000
Template = Annotated[StrictStr, Field(min_length=1), AfterValidator(check_template)]
Name = Annotated[
    StrictStr, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(check_template)
]
Release = Annotated[StrictStr, AfterValidator(_version)]
Rules = Annotated[Mapping[StrictStr, StrictStr], AfterValidator(_rules)]
Patterns = tuple[StrictStr, ...]
Tags = Annotated[Mapping[StrictStr, Template], AfterValidator(_tags)]


class Strict(BaseModel, frozen=True, extra="forbid"):
    """Base of frozen models without unknown keys."""


class KeyFilter(Strict, frozen=True):
    """Selects the metrics that match `include` but not `exclude`."""

    include: Patterns = Field(default=("*",), description="Patterns of the metrics to export.")
    exclude: Patterns = Field(default=(), description="Patterns of the metrics to exclude.")


class StepFilter(Strict, frozen=True):
    """Selects the rows with steps in [first, last]."""

    first: StrictInt | None = Field(default=None, description="The first step to export.")
    last: StrictInt | None = Field(default=None, description="The last step to export.")

    @model_validator(mode="after")
    def _rising(self) -> StepFilter:
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ValueError(
                f"found first {self.first} and last {self.last}; expected first to be no later"
            )
        return self


class Filter(Strict, frozen=True):
    """Selects runs, rows and metrics; all conditions must hold."""

    keys: KeyFilter = Field(default=KeyFilter(), description="The metrics to export.")
    steps: StepFilter = Field(default=StepFilter(), description="The steps to export.")
    min_rows: StrictInt = Field(
        default=0,
        ge=0,
        description="Exclude runs with fewer rows, counted before other filters.",
    )
    params: Mapping[StrictStr, ParamValue | tuple[ParamValue, ...]] = Field(
        default={},
        description="Export runs with these params only: a value, a pattern, or a list of them.",
    )


class RunSettings(Strict, RunChoices, LayoutOptions, ReadChoices, frozen=True):
    """Settings of the runs of one source, or defaults of all sources.

    The base classes have the options of an export.
    """

    @field_validator("clock")
    @classmethod
    def _known_clock(cls, name: str | None) -> str | None:
        if name is None or name in (known := clock_names(name)):
            return name
        *most, last = map(repr, known)
        expected = f"{', '.join(most)} or {last}"
        raise PydanticCustomError("literal_error", "expected {expected}", {"expected": expected})

    name: Name | None = Field(
        default=None, description="Template of the run's name, such as {parent}/{name}."
    )
    group: Name | None = Field(default=None, description="Template of the run's group.")
    experiment: Name | None = Field(
        default=None,
        description="MLflow experiment or W&B project, as a template, if the target has none.",
    )
    tags: Tags = Field(
        default={},
        description="Tags of the runs, as templates; the tags of the defaults are added.",
    )
    filter: Filter = Field(default=Filter(), description="The runs, rows and metrics to export.")
    rename: Rules = Field(
        default={}, description="Pattern of a metric to its new name; each * keeps its text."
    )
    drop: Patterns = Field(default=(), description="Patterns of metrics to exclude.")

    @field_validator("source")
    @classmethod
    def _installed(cls, name: str | None) -> str | None:
        return name and _reader(name)

    @field_validator("callback_version")
    @classmethod
    def _released(cls, text: str | None) -> str | None:
        return text and _version(text)
