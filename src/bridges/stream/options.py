"""The layout options of a run. Imports nothing slow.

No `from __future__ import annotations`: pydantic 2.8 resolves the annotations of a base class in
the module of the subclass.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from bridges.option import Option, Options

XAxis = Literal["step", "epoch"]
Style = Literal["live", "raw"]
Steps = Literal["auto", "as-logged"]
Duplicates = Literal["all", "first", "last", "error"]
CLOCKS = ("events", "elapsed", "log", "mtimes", "duration", "synthetic")  # built-in, best first


@dataclass(frozen=True, repr=False, eq=False)
class LayoutChoices(Options):
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
        Option("Name metrics as the live callback does, or by the keys of the file (raw)."),
    ] = "live"
    duplicates: Annotated[
        Duplicates, Option("Which values to keep if a metric is logged twice at one step.")
    ] = "all"
    steps: Annotated[
        Steps,
        Option(
            "Steps of a tracker's metrics without any (all 0): counted in the order of"
            " time where a chart needs it (auto), or 0."
        ),
    ] = "auto"
    clock: Annotated[
        str | None,
        Option(
            f"Source of timestamps: {', '.join(CLOCKS)}, or a clock of a plug-in.",
            unset="best available",
            metavar="CLOCK",
            examples=CLOCKS,
        ),
    ] = None
    params: Annotated[
        tuple[str, ...],
        Option(
            "Write only params that match, such as 'seed' or 'lora_*'.",
            metavar="PATTERN",
        ),
    ] = ()

    @property
    def release(self) -> str | None:
        """The release of the logging library whose naming is used; None: the latest."""
        return None

    def identity(self, key_style: str) -> dict[str, str]:
        """The non-default choices, which make it another run in the target.

        The naming has no effect on runs of tags, and `steps` none on others: they are excluded.
        """
        is_tags = key_style == "tags"
        chosen = {
            "x-axis": self.x_axis,
            "naming": "live" if is_tags else self.naming,
            "steps": self.steps if is_tags else "auto",
            "duplicates": self.duplicates.replace("error", "all"),
        }
        usual = {"x-axis": "step", "naming": "live", "steps": "auto", "duplicates": "all"}
        return {name: value for name, value in chosen.items() if value != usual[name]}
