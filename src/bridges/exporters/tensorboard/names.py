"""The names of runs and event files on disk.

A segment is named after the start of its run, the run key and its first row. The name of an
unpublished segment does not contain `tfevents`, as readers load every file with it in the name,
even hidden ones.
"""

from __future__ import annotations

import os
import re

_PREFIX = "events.out.tfevents."
SEGMENT = re.compile(r"events\.out\.tfevents\.(\d{10,})\.bridges\.([0-9a-f]{32})\.(\d{10})")
FILE = re.compile(
    r"(?:events\.out\.tfevents)?\.(\d{10,})\.bridges\.([0-9a-f]{32})\.\d{10}(\.partial)?"
)
ATTEMPT = re.compile(r"(\.\d{10,}\.bridges\.([0-9a-f]{32})\.(\d{10})\.partial)-[0-9a-f]{8}")
PART = re.compile(rf"({SEGMENT.pattern})\.[0-9a-f]{{8}}\.part")
HIDDEN = re.compile(r"\.bridges-([0-9a-f]{32})(?:-[0-9a-f]{8})?")
_UNSAFE = re.compile(r'[\x00-\x1f<>:"|?*\\]')


def directory_name(name: str) -> str:
    """A run's name as a legal relative path, below the log directory, on any system."""
    shown = [
        part.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") for part in name.split("/")
    ]
    parts = (_UNSAFE.sub("_", part).strip().lstrip(". ") for part in shown)
    safe = [part for part in parts if part]
    return os.path.join(*safe) if safe else "run"


def hidden_name(key: str) -> str:
    """A new name for the directory of a run before its claim."""
    return f".bridges-{key}-{os.urandom(4).hex()}"


def claim_name(key: str) -> str:
    """The name of the directory of a run during its claim."""
    return f".bridges-{key}"


def segment_name(key: str, start: int, row: int) -> str:
    """The name of a segment, zero-padded, as readers sort files by name.

    `start` is the start of the run in seconds since 1970 UTC, `row` the first row.
    """
    return f"{_PREFIX}{max(start, 0):010d}.bridges.{key}.{row:010d}"


def part_name(segment: str, digest: str) -> str:
    """The name of a part of a segment in another directory; `digest` is stored in its state."""
    return f"{segment}.{digest[:8]}.part"


def segment_of(name: str) -> str | None:
    """The segment of a part, by the name of the part or of its unfinished file; else None."""
    match = PART.fullmatch(final_name(name) if name.startswith(".") else name)
    return match[1] if match else None


def partial_name(name: str) -> str:
    """The name of an unfinished file; readers ignore names without `tfevents`."""
    return f".{name.removeprefix(_PREFIX)}.partial"


def attempt_name(name: str) -> str:
    """A new name for one attempt to write the file, different for concurrent exports."""
    return f"{partial_name(name)}-{os.urandom(4).hex()}"


def final_name(partial: str) -> str:
    """The published name of a partial file."""
    return _PREFIX + partial.removeprefix(".").removesuffix(".partial")
