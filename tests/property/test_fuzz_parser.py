"""Whatever happens to the bytes of a real history, only a BridgeError leaves the parser.

What is still read must also pass through the whole neutral middle. Warnings count as failures.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.errors import BridgeError
from bridges.huggingface.callback_naming import TARGETS, CallbackNaming
from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.sources.options import ReadOptions
from bridges.sources.times.clocks import IN_ROWS
from bridges.sources.trainer.state_file import TrainerStateSource
from bridges.stream.align import apply_duplicates, epoch_axis, hidden_duplicates
from bridges.stream.clock import apply_clock
from bridges.stream.identity import prefix_digest, run_key
from bridges.stream.model import Run
from bridges.stream.tagging import tag_table
from tests.support import CORPUS, DATA, packed, read_one

ROUNDS = 800  # for each file
LARGEST = 60_000  # bytes of a corpus file that is mutated
TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"-", b"0", b"e9999", b"1" * 25),
    *(b"NaN", b"-Infinity", b"null", b"true", b'"step"', b'"epoch"', b'"loss"', b"| ", b" |\n"),
    *(b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\\ud800", b"\r\n", b"9223372036854775808"),
    *(b'"log_history": [', b'"step": -9223372036854775808', b'"epoch": 1e308', b"[" * 250),
    *(b'"train_runtime": 1e308', b'"train_loss": 1, "total_flos": 1', b'"eval_runtime": -1e308'),
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes after one to four accidents."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        other = rng.randrange(len(out) + 1)
        size = rng.choice((1, 2, 8, 64, 512))
        match rng.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = rng.choice(TOKENS)
            case 3:
                out[at : at + size] = rng.choice(TOKENS)
            case 4:
                out[at:at] = out[other : other + size]
            case _:
                del out[max(at, 1) :]
    return bytes(out)


def _seeds() -> Iterator[tuple[str, bytes]]:
    table = (DATA / "seed.txt").read_bytes()
    odd = (DATA / "odd_values.json").read_bytes()
    yield "seed", table
    yield "head of the seed", table[:3000]
    yield "odd values", odd
    yield "gzip", packed(odd)
    yield "JSON lines", b'{"loss": 1.5, "step": 1, "epoch": 0.5}\n' * 20
    small = [path for path in sorted(CORPUS.glob("*.json")) if path.stat().st_size < LARGEST]
    for path in random.Random(5).sample(small, min(3, len(small))):
        yield path.name, path.read_bytes()


SEEDS = dict(_seeds())


def use(run: Run) -> None:
    """The pure functions that every export goes through."""
    stream = run.stream
    list(stream)
    run_key(run)
    prefix_digest(stream, len(stream))
    epoch_axis(stream)
    hidden_duplicates(stream)
    apply_duplicates(stream, "first")
    apply_duplicates(stream, "last")
    for source in IN_ROWS:
        timed, _, _ = apply_clock(stream, TRAINER_RULES, source=source)
        assert timed.time is not None
        assert (timed.time[1:] > timed.time[:-1]).all()
    for target in TARGETS:
        tags, _ = tag_table(CallbackNaming(target), stream.keys)
        assert len(set(tags.values())) == len(stream.keys)


def is_read(path: Path, salvage: bool) -> bool:
    """Whether the file is read (and its run can be used) or refused with its name."""
    try:
        (run,) = TrainerStateSource().read(str(path), ReadOptions(salvage=salvage))
    except BridgeError as error:
        if not str(error).startswith(f"{path}: "):
            raise AssertionError(f"the message does not name the file: {error}") from error
        return False
    use(run)
    return True


def rows_salvaged(path: Path) -> int | None:
    try:
        (run,) = TrainerStateSource().read(str(path), ReadOptions(salvage=True))
    except BridgeError:
        return None
    return len(run.stream)


@pytest.mark.parametrize(("name", "data"), SEEDS.items(), ids=list(SEEDS))
def test_only_a_bridge_error_escapes(name: str, data: bytes, tmp_path: Path) -> None:
    rng = random.Random(name)
    path = tmp_path / "trainer_state.json"
    results: list[bool] = []
    for _ in range(ROUNDS):
        changed = mutated(data, rng)
        path.write_bytes(changed)
        salvage = rng.random() < 0.5
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                results.append(is_read(path, salvage))
        except BaseException:
            print(f"salvage={salvage}, bytes={changed!r}")
            raise
    assert False in results, "the mutations are too tame"


@pytest.mark.parametrize("name", ["seed.txt", "odd_values.json"])
def test_a_file_cut_anywhere_is_refused_or_salvaged_row_by_row(name: str, tmp_path: Path) -> None:
    """It is never read as if it were whole, and a longer rest never gives fewer rows."""
    data = (DATA / name).read_bytes()
    path = tmp_path / "trainer_state.json"
    rows = []
    for end in range(1, len(data.rstrip(b"| ")), 61 if len(data) > 10_000 else 7):
        path.write_bytes(data[:end])
        with pytest.raises(BridgeError):
            list(TrainerStateSource().read(str(path), ReadOptions()))
        rows.append(rows_salvaged(path))
    counts = [count for count in rows if count is not None]
    assert rows == [None] * (len(rows) - len(counts)) + counts
    assert counts == sorted(counts)
    assert counts[-1] == len(read_one(DATA / name).stream)
