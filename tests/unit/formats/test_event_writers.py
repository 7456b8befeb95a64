"""Event files of TensorFlow, Keras and PyTorch, which `tests/golden/make_event_files.py` made.

They are read as TensorFlow reads them, and every other value is counted.
"""

from __future__ import annotations

import json
import struct

import pytest

from bridges.formats.events.content import EventBytes, EventFile
from bridges.formats.events.hparams import SessionEnd, SessionStart
from bridges.formats.events.reader import decode, decode_many
from tests.support import DATA

FOLDER = DATA / "event_files"
POINTS: dict[str, list[tuple[str, int, str, str]]] = {
    name: [(tag, step, time, bits) for tag, step, time, bits in points]
    for name, points in json.loads((FOLDER / "points.json").read_text())["points"].items()
}


def read(name: str) -> EventFile:
    return decode(name, (FOLDER / name).read_bytes())


def points(file: EventFile) -> list[tuple[str, int, str, str]]:
    """Tag, step, bits of wall time and of value, in file order; one value a record here."""
    listed = [
        (offset, tag, step, struct.pack("<d", time).hex(), struct.pack("<d", value).hex())
        for tag in file.scalars
        for part in [file.points(tag)]
        for offset, step, time, value in zip(
            part.offset.tolist(),
            part.step.tolist(),
            part.wall_time.tolist(),
            part.value.tolist(),
            strict=True,
        )
    ]
    return [point[1:] for point in sorted(listed, key=lambda point: point[0])]


@pytest.mark.parametrize("name", POINTS)
def test_files_are_read_as_tensorflow_reads_them(name: str) -> None:
    assert points(read(name)) == POINTS[name]


def test_the_files_are_read_together_as_alone() -> None:
    files = [EventBytes(name, (FOLDER / name).read_bytes(), {}) for name in POINTS]
    for name, found in zip(POINTS, decode_many(files), strict=True):
        assert isinstance(found, EventFile)
        assert points(found) == POINTS[name]


def test_other_values_are_counted() -> None:
    others = {name: dict(read(name).others) for name in POINTS}
    weights = "sequential/dense/{}/histogram"
    assert others == {
        "first_only/events.out.tfevents": {},
        "keras/train/events.out.tfevents.v2": {
            ("graph_keras_model", "keras"): 1,
            ("histograms", weights.format("kernel")): 6,
            ("histograms", weights.format("bias")): 6,
        },
        "keras/validation/events.out.tfevents.v2": {},
        "pytorch/events.out.tfevents": {("histograms", "weights"): 1},
        "pytorch/hparams/events.out.tfevents": {("hparams", "_hparams_/experiment"): 1},
        "pytorch/purged/events.out.tfevents": {},
        "restarts/events.out.tfevents": {("graph_def", ""): 1, ("meta_graph_def", ""): 1},
        "scalars/events.out.tfevents.v2": {
            ("histograms", "histogram"): 1,
            ("images", "image"): 1,
            ("tensor", "custom"): 1,
            ("tensor", "number"): 1,
        },
    }


def test_texts_sessions_and_restarts() -> None:
    texts = [
        (text.tag, text.step, text.text) for text in read("scalars/events.out.tfevents.v2").texts
    ]
    assert texts == [("text", 3, "hello *you*"), ("texts", 4, "one"), ("texts", 4, "two")]
    (note,) = read("pytorch/events.out.tfevents").texts
    assert (note.tag, note.step, note.text) == ("note/text_summary", 7, "hello *you*")
    (_, start), (_, end) = read("pytorch/hparams/events.out.tfevents").sessions
    assert isinstance(start, SessionStart)
    assert start.params == {"lr": 0.1, "layers": 3.0, "flag": 1.0, "name": "x"}
    assert isinstance(end, SessionEnd)
    assert end.status == "success"
    assert [step for _, step in read("restarts/events.out.tfevents").restarts] == [5, 5]
    purged = read("pytorch/purged/events.out.tfevents")
    assert [step for _, step in purged.restarts] == [5]
    assert len(purged.versions) == 2
    assert purged.first_time is not None
    assert purged.start is not None
    assert purged.first_time <= purged.start
