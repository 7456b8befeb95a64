"""A target of a migration: a tracker, the options of its exporter, and how it differs."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator
from pydantic_core import PydanticCustomError

from bridges import plugins
from bridges.errors import BridgeError
from bridges.exporters.base import Exporter
from bridges.migration.models import Duplicates, Naming, Release, Strict, XAxis
from bridges.pipeline import make_exporters

COMMON = ("to", "label", "limit", "x_axis", "naming", "duplicates", "callback_version")
PLACES = ("experiment", "project")  # options that say where in a target a run goes


class TargetSpec(Strict):
    """One target. Keys beyond these are options of a plug-in's exporter."""

    model_config = ConfigDict(frozen=True, extra="allow")

    to: StrictStr = Field(description="tensorboard, mlflow, wandb or a plug-in (`bridge targets`).")
    label: StrictStr = Field(
        default="",
        description="What reports call it; else its kind, numbered where there are several.",
    )
    limit: StrictInt | None = Field(
        default=None, ge=1, description="At most so many runs are written into it at the same time."
    )
    x_axis: XAxis | None = Field(default=None, description="Instead of what the sources say.")
    naming: Naming | None = Field(default=None, description="Instead of what the sources say.")
    duplicates: Duplicates | None = Field(
        default=None, description="Instead of what the sources say."
    )
    callback_version: Release | None = Field(
        default=None, description="Instead of what the sources say."
    )

    logdir: StrictStr | None = Field(
        default=None,
        description="tensorboard: directory that runs go to; ./runs where none is given.",
    )
    tracking_uri: StrictStr | None = Field(
        default=None,
        description="mlflow: sqlite:///PATH, postgresql://… or http(s)://…, without a login.",
    )
    experiment: StrictStr | None = Field(
        default=None, description="mlflow: the experiment of all runs."
    )
    mlflow_writer: Literal["auto", "direct", "client"] | None = Field(
        default=None, description="mlflow: straight into the database, or by the public API."
    )
    force: StrictBool | None = Field(
        default=None, description="mlflow: write runs again that were deleted there."
    )
    project: StrictStr | None = Field(default=None, description="wandb: the project of all runs.")
    entity: StrictStr | None = Field(
        default=None, description="wandb: the entity, a user or a team."
    )
    job_type: StrictStr | None = Field(default=None, description="wandb: job type of the runs.")
    mode: Literal["offline", "online"] | None = Field(
        default=None, description="wandb: files for `wandb sync`, or upload and check."
    )
    wandb_dir: StrictStr | None = Field(
        default=None, description="wandb: offline runs go to the folder wandb in this directory."
    )
    wandb_step: Literal["row", "global_step"] | None = Field(
        default=None, description="wandb: `_step` counts rows, or is the global step."
    )
    wandb_writer: Literal["auto", "direct", "sdk"] | None = Field(
        default=None, description="wandb: write the files ourselves, or by the public API."
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A plain string is short for a target without options."""
        return {"to": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _checked(self) -> TargetSpec:
        problems = option_problems(self.to, self.options)
        if problems:
            text = "; ".join(problems.values()).replace("{", "{{").replace("}", "}}")
            raise PydanticCustomError("options", text, {"problems": problems})
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options that are given to the exporter."""
        declared = {name: getattr(self, name) for name in OPTIONS}
        return {k: v for k, v in {**declared, **(self.model_extra or {})}.items() if v is not None}

    def exporter(self, experiment: str | None = None) -> Exporter:
        """A new exporter; `experiment` is where the run goes unless this target says it itself.

        Raises ConfigError.
        """
        options = self.options
        takes = [name for name in PLACES if name in exporter_options(self.to)]
        if experiment is not None and takes:
            options.setdefault(takes[0], experiment)
        (made,) = make_exporters([self.to], options)
        return made


OPTIONS = tuple(name for name in TargetSpec.model_fields if name not in COMMON)


def exporter_options(to: str) -> tuple[str, ...]:
    """The options of a target's exporter, which is imported for that but not made.

    Raises BridgeError where it is not installed.
    """
    kinds = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    parameters = signature(plugins.find("exporters", to).load()).parameters
    return tuple(name for name, each in parameters.items() if each.kind not in kinds)


def option_problems(to: str, options: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a target's name or options, by the key that is to blame."""
    try:
        taken = exporter_options(to)
    except BridgeError as error:
        return {"to": str(error)}
    return {name: _unknown(to, name, taken) for name in options if name not in taken}


def _unknown(to: str, name: str, taken: tuple[str, ...]) -> str:
    near = get_close_matches(name, [*taken, *COMMON], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"found the key {name!r}, which the target {to} does not take; expected one of "
        f"{', '.join((*COMMON, *taken))}.{hint}"
    )
