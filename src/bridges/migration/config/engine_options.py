"""The options of the engine. Imports nothing slow.

Without `from __future__ import annotations`: pydantic 2.8 looks up the names in a base
class's annotations in the module of the subclass.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from bridges.option import Option, Options

YEAR_SECONDS = 31_536_000


@dataclass(frozen=True, repr=False, eq=False)
class EngineChoices(Options):
    """The kind and number of workers, retries and patience."""

    kind: Annotated[
        Literal["local", "dask"],
        Option("Processes of this machine, or a Dask cluster.", flag="engine"),
    ] = "local"
    workers: Annotated[
        int | None,
        Option(
            "Number of worker processes.",
            unset="the number of cores",
            metavar="N",
            at_least=1,
            at_most=1024,
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        Option("Address of the Dask scheduler, such as tcp://HOST:8786.", metavar="ADDRESS"),
    ] = None
    retries: Annotated[
        int,
        Option("Number of retries of a run after the loss of its worker.", at_least=0, at_most=100),
    ] = 2
    patience: Annotated[
        int,
        Option(
            "Seconds to wait for a target that stops answering; a tenth if it never answered.",
            metavar="SECONDS",
            at_least=0,
            at_most=YEAR_SECONDS,
        ),
    ] = 300
