"""Tell directory trees and files of a known name from other locations."""

from __future__ import annotations

import os
import re

from bridges.sources.file_names import STATE_NAME, TOOL_LOG_NAME
from bridges.sources.remote import opened

GLOB = re.compile(r"[*?\[]")


def is_tree(location: str) -> bool:
    """Whether a location is a directory or a glob.

    A URL is looked up only if its last part has no suffix.
    """
    if location == "-":
        return False
    if "://" not in location:
        is_glob = GLOB.search(location) is not None and not os.path.exists(location)
        return is_glob or os.path.isdir(location)
    last = location.rsplit("/", 1)[-1]
    if GLOB.search(last) or not last:
        return True
    return "." not in last and _is_remote_directory(location)


def _is_remote_directory(location: str) -> bool:
    try:
        files, path = opened(location)
        return bool(files.isdir(path))
    except Exception:  # deliberately broad: reading the location reports the error
        return False


def is_history(location: str) -> bool:
    """Whether a location is a local file named like a state or a tuning tool's log."""
    name = os.path.basename(location)
    return bool(STATE_NAME.match(name) or TOOL_LOG_NAME.match(name)) and os.path.isfile(location)
