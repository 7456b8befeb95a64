"""Lists the files below a directory, in natural order."""

from __future__ import annotations

from contextlib import suppress

from bridges.sources.trainer.discovery import natural, walk


def tables_below(folder: str) -> list[str]:
    """The files at and below a directory or URL; none if it cannot be listed."""
    with suppress(Exception):  # deliberately broad: an unreadable directory has none
        return sorted(walk(folder), key=natural)
    return []
