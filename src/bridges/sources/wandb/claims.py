"""The directories of W&B runs."""

from __future__ import annotations

import re
from collections.abc import Collection

from bridges.sources.folders import Folder

LOG_NAME = re.compile(r"run-(.+)\.wandb")  # since wandb 0.10
HISTORY_NAME = "wandb-history.jsonl"  # wandb 0.8 and 0.9
METADATA_NAME = "wandb-metadata.json"


def claims_of(folder: Folder) -> Collection[str] | None:
    """All directories in the directory of a run: its files, logs and media."""
    return folder.folders if has_run(folder) else None


def has_run(folder: Folder) -> bool:
    """Whether a directory has the log of a run, or the history of an early one."""
    if any(LOG_NAME.fullmatch(name) for name in folder.files):
        return True
    return HISTORY_NAME in folder.files and METADATA_NAME in folder.files
