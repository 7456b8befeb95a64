"""Output directories: where a run wrote to, by the path of one of its states."""

from __future__ import annotations

import re

CHECKPOINT = re.compile(r"checkpoint-(\d+)(-run-.*)?\Z")
RAY_CHECKPOINT = re.compile(r"checkpoint_\d{6}\Z")  # of Ray Tune, around one of the Trainer


def output_of(location: str) -> str:
    """The directory that a run wrote to: where its state or its checkpoints lie."""
    folder = folder_of(location)
    if "checkpoint" not in folder:  # most are not in one, and there may be very many
        return folder
    outer, _, name = folder.rpartition("/")
    if CHECKPOINT.match(name) or (name == "checkpoint" and _is_ray(outer)):
        folder = outer
    return folder_of(folder) if _is_ray(folder) else folder


def folder_of(path: str) -> str:
    """The directory of a path, with slashes."""
    return path.replace("\\", "/").rpartition("/")[0]


def _is_ray(folder: str) -> bool:
    return RAY_CHECKPOINT.match(folder.rpartition("/")[2]) is not None
