"""Encoders for the few protobuf messages of an event file, and their framing.

Field numbers are those of tensorboard/compat/proto (`event.proto`, `summary.proto`,
`tensor.proto`) and of the hparams plug-in's `plugin_data.proto` and `api.proto`. A record is a
TFRecord: length (uint64), its masked CRC-32C, the data, their masked CRC-32C.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from bridges.formats.events.crc32c import crc32c_each, mask
from bridges.formats.events.tfrecord import record_header
from bridges.formats.protobuf import double, integer, sized

FILE_VERSION = "brain.Event:2"
TEXT_PLUGIN = "text"
HPARAMS_PLUGIN = "hparams"
SESSION_START_TAG = "_hparams_/session_start_info"
SESSION_END_TAG = "_hparams_/session_end_info"
_DT_STRING = 7
_DT_FLOAT = 1
_STATUS_SUCCESS, _STATUS_FAILURE = 1, 2
_SESSION_START = 1
_pack_crc = struct.Struct("<I").pack

HParam = bool | int | float | str


def utf8(text: str) -> bytes:
    """UTF-8 with escaped lone surrogates, which protobuf strings do not allow."""
    return text.encode("utf-8", "backslashreplace")


def frame(data: bytes) -> bytes:
    """The data as one TFRecord."""
    return frames([data])[0]


def frames(records: Sequence[bytes]) -> list[bytes]:
    """The data of each record as a TFRecord."""
    return [
        record_header(len(data)) + data + _pack_crc(mask(crc))
        for data, crc in zip(records, crc32c_each(records), strict=True)
    ]


def file_version_event(wall_time: float) -> bytes:
    """The first event of a file; its wall time (seconds) orders the runs in TensorBoard."""
    return double(1, wall_time) + sized(3, FILE_VERSION.encode())


def session_start_event(wall_time: float, step: int) -> bytes:
    """A session start. At every session start but the first, readers drop points from `step` on."""
    return double(1, wall_time) + integer(2, step) + sized(7, integer(1, _SESSION_START))


def summary_event(wall_time: float, step: int, values: Sequence[bytes]) -> bytes:
    """An event with a summary of encoded values."""
    summary = b"".join(sized(1, value) for value in values)
    return double(1, wall_time) + integer(2, step) + sized(5, summary)


def scalar_value(tag: str, value: bytes) -> bytes:
    """A `simple_value`; `value` is a little-endian float32."""
    return sized(1, utf8(tag)) + b"\x15" + value


def text_value(tag: str, text: str) -> bytes:
    """A text of the text plug-in: a string tensor of shape [1]."""
    shape = sized(2, sized(2, integer(1, 1)))
    tensor = integer(1, _DT_STRING) + shape + sized(8, utf8(text))
    return sized(1, utf8(tag)) + sized(8, tensor) + sized(9, _metadata(TEXT_PLUGIN, b""))


def session_start(group: str, hparams: Mapping[str, HParam], start: float) -> bytes:
    """The start of a run for the HParams page, with its settings and group name."""
    entries = b"".join(
        sized(1, sized(1, utf8(name)) + sized(2, _struct_value(value)))
        for name, value in hparams.items()
    )
    info = entries + sized(4, utf8(group)) + double(5, start)
    return _session(SESSION_START_TAG, sized(3, info))


def session_end(end: float, *, is_success: bool) -> bytes:
    """The end of a run, for the HParams page."""
    status = _STATUS_SUCCESS if is_success else _STATUS_FAILURE
    return _session(SESSION_END_TAG, sized(4, integer(1, status) + double(2, end)))


def _session(tag: str, content: bytes) -> bytes:
    """A value with its content in the metadata; its tensor is of floats, shape [0]."""
    tensor = integer(1, _DT_FLOAT) + sized(2, sized(2, b""))
    return sized(1, tag.encode()) + sized(8, tensor) + sized(9, _metadata(HPARAMS_PLUGIN, content))


def _metadata(plugin: str, content: bytes) -> bytes:
    return sized(1, sized(1, plugin.encode()) + (sized(2, content) if content else b""))


def _struct_value(value: HParam) -> bytes:
    """A google.protobuf.Value."""
    if isinstance(value, bool):
        return integer(4, value)
    if isinstance(value, (int, float)):
        return double(2, float(value))
    return sized(3, utf8(value))
