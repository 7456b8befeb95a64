"""Torn and damaged event files: their sound records are read, their damage is named, and no wrong
point is returned."""

from __future__ import annotations

import random
import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.formats.events import proto, reader
from bridges.formats.events.content import EventBytes, EventFile
from bridges.formats.events.reader import BLOCK_RECORDS, decode, decode_many, is_event_file
from bridges.formats.events.tfrecord import EventFileError
from bridges.formats.protobuf import integer, sized
from tests.integration.exporters.tensorboard.support import record_bounds

Point = tuple[str, int, int, bytes, float]
TAGS = ("loss", "lr", "train/grad_norm")


def tensor_value(tag: str, raw: bytes) -> bytes:
    tensor = integer(1, 1) + sized(2, b"") + sized(4, raw)
    return sized(1, tag.encode()) + sized(8, tensor) + sized(9, sized(1, sized(1, b"scalars")))


def file_of(rows: int, *, tensors: bool = False, seed: int = 0) -> bytes:
    """Version, a text, and a record for each tag and row: periodic, with an odd one in between."""
    dice = random.Random(seed)
    value_of = tensor_value if tensors else proto.scalar_value
    records = [
        proto.file_version_event(5.0),
        proto.summary_event(5.0, 0, [proto.text_value("note/text_summary", "hello")]),
    ]
    for row in range(rows):
        for tag in TAGS:
            raw = struct.pack("<f", dice.random())
            records.append(proto.summary_event(6.0 + row, row * 40, [value_of(tag, raw)]))
        if row % 50 == 49:
            records.append(proto.summary_event(6.0 + row, row, [value_of("eval", bytes(4))]))
    return b"".join(proto.frames(records))


def points(file: EventFile) -> Counter[Point]:
    return Counter(
        (tag, offset, step, value.tobytes(), time)
        for tag in file.scalars
        for part in [file.points(tag)]
        for offset, step, value, time in zip(
            part.offset.tolist(),
            part.step.tolist(),
            part.value,
            part.wall_time.tolist(),
            strict=True,
        )
    )


def flipped(data: bytes, at: int, bits: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def first_damage(data: bytes, at: int) -> int:
    return next(start for start, end in record_bounds(data) if start <= at < end)


FILES = {
    "simple": file_of(400),
    "tensors": file_of(400, tensors=True),
    "few": file_of(3),
    "long": file_of(2 * BLOCK_RECORDS // 3 + 100),
}


@pytest.mark.parametrize("name", FILES)
def test_the_first_damaged_record_is_named(name: str) -> None:
    data, dice = FILES[name], random.Random(1)
    bounds = record_bounds(data)
    for at in (dice.randrange(len(data)) for _ in range(200 if name != "long" else 20)):
        start, end = next(each for each in bounds if each[0] <= at < each[1])
        later = dice.randrange(end, len(data)) if end < len(data) else at
        damaged = flipped(data, at, dice.randrange(1, 256))
        if later != at:
            damaged = flipped(damaged, later)
        with pytest.raises(EventFileError) as told:
            decode("x", damaged)
        kind = "length" if at < start + 12 else "data"
        want = {f"the CRC of its {kind} is wrong"}
        if kind == "length" and end == len(data):
            want.add("the file ends inside a record")
        assert told.value.offset == start
        assert told.value.found in want


@pytest.mark.parametrize("name", ["simple", "tensors", "few"])
def test_salvage_goes_on_after_a_wrong_crc_of_data(name: str) -> None:
    data, dice = FILES[name], random.Random(2)
    want = points(decode("x", data))
    bounds = record_bounds(data)
    for _ in range(50):
        bad = sorted({dice.randrange(len(bounds)) for _ in range(4)})
        damaged = data
        for number in bad:
            start, end = bounds[number]
            damaged = flipped(damaged, dice.randrange(start + 12, end))
        file = decode("x", damaged, salvage=True)
        lost = {bounds[number][0] for number in bad}
        assert file.damaged == sorted(lost)
        assert points(file) == Counter(point for point in want if point[1] not in lost)
        assert file.torn == 0


def test_salvage_ends_at_a_wrong_length() -> None:
    data = FILES["simple"]
    want, dice = points(decode("x", data)), random.Random(3)
    bounds = record_bounds(data)
    for _ in range(50):
        start, _ = dice.choice(bounds[:-1])
        earlier = dice.choice(bounds)[0]
        damaged = flipped(data, start + dice.randrange(12), dice.randrange(1, 256))
        lost = {start}
        if earlier < start:
            damaged = flipped(damaged, earlier + 13)
            lost.add(earlier)
        file = decode("x", damaged, salvage=True, complete=False)
        assert file.damaged == sorted(lost)
        assert file.torn == len(data) - start
        keep = [point for point in want if point[1] < start and point[1] not in lost]
        assert points(file) == Counter(keep)


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("name", ["few", "simple"])
def test_a_file_cut_anywhere_has_its_whole_records(name: str, salvage: bool) -> None:
    data, dice = FILES[name], random.Random(4)
    want = points(decode("x", data))
    ends = [0, *(end for _, end in record_bounds(data))]
    cuts = range(len(data)) if name == "few" else dice.sample(range(len(data)), 150)
    for cut in cuts:
        file = decode("x", data[:cut], complete=False, salvage=salvage)
        stop = max(end for end in ends if end <= cut)
        assert file.torn == cut - stop
        assert not file.damaged
        assert points(file) == Counter(point for point in want if point[1] < stop)
        if file.torn:
            with pytest.raises(EventFileError, match="ends inside a record"):
                decode("x", data[:cut])


@pytest.mark.parametrize("zeros", [1, 4, 12, 16, 5000])
def test_zeros_at_the_end_are_the_end(zeros: int) -> None:
    data = FILES["few"]
    want = points(decode("x", data))
    for _, end in record_bounds(data):
        file = decode("x", data[:end] + bytes(zeros), complete=False)
        assert file.torn == 0
        assert points(file) == Counter(point for point in want if point[1] < end)
    for cut in range(len(data)):
        file = decode("x", data[:cut] + bytes(zeros), complete=False)
        assert points(file) <= want
    assert not decode("x", bytes(zeros), complete=False).scalars


def test_a_wrong_length_is_an_error_while_a_file_is_written() -> None:
    data = FILES["few"]
    start, end = record_bounds(data)[-1]
    damaged = flipped(data, start + 7, 0x40)  # a length beyond the file
    with pytest.raises(EventFileError, match=f"byte {start} .* CRC of its length"):
        decode("x", damaged, complete=False)
    file = decode("x", damaged, complete=False, salvage=True)
    assert (file.damaged, file.torn) == ([start], end - start)


@given(st.sampled_from([*FILES.values()][:3]), st.data())
@settings(max_examples=300)
def test_damage_never_gives_a_wrong_point(data: bytes, choice: st.DataObject) -> None:
    """Nor any error but that of the format; salvaged points are those of the file."""
    want = points(decode("x", data))
    damaged = bytearray(data)
    for _ in range(choice.draw(st.integers(1, 3))):
        low = choice.draw(st.integers(0, len(damaged) - 1))
        high = min(len(damaged), low + choice.draw(st.integers(1, 30)))
        damaged[low:high] = choice.draw(st.binary(max_size=30))
        if not damaged:
            return
    values = {(tag, step, value, time): n for (tag, _, step, value, time), n in want.items()}
    for salvage in (False, True):
        for complete in (False, True):
            try:
                file = decode("x", bytes(damaged), salvage=salvage, complete=complete)
            except EventFileError:
                assert not salvage
                continue
            found = Counter((t, s, v, w) for t, _, s, v, w in points(file).elements())
            assert found <= Counter(values)


def test_one_damaged_file_of_many_is_named_and_the_others_are_read() -> None:
    datas = [file_of(20 + n, tensors=n % 2 == 1, seed=n) for n in range(12)]
    datas[3] = flipped(datas[3], 700)
    datas[5] = flipped(datas[5], first_damage(datas[5], 900) + 2)
    datas[6] = datas[6][:-5]
    datas[8] = b""
    datas[9] = b"version https://git-lfs.github.com/spec/v1\n"
    datas[10] = datas[10] + bytes(100)
    for salvage in (False, True):
        files = [EventBytes(f"f{n}", data, {}) for n, data in enumerate(datas)]
        for file, found in zip(
            files, decode_many(files, complete=False, salvage=salvage), strict=True
        ):
            if not salvage and file.path in ("f3", "f5", "f9"):
                with pytest.raises(EventFileError) as told:
                    decode(file.path, file.data, complete=False)
                assert str(found) == str(told.value)
                continue
            alone = decode(file.path, file.data, complete=False, salvage=salvage)
            assert isinstance(found, EventFile)
            assert points(found) == points(alone)
            assert found.texts == alone.texts
            assert (found.torn, found.damaged) == (alone.torn, alone.damaged)
            assert (found.start, found.first_time) == (alone.start, alone.first_time)


def test_files_with_equal_lengths_of_records_keep_their_own_tags_and_damage() -> None:
    """Where the records of one file lie counts for the next ones; nothing else does."""

    def file(tags: str, seed: int) -> bytes:
        values = np.random.default_rng(seed).random((80, len(tags))).astype("<f4")
        records = [
            proto.summary_event(seed + step, step, [proto.scalar_value(tag, value.tobytes())])
            for step, row in enumerate(values)
            for tag, value in zip(tags, row, strict=True)
        ]
        return b"".join(proto.frames([proto.file_version_event(float(seed)), *records]))

    datas = [file("abc", 1), file("abc", 2), file("bca", 3), file("abc", 4), file("abc", 5)]
    assert len({*map(len, datas)}) == 1
    datas[3] = flipped(datas[3], 2000)
    found = [*decode_many([EventBytes(f"f{n}", data, {}) for n, data in enumerate(datas)])]
    assert isinstance(found[3], EventFileError)
    for number in (0, 1, 2, 4):
        each = found[number]
        assert isinstance(each, EventFile)
        assert points(each) == points(decode("", datas[number]))


def test_too_many_tags_in_one_file_of_many() -> None:
    def tags(count: int) -> bytes:
        scalars = [proto.scalar_value(f"t{n}", bytes(4)) for n in range(count)]
        return proto.frame(proto.summary_event(1.0, 1, scalars))

    files = [EventBytes("a", tags(3), {}), EventBytes("b", tags(9), {}), EventBytes("c", b"", {})]
    for more in ([], [EventBytes("d", tags(50), {})]):
        first, second, third, *_ = decode_many([*files, *more], max_tags=5)
        assert isinstance(first, EventFile)
        assert isinstance(third, EventFile)
        assert str(second) == "b: contains more than 5 tags."


def test_an_event_file_is_known_by_its_first_bytes() -> None:
    head = FILES["few"][:12]
    assert is_event_file(head)
    assert is_event_file(FILES["few"])
    assert not is_event_file(head[:11])
    apple_double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
    pointer = b"version https://git-lfs.github.com/spec/v1"
    for other in (b"", bytes(12), bytes(400), apple_double, pointer, flipped(head, 3), b"{" * 12):
        assert not is_event_file(other)


def test_many_files_are_read_in_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "JOINED_BYTES", 10_000)
    monkeypatch.setattr(reader, "MAX_SMALL_BYTES", 5_000)
    datas = [file_of(n, seed=n) for n in (5, 10, 20, 100, 10, 9, 8, 3, 40, 7)]
    assert max(map(len, datas)) > 10_000
    found = decode_many(EventBytes("x", data, {}) for data in datas)
    assert [points(one) for one in found if isinstance(one, EventFile)] == [
        points(decode("x", data)) for data in datas
    ]
