"""Reads offline W&B runs back: the head of each part, and all points."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bridges.exporters.base import Recorded
from bridges.exporters.state import UNREADABLE, State
from bridges.exporters.wandb.history import OWN, STEP_KEYS
from bridges.exporters.wandb.rows import first_step, recorded
from bridges.exporters.wandb.run import KEY, STATE, attaching, numbered
from bridges.formats.wandb_log.log import BLOCK_BYTES, LogError, fields
from bridges.formats.wandb_log.reader import LogReader, read_log
from bridges.formats.wandb_log.records import EXIT, FILES, HISTORY, RunLog, RunRecord, run_record
from bridges.formats.wandb_log.rows import HistoryColumns

HEAD_BYTES = 2 * BLOCK_BYTES  # enough for nearly every run record


@dataclass(frozen=True)
class RunHead:
    """The content of the run record.

    Entity and group may be empty. `state` is None for a run of another program.
    """

    entity: str
    project: str
    name: str
    group: str
    tags: tuple[str, ...]
    key: str
    state: State | None


@contextmanager
def _sound() -> Iterator[None]:
    """Raise any error on malformed contents as LogError."""
    try:
        yield
    except LogError:
        raise
    except (ValueError, LookupError, TypeError, AssertionError, OverflowError) as error:
        raise LogError(f"a record cannot be read: {error or type(error).__name__}") from None


@_sound()
def read_head(path: str) -> RunHead:
    """The head of a file. Raises LogError if it has none, OSError if it cannot be read."""
    return _head(_run_record(path))


@_sound()
def read_config(path: str) -> dict[str, object]:
    """The config of a run. Raises LogError if it has none, OSError if it cannot be read."""
    return {path[0]: json.loads(value) for path, value in _run_record(path).config.items()}


def _run_record(path: str) -> RunRecord:
    with open(path, "rb") as file:
        return RunRecord.of(run_record(LogReader(file, HEAD_BYTES).records()))


def _head(run: RunRecord) -> RunHead:
    config = {".".join(path): value.decode() for path, value in run.config.items()}
    own = state_of(config)
    return RunHead(run.entity, run.project, run.name, run.group, run.tags, *own)


def state_of(config: Mapping[str, str]) -> tuple[str, State | None]:
    """The key and state in a config (JSON by name); the state is None for other programs."""
    try:
        return str(json.loads(config[KEY])), State.parse(json.loads(config[STATE])["state"])
    except UNREADABLE:
        return "", None


@_sound()
def read_run(parts: Iterable[bytes], *, from_start: bool) -> Recorded:
    """All points of a run's files (bytes, in order), and the summary values outside of rows.

    Raises LogError if a file is incomplete, or if `from_start` and row 0 is missing.
    """
    history, summary = HistoryColumns(), dict[str, object]()
    for data in parts:
        reader, log = LogReader(io.BytesIO(data)), RunLog()
        for piece in reader.pieces():
            log.add(history.add(piece))
        if reader.gaps:
            raise LogError(str(reader.gaps[0]))
        if history.unreadable or log.unreadable:
            raise LogError("a record cannot be read")
        if log.exit_code is None:
            raise LogError("it has no end record")
        summary |= {".".join(path): value for path, value in log.summary.items()}
    columns = [*history.columns()]
    if from_start and (first := first_step(columns)):
        raise LogError(f"the file with the rows before row {first} is missing")
    found = recorded(columns, history.count)
    return Recorded(found.points, found.others, _own(summary, found))


def _own(summary: Mapping[str, object], found: Recorded) -> dict[str, object]:
    of_rows = {*found.points, *(key for key, _, _ in found.others), *STEP_KEYS, *OWN}
    return {key: value for key, value in summary.items() if key not in of_rows}


@_sound()
def has_end(path: str) -> bool:
    """Whether a file has the run's end record. Raises LogError if it is damaged."""
    with open(path, "rb") as file:
        last = [*read_log(file.read())][-2:]
    return any(EXIT in dict(fields(record)) for record in last)


@_sound()
def attached(data: bytes) -> set[str]:
    """The files (paths below `files/`) that a part lists for upload."""
    paths = set()
    for record in read_log(data):
        for number, files in fields(record):
            if number == FILES and isinstance(files, bytes):
                paths |= {_first_text(item) for _, item in fields(files)}
    return paths


def _first_text(item: int | bytes) -> str:
    assert isinstance(item, bytes)
    content = dict(fields(item))[1]
    assert isinstance(content, bytes)
    return content.decode()


@_sound()
def with_files(data: bytes, files: Iterable[str], *, rows: bool) -> list[bytes]:
    """The records of a part with files attached to it, with or without its rows.

    Raises LogError.
    """
    return [*numbered(_with_files(data, files, rows))]


def _with_files(data: bytes, files: Iterable[str], rows: bool) -> Iterator[bytes]:
    for record in read_log(data):
        content = record[_after_number(record) :]
        numbers = {number for number, _ in fields(content)}
        if EXIT in numbers:
            yield attaching(files)
        if rows or not numbers & {HISTORY, FILES}:
            yield content


def _after_number(record: bytes) -> int:
    """The offset of a record's content, after its number (field 1)."""
    if not record or record[0] != 0x08:
        return 0
    at = 1
    while record[at] >= 0x80:
        at += 1
    return at + 1
