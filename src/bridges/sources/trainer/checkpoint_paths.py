"""The output directory of a run, from the path of one of its states."""

from __future__ import annotations

import re

CHECKPOINT = re.compile(r"checkpoint-(\d+)(-run-.*)?\Z")
RAY_CHECKPOINT = re.compile(r"checkpoint_\d{6}\Z")  # Ray Tune's, around a Trainer checkpoint


def output_of(location: str) -> str:
    """The output directory of the run whose state is at `location`."""
    folder = folder_of(location)
    if "checkpoint" not in folder:  # fast path: usually the case, and a tree may have many states
        return folder
    outer, _, name = folder.rpartition("/")
    if CHECKPOINT.match(name) or (name == "checkpoint" and _is_ray(outer)):
        folder = outer
    return folder_of(folder) if _is_ray(folder) else folder


def folder_of(path: str) -> str:
    """The parent directory of a path, with forward slashes; empty for a bare name."""
    return path.replace("\\", "/").rpartition("/")[0]


def _is_ray(folder: str) -> bool:
    return RAY_CHECKPOINT.match(folder.rpartition("/")[2]) is not None
