"""Reads the event files of units. Damaged files are named, and the others are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bridges.errors import SourceError
from bridges.formats.events.content import EventBytes, EventFile
from bridges.formats.events.reader import decode_many, is_event_file
from bridges.formats.events.tfrecord import EventFileError
from bridges.sources.fetch import fetch
from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.event_log import EventLog
from bridges.sources.tensorboard.event_names import name_of
from bridges.sources.tensorboard.units import EventFolder, Unit
from bridges.sources.text import unpacked
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Provenance

HEADER_BYTES = 12
AHEAD_BYTES = 1 << 22  # of the files of several units decoded together
Contents = dict[str, list[EventLog]]  # by directory
EXPECTED = "an event file"


class _File(NamedTuple):
    """A file to decode: its unit and directory, and the findings of unpacking it."""

    unit: int
    folder: str
    provenance: Provenance
    findings: Sequence[Finding]


class UnitReader:
    """Reads units. It collects the errors, and the files without points and of other kinds."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self.errors: list[SourceError] = []
        self.empty: list[str] = []
        self.others: list[str] = []

    def notes(self, location: str) -> list[Finding]:
        """Notes about the files without points and of other kinds, each once."""
        empty = f"event files without any points: {_named(self.empty)}"
        others = f"named like event files, but of another kind: {_named(self.others)}"
        found = [
            Finding("events-empty", Severity.INFO, location, empty, len(self.empty)),
            Finding("not-event-files", Severity.INFO, location, others, len(self.others)),
        ]
        self.empty, self.others = [], []
        return [finding for finding in found if finding.count]

    def contents(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Contents]]:
        """The event files of each unit; those of several small units are decoded together."""
        for batch in _batches(units):
            found: list[Contents] = [{} for _ in batch]
            for file, content in self._decoded(batch):
                if isinstance(content, EventFileError):
                    self.errors.append(_damaged(content, self._options))
                else:
                    log = self._log(file, content)
                    found[file.unit].setdefault(file.folder, []).append(log)
            yield from zip(batch, found, strict=True)

    def _decoded(self, batch: Sequence[Unit]) -> Iterator[tuple[_File, EventFile | EventFileError]]:
        """The content of each file of some units; few bytes are in memory at a time."""
        files: list[_File] = []

        def data() -> Iterator[EventBytes]:
            for at, unit in enumerate(batch):
                for file, content in self._files(at, unit):
                    files.append(file)
                    yield content

        decoded = decode_many(data(), complete=False, salvage=self._options.salvage)
        for at, content in enumerate(decoded):
            yield files[at], content

    def _log(self, file: _File, content: EventFile) -> EventLog:
        path = file.provenance.location
        notes = (*file.findings, *_left_out(path, content.damaged))
        log = EventLog.of(path, content, notes, file.provenance)
        if not (len(log) or log.others or log.sessions or log.own_texts):
            self.empty.append(path)
        return log

    def _files(self, at: int, unit: Unit) -> Iterator[tuple[_File, EventBytes]]:
        for folder in unit.members:
            plugins: dict[str, str] = {}
            for name in folder.events:
                try:
                    file = self._file(at, folder, folder.join(name), plugins)
                except SourceError as error:
                    self.errors.append(error)
                    continue
                if file is not None:
                    yield file

    def _file(
        self, at: int, folder: EventFolder, path: str, plugins: dict[str, str]
    ) -> tuple[_File, EventBytes] | None:
        """The bytes of a file; None if it is empty or of another kind. Raises SourceError."""
        raw = fetch(path, expected=EXPECTED)
        notes: list[Finding] = []
        salvage = self._options.salvage or self._options.growing
        data = unpacked(path, raw, salvage, notes, self._options.max_unpacked)
        if len(data) < HEADER_BYTES or not data.strip(b"\0"):
            self.empty.append(path)
            return None
        if not is_event_file(data[:HEADER_BYTES]):
            self.others.append(path)
            return None
        provenance = Provenance(path, len(raw), hashlib.sha256(raw).hexdigest())
        return _File(at, folder.path, provenance, notes), EventBytes(path, data, plugins)


def _batches(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    """Units in batches of few bytes; a large unit, or one of unknown size, is alone."""
    batch: list[Unit] = []
    size = 0
    for unit in units:
        own = unit.size or AHEAD_BYTES
        if batch and size + own > AHEAD_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(unit)
        size += own
    if batch:
        yield batch


def _damaged(error: EventFileError, options: ReadOptions) -> SourceError:
    remedy = "Get the file again, or use --salvage to read its other records."
    if options.salvage:
        remedy = "Get the file again."
    return SourceError(
        error.path,
        place="" if error.offset is None else f"byte {error.offset:,}",
        found=error.found,
        expected="a sound record",
        remedy=remedy,
    )


def _left_out(path: str, offsets: Sequence[int]) -> list[Finding]:
    if not offsets:
        return []
    where = ", ".join(f"{offset:,}" for offset in offsets[:5])
    message = f"damaged records are left out (at byte {where}), and the others are read"
    return [Finding("record-damaged", Severity.LOSS, path, message, len(offsets))]


def _named(paths: Sequence[str]) -> str:
    names = [name_of(path) for path in paths[:3]]
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(names) + more
