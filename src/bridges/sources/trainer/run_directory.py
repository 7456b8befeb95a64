"""The source for directory trees, and for files with the name of a history.

What reads them is imported on first use, so that other locations are read without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bridges.sources.options import ReadOptions
from bridges.sources.trainer.locations import is_history, is_tree
from bridges.stream.model import Run

if TYPE_CHECKING:
    from bridges.sources.trainer.partitions import Partition


class RunDirectorySource:
    """Reads the runs of the Trainer in a directory tree."""

    name = "run_directory"

    def claims(self, location: str) -> bool:
        """Whether it is a directory, a glob, or a local file with the name of a history."""
        return is_tree(location) or is_history(location)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs of a tree, or the run of a file as its directory would give it.

        Errors are raised after the last readable run: SourceError, or TreeError for several.
        """
        from bridges.sources.trainer.read_tree import read

        yield from read(location, options)

    def split(self, location: str) -> list[Partition]:
        """The partitions of a location. Raises SourceError."""
        from bridges.sources.trainer.read_tree import split

        return split(location)

    def read_part(self, part: Partition, options: ReadOptions) -> Iterator[Run]:
        """The runs of a partition; errors as in `read`."""
        from bridges.sources.trainer.read_tree import read_part

        return read_part(part, options)
