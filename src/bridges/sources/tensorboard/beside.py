"""The files beside the event files of a run, which may hold more of it."""

from __future__ import annotations

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.units import EventFolder
from bridges.stream.model import Run


def with_files_beside(run: Run, folder: EventFolder, options: ReadOptions) -> Run:
    """The run, completed by the other files of its directory (`folder.beside` has their names)."""
    return run
