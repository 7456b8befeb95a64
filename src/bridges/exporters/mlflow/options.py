"""The options of the target mlflow."""

from dataclasses import dataclass
from typing import Annotated, Literal

from bridges.option import Option, Options

MlflowWriter = Literal["auto", "direct", "client"]


@dataclass(frozen=True, repr=False, eq=False)
class MlflowOptions(Options):
    """The tracking store and experiment of the runs, and the way to write them."""

    tracking_uri: Annotated[
        str | None,
        Option(
            "Tracking store: sqlite:///PATH, postgresql://…, http(s)://… or any other URI of"
            " mlflow.",
            unset="$MLFLOW_TRACKING_URI, else mlflow.db here",
            metavar="URI",
        ),
    ] = None
    experiment: Annotated[
        str | None,
        Option(
            "Experiment of the runs.",
            unset="$MLFLOW_EXPERIMENT_NAME, else the run's or bridges",
            metavar="NAME",
        ),
    ] = None
    mlflow_writer: Annotated[
        MlflowWriter,
        Option("Write to the database directly, or use the MLflow client."),
    ] = "auto"
    copy_artifacts: Annotated[
        bool,
        Option(
            "Copy the artifact files of runs from MLflow stores into the target, instead of links."
        ),
    ] = False
    force: Annotated[bool, Option("Write runs again that were deleted in MLflow.")] = False
