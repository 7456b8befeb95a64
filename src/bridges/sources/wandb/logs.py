"""Reads the log of a run, or of a part of it: rows into columns, other records into a `RunLog`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from bridges.errors import SourceError
from bridges.formats.wandb_log.log import HEADER, LogError
from bridges.formats.wandb_log.reader import Gap, LogReader
from bridges.formats.wandb_log.records import RunLog, RunRecord, run_record
from bridges.formats.wandb_log.rows import HistoryColumns
from bridges.sources.fetch import LFS_POINTER, MissingSourceError, refuse_special
from bridges.sources.remote import opened
from bridges.sources.wandb.places import LogPlace
from bridges.stream.finding import Finding, Severity

EXPECTED = "the log of a W&B run, such as run-ID.wandb"


class EmptyLogError(Exception):
    """The log has 0 bytes, or only its header: its writer never flushed a record."""


@dataclass
class ReadLog:
    """The content of a log, except its rows.

    place: its path
    rows: their number
    """

    place: str
    log: RunLog
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def run(self) -> RunRecord:
        """The run record; an empty one without it."""
        return self.log.run or RunRecord()


def read_wandb(place: LogPlace, history: HistoryColumns) -> ReadLog:
    """Add the rows of a `.wandb` file to a history. Raises SourceError, EmptyLogError."""
    found = ReadLog(place.path, RunLog(), -history.count)
    unreadable = history.unreadable
    with open_log(place.path) as file:
        reader = LogReader(file)
        try:
            for piece in reader.pieces():
                found.log.add(history.add(piece))
        except LogError as error:
            raise _not_a_log(place.path, error) from None
    found.rows += history.count
    if found.log.run is None and not found.rows:
        raise EmptyLogError
    lost = history.unreadable - unreadable + found.log.unreadable
    found.findings += _gaps(place.path, reader, lost)
    return found


def head_of(place: LogPlace) -> RunRecord:
    """The run record of a `.wandb` file; an empty one if the file cannot be read."""
    try:
        with open_log(place.path) as file:
            return RunRecord.of(run_record(LogReader(file, len(HEADER) + (1 << 16)).records()))
    except (LogError, SourceError, EmptyLogError):
        return RunRecord()


@contextmanager
def open_log(path: str) -> Iterator[BinaryIO]:
    """An open file or URL. Raises SourceError, and EmptyLogError for an empty file."""
    try:
        if "://" in path:
            files, own = opened(path)
            file = files.open(own, "rb")
        else:
            refuse_special(path)  # opening a named pipe may never end
            file = open(path, "rb")  # noqa: SIM115 closed below
    except FileNotFoundError:
        raise MissingSourceError(
            path, found="nothing there", expected=EXPECTED, remedy="Check the path."
        ) from None
    except SourceError:
        raise
    except Exception as error:  # deliberately broad: every file system raises its own errors
        raise unreadable(path, error) from error
    with file:
        try:
            if not file.read(1):
                raise EmptyLogError
            file.seek(0)
            yield file
        except OSError as error:
            raise unreadable(path, error) from error


def size_of(path: str) -> int:
    """The size of a file or URL in bytes; 0: unknown."""
    with suppress(Exception):  # deliberately broad: reading the file reports the error
        if "://" in path:
            files, own = opened(path)
            return int(files.size(own))
        return os.path.getsize(path)
    return 0


def unreadable(path: str, error: Exception) -> SourceError:
    """The error for an unreadable file."""
    why = getattr(error, "strerror", "") or str(error) or type(error).__name__
    return SourceError(
        path,
        found=f"an unreadable file ({why})",
        expected="a readable file",
        remedy="Check its permissions and its name.",
    )


def _not_a_log(path: str, error: LogError) -> Exception:
    """The error for a file without the header of a log."""
    with open_log(path) as file:
        head = file.read(len(LFS_POINTER))
    if HEADER.startswith(head):
        return EmptyLogError()
    if head == LFS_POINTER:
        found, remedy = "a git-LFS pointer", "Run `git lfs pull` in its repository."
    else:
        found, remedy = f"another file: {error}", "Check which file this is."
    return SourceError(path, found=found, expected=EXPECTED, remedy=remedy)


def _gaps(path: str, reader: LogReader, unreadable: int) -> list[Finding]:
    """Findings about the unreadable parts of a log, and its unreadable records and values."""
    found = []
    if (torn := reader.torn) is not None:
        message = (
            "the log ends within a record, as its writer was killed or is still running: bytes "
            "behind the last complete record"
        )
        found.append(Finding("torn-tail", Severity.INFO, path, message, max(_size(torn), 1)))
    for gap in reader.damages:
        message = f"bytes from {gap.start:,} on are damaged; the rows in them are lost"
        found.append(Finding("damaged-log", Severity.LOSS, path, message, _size(gap)))
    if unreadable:
        message = "unreadable records or values are left out"
        found.append(Finding("unreadable-records", Severity.LOSS, path, message, unreadable))
    return found


def _size(gap: Gap) -> int:
    return gap.stop - gap.start
