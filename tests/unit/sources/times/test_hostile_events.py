"""Event files that no writer makes: wrong wire types, times that cannot be, lengths that lie.

Beside a run such a file is named, and every run of the tree is exported; reading one takes memory
in proportion to it.
"""

from __future__ import annotations

import math
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto import event_pb2

import bridges
from bridges.formats.events import proto
from bridges.formats.events.crc32c import crc32c, mask
from bridges.formats.events.reader import decode, first_texts
from bridges.formats.events.tfrecord import EventFileError
from tests.bounds import bounded
from tests.support import state

EVENTS = "events.out.tfevents.1700000000.host.1.0"
TIME = b"\x09" + struct.pack("<d", 1e9)


def scalar(tag: bytes, value: float) -> bytes:
    value_field = b"\x0a" + bytes([len(tag)]) + tag + b"\x15" + struct.pack("<f", value)
    return b"\x2a" + bytes([len(value_field) + 2, 0x0A, len(value_field)]) + value_field


def event(seconds: float, step: int, value: float) -> bytes:
    return b"\x09" + struct.pack("<d", seconds) + bytes([0x10, step]) + scalar(b"train/loss", value)


def head(seconds: float) -> bytes:
    return b"\x09" + struct.pack("<d", seconds) + b"\x1a\x0dbrain.Event:2"


ODD_RECORDS = {
    "wall time as a varint": b"\x08\x01" + scalar(b"train/loss", 1.5),
    "wall time as a text": b"\x0a\x08" + bytes(8) + scalar(b"train/loss", 1.5),
    "wall time of four bytes": b"\x0d" + bytes(4) + scalar(b"train/loss", 1.5),
    "step as a double": TIME + b"\x11" + bytes(8) + scalar(b"train/loss", 1.5),
    "step as a text": TIME + b"\x12\x02ab" + scalar(b"train/loss", 1.5),
    "step of 11 bytes": TIME + b"\x10" + b"\xff" * 10 + b"\x01" + scalar(b"train/loss", 1.5),
    "step of 13 bytes": TIME + b"\x10" + b"\xff" * 12 + b"\x01" + scalar(b"train/loss", 1.5),
    "step of ten full bytes": TIME + b"\x10" + b"\xff" * 9 + b"\x7f" + scalar(b"train/loss", 1.5),
    "version as a varint": TIME + b"\x18\x01",
    "summary as a varint": TIME + b"\x28\x01",
    "value as a varint": TIME + b"\x2a\x02\x08\x01",
    "tag as a varint": TIME + b"\x2a\x09\x0a\x07\x08\x01\x15" + bytes(4),
    "simple value as a double": TIME + b"\x2a\x0e\x0a\x0c\x0a\x01a\x11" + bytes(8),
    "simple value as a text": TIME + b"\x2a\x08\x0a\x06\x0a\x01a\x12\x01x",
    "simple value as a varint": TIME + b"\x2a\x07\x0a\x05\x0a\x01a\x10\x01",
    "tensor as a varint": TIME + b"\x2a\x07\x0a\x05\x0a\x01a\x40\x01",
    "a group": TIME + b"\x2b\x2c",
    "a wire type that is none": TIME + b"\x2e\x01",
    "a length beyond the record": TIME + b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "a tag that is no text": TIME + scalar(b"\xff\xfe", 1.5),
    "nothing": b"",
    "cut off": TIME[:5],
}


def written(folder: Path, *records: bytes) -> Path:
    """Four runs in a tree, the first with an event file of these records."""
    for index in range(4):
        place = folder / "tree" / f"r{index}"
        place.mkdir(parents=True)
        rows = [{"loss": 1.5 + index, "step": 1}, {"loss": 1.25, "step": 2}]
        (place / "trainer_state.json").write_bytes(state(rows))
    logs = folder / "tree" / "r0" / "runs"
    logs.mkdir()
    (logs / EVENTS).write_bytes(b"".join(map(proto.frame, records)))
    return folder / "tree"


def exported(tree: Path, tmp_path: Path) -> list[Any]:
    """The reports of the runs in every target; all must be right."""
    places: dict[str, dict[str, Any]] = {
        "tensorboard": {"logdir": str(tmp_path / "tb")},
        "mlflow": {"tracking_uri": f"sqlite:///{tmp_path / 'm.db'}"},
        "wandb": {"wandb_dir": str(tmp_path / "w")},
    }
    reports: list[Any] = []
    for target, place in places.items():
        report = bridges.export(tree, to=target, **place)
        assert [(run.status, run.verified) for run in report.runs] == [("exported", True)] * 4
        reports += report.runs
    return reports


@pytest.mark.usefixtures("strict_warnings")
@pytest.mark.parametrize("name", ODD_RECORDS)
def test_a_record_of_odd_fields_stops_nothing(name: str, tmp_path: Path) -> None:
    record = ODD_RECORDS[name]
    exported(
        written(tmp_path, head(1e9), record, *[record] * 40, event(1e9 + 1, 2, 1.25)), tmp_path
    )


@pytest.mark.parametrize("name", ODD_RECORDS)
def test_a_record_of_odd_fields_is_read_as_protobuf_does(name: str) -> None:
    record = ODD_RECORDS[name]
    found = decode("x", proto.frame(record) * 40)
    parsed = event_pb2.Event()
    try:
        parsed.ParseFromString(record)
    except Exception:
        assert found.scalars == {}
        return
    known = [value.tag for value in parsed.summary.value if value.HasField("simple_value")]
    assert list(found.scalars) == known
    for parts in found.scalars.values():
        assert {time for part in parts for time in part.wall_time.tolist()} == {parsed.wall_time}
        assert {step for part in parts for step in part.step.tolist()} == {parsed.step}


TIMES = {
    "infinity": (math.inf, math.inf),
    "minus infinity": (-math.inf, -math.inf),
    "NaN": (math.nan, math.nan),
    "1e300": (1e300, 1e300),
    "-1e300": (-1e300, -1e300),
    "before 1970": (-1e9, -1e9),
    "the year 11476": (3e11, 3e11),
    "milliseconds": (1.7e12, 1.7e12),
    "a start alone": (math.inf, 1.7e9),
    "rows alone": (1.7e9, math.nan),
}


@pytest.mark.usefixtures("strict_warnings")
@pytest.mark.parametrize("name", TIMES)
def test_times_that_cannot_be_are_counted_and_not_used(name: str, tmp_path: Path) -> None:
    start, seconds = TIMES[name]
    records = [head(start), event(seconds, 1, 1.5), event(seconds, 2, 1.25)]
    tree = written(tmp_path, *records)
    count = sum(not 0 < time < 4e9 for time in (start, seconds, seconds))
    for report in exported(tree, tmp_path):
        found = [f for f in report.findings if f.code == "times-out-of-range"]
        assert [f.count for f in found] == ([count] if report.run == "r0" else [])
    for run in bridges.read(tree):
        for evidence in run.evidence:
            known = [*evidence.time.tolist(), *([evidence.start] if evidence.start else [])]
            assert all(1e11 < time < 5e15 for time in known)


def test_one_damaged_file_is_named_and_the_others_are_used(tmp_path: Path) -> None:
    tree = written(tmp_path, head(1e9), event(1e9, 1, 1.5), event(1e9 + 1, 2, 1.25))
    good = tree / "r0" / "runs" / EVENTS
    bad = good.with_name(EVENTS.replace("host", "other"))
    data = bytearray(good.read_bytes())
    data[60] ^= 1
    bad.write_bytes(data)
    run, *others = bridges.read(tree)
    (told,) = [f for f in run.findings if f.code == "beside-unreadable"]
    assert told.where == str(bad)
    assert "is damaged: the CRC of its data is wrong." in told.message
    assert "Delete" not in told.message  # as of a file of ours, which can be written again
    assert "events" in [evidence.source for evidence in run.evidence]
    assert len(others) == 3


def with_length(length: int) -> bytes:
    data = struct.pack("<Q", length)
    return data + mask(crc32c(data)).to_bytes(4, "little")


@pytest.mark.parametrize("length", [2**16, 2**40, 2**63 - 20, 2**63, 2**64 - 1])
def test_lengths_beyond_the_file_are_no_records(length: int, tmp_path: Path) -> None:
    data = proto.frame(event(5.0, 1, 1.5)) + with_length(length) + bytes(40)
    assert len(decode("x", data, complete=False).scalars["train/loss"]) == 1
    with pytest.raises(EventFileError, match="ends inside a record"):
        decode("x", data)
    path = tmp_path / "file"
    path.write_bytes(with_length(length) + bytes(40))
    with pytest.raises(EventFileError, match="is damaged"):
        first_texts(str(path))


@given(st.lists(st.binary(max_size=60) | st.sampled_from([*ODD_RECORDS.values()]), max_size=9))
@settings(max_examples=300)
def test_any_records_are_read_or_passed_over(records: list[bytes]) -> None:
    for count in (1, 40):
        file = decode("x", b"".join(map(proto.frame, records * count)))
        assert all(
            len(part.step) == len(part.value) == len(part.wall_time) == len(part.offset)
            for parts in file.scalars.values()
            for part in parts
        )


BOMBS = """
import struct
from bridges.formats.events.tfrecord import EventFileError
from bridges.formats.events import proto
from bridges.formats.events.reader import decode
def point(tag, step):
    return proto.frame(proto.summary_event(1.7e9, step, [proto.scalar_value(tag, bytes(4))]))
many = int(args[0])
data = {
    "empty": lambda: proto.frame(b"") * many,
    "no message": lambda: proto.frame(bytes([255]) * 30) * many,
    "a tag each": lambda: b"".join(point(f"t{n:06}", n) for n in range(many)),
    "tags that take turns": lambda: b"".join(point(f"t{n % 3000:05}", n) for n in range(many)),
    "values of one record": lambda: proto.frame(
        proto.summary_event(1.0, 1, [proto.scalar_value("t", bytes(4))] * many)
    ),
    "wide records": lambda: proto.frame(
        proto.summary_event(1.0, 1, [proto.scalar_value("t", bytes(4))] * 2000)
    ) * 50,
    "texts of one record": lambda: proto.frame(
        proto.summary_event(1.0, 1, [proto.text_value("t", "")] * many)
    ),
    "lengths": lambda: b"".join(proto.frame(bytes(n % 3000)) for n in range(many // 100)),
}[args[1]]()
print(len(data), file=sys.stderr)
resource.setrlimit(resource.RLIMIT_AS, (size + max(64 << 20, 9 * len(data)),) * 2)
try:
    decode("x", data, complete=False, max_tags=50_000)
    print("read")
except EventFileError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("empty", "read"),
        ("no message", "read"),
        ("a tag each", "x: contains more than 50,000 tags."),
        ("tags that take turns", "read"),
        ("values of one record", "x: contains more than 50,000 tags."),
        ("wide records", "read"),
        ("texts of one record", "read"),
        ("lengths", "read"),
    ],
)
def test_event_files_take_memory_in_proportion(name: str, outcome: str) -> None:
    many = 100_000
    out = bounded(BOMBS, str(many), name, mebibytes=600, seconds=30)
    assert out.strip() == outcome
