"""The options of the target tensorboard."""

from dataclasses import dataclass
from os import fspath
from typing import Annotated

from bridges.errors import ConfigError
from bridges.option import Option, Options


@dataclass(frozen=True, repr=False, eq=False)
class TensorBoardOptions(Options):
    """The log directory. Raises ConfigError for a remote one."""

    logdir: Annotated[str, Option("Directory of the runs.", metavar="DIR", completes="dir")] = (
        "runs"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "logdir", fspath(self.logdir))
        if "://" in self.logdir:
            raise ConfigError(
                f"--logdir {self.logdir}: event files are written to a local directory. "
                "Export to a local directory, then copy all of it."
            )
