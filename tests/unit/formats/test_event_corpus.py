"""Event files of other people, compared with TensorBoard's EventAccumulator and its protobuf.

The optional folder lies beside the repository; it is never part of it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.util.tensor_util import make_ndarray

from bridges.formats.events.content import EventBytes, EventFile
from bridges.formats.events.reader import decode, decode_many, is_event_file
from bridges.formats.events.tfrecord import EventFileError

FOLDER = Path(__file__).parents[4] / "shared" / "corpus_trackers" / "events"
PATHS = [
    str(Path(folder) / name)
    for folder, _, names in sorted(os.walk(FOLDER))
    for name in sorted(names)
    if "tfevents" in name
]
Point = tuple[int, int, float, float]  # offset, step, wall time, value

pytestmark = pytest.mark.skipif(not PATHS, reason=f"{FOLDER} is missing")


def events_of(data: bytes) -> Iterator[tuple[int, Event]]:
    at = 0
    while at + 12 <= len(data):
        end = at + 16 + int(struct.unpack_from("<Q", data, at)[0])
        if end > len(data):
            break
        yield at, Event.FromString(data[at + 12 : end - 4])
        at = end


def points_by_protobuf(data: bytes) -> dict[str, list[Point]]:
    plugins: dict[str, str] = {}
    out: dict[str, list[Point]] = {}
    for at, event in events_of(data):
        for value in event.summary.value:
            if value.HasField("metadata"):
                plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                number = value.simple_value
            elif kind == "tensor" and plugins.get(value.tag) == "scalars":
                number = float(make_ndarray(value.tensor).reshape(-1)[0])
            else:
                continue
            out.setdefault(value.tag, []).append((at, event.step, event.wall_time, number))
    return out


def points(file: EventFile, tag: str) -> list[Point]:
    part = file.points(tag)
    columns = (part.offset, part.step, part.wall_time, part.value)
    return [*zip(*(column.tolist() for column in columns), strict=True)]


@pytest.fixture(scope="module")
def files() -> list[EventBytes]:
    return [EventBytes(path, Path(path).read_bytes(), {}) for path in PATHS]


def test_every_file_is_equal_to_its_protobuf(files: list[EventBytes]) -> None:
    total = 0
    for file, found in zip(files, decode_many(files, complete=False), strict=True):
        if file.data and not is_event_file(file.data):
            assert isinstance(found, EventFileError)
            with pytest.raises(EventFileError):
                decode(file.path, file.data, complete=False)
            continue
        want = points_by_protobuf(file.data)
        for one in (found, decode(file.path, file.data, complete=False)):
            assert isinstance(one, EventFile)
            assert one.scalars.keys() == want.keys(), file.path
            for tag, listed in want.items():
                np.testing.assert_array_equal(points(one, tag), listed, err_msg=file.path)
        total += sum(map(len, want.values()))
    assert total > 10_000


def test_every_file_is_equal_to_the_event_accumulator(files: list[EventBytes]) -> None:
    for file in files:
        if not is_event_file(file.data):
            continue
        found = decode(file.path, file.data, complete=False)
        theirs = EventAccumulator(
            file.path, size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
        )
        theirs.Reload()
        tensors = {
            tag: [(e.step, e.wall_time, float(make_ndarray(e.tensor_proto)))
                  for e in theirs.Tensors(tag)]
            for tag in theirs.Tags()["tensors"]
            if theirs.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
        }  # fmt: skip
        scalars = {
            tag: [(e.step, e.wall_time, e.value) for e in theirs.Scalars(tag)]
            for tag in theirs.Tags()["scalars"]
        }
        assert found.scalars.keys() == {*tensors, *scalars}, file.path
        for tag, listed in {**tensors, **scalars}.items():
            mine = [point[1:] for point in points(found, tag)]
            np.testing.assert_array_equal(mine, listed, err_msg=file.path)


def test_no_value_of_any_file_is_dropped_silently(files: list[EventBytes]) -> None:
    """Every value and event is a point, a text, a session, or counted."""
    for file in files:
        if not is_event_file(file.data):
            continue
        found = decode(file.path, file.data, complete=False)
        read = sum(len(part.step) for part in found.parts) + len(found.texts)
        read += len(found.sessions) + found.others.total() + len(found.restarts)
        values = 0
        for _, event in events_of(file.data):
            kind = event.WhichOneof("what")
            values += len(event.summary.value)
            values += kind not in (None, "summary", "file_version", "source_metadata")
        assert read == values, file.path
