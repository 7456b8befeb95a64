"""The choices that change what a target is to hold of a run. Light: nothing slow is imported.

Without `from __future__ import annotations`: pydantic 2.8 looks up the names in a base
class's annotations in the module of the subclass.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from bridges.errors import ConfigError
from bridges.option import Option, Options

Version = tuple[int, int]
XAxis = Literal["step", "epoch"]
Style = Literal["live", "raw"]
Duplicates = Literal["all", "first", "last", "error"]
ClockName = Literal["events", "elapsed", "log", "mtimes", "duration", "synthetic"]  # best first

LATEST: Version = (5, 24)
ALIKE = frozenset({(5, 23), LATEST})  # each was the default, and names as the others do


def parse_version(text: str) -> Version:
    """`5.24` (or `5.24.1`) as (5, 24). Raises ConfigError for anything else."""
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})(\.\w+)*", text)
    if not match:
        raise ConfigError(
            f"--callback-version {text!r} is not a version. "
            "Give a transformers release such as 5.24."
        )
    version = int(match[1]), int(match[2])
    if not (3, 4) <= version <= (5, 999):
        raise ConfigError(
            f"--callback-version {text!r} is not known. The callbacks are known "
            f"from 3.4 to {LATEST[0]}.{LATEST[1]}."
        )
    return version


@dataclass(frozen=True)
class LayoutOptions(Options):
    """The x-axis, names, duplicates, times and params of a run in its target.

    Raises ConfigError for an unknown choice.
    """

    x_axis: Annotated[
        XAxis,
        Option(
            "X-axis of the charts. 'epoch' writes round(epoch × 1000) as the step if the target"
            " has integer steps only."
        ),
    ] = "step"
    naming: Annotated[
        Style,
        Option("Name metrics as the Trainer callback does (live), or by the keys of the file."),
    ] = "live"
    duplicates: Annotated[
        Duplicates, Option("Which values to keep if a metric is logged twice at one step.")
    ] = "all"
    callback_version: Annotated[
        str | None,
        Option(
            "Name metrics as the callback of this transformers release does.",
            unset=f"{LATEST[0]}.{LATEST[1]}",
            metavar="X.Y",
        ),
    ] = None
    clock: Annotated[ClockName | None, Option("Source of timestamps.", unset="best available")] = (
        None
    )
    params: Annotated[
        tuple[str, ...],
        Option(
            "Write only params that match, such as 'learning_rate' or 'lora_*'.",
            metavar="PATTERN",
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.version

    @property
    def version(self) -> Version:
        """The release whose callback names the metrics."""
        return parse_version(self.callback_version) if self.callback_version else LATEST

    def identity(self, key_style: str = "trainer") -> dict[str, str]:
        """The choices that are not the default: with them it is another run in the target.

        Runs whose keys are tags already have no naming to choose.
        """
        version = LATEST if self.version in ALIKE else self.version
        chosen = {
            "x-axis": self.x_axis,
            "naming": self.naming,
            "duplicates": self.duplicates.replace("error", "all"),
            "callback": f"{version[0]}.{version[1]}",
        }
        usual = {
            "x-axis": "step",
            "naming": "live",
            "duplicates": "all",
            "callback": f"{LATEST[0]}.{LATEST[1]}",
        }
        if key_style == "tags":
            usual |= {name: chosen[name] for name in ("naming", "callback")}
        return {name: value for name, value in chosen.items() if value != usual[name]}
