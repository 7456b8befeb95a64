"""What lies around one state that was named: the part of its output directory that is read with it.

The same run, settings and times come of a file as of its directory.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice

from bridges.sources.trainer.checkpoint_paths import folder_of, output_of
from bridges.sources.trainer.discovery import STATE, Found, natural, walk
from bridges.sources.trainer.partitions import Bundle, bundles
from bridges.sources.tuning_logs.source import NAME as LOG

MAX_FILES = 20_000  # below an output directory: that of a larger tree is read alone


def is_history(location: str) -> bool:
    """Whether it is a local file that has the name of a state or of a tool's log."""
    name = os.path.basename(location)
    return bool(STATE.match(name) or LOG.match(name)) and os.path.isfile(location)


def bundle_around(location: str) -> Bundle:
    """The part of the tree that a file belongs to, under the file's location; the file alone where
    it lies among files of other runs.
    """
    output = output_of(location)
    found = Found()
    paths = [*islice(walk(output or "."), MAX_FILES + 1)]
    for path in paths if len(paths) <= MAX_FILES else ():
        found.add(path if output else os.path.relpath(path))
    found.states.sort(key=natural)
    beside = [path for path in found.states if folder_of(path) == output]
    for part in bundles(location, found) if len(beside) < 2 else ():
        if location in part.files:
            return replace(part, named=location, others=(), unlisted=())
    return Bundle(location, (location,), named=location)
