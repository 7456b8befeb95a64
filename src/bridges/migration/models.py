"""What sources and defaults may say: how to read runs, which of them, and what to call them."""

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

from bridges import plugins
from bridges.errors import ConfigError
from bridges.export_options import RunChoices
from bridges.exporters.reserved_tags import reserved_tag
from bridges.migration.templates import check_template
from bridges.sources.options import ReadChoices
from bridges.stream.options import LayoutOptions, parse_version

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
Rules = Annotated[Mapping[StrictStr, StrictStr], AfterValidator(_rules)]
Patterns = tuple[StrictStr, ...]
Tags = Annotated[Mapping[StrictStr, Template], AfterValidator(_tags)]


class Strict(BaseModel, frozen=True, extra="forbid"):
    """Frozen, and no key that it does not know."""


class KeyFilter(Strict, frozen=True):
    """Which metrics: those of `include` that are none of `exclude`."""

    include: Patterns = Field(default=("*",), description="Patterns of the metrics that are taken.")
    exclude: Patterns = Field(default=(), description="Patterns of the metrics that are left out.")


class StepFilter(Strict, frozen=True):
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


class Filter(Strict, frozen=True):
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


class RunSettings(Strict, RunChoices, LayoutOptions, ReadChoices, frozen=True):
    """What a config can set for the runs of one source, or as a default of all.

    The choices of an export are those of `bridges.export_options`.
    """

    name: Name | None = Field(
        default=None, description="Template of the run's name, such as {parent}/{name}."
    )
    group: Name | None = Field(default=None, description="Template of the run's group.")
    experiment: Name | None = Field(
        default=None,
        description="MLflow experiment or W&B project, as a template, if the target has none.",
    )
    tags: Tags = Field(
        default={}, description="Tags of the runs, as templates; those of the defaults are added."
    )
    filter: Filter = Field(default=Filter(), description="Which runs, rows and metrics to export.")
    rename: Rules = Field(
        default={}, description="Pattern of a metric to its new name; each * keeps its text."
    )
    drop: Patterns = Field(default=(), description="Patterns of metrics to leave out.")

    @field_validator("source")
    @classmethod
    def _installed(cls, name: str | None) -> str | None:
        return name and _reader(name)

    @field_validator("callback_version")
    @classmethod
    def _released(cls, text: str | None) -> str | None:
        return text and _version(text)
