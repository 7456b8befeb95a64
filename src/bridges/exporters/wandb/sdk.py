"""Offline runs through wandb's public API, for untested releases.

This is much slower, and wandb records start, duration and `_runtime` of the export.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Iterator

from bridges.errors import ExportError
from bridges.exporters.description import description
from bridges.exporters.wandb.history import wandb_steps
from bridges.exporters.wandb.reader import has_end
from bridges.exporters.wandb.run import EXIT_CODES, Part, Target, axis_of, config
from bridges.formats.wandb_log.client import import_wandb, known_settings
from bridges.formats.wandb_log.log import LogError
from bridges.stream.layout import Layout

CLOSE_SECONDS = 60.0  # to wait for wandb to close a file
MINIMAL_SETTINGS = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "quiet": True,
    "save_code": False,
    "silent": True,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}  # write rows only; releases differ in these settings


def make_file(folder: str, layout: Layout, target: Target, part: Part) -> None:
    """Write the file of a part. Raises ExportError, MissingDependencyError."""
    wandb = import_wandb()
    run = wandb.init(
        project=target.project,
        entity=target.entity,
        id=part.run_id,
        name=part.name_of(layout),
        group=part.group_of(layout),
        job_type=target.job_type,
        tags=part.tags_of(layout),
        notes=description(layout),
        config=config(layout, part.state),
        dir=folder,
        mode="offline",
        settings=wandb.Settings(**known_settings(wandb, MINIMAL_SETTINGS)),  # init changes it
    )
    axis = axis_of(layout)
    run.define_metric(axis)
    run.define_metric("*", step_metric=axis, step_sync=True)
    for step, row in _rows(layout, part.first):
        run.log(row, step=step)
    run.summary.update(dict(layout.summary))
    run.finish(exit_code=EXIT_CODES[layout.run.status])
    wandb.teardown()
    (made,) = glob.glob(os.path.join(glob.escape(folder), "wandb", "offline-run-*"))
    name = f"run-{part.run_id}.wandb"
    _wait_for_end(os.path.join(made, name))
    os.rename(os.path.join(made, name), os.path.join(folder, name))
    shutil.rmtree(os.path.join(folder, "wandb"))


def _rows(layout: Layout, first: int) -> Iterator[tuple[int, dict[str, object]]]:
    """`_step` and content of each row from `first` on."""
    stream = layout.stream
    assert stream.time is not None
    rows: list[dict[str, object]] = [{} for _ in range(len(stream) - first)]
    for series in stream.series:
        part = series.slice(first, len(stream))
        for row, value in zip((part.rows - first).tolist(), part.values.tolist(), strict=True):
            rows[row][series.key] = value
    steps, times = wandb_steps(layout)[first:].tolist(), (stream.time[first:] / 1e6).tolist()
    for row, step, time_, own in zip(rows, stream.step[first:].tolist(), times, steps, strict=True):
        yield own, {**row, layout.naming.step_key: step, "_timestamp": time_}


def _wait_for_end(path: str) -> None:
    """Wait until wandb's own process has closed the file, which is after `finish` returns."""
    until = time.monotonic() + CLOSE_SECONDS
    while True:
        try:
            if has_end(path):
                return
        except (OSError, LogError):
            pass  # wandb is still writing
        if time.monotonic() > until:
            raise ExportError(f"wandb did not close {path} within {CLOSE_SECONDS:.0f} s; try again")
        time.sleep(0.02)
