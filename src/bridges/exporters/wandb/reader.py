"""Reads offline W&B runs back: the head of each part, and all points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bridges.exporters.base import Recorded
from bridges.exporters.state import UNREADABLE, State
from bridges.exporters.wandb.history import OWN, STEP_KEYS
from bridges.exporters.wandb.rows import Spans, first_step, read_rows, split_history
from bridges.exporters.wandb.run import (
    EXIT,
    FILES,
    HISTORY,
    KEY,
    RUN,
    STATE,
    SUMMARY,
    attaching,
    numbered,
)
from bridges.formats.wandb_log.log import LogError, fields, read_log

HEAD_BYTES = 1 << 16  # enough for nearly every run record


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
    items = _items(dict(fields(_run_record(path))).get(4, b""))
    return {key: json.loads(value) for key, value in items.items()}


def _run_record(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(HEAD_BYTES)
        try:
            return _find_run(read_log(data))
        except LogError:
            return _find_run(read_log(data + file.read()))


def _find_run(log: Iterable[bytes]) -> bytes:
    for record in log:
        found = dict(fields(record)).get(RUN)
        if isinstance(found, bytes):
            return found
    raise LogError("it has no run record")


def _head(run: bytes) -> RunHead:
    found = dict(fields(run))
    entity, project, name, group = (_text(found.get(number, b"")) for number in (2, 3, 8, 6))
    tags = tuple(_text(content) for number, content in fields(run) if number == 10)
    return RunHead(entity, project, name, group, tags, *state_of(_items(found.get(4, b""))))


def _text(content: int | bytes) -> str:
    assert isinstance(content, bytes)
    return content.decode()


def state_of(config: Mapping[str, str]) -> tuple[str, State | None]:
    """The key and state in a config (JSON by name); the state is None for other programs."""
    try:
        return str(json.loads(config[KEY])), State.parse(json.loads(config[STATE])["state"])
    except UNREADABLE:
        return "", None


def _items(content: int | bytes) -> dict[str, str]:
    """The items of a config or a summary: JSON by name."""
    assert isinstance(content, bytes)
    return dict(_pair(item) for number, item in fields(content) if number == 1)


def _pair(item: int | bytes) -> tuple[str, str]:
    assert isinstance(item, bytes)
    found: dict[int, int | bytes] = {}
    names = []
    for number, value in fields(item):
        found[number] = value
        names += [value] if number == 2 and isinstance(value, bytes) else []
    key, value = found.get(1) or b".".join(names), found.get(16, b"null")
    assert isinstance(key, bytes)
    assert isinstance(value, bytes)
    return key.decode(), value.decode()


@_sound()
def read_run(parts: Iterable[bytes], *, from_start: bool) -> Recorded:
    """All points of a run's files (bytes, in order), and the summary values outside of rows.

    Raises LogError if a file is incomplete, or if `from_start` and row 0 is missing.
    """
    history: list[Spans] = []
    summary: dict[str, str] = {}
    for data in parts:
        rows, others = split_history([*read_log(data)])
        history.append(rows)
        found = [field for record in others for field in fields(record)]
        for number, content in found:
            if number == SUMMARY:
                summary |= _items(content)
        if EXIT not in dict(found):
            raise LogError("it has no end record")
    if from_start and history and len(history[0]) and (first := first_step(history[0])):
        raise LogError(f"the file with the rows before row {first} is missing")
    points = read_rows(history)
    return Recorded(points.points, points.others, _own(summary, points))


def _own(summary: Mapping[str, str], found: Recorded) -> dict[str, object]:
    of_rows = {*found.points, *(key for key, _, _ in found.others), *STEP_KEYS, *OWN}
    return {key: json.loads(value) for key, value in summary.items() if key not in of_rows}


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
