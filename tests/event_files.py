"""Writes small event files with chosen names and times, record by record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridges.formats.events import proto
from bridges.formats.protobuf import sized

USUAL = frozenset({"event-format", "event-end-unknown"})  # findings of every run of event files
START = 1_700_000_000.0  # seconds since 1970 UTC


def version(time: float) -> bytes:
    """The first event of a file."""
    return proto.file_version_event(time)


def scalars(time: float, step: int, **values: float) -> bytes:
    """An event with scalars as torch and tensorboardX write them; `a__b` is the tag `a/b`."""
    found = [
        proto.scalar_value(tag.replace("__", "/"), np.float32(value).tobytes())
        for tag, value in values.items()
    ]
    return proto.summary_event(time, step, found)


def tagged(time: float, step: int, tag: str, value: float) -> bytes:
    """An event with one scalar of any tag."""
    value_bytes = np.float32(value).tobytes()
    return proto.summary_event(time, step, [proto.scalar_value(tag, value_bytes)])


def text(time: float, step: int, tag: str, content: str) -> bytes:
    """An event with a text, as torch writes it."""
    return proto.summary_event(time, step, [proto.text_value(f"{tag}/text_summary", content)])


def restart(time: float, step: int) -> bytes:
    """A SessionLog START, as torch writes it with `purge_step`."""
    return proto.session_start_event(time, step)


def hparams(time: float, **params: bool | float | str) -> bytes:
    """An event with the params of a session, as `add_hparams` writes it."""
    return proto.summary_event(time, 0, [proto.session_start("", params, time)])


def histogram(time: float, step: int, tag: str) -> bytes:
    """An event with a histogram, which no target takes."""
    return proto.summary_event(time, step, [sized(1, tag.encode()) + sized(5, b"")])


def losses(
    start: float, steps: Sequence[int], tag: str = "loss", every: float = 1.0
) -> list[bytes]:
    """Events with one value of a tag each; the value is the step divided by 8, plus the start."""
    offset = (start - START) / 1024
    return [
        tagged(start + at * every, step, tag, step / 8 + offset) for at, step in enumerate(steps)
    ]


def write(folder: Path, events: Sequence[bytes], *, at: float = START, name: str = "") -> Path:
    """Write a file into a folder, named after a time and `host.7.0` if it gets no name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"events.out.tfevents.{int(at)}.host.7.0")
    path.write_bytes(b"".join(proto.frames([version(at), *events])))
    return path


def borders(data: bytes) -> list[int]:
    """The offsets of the records of an event file, and its end."""
    ends, at = [0], 0
    while at < len(data):
        at += 16 + int.from_bytes(data[at : at + 8], "little")
        ends.append(at)
    return ends
