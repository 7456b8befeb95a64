"""Histories whose shape takes far more memory than their bytes are refused, with what they hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridges.errors import SourceError
from bridges.sources.text_density import SMALL_BYTES
from tests.bounds import bounded
from tests.support import read_bytes, state

SIZE = 8_000_000
OPEN = b'{"global_step":1,"log_history":['
DENSE: dict[str, Callable[[int], bytes]] = {
    "empty rows": lambda size: OPEN + b",".join([b"{}"] * (size // 3)) + b"]}",
    "rows of a step alone": lambda size: OPEN + b",".join([b'{"step":1}'] * (size // 11)) + b"]}",
    "lists in a row": lambda size: (
        OPEN + b'{"step":1,"x":[' + b",".join([b"[]"] * (size // 3)) + b"]}]}"
    ),
    "lists in a header": lambda size: (
        OPEN + b'{"step":1}],"trial_params":{"x":[' + b",".join([b"[]"] * (size // 3)) + b"]}}"
    ),
    "objects as lines": lambda size: b"{}\n" * (size // 3),
    "lines of a table": lambda size: b"||\n" * (size // 3),
}


@pytest.mark.parametrize("name", DENSE)
def test_many_small_parts_are_refused(name: str, tmp_path: Path) -> None:
    data = DENSE[name](SIZE)
    with pytest.raises(SourceError) as caught:
        read_bytes(tmp_path, data)
    assert f"in {len(data):,} bytes" in caught.value.found
    assert caught.value.remedy == "This is not a log history: check which file you gave."


def test_small_files_may_hold_what_they_like(tmp_path: Path) -> None:
    data = DENSE["rows of a step alone"](SMALL_BYTES - 100)
    assert len(read_bytes(tmp_path, data).stream) == (SMALL_BYTES - 100) // 11


def test_many_values_in_a_trial_are_refused(tmp_path: Path) -> None:
    data = state([{"loss": 1.0, "step": 1}], trial_params={"a": [[0.5] * 50_000] * 2})
    with pytest.raises(SourceError, match=r"'trial_params': found more than 100,000 values"):
        read_bytes(tmp_path, data)


READ = """
from bridges.errors import SourceError
data = open(args[0], "rb").read()
resource.setrlimit(resource.RLIMIT_AS, (size + len(data) + max(64 << 20, 8 * len(data)),) * 2)
del data
try:
    bridges.api.read(args[0])
except SourceError as error:
    print(error.found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize("name", DENSE)
def test_they_are_refused_before_they_take_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(DENSE[name](SIZE))
    out = bounded(READ, str(path), mebibytes=300)
    assert f"in {path.stat().st_size:,} bytes" in out


ROWS = {
    "usual rows": b'{"loss": %d.5, "grad_norm": 0.%d, "epoch": 0.%d, "step": %d}',
    "compact rows": b'{"loss":%d.25,"lr":%d.5,"norm":%d,"step":%d}',
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize("name", ROWS)
def test_a_real_history_takes_no_more_than_eight_times_its_size(name: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    count = 2 * SIZE // len(ROWS[name])
    path.write_bytes(OPEN + b",".join(ROWS[name] % ((n,) * 4) for n in range(count)) + b"]}")
    assert bounded(READ, str(path), mebibytes=300) == ""
