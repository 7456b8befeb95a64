"""The keyword arguments of `bridges.read`, `export`, `follow` and `verify`, for type checkers.

Meanings, defaults and bounds are defined in the option models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal, TypedDict

from bridges.exporters.mlflow.options import MlflowWriter
from bridges.sources.options import Division, Superseded
from bridges.stream.options import Duplicates, Steps, Style, XAxis


class ReadKeywords(TypedDict, total=False):
    """Options of reading: see `bridges.sources.options.ReadOptions`."""

    salvage: bool
    redact_home: bool
    fill_from_events: bool
    max_unpacked: int | None
    select: str | Sequence[str]
    deleted: bool
    step_column: str | None
    system_metrics: bool
    time_column: str | None
    format: str | None
    runs: Division
    one_run: bool
    superseded: Superseded
    source: str | None


class TargetKeywords(TypedDict, total=False):
    """Options of the built-in targets: see `bridges.exporters.*.options`."""

    logdir: str | PathLike[str]
    tracking_uri: str | None
    experiment: str | None
    mlflow_writer: MlflowWriter
    copy_artifacts: bool
    force: bool
    project: str | None
    entity: str | None
    wandb_dir: str | PathLike[str]
    wandb_step: Literal["row", "global_step"]
    job_type: str | None
    mode: Literal["offline", "online"]
    wandb_writer: Literal["auto", "direct", "sdk"]
    trackio_dir: str | PathLike[str] | None
    trackio_step: Literal["row", "global_step"]
    out: str | PathLike[str] | None
    wide: bool


class VerifyKeywords(ReadKeywords, TargetKeywords, total=False):
    """Options of the layout: see `bridges.stream.options.LayoutOptions`."""

    x_axis: XAxis
    naming: Style
    steps: Steps
    duplicates: Duplicates
    callback_version: str | None
    clock: str | None
    params: str | Sequence[str]
    run_name: str | None
    group: str | None
    jobs: int


class FollowKeywords(VerifyKeywords, total=False):
    """Options of writing: see `bridges.pipeline.options.ExportOptions`."""

    tags: Mapping[str, str] | None
    verify: bool
    attach_source: bool


class ExportKeywords(FollowKeywords, total=False):
    """The keywords of `follow`, and `dry_run`."""

    dry_run: bool
