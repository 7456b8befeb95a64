"""The frames of event files: where each record begins, by the lengths alone."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.formats.events import proto
from bridges.formats.events.tfrecord import (
    FOOTER,
    HEADER,
    LEARNED_RECORDS,
    RECORDS_PER_CHECK,
    crc_fits,
    find_records,
    is_record_header,
    record_header,
    records_fit,
)

CYCLES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 40), min_size=1, max_size=12),
        st.integers(1, 5 * LEARNED_RECORDS),
    ),
    max_size=5,
)


def framed(lengths: list[int]) -> bytes:
    """Records of zeros; nothing here looks at the CRC of their data."""
    return b"".join(record_header(length) + bytes(length + FOOTER) for length in lengths)


def plain_bounds(lengths: list[int]) -> list[tuple[int, int]]:
    """Where each record begins, and its length, in the simplest words."""
    return [(sum(lengths[:n]) + n * (HEADER + FOOTER), each) for n, each in enumerate(lengths)]


def found(data: bytes, *, complete: bool = True) -> list[tuple[int, int]]:
    """The same, as it is found, in the order of the file."""
    frames = find_records(data, complete=complete)
    records = [(at, length) for length, each in frames.others.items() for at in each]
    for cycle in frames.cycles:
        inside = [(at, size) for at, size in plain_bounds([*cycle.lengths])]
        records += [
            (cycle.offset + number * cycle.size + at, length)
            for number in range(cycle.repeats)
            for at, length in inside
        ]
    return sorted(records)


def lengths_of(cycles: list[tuple[list[int], int]]) -> list[int]:
    return [length for lengths, repeats in cycles for length in lengths * repeats]


@given(CYCLES)
def test_records_are_found_however_their_lengths_repeat(
    cycles: list[tuple[list[int], int]],
) -> None:
    want = lengths_of(cycles)
    data = framed(want)
    assert found(data) == plain_bounds(want)
    frames = find_records(data, complete=True)
    assert (frames.stop, frames.torn) == (len(data), 0)


def test_repeated_lengths_are_found_without_a_loop_over_their_records() -> None:
    frames = find_records(framed([20, 30, 40] * 10_000), complete=True)
    assert sum(map(len, frames.others.values())) < 100
    assert sum(cycle.repeats for cycle in frames.cycles) > 9_900


@given(CYCLES.filter(bool), st.data())
def test_a_file_that_ends_inside_of_a_record(
    cycles: list[tuple[list[int], int]], data: st.DataObject
) -> None:
    want = lengths_of(cycles)
    size = want[-1] + HEADER + FOOTER
    some = framed(want)[: -data.draw(st.integers(1, size - 1))]
    place, _ = plain_bounds(want)[-1]
    assert found(some) == plain_bounds(want)[:-1]
    frames = find_records(some, complete=True)
    assert (frames.stop, frames.torn, frames.is_cut) == (place, len(some) - place, True)


@pytest.mark.parametrize("zeros", [1, 3, 11, 12, 100, 200_000])
@given(cycles=CYCLES)
def test_zeros_at_the_end_are_no_records(cycles: list[tuple[list[int], int]], zeros: int) -> None:
    want = lengths_of(cycles)
    data = b"".join(proto.frames([b"x" * length for length in want])) + bytes(zeros)
    assert found(data, complete=False) == plain_bounds(want)
    frames = find_records(data, complete=False)
    assert (frames.stop, frames.torn) == (len(data) - zeros, 0)


def test_a_crc_that_ends_with_zeros_belongs_to_its_record() -> None:
    frames = (proto.frame(b"%d" % number) for number in range(100_000))
    data = next(frame for frame in frames if frame.endswith(b"\0"))
    for zeros in (0, 1, 50):
        assert found(data + bytes(zeros), complete=False) == [(0, len(data) - HEADER - FOOTER)]


@pytest.mark.parametrize("kept", range(1, 30))
def test_a_record_of_which_zeros_replace_the_end_is_torn(kept: int) -> None:
    good, half = proto.frame(b"good"), proto.frame(b"half written")
    assert len(half) == 28
    data = good + half[:kept] + bytes(400)
    frames = find_records(data, complete=False)
    if kept < len(half):
        assert found(data, complete=False) == [(0, 4)]
        assert (frames.stop, frames.torn) == (len(good), len(half[:kept]) + 400)
        assert frames.is_cut
    else:
        assert (frames.stop, frames.torn) == (len(good + half), 0)


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_length_beyond_the_file_ends_it(length: int) -> None:
    good = framed([5] * 40)
    data = good + struct.pack("<Q", length) + bytes(99) + b"x"
    frames = find_records(data, complete=False)
    assert (frames.stop, frames.torn, frames.is_cut) == (len(good), 108, False)
    data = good + record_header(length) + bytes(99) + b"x"
    assert find_records(data, complete=False).is_cut


@pytest.mark.parametrize(
    "place", [0, RECORDS_PER_CHECK - 1, RECORDS_PER_CHECK, 2 * RECORDS_PER_CHECK]
)
def test_of_many_records_each_is_checked(place: int) -> None:
    frames = proto.frames([b"x" * (5 + n) for n in range(2 * RECORDS_PER_CHECK + 1)])
    starts = np.cumsum([0, *map(len, frames)]).tolist()
    where, length = np.array(starts[:-1]), 5 + np.arange(len(frames))
    data = b"".join(frames)
    assert records_fit(data, where, length).all()
    for at in (starts[place], starts[place] + 9, starts[place] + HEADER, starts[place + 1] - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        fit = records_fit(bytes(damaged), where, length)
        assert np.flatnonzero(~fit).tolist() == [place]


def test_a_header_is_a_length_and_its_crc() -> None:
    for length in (0, 1, 300, 2**40):
        header = record_header(length)
        assert struct.unpack("<Q", header[:8]) == (length,)
        assert crc_fits(header[:8], header[8:])
        assert is_record_header(header + b"more")
        assert not is_record_header(header[:11])
        assert not is_record_header(bytes([header[0] ^ 1]) + header[1:])
    assert not is_record_header(bytes(12))
    assert not is_record_header(b"version https://git-lfs")


@given(CYCLES.filter(bool), CYCLES.filter(bool))
def test_other_data_fit_only_if_all_their_lengths_are_equal(
    cycles: list[tuple[list[int], int]], others: list[tuple[list[int], int]]
) -> None:
    want = lengths_of(cycles)
    frames = find_records(framed(want)[:-1] + b"x", complete=False)
    for lengths in (want, want[::-1], lengths_of(others)):
        assert frames.fit(framed(lengths)[:-1] + b"x") == (lengths == want)


def test_data_that_may_end_with_zeros_or_inside_of_a_record_never_fit() -> None:
    data = framed([20, 30] * 40)[:-1] + b"x"
    frames = find_records(data, complete=False)
    assert frames.fit(data)
    for other in (data[:-1] + b"\0", data[:-1], b""):
        assert not frames.fit(other)
    cut = data[:-5] + b"x"
    assert not find_records(cut, complete=False).fit(cut)
