"""The directories read as event files."""

from __future__ import annotations

from collections.abc import Collection

from bridges.sources.folders import Folder
from bridges.sources.tensorboard.event_names import is_event_name


def claims_of(folder: Folder) -> Collection[str] | None:
    """None of the directories in one with event files: each is looked at on its own."""
    return () if any(map(is_event_name, folder.files)) else None
