"""Reads the data of the hparams plug-in: the params of a run, and how the run ended.

Field numbers are those of the plug-in's `plugin_data.proto` and `api.proto`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from bridges.formats.events.proto import HParam
from bridges.formats.protobuf import fields, read_varint

# protobuf keys: number * 8 + wire type
START, END = 26, 34  # in the plug-in's data
PARAM, GROUP, STARTED = 10, 34, 41  # in a session's start
NAME, VALUE = 10, 18  # in an entry of the params
NUMBER, TEXT, BOOL = 17, 26, 32  # in a google.protobuf.Value
STATUS, ENDED = 8, 17  # in a session's end
_STATUSES = {1: "success", 2: "failure", 3: "running"}
_double = struct.Struct("<d").unpack_from


class SessionStart(NamedTuple):
    """The params of a run (numbers are float64), its group, and its start in seconds.

    `unread`: the params with a value that is not a number, a bool or a text.
    """

    params: dict[str, HParam]
    group: str
    started: float
    unread: tuple[str, ...] = ()


class SessionEnd(NamedTuple):
    """How a run ended (`success`, `failure`, `running` or `unknown`), and when, in seconds."""

    status: str
    ended: float


def session_in(content: bytes) -> SessionStart | SessionEnd | None:
    """The session in the content of the plug-in's metadata; None if it has none.

    Raises IndexError or UnicodeDecodeError for bytes that are not a message.
    """
    for key, at, end in fields(content, 0, len(content)):
        if key == START:
            return _start(content, at, end)
        if key == END:
            return _end(content, at, end)
    return None


def _start(data: bytes, start: int, stop: int) -> SessionStart:
    params: dict[str, HParam] = {}
    group, started, unread = "", 0.0, []
    for key, at, end in fields(data, start, stop):
        if key == PARAM:
            name, value = _param(data, at, end)
            if value is None:
                unread.append(name)
            else:
                params[name] = value
        elif key == GROUP:
            group = data[at:end].decode()
        elif key == STARTED:
            started = _double(data, at)[0]
    return SessionStart(params, group, started, tuple(unread))


def _param(data: bytes, start: int, stop: int) -> tuple[str, HParam | None]:
    name, value = "", None
    for key, at, end in fields(data, start, stop):
        if key == NAME:
            name = data[at:end].decode()
        elif key == VALUE:
            value = _value(data, at, end)
    return name, value


def _value(data: bytes, start: int, stop: int) -> HParam | None:
    value: HParam | None = None
    for key, at, end in fields(data, start, stop):
        if key == NUMBER:
            value = float(_double(data, at)[0])
        elif key == TEXT:
            value = data[at:end].decode()
        elif key == BOOL:
            value = bool(read_varint(data, at)[0])
    return value


def _end(data: bytes, start: int, stop: int) -> SessionEnd:
    status, ended = 0, 0.0
    for key, at, _ in fields(data, start, stop):
        if key == STATUS:
            status = read_varint(data, at)[0]
        elif key == ENDED:
            ended = _double(data, at)[0]
    return SessionEnd(_STATUSES.get(status, "unknown"), ended)
