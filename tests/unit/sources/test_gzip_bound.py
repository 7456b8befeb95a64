"""Gzip bombs and endless streams: their size is bounded, is told, and more can be allowed."""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridges
from bridges.cli.main import run as bridge
from bridges.errors import SourceError, TreeError
from bridges.exporters.memory import MemoryExporter
from bridges.sources import fetch, gzip_members
from bridges.sources.gzip_members import (
    FREE_BYTES,
    MAX_UNPACKED_BYTES,
    TooLargeError,
    bound_of,
    gunzip,
)
from tests.bounds import bounded
from tests.support import packed, read_bytes, state

MANY = 70 << 20  # bytes: more than any file may unpack to
ROW = {"loss": 1.0, "step": 1}


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good history with 70 MiB of blanks, packed to 70 kB, in a tree with another run."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("a", "b"):
        (folder / name).mkdir()
    (folder / "a" / "trainer_state.json").write_bytes(state([{"loss": 2.0, "step": 1}]))
    (folder / "b" / "trainer_state.json.gz").write_bytes(packed(state([ROW]) + b" " * MANY))
    return folder


def message_of(bomb: Path, remedy: str = "max_unpacked=BYTES") -> str:
    path = bomb / "b" / "trainer_state.json.gz"
    size = path.stat().st_size
    return (
        f"{path}: found {size:,} bytes of gzip data that unpack to more than 67,108,864; expected "
        f"a log history. If it is one, allow more with {remedy}."
    )


def test_a_bomb_is_named_and_the_other_run_is_read(bomb: Path) -> None:
    report = bridges.export(bomb, to=MemoryExporter())
    good, bad = report.runs
    assert (good.run, good.verified, report.exit_code) == ("a", True, 1)
    assert [finding.message for finding in bad.findings] == [message_of(bomb)]
    with pytest.raises(SourceError) as caught:
        bridges.read(bomb / "b" / "trainer_state.json.gz")
    assert str(caught.value) == message_of(bomb)


def test_more_can_be_allowed(bomb: Path, tmp_path: Path) -> None:
    allowed = MANY + 1000
    assert [run.name for run in bridges.read(bomb, max_unpacked=allowed)] == ["a", "b"]
    memory = MemoryExporter()
    for action in (bridges.export, bridges.verify):
        assert action(bomb, to=memory, max_unpacked=allowed).exit_code == 0
    target = ["--to", "tensorboard", "--logdir", str(tmp_path / "tb")]
    option = ["--max-unpacked", str(allowed)]
    for command in (["export", *target], ["verify", *target], ["inspect"]):
        assert bridge([*command, str(bomb), *option, "-q"]) == 0
    assert bridge(["inspect", str(bomb), "--max-unpacked", str(MANY), "-q"]) == 1
    assert bridge(["inspect", str(bomb), "--max-unpacked", "0", "-q"]) == 2


def test_a_config_can_allow_more(bomb: Path, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "sources": [{"location": str(bomb)}],
        "targets": [{"to": "tensorboard", "logdir": str(tmp_path / "tb")}],
        "engine": {"workers": 1},
    }
    file = tmp_path / "m.yaml"
    file.write_text(json.dumps(config))
    report = bridges.migrate(file)
    told = [f.message for run in report.runs if run.failed for f in run.findings]
    assert told == [message_of(bomb, "`max_unpacked: BYTES`")]
    config["sources"][0]["max_unpacked"] = MANY + 1000
    file.write_text(json.dumps(config))
    assert bridges.migrate(file).exit_code == 0


@pytest.mark.parametrize(
    ("size", "bound"),
    [
        (0, FREE_BYTES),
        (FREE_BYTES // 100, FREE_BYTES),
        (1_000_000, 100_000_000),
        (40_000_000, 4_000_000_000),
        (50_000_000, MAX_UNPACKED_BYTES),
    ],
)
def test_the_bound_grows_with_the_file(size: int, bound: int) -> None:
    assert bound_of(size) == bound


BOMB = """
from bridges.errors import SourceError, TreeError
for place in args:
    print("reading", place, file=sys.stderr)
    try:
        bridges.api.read(place)
    except SourceError as error:
        print(error.found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_a_bomb_takes_no_more_than_its_bound(tmp_path: Path) -> None:
    places = [tmp_path / f"{name}.json.gz" for name in ("one", "two", "many", "zeros")]
    packer = zlib.compressobj(wbits=31)
    gigabyte = b"".join(packer.compress(b"[" * (1 << 20)) for _ in range(1024)) + packer.flush()
    places[0].write_bytes(gigabyte)
    places[1].write_bytes(packed(b"[]" * 1000) * 2 + gigabyte)
    places[2].write_bytes(packed(b"") * 200_000)
    places[3].write_bytes(packed(b"") + bytes(20 << 20))
    out = bounded(BOMB, *map(str, places), mebibytes=220, seconds=30).splitlines()
    assert out[:2] == [
        f"{place.stat().st_size:,} bytes of gzip data that unpack to more than "
        f"{bound_of(place.stat().st_size):,}"
        for place in places[:2]
    ]
    assert out[2:] == ["an empty file"] * 2


@given(
    st.lists(st.binary(max_size=3000), min_size=1, max_size=8), st.integers(0, 40), st.integers(1)
)
def test_members_come_back_whole_or_cut(members: list[bytes], zeros: int, cut: int) -> None:
    content = b"".join(members)
    data = b"".join(map(packed, members))
    assert gunzip(data + bytes(zeros), len(content)) == (content, True)
    assert gzip.decompress(data + bytes(zeros)) == content
    if content:
        with pytest.raises(TooLargeError):
            gunzip(data, len(content) - 1)
    last = len(packed(members[-1]))
    found, whole = gunzip(data[: -1 - cut % (last - 1)], len(content))
    assert not whole
    assert content.startswith(found)


def test_a_log_that_repeats_itself_is_read(tmp_path: Path) -> None:
    rows = [{"loss": 0.0, "epoch": 1.0, "step": step} for step in range(20_000)]
    data = packed(state(rows))
    assert len(read_bytes(tmp_path, data).stream) == 20_000


LOG = (
    '{"current_steps": %d, "total_steps": 9, "loss": 1.5, "epoch": 0.5, "elapsed_time": "0:00:0%d"}'
)


@pytest.mark.parametrize("beside", [False, True])
def test_more_can_be_allowed_of_a_tuning_tools_log(
    beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone and beside a state: its rows, its times and its attached file."""
    monkeypatch.setattr(gzip_members, "FREE_BYTES", 1000)
    lines = "\n".join(LOG % (step, step) for step in range(1, 10)).encode()
    (tmp_path / "trainer_log.jsonl.gz").write_bytes(packed(lines + b" " * 200_000))
    if beside:
        (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 1.5, "step": 1}]))
    allowed = 210_000
    (run,) = bridges.read(tmp_path, max_unpacked=allowed)
    assert len(run.stream) == 9
    assert [times.source for times in run.evidence] == ["log"]
    memory = MemoryExporter()
    report = bridges.export(tmp_path, to=memory, max_unpacked=allowed, attach_source=True)
    assert "source-not-attached" not in {f.code for f in report.runs[0].findings}
    if beside:
        assert len(bridges.read(tmp_path)[0].stream) == 1
    else:
        with pytest.raises(TreeError, match="unpack to more than"):
            bridges.read(tmp_path)


STREAMS = """
import io, sys
from bridges.errors import SourceError, TreeError
from bridges.sources import fetch, gzip_members
class Endless(io.RawIOBase):
    def readable(self): return True
    def readinto(self, block):
        block[:] = bytes([32]) * len(block)
        return len(block)
sys.stdin = io.TextIOWrapper(io.BufferedReader(Endless()))
try:
    bridges.api.read("-", max_unpacked=20 << 20)
except SourceError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_endless_standard_input_is_refused() -> None:
    assert bounded(STREAMS) == (
        "-: found more than 20,971,520 bytes from a stream of unknown length; expected a "
        "trainer_state.json, a list of log rows or JSON lines of log rows. Save it to a file and "
        "export that, or allow more with max_unpacked=BYTES.\n"
    )


def test_streams_have_a_bound_and_files_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = state([ROW])
    monkeypatch.setattr(fetch, "MAX_STREAM_BYTES", len(content))
    reading, writing = os.pipe()
    for end in (b"", b" "):
        os.write(writing, content + end)
    os.close(writing)
    with pytest.raises(SourceError, match=f"more than {len(content):,} bytes from a stream"):
        fetch.fetch(f"/dev/fd/{reading}", most_of_stream=fetch.MAX_STREAM_BYTES)
    os.close(reading)
    for place in (tmp_path / "x.json", "memory://bound/x.json"):
        with fsspec.open(str(place), "wb") as file:
            file.write(content + b" ")
        assert fetch.fetch(str(place), most_of_stream=1) == content + b" "
