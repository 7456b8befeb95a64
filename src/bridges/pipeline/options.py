"""The options of an export: one model for the command line, the API and the config.

It consists of the options for reading (`sources.options`), for the layout (`stream.options`), and
for the export itself. Light: nothing slow is imported.

Without `from __future__ import annotations`: pydantic 2.8 looks up the names in a base
class's annotations in the module of the subclass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from bridges.errors import ConfigError
from bridges.huggingface.callback_releases import LATEST_NAME, named_like, parse_version
from bridges.option import Option, Options, names
from bridges.sources.options import ReadChoices, ReadOptions
from bridges.stream.options import CLOCKS, LayoutChoices

if TYPE_CHECKING:
    from bridges.exporters.base import Labels

RESERVED_TAGS = ("bridges.", "mlflow.")  # set by exporters or their targets
LONGEST = 366 * 86_400.0  # seconds: the largest sensible interval


@dataclass(frozen=True, repr=False, eq=False)
class LayoutOptions(LayoutChoices):
    """The layout of a run in its target, with the names of its metrics.

    Raises ConfigError for an unknown choice.
    """

    callback_version: Annotated[
        str | None,
        Option(
            "Name metrics as the callback of this transformers release does.",
            unset=LATEST_NAME,
            metavar="X.Y",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.callback_version:
            parse_version(self.callback_version)
        if self.clock and self.clock not in (known := clock_names(self.clock)):
            raise ConfigError(f"--clock {self.clock!r} is not one of {', '.join(known)}")

    @property
    def release(self) -> str | None:
        """The transformers release whose callback names the metrics; None: the latest."""
        return self.callback_version

    def identity(self, key_style: str = "trainer") -> dict[str, str]:
        """The choices that are not the default: with them it is another run in the target."""
        chosen, callback = super().identity(key_style), named_like(self.release)
        is_usual = key_style == "tags" or callback == LATEST_NAME
        return chosen if is_usual else {**chosen, "callback": callback}


def clock_names(wanted: str) -> tuple[str, ...]:
    """The names of the clocks; plug-ins are asked for theirs if `wanted` is not built in."""
    if wanted in CLOCKS:
        return CLOCKS
    from bridges import plugins

    sources = (plug_in.load() for plug_in in plugins.third_party("sources"))
    return (*CLOCKS, *(kind.name for one in sources for kind in getattr(one, "clocks", ())))


@dataclass(frozen=True, repr=False, eq=False)
class RunChoices(Options):
    """The options that a config has for each source, too."""

    source: Annotated[
        str | None,
        Option(
            "Read with this source (see `bridge sources`).",
            unset="the first that reads the location",
            metavar="NAME",
            alias="from",
        ),
    ] = None
    verify: Annotated[bool, Option("Read every point back and compare it.")] = True
    attach_source: Annotated[
        bool, Option("Keep the source file with the run (not in tensorboard).")
    ] = False


@dataclass(frozen=True, repr=False, eq=False)
class ExportOptions(RunChoices):
    """How to export. Raises ConfigError for a reserved tag and for options that exclude each other.

    `retries` is the number of retries of a run after a transient error. `copy_files`: whether a
    target that copies artifact files does so in this export.
    """

    run_name: Annotated[
        str | None,
        Option(
            "Name of the run.",
            unset="run_name of its arguments, else its directory",
            metavar="NAME",
        ),
    ] = None
    group: Annotated[str | None, Option("Group of the runs.", metavar="NAME")] = None
    tags: Annotated[
        Mapping[str, str], Option("Tag of the runs.", metavar="KEY=VALUE", flag="tag")
    ] = field(default_factory=dict)
    dry_run: Annotated[bool, Option("Show what would be written, and write nothing.")] = False
    jobs: Annotated[
        int,
        Option("Number of parallel uploads (wandb online).", metavar="N", at_least=1, at_most=256),
    ] = 4
    retries: int = 3
    copy_files: bool = True
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    read: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in self.tags:
            if problem := reserved_tag(key):
                raise ConfigError(f"--tag: {problem}")
        if self.attach_source and self.read.redact_home:
            raise ConfigError(
                "--attach-source keeps the source as it is, home directories included, and "
                "--redact-home masks these: leave out one of the two"
            )

    @property
    def labels(self) -> "Labels":
        """The name, group and tags that the user chose."""
        from bridges.exporters.base import Labels  # slow to import

        return Labels(self.run_name, self.group, self.tags)

    @classmethod
    def of(cls, choices: Mapping[str, Any]) -> "ExportOptions":
        """The options by the names of their fields; None stands for the default.

        Raises ConfigError.
        """
        unknown = sorted(set(choices).difference(CHOICES))
        if unknown:
            raise TypeError(f"unknown choice {unknown[0]!r}")
        given = {name: value for name, value in choices.items() if value is not None}
        for name in ("params", "select"):
            patterns = given.get(name, ())
            given[name] = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        if source := implied_source(given):
            given["source"] = source
        return cls(
            **_taken(cls, given),
            layout=LayoutOptions(**_taken(LayoutOptions, given)),
            read=ReadOptions(**_taken(ReadOptions, given)),
        )


@dataclass(frozen=True, repr=False, eq=False)
class Pace(Options):
    """The polling interval of `--follow`, and its timeout. Raises ConfigError."""

    interval: Annotated[
        float, Option("Seconds between two looks for new rows.", metavar="SECONDS")
    ] = 10.0
    idle_timeout: Annotated[
        float,
        Option("Stop after so many seconds without a change; 0 never stops.", metavar="SECONDS"),
    ] = 4 * 3600.0  # large models are saved once in some hours

    def __post_init__(self) -> None:
        if not 0 < self.interval <= LONGEST:
            raise ConfigError(f"--interval {self.interval:g} is not a time above 0 in seconds")
        if not 0 <= self.idle_timeout <= LONGEST:
            message = "is not a time in seconds (0 waits for ever)"
            raise ConfigError(f"--idle-timeout {self.idle_timeout:g} {message}")


def implied_source(choices: Mapping[str, object]) -> str | None:
    """The source that reads options for it alone, unless one is chosen; None without any."""
    is_for_tables = choices.get("format") or choices.get("time_column")
    return "tables" if is_for_tables and not choices.get("source") else None


def reserved_tag(key: str) -> str:
    """The reason that a user may not set this tag; empty if they may."""
    if not key.startswith(RESERVED_TAGS):
        return ""
    remedy = " Use --run-name to name runs." if key == "mlflow.runName" else ""
    return (
        f"found {key!r}; tags that begin with {' or '.join(RESERVED_TAGS)} are set by bridges and"
        f" MLflow themselves; expected another name.{remedy}"
    )


def _taken(model: type[Options], given: Mapping[str, object]) -> dict[str, Any]:
    return {name: given[name] for name in names(model) if name in given}


PARTS: tuple[type[Options], ...] = (ReadChoices, LayoutOptions, ExportOptions)
CHOICES = tuple(name for part in PARTS for name in names(part))  # of all parts
