"""When a run began, as names tell: of its event files, its log directory, its output directory.

    events.out.tfevents.1732268804.host…   seconds since 1970
    v0-20241122-094604                     local time (ms-swift)
    runs/Nov22_09-46-44_host               local time without a year (transformers before 5.0)

A local time is taken for UTC, a year for the first one after the transformers that wrote the state
were released; both are told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from bridges.sources.event_times import started
from bridges.stream.model import Evidence
from bridges.stream.version import RELEASED

_LOG_DIRECTORY = re.compile(r"([A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d)_.+")
_SWIFT = re.compile(r"v\d+-(\d{8}-\d{6})")


def start_evidence(
    events: Sequence[str], outputs: Sequence[str], logging_dir: Any, writer: str | None
) -> Evidence | None:
    """The start of a run with these event files, output directories and settings."""
    begun = [(start, path) for path in events if (start := started(path))]
    if begun:
        seconds, path = min(begun)
        return _start(seconds * 1_000_000, path, "")
    for output in outputs:
        for name in output.split("/"):
            if match := _SWIFT.fullmatch(name):
                return _local(match[1], "%Y%m%d-%H%M%S", output, "UTC is assumed")
    folders = [path.rpartition("/")[0] for path in events]
    folders += [logging_dir] if isinstance(logging_dir, str) else []
    return _without_year(folders, writer)


def _without_year(folders: Iterable[str], writer: str | None) -> Evidence | None:
    released = RELEASED.get(writer or "")
    if released is None:
        return None
    for folder in folders:
        match = _LOG_DIRECTORY.fullmatch(re.split(r"[/\\]", folder)[-1])
        for year in (released.year, released.year + 1):
            note = f"the year {year} and UTC are assumed"
            text = f"{year} {match[1]}" if match else ""
            found = _local(text, "%Y %b%d_%H-%M-%S", folder, note)
            if found is not None and (found.start or 0) >= released.timestamp() * 1_000_000:
                return found
    return None


def _local(text: str, form: str, where: str, note: str) -> Evidence | None:
    try:
        moment = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    return _start((moment - epoch) // timedelta(microseconds=1), where, note)


def _start(microseconds: int, where: str, note: str) -> Evidence:
    nothing = np.empty(0, np.int64)
    return Evidence("start", nothing, nothing, where, microseconds, note)
