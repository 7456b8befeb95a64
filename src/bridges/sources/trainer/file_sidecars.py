"""The part of an output directory that is read together with one named file.

Exporting a file gives the same run, settings and times as exporting its directory.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice

from bridges.sources.trainer.checkpoint_paths import folder_of, output_of
from bridges.sources.trainer.discovery import FoundFiles, natural, walk
from bridges.sources.trainer.partitions import Partition, partitions

MAX_FILES = 20_000  # in the output directory; above it, the file is read alone


def partition_around(location: str) -> Partition:
    """The partition that a file belongs to; the file alone if other runs' states lie beside it."""
    output = output_of(location)
    found = FoundFiles()
    paths = [*islice(walk(output or "."), MAX_FILES + 1)]
    for path in paths if len(paths) <= MAX_FILES else ():
        found.add(path if output else os.path.relpath(path))
    found.states.sort(key=natural)
    states = [path for path in found.states if folder_of(path) == output]
    for part in partitions(location, found) if len(states) < 2 else ():
        if location in part.files:
            return replace(part, named_file=location, others=(), unlisted=(), notes=())
    return Partition(location, (location,), named_file=location)
