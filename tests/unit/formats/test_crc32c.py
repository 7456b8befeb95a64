"""The CRC is CRC-32C as the RFC defines it, its mask TFRecord's, and the column form agrees."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

from bridges.formats.events import crc32c as module
from bridges.formats.events.crc32c import (
    FieldEffects,
    byte_table,
    crc32c,
    crc32c_each,
    mask,
    mask_all,
    unmask,
)

VECTORS = {  # RFC 3720, appendix B.4, and the check value of the catalogue of CRCs
    "nothing": (b"", 0x00000000),
    "32 zeros": (bytes(32), 0x8A9136AA),
    "32 ones": (b"\xff" * 32, 0x62A8AB43),
    "rising": (bytes(range(32)), 0x46DD794E),
    "falling": (bytes(range(31, -1, -1)), 0x113FDB5C),
    "iSCSI read": (
        bytes.fromhex(
            "01c00000000000000000000000000000"
            "14000000000004000000001400000018"
            "28000000000000000200000000000000"
        ),
        0xD9963A56,
    ),
    "digits": (b"123456789", 0xE3069283),
}


@pytest.mark.parametrize("name", VECTORS)
def test_known_vectors(name: str) -> None:
    data, crc = VECTORS[name]
    assert crc32c(data) == crc


@given(st.binary(max_size=700))
def test_masked_as_tensorboard_does(data: bytes) -> None:
    assert mask(crc32c(data)) == pywrap_tensorflow.masked_crc32c(data)


@given(st.lists(st.binary(max_size=700), max_size=8))
def test_together_they_are_what_each_is_alone(texts: list[bytes]) -> None:
    assert crc32c_each(texts) == [crc32c(text) for text in texts]


@given(st.integers(0, 2**32 - 1))
def test_a_mask_is_taken_off_again(crc: int) -> None:
    assert unmask(mask(crc)) == crc


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_all_masks_at_once_are_single_masks(values: list[int]) -> None:
    crc = np.array(values, np.uint32)
    assert mask_all(crc).tolist() == [mask(value) for value in values]
    assert crc.tolist() == values


@given(
    head=st.binary(max_size=40),
    field=st.binary(min_size=1, max_size=12),
    tail=st.binary(max_size=300),
)
def test_a_field_adds_its_share_to_the_crc_of_the_template(
    head: bytes, field: bytes, tail: bytes
) -> None:
    template = head + bytes(len(field)) + tail
    records = [head + field + tail, template]
    data = np.frombuffer(b"".join(records), np.uint8).reshape(2, -1)
    effects = FieldEffects([(len(head), len(field))], len(template)).of(data)
    crcs = (effects ^ np.uint32(crc32c(template))).tolist()
    assert crcs == [crc32c(record) for record in records]


def test_fields_add_up() -> None:
    records = [b"12345678between12", b"abcdefghbetweenij"]
    template = bytes(8) + b"between" + bytes(2)
    data = np.frombuffer(b"".join(records), np.uint8).reshape(2, -1)
    effects = FieldEffects([(0, 8), (15, 2)], len(template)).of(data)
    assert (effects ^ np.uint32(crc32c(template))).tolist() == [crc32c(data) for data in records]


def test_a_zero_byte_adds_nothing_at_any_distance() -> None:
    assert [int(byte_table(distance)[0]) for distance in (0, 1, 50, 5000)] == [0] * 4


def test_threads_that_make_tables_at_once_make_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    right = [byte_table(distance) for distance in range(300)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            monkeypatch.setattr(module, "_tables", byte_table(0)[None])
            with ThreadPoolExecutor(8) as pool:
                for found in [pool.submit(byte_table, 299) for _ in range(8)]:
                    assert (found.result() == right[299]).all()
    finally:
        sys.setswitchinterval(before)


def test_many_records_are_looked_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 32)
    records = np.random.default_rng(1).integers(0, 256, (50, 12)).astype(np.uint8)
    records[:, 10:] = 7
    effects = FieldEffects([(0, 10)], 12).of(records)
    crcs = (effects ^ np.uint32(crc32c(bytes(10) + b"\7\7"))).tolist()
    assert crcs == [crc32c(record.tobytes()) for record in records]
