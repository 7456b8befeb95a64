"""Parses one record of an event file as protobuf into the positions of its fields.

Unknown fields, and known fields of another wire type, are skipped, as protobuf readers do. Field
numbers are those of tensorboard/compat/proto (`event.proto`, `summary.proto`, `tensor.proto`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from bridges.formats.events.hparams import SessionEnd, SessionStart, session_in
from bridges.formats.events.proto import HPARAMS_PLUGIN, TEXT_PLUGIN
from bridges.formats.events.tensors import number_in, strings_in
from bridges.formats.protobuf import fields, read_varint

SCALARS_PLUGIN = "scalars"
MAX_COLUMNAR_SCALARS = 1000  # of a record; with more, columns take more memory than objects
# protobuf keys of the fields: number * 8 + wire type
WALL_TIME, STEP, FILE_VERSION, SUMMARY, SESSION_LOG, RUN_METADATA = 9, 16, 26, 42, 58, 66
VALUE = 10  # in a summary
TAG, SIMPLE_VALUE, TENSOR, METADATA = 10, 21, 66, 74  # in a value
PLUGIN_DATA, PLUGIN_NAME, PLUGIN_CONTENT = 10, 10, 18  # in metadata; in its plug-in data
SESSION_STATUS, SESSION_START = 8, 1  # in a session log
# other parts of an event or a value
_EVENT_KINDS = {
    34: "graph_def",
    50: "log_message",
    58: "session_log",
    66: "tagged_run_metadata",
    74: "meta_graph_def",
}
_VALUE_KINDS = {26: "histograms", 34: "images", 42: "histograms", 50: "audio"}
UNREADABLE = "unreadable"  # a record with right CRCs that is not an event
NO_VALUE, TENSOR_KIND = "metadata", "tensor"
# how a scalar is stored: as `simple_value`, as a tensor of the scalars plug-in, or as a tensor
# whose plug-in only another event of its tag names
SIMPLE, TENSOR_OF_SCALARS, BARE_TENSOR = "simple", "scalars", "bare"


class Scalar(NamedTuple):
    """A number of a record: the kind and the origin, the offset of its bytes in the data (-1: they
    are not there), and these bytes.
    """

    tag: str
    kind: str
    origin: str
    at: int
    raw: bytes


@dataclass(slots=True)
class Event:
    """A parsed record.

    Offsets into its data: `wall_time`, `step` (with its size) and those of `scalars`; -1: absent.
    `texts`: tag, text, and whether a plug-in is named. `others`: kind and tag of other values;
    the kind of a tensor without plug-in is empty. `plugins`: tags with the plug-in they name.
    """

    wall_time: int = -1
    step: tuple[int, int] = (-1, -1)
    scalars: list[Scalar] = field(default_factory=list)
    texts: list[tuple[str, str, bool]] = field(default_factory=list)
    sessions: list[SessionStart | SessionEnd] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    plugins: list[tuple[str, str]] = field(default_factory=list)
    file_version: str | None = None
    is_restart: bool = False

    def is_columnar(self) -> bool:
        """Whether the record has nothing but scalars, at known offsets."""
        if self.texts or self.sessions or self.others or self.file_version or self.is_restart:
            return False
        few = 0 < len(self.scalars) <= MAX_COLUMNAR_SCALARS
        return few and all(scalar.at >= 0 for scalar in self.scalars)


def parse_event(data: bytes) -> Event:
    """The event in a record's data; if they are not an event, one that only counts this."""
    event = Event()
    try:
        for key, at, end in fields(data, 0, len(data)):
            if key == WALL_TIME:
                event.wall_time = at
            elif key == STEP:
                event.step = (at, end - at)
            elif key == SUMMARY:
                for part, a, e in fields(data, at, end):
                    if part == VALUE:
                        _add_value(event, data, a, e)
            elif key == FILE_VERSION:
                event.file_version = data[at:end].decode()
            elif key in _EVENT_KINDS:
                _add_kind(event, data, key, at, end)
    except (IndexError, UnicodeDecodeError):
        return Event(others=[(UNREADABLE, "")])
    return event


def first_tag(data: bytes, at: int) -> bytes:
    """The first tag of the event at an offset; empty if its fields are not in the usual order."""
    try:
        at += 9 if data[at] == WALL_TIME else 0
        for key in (STEP, SUMMARY, VALUE):
            if data[at] == key:
                at += 1
                while data[at] >= 0x80:
                    at += 1
                at += 1
        return data[at + 2 : at + 2 + data[at + 1]] if data[at] == TAG else b""
    except IndexError:
        return b""


def _add_kind(event: Event, data: bytes, key: int, at: int, end: int) -> None:
    """Add a part of an event that is not a summary."""
    if key == SESSION_LOG and _number(data, at, end, SESSION_STATUS) == SESSION_START:
        event.is_restart = True
        return
    tag = _text(data, at, end, TAG) if key == RUN_METADATA else ""
    event.others.append((_EVENT_KINDS[key], tag))


def _number(data: bytes, start: int, stop: int, wanted: int) -> int:
    found = [read_varint(data, at)[0] for key, at, _ in fields(data, start, stop) if key == wanted]
    return found[-1] if found else 0


def _text(data: bytes, start: int, stop: int, wanted: int) -> str:
    found = [data[at:end] for key, at, end in fields(data, start, stop) if key == wanted]
    return found[-1].decode() if found else ""


def _add_value(event: Event, data: bytes, start: int, stop: int) -> None:
    size = data[start + 1] if stop - start > 6 else 0x80  # bytes of the tag
    at = start + 2 + size
    if data[start] == TAG and size < 0x80 and at + 5 == stop and data[at] == SIMPLE_VALUE:
        tag = data[start + 2 : at].decode()  # the usual case: a tag and a number
        event.scalars.append(Scalar(tag, "<f4", SIMPLE, at + 1, data[at + 1 : stop]))
        return
    tag, plugin, content, kind, where = "", "", b"", 0, (0, 0)
    for key, at, end in fields(data, start, stop):
        if key == TAG:
            tag = data[at:end].decode()
        elif key in (SIMPLE_VALUE, TENSOR) or key in _VALUE_KINDS:
            kind, where = key, (at, end)  # the last one of several counts
        elif key == METADATA:
            plugin, content = _plugin(data, at, end)
    if plugin:
        event.plugins.append((tag, plugin))
    if kind == SIMPLE_VALUE:
        at, end = where
        event.scalars.append(Scalar(tag, "<f4", SIMPLE, at, data[at:end]))
    elif kind == TENSOR or (not kind and plugin == HPARAMS_PLUGIN):
        _add_tensor(event, data, tag, plugin, content, where)
    else:
        event.others.append((_VALUE_KINDS.get(kind) or plugin or NO_VALUE, tag))


def _plugin(data: bytes, start: int, stop: int) -> tuple[str, bytes]:
    """The name of the plug-in in a value's metadata, and its content."""
    name, content = "", b""
    for part, first, last in fields(data, start, stop):
        if part == PLUGIN_DATA:
            for key, at, end in fields(data, first, last):
                if key == PLUGIN_NAME:
                    name = data[at:end].decode()
                elif key == PLUGIN_CONTENT:
                    content = data[at:end]
    return name, content


def _add_tensor(
    event: Event, data: bytes, tag: str, plugin: str, content: bytes, where: tuple[int, int]
) -> None:
    session = session_in(content) if plugin == HPARAMS_PLUGIN else None
    if session:
        event.sessions.append(session)
        return
    number = number_in(data, *where) if plugin in ("", SCALARS_PLUGIN) else None
    texts = strings_in(data, *where) if plugin in ("", TEXT_PLUGIN) and not number else []
    if number:
        origin = TENSOR_OF_SCALARS if plugin else BARE_TENSOR
        event.scalars.append(Scalar(tag, number[0], origin, *number[1:]))
    elif texts:
        event.texts += [(tag, text, bool(plugin)) for text in texts]
    else:
        event.others.append((plugin, tag))
