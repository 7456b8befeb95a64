"""The options of the target trackio."""

from dataclasses import dataclass
from os import fspath
from typing import Annotated, Literal

from bridges.option import Option, Options


@dataclass(frozen=True, repr=False, eq=False)
class TrackioOptions(Options):
    """The project of the runs, its directory, and the step of a row.

    Without a `project`, a run goes to the one that its arguments name, else to that of its library,
    else to `huggingface`.
    """

    project: Annotated[
        str | None,
        Option("Project of the runs.", unset="huggingface", metavar="NAME"),
    ] = None
    trackio_dir: Annotated[
        str | None,
        Option(
            "Directory of the projects.",
            unset="$TRACKIO_DIR, else trackio in $HF_HOME",
            metavar="DIR",
            completes="dir",
        ),
    ] = None
    trackio_step: Annotated[
        Literal["row", "global_step"],
        Option("Step of a row: its index, as with the live callback, or the global step."),
    ] = "row"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trackio_dir is not None:
            object.__setattr__(self, "trackio_dir", fspath(self.trackio_dir))
