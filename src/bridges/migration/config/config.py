"""The config of a migration: sources, targets and engine.

The models are frozen and can be pickled, because they are sent to workers. The settings of a target
override a source's, and a source's settings override the defaults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from pydantic import (
    Field,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bridges.errors import ConfigError
from bridges.exporters.factory import require_own_directories
from bridges.migration import selection
from bridges.migration.config.engine_options import EngineChoices
from bridges.migration.config.models import RunSettings, Strict
from bridges.migration.config.targets import TargetSpec
from bridges.migration.config.templates import params_of, render
from bridges.option import described, names
from bridges.option_names import CONFIG_KEYS
from bridges.pipeline.options import (
    ExportOptions,
    LayoutOptions,
    RunChoices,
    implied_source,
)
from bridges.sources.options import ReadChoices, ReadOptions
from bridges.sources.tables.formats import TableFormat
from bridges.sources.tables.own_formats import formats_of
from bridges.stream.model import Run

# keys of a target that change neither its location nor the data
SAME_RUNS = ("label", "limit", "mlflow_writer", "wandb_writer", "force", "copy_artifacts")
OVERRIDES = ("x_axis", "naming", "duplicates", "callback_version")
CHOICES = (*names(RunChoices), *names(LayoutOptions), *names(ReadChoices))  # of a source


class Defaults(RunSettings, frozen=True):
    """Settings of all sources that do not set them."""


class SourceSpec(RunSettings, frozen=True):
    """The runs of one location. A plain string is short for the location."""

    location: StrictStr = Field(
        min_length=1,
        description="A file, directory, pattern or URL; local ones relative to the config file.",
    )

    @model_validator(mode="before")
    @classmethod
    def _located(cls, value: object) -> object:
        return {"location": value} if isinstance(value, str) else value

    @field_validator("location")
    @classmethod
    def _no_stream(cls, value: str) -> str:
        if value == "-":
            raise ValueError(
                "found '-', standard input; expected a file, directory, pattern or URL: workers "
                "cannot read standard input"
            )
        return value

    def prepare(self, run: Run) -> Run | None:
        """The run after filters, renames and templates; None if the filters exclude it.

        Raises ConfigError if the run lacks a field of a template.
        """
        return self._selected(run)[0]

    def why_not(self, run: Run) -> str:
        """The reason why the filters exclude a run; empty if they do not."""
        return self._selected(run)[1]

    def experiment_of(self, run: Run) -> str | None:
        """The experiment of a run before `prepare`: see TargetSpec.exporter."""
        return None if self.experiment is None else render(self.experiment, self._grouped(run))

    def read_options(self) -> ReadOptions:
        """The options of reading the runs."""
        return _options(**self._choices).read

    def export_options(self, target: TargetSpec) -> ExportOptions:
        """The options of exporting the runs to a target, without names; `prepare` sets these."""
        own = {name: getattr(target, name) for name in OVERRIDES}
        return _options(**self._choices | {k: v for k, v in own.items() if v is not None})

    @property
    def _choices(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in CHOICES}

    def _selected(self, run: Run) -> tuple[Run | None, str]:
        """The selected run, or the reason why it is excluded."""
        why = self._refused(run)
        if why:
            return None, why
        steps = self.filter.steps
        taken = selection.select_steps(run, steps.first, steps.last)
        taken = selection.select_keys(taken, self._takes)
        if len(run.stream) and not len(taken.stream):
            return None, "the filters exclude all of its rows"
        taken = selection.rename_keys(taken, self.rename)
        if run.folded:
            parts = (self._selected(part)[0] for part in run.folded)
            taken = replace(taken, folded=tuple(filter(None, parts)))
        return self._called(taken, run), ""

    def _refused(self, run: Run) -> str:
        if len(run.stream) < self.filter.min_rows:
            return f"it has {len(run.stream)} rows, fewer than min_rows {self.filter.min_rows}"
        params = params_of(run) if self.filter.params else {}
        for name, wanted in self.filter.params.items():
            if name not in params:
                return f"it has no param {name}"
            if not selection.has_value(params[name], wanted):
                return f"its param {name} is {params[name]!r}"
        return ""

    def _takes(self, key: str) -> bool:
        """Whether a metric is selected."""
        keys = self.filter.keys
        if selection.matches(key, (*self.drop, *keys.exclude)):
            return False
        return key == selection.EPOCH or selection.matches(key, keys.include)

    def _called(self, taken: Run, run: Run) -> Run:
        """Set the name, group and tags from the templates, rendered with the unfiltered run."""
        if not (self.name or self.group or self.tags or run.run_name):
            return taken
        run = self._grouped(run)
        tags = {key: render(text, run) for key, text in self.tags.items()}
        return replace(
            taken,
            name=render(self.name, run) if self.name else run.run_name or run.name,
            group=run.group,
            tags={**run.tags, **tags},
        )

    def _grouped(self, run: Run) -> Run:
        """The run with the group of the config, for use in other templates."""
        return replace(run, group=render(self.group, run)) if self.group else run


class SourceWithTables(SourceSpec, frozen=True):
    """A source of a config that declares formats of tables."""

    tables: Mapping[StrictStr, TableFormat] = Field(exclude=True)

    @classmethod
    def of(cls, source: SourceSpec, tables: Mapping[str, TableFormat]) -> SourceWithTables:
        """The source with these formats."""
        return cls.model_construct(source.model_fields_set, **dict(source), tables=tables)

    def read_options(self) -> ReadOptions:
        """The options of reading the runs, with the formats."""
        return replace(super().read_options(), tables=tuple(self.tables.items()))


@lru_cache(maxsize=64)  # called for every run
def _options(**choices: object) -> ExportOptions:
    return ExportOptions.of(choices)


class EngineSpec(Strict, EngineChoices, frozen=True):
    """The engine of a migration: processes of this machine or a Dask cluster."""

    def chosen(self, **overrides: str | int | None) -> EngineSpec:
        """The engine with the overrides of the command line. Raises ConfigError."""
        given = {key: value for key, value in overrides.items() if value is not None}
        for field in described(EngineChoices):
            field.check(given.get(field.name))
        engine = self.model_copy(update=given)
        if engine.kind == "dask" and not engine.scheduler:
            raise ConfigError(
                "the engine dask needs the address of its scheduler: `scheduler` under `engine`, "
                "or --scheduler tcp://HOST:8786"
            )
        if given.get("scheduler") and engine.kind != "dask":
            raise ConfigError("--scheduler is for --engine dask only")
        return engine


class MigrationConfig(Strict, frozen=True):
    """The config of `bridge migrate`: sources, targets, defaults and engine."""

    defaults: Defaults = Field(
        default=Defaults(), description="Settings of all sources that do not set them."
    )
    tables: Mapping[StrictStr, TableFormat] = Field(
        default={},
        description="Formats of tables by name, for `format`; sources recognise them, too.",
    )
    sources: tuple[SourceSpec, ...] = Field(min_length=1, description="Where runs are read from.")
    targets: tuple[TargetSpec, ...] = Field(min_length=1, description="Where runs are written to.")
    engine: EngineSpec = Field(default=EngineSpec(), description="The worker processes.")

    @field_validator("sources")
    @classmethod
    def _with_defaults(
        cls, sources: tuple[SourceSpec, ...], info: ValidationInfo
    ) -> tuple[SourceSpec, ...]:
        defaults = info.data.get("defaults") or Defaults()
        tables = info.data.get("tables") or {}
        completed = tuple(_completed(source, defaults) for source in sources)
        if tables:
            completed = tuple(SourceWithTables.of(source, tables) for source in completed)
        for source in completed:
            if source.attach_source and source.redact_home:
                raise ValueError(
                    f"found attach_source and redact_home for {source.location}; expected one of "
                    "the two: an attached source is unchanged, home directories included"
                )
        if "tables" in info.data:  # else its own problems are reported
            _require_formats(completed)
        return completed

    @field_validator("targets")
    @classmethod
    def _labelled(cls, targets: tuple[TargetSpec, ...]) -> tuple[TargetSpec, ...]:
        taken = Counter(target.label for target in targets if target.label)
        twice = [label for label, count in taken.items() if count > 1]
        if twice:
            raise ValueError(f"found the label {twice[0]!r} twice; expected different labels")
        labelled = []
        for target in targets:
            label = target.label or _free(target.to, taken)
            taken[label] += 1
            labelled.append(target.model_copy(update={"label": label}))
        return tuple(labelled)

    @field_validator("targets")
    @classmethod
    def _distinct(cls, targets: tuple[TargetSpec, ...]) -> tuple[TargetSpec, ...]:
        seen: list[tuple[str, dict[str, object]]] = []
        for target in targets:
            content = target.model_dump(exclude=set(SAME_RUNS))
            twin = next((label for label, other in seen if other == content), None)
            if twin is not None:
                raise ValueError(
                    f"found the targets {twin!r} and {target.label!r}, which write the same runs "
                    f"to the same location; expected targets that differ in more than "
                    f"{', '.join(SAME_RUNS)}"
                )
            seen.append((target.label, content))
        owners = [target for target in targets if target.owns_directory]
        try:
            require_own_directories([target.exporter() for target in owners])
        except ConfigError as error:
            raise ValueError(CONFIG_KEYS.message(str(error))) from None
        return targets


def _completed(source: SourceSpec, defaults: Defaults) -> SourceSpec:
    """The source with missing settings from the defaults, and with merged tags."""
    missing = defaults.model_fields_set - source.model_fields_set
    update: dict[str, object] = {name: getattr(defaults, name) for name in missing}
    update["tags"] = {**defaults.tags, **source.tags}
    completed = source.model_copy(update=update)
    implied = implied_source(completed._choices)
    return completed.model_copy(update={"source": implied}) if implied else completed


def _require_formats(sources: Iterable[SourceSpec]) -> None:
    """Raises an error for the formats of tables that are unknown or cannot be read."""
    problems: dict[tuple[int, str], str] = {}
    for position, source in enumerate(sources):
        if problem := _format_problem(source):
            problems[position, "format"] = problem
    if problems:
        text = "; ".join(problems.values()).replace("{", "{{").replace("}", "}}")
        raise PydanticCustomError("formats", text, {"problems": problems, "errors": []})


def _format_problem(source: SourceSpec) -> str:
    try:
        formats_of(source.read_options())
    except ConfigError as error:
        return CONFIG_KEYS.message(str(error).removeprefix("--format "))
    return ""


def _free(name: str, taken: Counter[str]) -> str:
    numbers = range(2, len(taken) + 3)
    return next(n for n in (name, *(f"{name} {i}" for i in numbers)) if n not in taken)
