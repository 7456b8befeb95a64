"""The start of a run from the names of its event files, log directory and output directory.

    events.out.tfevents.1732268804.host…   seconds since 1970
    v0-20241122-094604                     local time (ms-swift)
    runs/Nov22_09-46-44_host               local time without a year (transformers before 5.0)

A local time is read as UTC. A missing year is taken from a date in the path (`2024-11-22`,
`20241122`, a directory `2024`); otherwise it is the first year after the release of the
transformers that wrote the state. The report mentions both. If several processes wrote event files,
the first is used that ends, by the duration in the summary row, before the next begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import numpy as np

from bridges.huggingface.writer_version import RELEASED
from bridges.sources.times.clocks import START
from bridges.sources.times.events import process_of, started
from bridges.stream.model import Evidence
from bridges.stream.pace import MAX_TIME

_LOG_DIRECTORY = re.compile(r"([A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d)_.+")
_SWIFT = re.compile(r"v\d+-(\d{8}-\d{6})")
_DATE = re.compile(r"(?<!\d)(20\d\d)([-_.]?)(\d\d)\2(\d\d)(?!\d)")
_YEAR = re.compile(r"(?:^|[/\\])(20\d\d)(?=[/\\]|$)")
MAX_END_DELAY_SECONDS = 60  # from the end of the duration to the end of the process


def start_evidence(
    events: Sequence[str],
    outputs: Sequence[str],
    logging_dir: object,
    writer: str | None,
    duration: float | None = None,
) -> Evidence | None:
    """The start of a run; None if unknown.

    `events`: paths of its event files; `writer`: the band of transformers versions; `duration`:
    training time of its last process in seconds, if known.
    """
    begun = _first_process(events, duration or 0.0)
    if begun is not None:
        return begun
    for output in outputs:
        for name in output.split("/"):
            if match := _SWIFT.fullmatch(name):
                return _local(match[1], "%Y%m%d-%H%M%S", output, "UTC is assumed")
    folders = [path.rpartition("/")[0] for path in events]
    folders += [logging_dir] if isinstance(logging_dir, str) else []
    for folder in folders:
        match = _LOG_DIRECTORY.fullmatch(re.split(r"[/\\]", folder)[-1])
        found = _with_year(match[1], folder, outputs, writer) if match else None
        if found is not None:
            return found
    return None


def _first_process(events: Sequence[str], duration: float) -> Evidence | None:
    """The start of the first process that may have trained for `duration` seconds."""
    begun: dict[str, tuple[int, str]] = {}
    for path in events:
        if start := started(path):
            name = process_of(path)
            begun[name] = min(begun.get(name, (start, path)), (start, path))
    starts = sorted(begun.values())
    for (start, path), (following, _) in pairwise([*starts, (10**12, "")]):
        if start + duration <= following + MAX_END_DELAY_SECONDS:
            several = f"{len(starts)} processes wrote event files; this one's start is assumed"
            return _start(start * 1_000_000, path, several if len(starts) > 1 else "")
    return None


def _with_year(
    text: str, folder: str, outputs: Sequence[str], writer: str | None
) -> Evidence | None:
    """The start from a text such as `Nov22_09-46-44`, completed with a year."""
    for path in (folder, *outputs):
        for year in _years(path, text):
            return _local(f"{year} {text}", "%Y %b%d_%H-%M-%S", folder, "UTC is assumed")
    released = RELEASED.get(writer or "")
    for year in (released.year, released.year + 1) if released else ():
        note = f"the year {year} and UTC are assumed"
        found = _local(f"{year} {text}", "%Y %b%d_%H-%M-%S", folder, note)
        if found and released and (found.start or 0) >= released.timestamp() * 1_000_000:
            return found
    return None


def _years(path: str, text: str) -> Iterator[int]:
    """The years in a path: from dates at most one day off, then from directory names."""
    day_off = timedelta(days=1)
    for named_year, _, month, day in _DATE.findall(path):
        with suppress(ValueError):
            named = datetime(int(named_year), int(month), int(day))
            for near in (named - day_off, named, named + day_off):
                if f"{near:%b%d}" == text[:5]:
                    yield near.year
    for year in _YEAR.findall(path):
        with suppress(ValueError):
            datetime.strptime(f"{year} {text[:5]}", "%Y %b%d")  # fails for 29 February
            yield int(year)


def _local(text: str, form: str, where: str, note: str) -> Evidence | None:
    try:
        moment = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    if not 0 < moment.timestamp() < MAX_TIME:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    return _start((moment - epoch) // timedelta(microseconds=1), where, note)


def _start(microseconds: int, where: str, note: str) -> Evidence:
    nothing = np.empty(0, np.int64)
    return Evidence(START, nothing, nothing, where, microseconds, note)
