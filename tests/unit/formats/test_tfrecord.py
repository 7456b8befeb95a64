"""The frames of event files: where each record begins, by the lengths alone."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.errors import VerifyError
from bridges.formats.events import proto
from bridges.formats.events.tfrecord import (
    FOOTER,
    HEADER,
    MIN_RUN_RECORDS,
    RECORDS_PER_CHECK,
    check_records,
    crc_fits,
    offsets_by_length,
    record_header,
)

RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3 * MIN_RUN_RECORDS)), max_size=8)


def framed(lengths: list[int]) -> bytes:
    """Records of zeros; nothing here looks at the CRC of their data."""
    return b"".join(record_header(length) + bytes(length + FOOTER) for length in lengths)


def plain_bounds(lengths: list[int]) -> list[tuple[int, int]]:
    """Where each record begins, and its length, in the simplest words."""
    return [(sum(lengths[:n]) + n * (HEADER + FOOTER), each) for n, each in enumerate(lengths)]


def found(data: bytes, *, whole: bool = True) -> list[tuple[int, int]]:
    """The same, as it is found, in the order of the file."""
    by_length = offsets_by_length("memory", data, whole)
    assert all((np.diff(offsets) > 0).all() for offsets in by_length.values())
    return sorted((at, length) for length, each in by_length.items() for at in each.tolist())


@given(RUNS)
def test_records_are_found_however_many_of_a_length_follow_one_another(
    runs: list[tuple[int, int]],
) -> None:
    want = [length for length, count in runs for _ in range(count)]
    assert found(framed(want)) == plain_bounds(want)


@given(RUNS.filter(bool), st.data())
def test_a_file_that_ends_inside_of_a_record(
    runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    want = [length for length, count in runs for _ in range(count)]
    whole = framed(want)
    cut = data.draw(st.integers(1, want[-1] + HEADER + FOOTER - 1))
    assert found(whole[:-cut], whole=False) == plain_bounds(want)[:-1]
    place, _ = plain_bounds(want)[-1]
    with pytest.raises(VerifyError, match=f"memory: the record at byte {place} .*: the file ends"):
        found(whole[:-cut])


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_length_beyond_the_file_is_told_with_its_place(length: int) -> None:
    good = framed([5] * (MIN_RUN_RECORDS + 5))
    data = good + struct.pack("<Q", length) + bytes(100)
    with pytest.raises(VerifyError, match=f"byte {len(good)} is damaged: the CRC of its length"):
        found(data)
    assert len(found(data, whole=False)) == MIN_RUN_RECORDS + 5


@pytest.mark.parametrize(
    "place", [0, RECORDS_PER_CHECK - 1, RECORDS_PER_CHECK, 2 * RECORDS_PER_CHECK]
)
def test_of_many_records_each_is_checked(place: int) -> None:
    frames = proto.frames([b"x" * (5 + n) for n in range(2 * RECORDS_PER_CHECK + 1)])
    starts = np.cumsum([0, *map(len, frames)]).tolist()
    where = [(start, 5 + n) for n, start in enumerate(starts[:-1])]
    data = bytearray(b"".join(frames))
    check_records("memory", bytes(data), where)
    data[starts[place] + HEADER] ^= 1
    with pytest.raises(VerifyError, match=f"byte {starts[place]} is damaged: the CRC of its data"):
        check_records("memory", bytes(data), where)


def test_a_header_is_a_length_and_its_crc() -> None:
    for length in (0, 1, 300, 2**40):
        header = record_header(length)
        assert struct.unpack("<Q", header[:8]) == (length,)
        assert crc_fits(header[:8], header[8:])
