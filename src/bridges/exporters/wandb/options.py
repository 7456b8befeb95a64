"""The options of the target wandb."""

from dataclasses import dataclass
from typing import Annotated, Literal

from bridges.option import Option, Options


@dataclass(frozen=True, repr=False, eq=False)
class WandbOptions(Options):
    """The project of the runs, and the way to write them.

    Without a `project`, a run goes to the project of the live callback.
    """

    project: Annotated[
        str | None,
        Option("Project of the runs.", unset="$WANDB_PROJECT, else huggingface", metavar="NAME"),
    ] = None
    entity: Annotated[
        str | None,
        Option("Entity, a user or a team.", unset="$WANDB_ENTITY", metavar="NAME"),
    ] = None
    wandb_dir: Annotated[
        str,
        Option(
            "Write offline runs to the folder `wandb` in this directory.",
            unset="here",
            metavar="DIR",
            completes="dir",
        ),
    ] = "."
    wandb_step: Annotated[
        Literal["row", "global_step"],
        Option("Value of `_step`: the row index, or the global step, with one row per step."),
    ] = "row"
    job_type: Annotated[str | None, Option("Job type of the runs.", metavar="NAME")] = None
    mode: Annotated[
        Literal["offline", "online"],
        Option("Write files for `wandb sync`, or upload and check the upload."),
    ] = "offline"
    wandb_writer: Annotated[
        Literal["auto", "direct", "sdk"],
        Option("Write the run file directly, or use the wandb package."),
    ] = "auto"
