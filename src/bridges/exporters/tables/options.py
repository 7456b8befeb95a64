"""The options of the targets parquet and csv."""

from dataclasses import dataclass
from os import fspath
from typing import Annotated

from bridges import ConfigError
from bridges.option import Option, Options


@dataclass(frozen=True, repr=False, eq=False)
class TableOptions(Options):
    """The directory of the tables, and their form. Raises ConfigError for a remote directory."""

    out: Annotated[
        str | None,
        Option("Directory of the tables.", unset="parquet or csv", metavar="DIR", completes="dir"),
    ] = None
    wide: Annotated[
        bool, Option("Also write a table of each run with a column for each metric.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out is not None:
            object.__setattr__(self, "out", fspath(self.out))
        if "://" in (self.out or ""):
            raise ConfigError(
                f"--out {self.out}: tables are written to a local directory. "
                "Export to a local directory, then copy all of it."
            )
