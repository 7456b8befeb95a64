"""Zero bytes after a power cut: named as that, and `--salvage` reads every row that is whole."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.errors import SourceError
from bridges.formats.events import proto
from bridges.sources.options import ReadOptions
from bridges.sources.tuning_logs.source import TrainerLogSource
from tests.support import DATA, codes, packed, read_bytes, read_one, state

ROWS: list[dict[str, Any]] = [
    {"loss": 1.0 / step, "note": "a [text], {so} it is", "epoch": step / 4, "step": step}
    for step in range(1, 41)
]
PRETTY = json.dumps({"epoch": 1.0, "log_history": ROWS, "global_step": 40}, indent=2).encode()
STATE = state(ROWS)
LIST = json.dumps(ROWS).encode()
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
FORMS = {"pretty state": PRETTY, "state": STATE, "list": LIST, "lines": LINES}
LIMIT = "The save was cut off: use an earlier checkpoint's file"


def cut(data: bytes, at: int, zeros: int = 3000) -> bytes:
    return data[:at] + bytes(zeros)


def whole_rows(data: bytes) -> int:
    """How many rows end in a text that is cut."""
    return data.count(b"}") - data.count(b"{so}")


def steps(data: bytes, tmp_path: Path) -> list[int]:
    run = read_bytes(tmp_path, data, salvage=True)
    assert "zero-bytes" in codes(run)
    return [*map(int, run.stream.step)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pack", [False, True])
def test_zeros_to_the_end_are_named_and_the_rows_before_them_salvaged(
    form: str, pack: bool, tmp_path: Path
) -> None:
    data = FORMS[form]
    for at in range(150, len(data), 97):
        torn = cut(data, at)
        torn = packed(torn) if pack else torn
        with pytest.raises(SourceError) as caught:
            read_bytes(tmp_path, torn)
        line = data.count(b"\n", 0, at) + 1
        assert str(caught.value) == (
            f"{tmp_path / 'trainer_state.json'}: line {line}: found 3,000 zero bytes, as a power "
            f"cut leaves them; expected text. {LIMIT}, or read its complete rows with --salvage."
        )
        if whole_rows(data[:at]):
            found = steps(torn, tmp_path)
            assert found == list(range(1, len(found) + 1))
            assert len(found) == min(whole_rows(data[:at]), 40)


BORDERS = {
    "at the start of a row": PRETTY.index(b'{\n      "loss": 0.2,'),
    "inside of a key": PRETTY.index(b'ss": 0.2,'),
    "inside of a number": PRETTY.index(b".2,\n"),
    "inside of a string": PRETTY.index(b"text", 600),
    "between two rows": PRETTY.index(b'    {\n      "loss": 0.2,'),
    "behind the last row": PRETTY.rindex(b"]"),
    "behind the end": len(PRETTY),
}


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("zeros", [1, 7, 4096])
def test_zeros_at_any_border(border: str, zeros: int, tmp_path: Path) -> None:
    at = BORDERS[border]
    torn = cut(PRETTY, at, zeros)
    with pytest.raises(SourceError, match="as a power cut leaves them"):
        read_bytes(tmp_path, torn)
    assert len(steps(torn, tmp_path)) == min(whole_rows(PRETTY[:at]), 40)


def test_zeros_in_the_middle_of_a_state_end_it(tmp_path: Path) -> None:
    at = BORDERS["inside of a number"]
    torn = PRETTY[:at] + bytes(512) + PRETTY[at + 512 :]
    assert steps(torn, tmp_path) == [1, 2, 3, 4]
    (finding,) = [f for f in read_bytes(tmp_path, torn, salvage=True).findings
                  if f.code == "zero-bytes"]  # fmt: skip
    assert f"{len(PRETTY) - at - 512:,} bytes are lost" in finding.message


@pytest.mark.parametrize("zeros", [1, 100, 4096])
def test_lines_behind_zeros_are_read(zeros: int, tmp_path: Path) -> None:
    """A run that was resumed after the power cut went on in the same file."""
    lines = LINES.splitlines(keepends=True)
    torn = b"".join(lines[:10]) + lines[10][:20] + bytes(zeros) + b"".join(lines[12:])
    assert steps(torn, tmp_path) == [*range(1, 11), *range(13, 41)]
    between = b"".join(lines[:10]) + bytes(zeros) + b"".join(lines[10:])
    assert steps(between, tmp_path) == [*range(1, 41)]
    within = b"".join(lines[:9]) + lines[9][:30] + bytes(zeros) + lines[9][31:] + lines[10]
    assert steps(within, tmp_path) == [*range(1, 10), 11]
    first = bytes(4096) + lines[0][-20:] + b"".join(lines[1:])
    with pytest.raises(SourceError, match="as a power cut leaves them"):
        read_bytes(tmp_path, first)
    assert steps(bytes(4096) + b"".join(lines), tmp_path) == [*range(1, 41)]


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("size", [1, 100, 5000])
def test_a_file_of_zeros_is_named(salvage: bool, size: int, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read_bytes(tmp_path, bytes(size), salvage=salvage)
    number = f"{size:,} zero byte{'s' * (size > 1)}"
    assert str(caught.value) == (
        f"{tmp_path / 'trainer_state.json'}: found nothing but {number}, as a power cut leaves "
        f"them; expected text. {LIMIT}."
    )


def test_the_state_of_a_power_cut() -> None:
    path = DATA / "faults" / "halfnul" / "trainer_state.json"
    with pytest.raises(SourceError, match="line 50: found 2,000 zero bytes, as a power cut"):
        read_one(path)
    assert read_one(path, salvage=True).stream.step.tolist() == [10, 20, 30, 40]


def test_a_log_of_a_power_cut(tmp_path: Path) -> None:
    lines = b"".join(
        b'{"current_steps": %d, "total_steps": 9, "loss": 1.5, "epoch": 0.1}\n' % step
        for step in range(1, 6)
    )
    path = tmp_path / "trainer_log.jsonl"
    path.write_bytes(lines + lines[:20] + bytes(700) + lines.replace(b"1.5", b"1.25"))
    with pytest.raises(SourceError, match="as a power cut leaves them"):
        list(TrainerLogSource().read(str(path), ReadOptions()))
    (run,) = TrainerLogSource().read(str(path), ReadOptions(salvage=True))
    assert run.stream.step.tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]


BESIDE = (
    *("README.md", "config.json", "adapter_config.json", "args.json", "training_args.yaml"),
    *("training_args.bin", "all_results.json", "events.out.tfevents.1700000000.host.1.0"),
)


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_of_zeros_beside_a_state_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    (tmp_path / name).write_bytes(bytes(800))
    (run,) = bridges.read(tmp_path)
    (told,) = [f for f in run.findings if f.code == "beside-unreadable"]
    assert "nothing but 800 zero bytes, as a power cut leaves them" in told.message


@pytest.mark.parametrize("name", ["config.json", "training_args.yaml", "all_results.json"])
def test_zeros_within_a_file_beside_a_state_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    (tmp_path / name).write_bytes(b'{"a": 1, "b": "' + bytes(80) + b'"}')
    (run,) = bridges.read(tmp_path)
    (told,) = [f for f in run.findings if f.code == "beside-unreadable"]
    assert "80 zero bytes, as a power cut leaves them" in told.message


def test_the_points_of_an_event_file_before_zeros_are_used(tmp_path: Path) -> None:
    rows = [{"loss": 1.5, "step": 1}, {"loss": 1.25, "step": 2}]
    (tmp_path / "trainer_state.json").write_bytes(state(rows))
    records = [
        proto.frame(
            proto.summary_event(
                1.7e9 + row["step"],
                int(row["step"]),
                [proto.scalar_value("train/loss", struct.pack("<f", row["loss"]))],
            )
        )
        for row in rows
    ]
    file = tmp_path / "events.out.tfevents.1700000000.host.1.0"
    file.write_bytes(b"".join(records) + bytes(4096))
    (run,) = bridges.read(tmp_path)
    (evidence,) = [one for one in run.evidence if one.source == "events"]
    assert evidence.rows.tolist() == [0, 1]
