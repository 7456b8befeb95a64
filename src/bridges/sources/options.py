"""Options for reading runs. Imports nothing slow.

No `from __future__ import annotations`: pydantic 2.8 resolves the annotations of a base class in
the module of the subclass.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from bridges.errors import ConfigError
from bridges.option import Option, Options

Division = Literal["training", "directory", "one"]
Superseded = Literal["drop", "keep"]


@dataclass(frozen=True, repr=False, eq=False)
class ReadChoices(Options):
    """The reading options for users."""

    salvage: Annotated[bool, Option("Read a truncated file up to its last complete row.")] = False
    redact_home: Annotated[bool, Option("Mask home directories in params, too.")] = False
    fill_from_events: Annotated[
        bool,
        Option(
            "Add rows of a finished training that only its event files contain, where they fit."
        ),
    ] = False
    max_unpacked: Annotated[
        int | None,
        Option(
            "Maximum size of an unpacked gzip file, or of standard input, in bytes.",
            unset="100 times its packed size, or 64 MiB; 256 MiB",
            metavar="BYTES",
            at_least=1,
        ),
    ] = None
    select: Annotated[
        tuple[str, ...],
        Option(
            "Read only matching runs of a tracker: experiment, run, status or tag.NAME.",
            metavar="KEY=PATTERN",
            examples=("experiment=", "run=", "status=", "tag."),
        ),
    ] = ()
    deleted: Annotated[bool, Option("Read deleted runs of a tracker, too.")] = False
    step_column: Annotated[
        str | None,
        Option(
            "Column or metric with the steps of a table or a W&B run; _step: W&B's own step.",
            unset="as the table or the run defines it",
            metavar="KEY",
        ),
    ] = None
    system_metrics: Annotated[
        bool, Option("Read the system metrics of W&B runs (CPU, memory, GPU), too.")
    ] = False
    time_column: Annotated[
        str | None,
        Option(
            "Column with the times of a table: s, ms or us since 1970, iso, or elapsed seconds.",
            unset="as its format defines it; s",
            metavar="NAME[:UNIT]",
        ),
    ] = None
    format: Annotated[
        str | None,
        Option(
            "Format of the tables (see `bridge sources`), or a file with formats of your own.",
            unset="recognised by names and columns",
            metavar="NAME|FILE",
        ),
    ] = None
    runs: Annotated[
        Division,
        Option(
            "Runs of event files and tables: each training; each directory, as TensorBoard shows"
            " it; or one for all trainings of a directory."
        ),
    ] = "training"
    one_run: Annotated[bool, Option("The same as --runs one.")] = False
    superseded: Annotated[
        Superseded,
        Option(
            "Points written again by a resumed training: left out, or kept in a run of their own."
        ),
    ] = "drop"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.one_run and self.runs == "directory":
            raise ConfigError("--one-run means --runs one: leave out --runs directory")
        if self.select:
            from bridges.sources.selection import Selection

            Selection.of(self.select)

    @property
    def division(self) -> Division:
        """The value of `runs`, with `one_run`."""
        return "one" if self.one_run else self.runs


@dataclass(frozen=True, repr=False, eq=False)
class ReadOptions(ReadChoices):
    """How to read.

    growing: the run may still get rows, so results files are not appended
    tables: further formats of tables by name, each a `TableFormat` (not needed by other sources)
    """

    growing: bool = False
    tables: tuple[tuple[str, object], ...] = ()
