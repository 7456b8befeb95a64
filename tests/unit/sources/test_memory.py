"""Reading takes at most eight times the size of a file, whatever its shape, measured in a child."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bounds import bounded
from tests.support import packed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is that of Linux"),
]

SIZE = 10_000_000
HEAD = b'{"global_step":1,"log_history":['
Row = Callable[[int], bytes]


def usual(i: int) -> bytes:
    return b'{"loss":1.%04d,"grad_norm":2.%06d,"epoch":0.%06d,"step":%d}' % (i % 9999, i, i, i)


def factory(i: int) -> bytes:
    return (
        b'{"current_steps": %d, "total_steps": 9999999, "loss": 1.%04d, "lr": 1e-05, "epoch": '
        b'0.%06d, "percentage": 1.5, "elapsed_time": "0:01:%02d", "remaining_time": "1:02:03"}'
    ) % (i, i % 9999, i, i % 60)


def swift(i: int) -> bytes:
    return (
        b'{"loss": 1.%04d, "grad_norm": 2.5, "memory(GiB)": 12.3, "epoch": 0.%06d, '
        b'"global_step/max_steps": "%d/9999999", "elapsed_time": "49m 19s"}'
    ) % (i % 9999, i, i)


def swift_history() -> bytes:
    """A log whose last line holds the whole history, unrounded."""
    rows = b",".join(map(usual, range(SIZE // 150)))
    return b'%s{"last_model_checkpoint": "x", "log_history": [%s]}\n' % (lines(swift), rows)


def of(row: Row, head: bytes = HEAD, end: bytes = b"]}", between: bytes = b",") -> bytes:
    """Rows between the head and the end of a text."""
    count = SIZE // (len(row(123_456)) + 1)
    return head + between.join(map(row, range(count))) + end


def lines(row: Row) -> bytes:
    return of(row, b"", b"\n", b"\n")


def pretty() -> bytes:
    rows = [json.loads(usual(i)) for i in range(SIZE // 160)]
    return json.dumps({"global_step": 1, "log_history": rows}, indent=2).encode()


def one_row(values: bytes) -> bytes:
    return HEAD + b'{"loss":1.5,"step":1,"x":[' + values + b"]}]}"


def behind(field: bytes) -> bytes:
    return HEAD + usual(1) + b"]," + field + b"}"


READ: dict[str, Callable[[], bytes]] = {
    "a state": lambda: of(usual),
    "a pretty state": pretty,
    "a state with CRLF": lambda: pretty().replace(b"\n", b"\r\n"),
    "a state with a BOM": lambda: b"\xef\xbb\xbf" + of(usual),
    "a list": lambda: of(usual, b"[", b"]"),
    "JSON lines": lambda: lines(usual),
    "short lines": lambda: lines(lambda i: b'{"a":1,"step":%d}' % i),
    "blank lines": lambda: usual(1) + b"\n" * SIZE + usual(2) + b"\n",
    "a table": lambda: b"| " + pretty().replace(b"\n", b" | |\n| ") + b" | |",
    "empty lines of a table": lambda: (
        b"|" + HEAD + usual(1) + b"]}|\n" + b"|                  |\n" * (SIZE // 21)
    ),
    "short rows": lambda: of(lambda i: b'{"a":1,"step":%d}' % i),
    "types in turn": lambda: of(lambda i: b'{"a":%s,"step":%d}' % ((b"1", b"1.5")[i % 2], i)),
    "keys twice": lambda: of(lambda i: b'{"loss":1.%d,"loss":2.5,"step":%d}' % (i, i)),
    "keys twice in lines": lambda: lines(lambda i: b'{"loss":1.%d,"loss":2.5,"step":%d}' % (i, i)),
    "a key twice at the end": lambda: of(usual, end=b',{"loss":1,"loss":2,"step":9}]}'),
    "colons in texts": lambda: of(lambda i: b'{"note":"a\\":b","loss":1.%d,"step":%d}' % (i, i)),
    "blanks before colons": lambda: of(lambda i: b'{"t":"a:b","loss" : 1.%d,"step":%d}' % (i, i)),
    "objects in rows": lambda: of(
        lambda i: b'{"a":{"b":1.5,"c":%d.5},"loss":0.5,"step":%d}' % (i, i)
    ),
    "lists of objects in rows": lambda: of(
        lambda i: (
            b'{"a":[{"b":1.25},{"c":%d.25}],"loss":0.5,"note":"%s","step":%d}' % (i, b"x" * 60, i)
        )
    ),
    "lists in rows": lambda: of(
        lambda i: b'{"a":[0.125,0.25,%d.125,0.5],"loss":0.5,"step":%d}' % (i, i)
    ),
    "a long list in a row": lambda: one_row(b",".join(b"0.%09d" % i for i in range(SIZE // 12))),
    "texts": lambda: of(lambda i: b'{"a":"t%d","step":%d}' % (i, i)),
    "texts beyond the BMP": lambda: of(lambda i: b'{"a":"\xf0\x9f\x98\x80%d","step":%d}' % (i, i)),
    "a long text": lambda: one_row(b'"' + b"a" * SIZE + b'"'),
    "escapes": lambda: one_row(b'"' + b"\\u00e9" * (SIZE // 6) + b'"'),
    "integers of many digits": lambda: of(lambda i: b'{"a":%s,"step":%d}' % (b"9" * 4000, i)),
    "integers beyond int64": lambda: of(lambda i: b'{"a":%s,"step":%d}' % (b"9" * 22, i)),
    "deep lists": lambda: of(
        lambda i: (
            b'{"x":%s1%s,"pad":"%s","loss":1.5,"step":%d}'
            % (b"[" * 150, b"]" * 150, b"a" * 2600, i)
        )
    ),
    "a long text in the header": lambda: behind(
        b'"best_model_checkpoint":"%s"' % (b"x/" * (SIZE // 2))
    ),
    "blanks": lambda: of(usual, end=b" " * SIZE + b"]}"),
}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "short floats in a row": (
        lambda: one_row(b",".join([b"1.5"] * (SIZE // 4))),
        "2,500,002 values in 10,000,027 bytes",
    ),
    "short texts in a row": (
        lambda: one_row(b",".join([b'"01"'] * (SIZE // 5))),
        "2,000,002 values in 10,000,027 bytes",
    ),
    "small integers in the header": (
        lambda: behind(b'"x":[' + b",".join([b"1"] * (SIZE // 2)) + b"]"),
        " values in ",
    ),
    "a list of numbers": (
        lambda: b"[" + b",".join([b"1.5"] * (SIZE // 4)) + b"]",
        "2,500,000 values in 10,000,001 bytes",
    ),
    "many keys": (
        lambda: of(lambda i: b'{"k%d":0.5,"step":%d}' % (i, i)),
        "different keys in its rows",
    ),
    "many keys in lines": (
        lambda: lines(lambda i: b'{"k%d":0.5,"step":%d}' % (i, i)),
        "different keys in its rows",
    ),
    "many keys in one row": (
        lambda: HEAD + b"{" + b",".join(b'"k%d":0.5' % i for i in range(SIZE // 13)) + b"}]}",
        "769,230 different keys in its rows",
    ),
    "a data set": (lambda: lines(lambda i: b'{"text":"a %d"}' % i), "no 'step' in any of its rows"),
    "a list of a data set": (
        lambda: of(lambda i: b'{"text":"a %d"}' % i, b"[", b"]"),
        "no 'step' in any of its rows",
    ),
    "a wrong step": (lambda: of(usual, end=b',{"step":1.5}]}'), "the number 1.5"),
    "a comma too many": (lambda: of(usual, end=b",]}"), "a comma before the closing bracket"),
    "short rows that are cut off": (
        lambda: of(lambda i: b'{"a":1,"step":%d}' % i, end=b',{"a'),
        "the end of the file inside a value",
    ),
    "lines that are cut off": (lambda: lines(usual) + b'{"a', "the end of the file inside"),
}
LOGS: dict[str, Callable[[], bytes]] = {
    "trainer_log.jsonl": lambda: lines(factory),
    "logging.jsonl": lambda: lines(swift),
    "logging-1.jsonl": swift_history,
}

CODE = """
from bridges.errors import BridgeError
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
before = peak()
try:
    print(sum(len(run.stream) for run in bridges.api.read(args[0])), "rows")
except BridgeError as error:
    print(error)
print(peak() - before)
"""


def read(path: Path, size: int) -> str:
    """What reading says, if it took at most eight times the size of a text."""
    told, _, memory = bounded(CODE, str(path), mebibytes=2000, seconds=60).strip().rpartition("\n")
    assert int(memory) <= 8 * size, f"{int(memory) / size:.1f} times its size"
    return told


@pytest.mark.parametrize("name", READ)
def test_what_is_read(name: str, tmp_path: Path) -> None:
    path, data = tmp_path / "state.json", READ[name]()
    path.write_bytes(data)
    assert read(path, len(data)).endswith(" rows")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    path, data = tmp_path / "state.json", make()
    path.write_bytes(data)
    assert message in read(path, len(data))


@pytest.mark.parametrize("name", LOGS)
def test_logs_of_tuning_tools(name: str, tmp_path: Path) -> None:
    path, data = tmp_path / name, LOGS[name]()
    path.write_bytes(data)
    assert read(path, len(data)).endswith(" rows")


def test_packed_files(tmp_path: Path) -> None:
    data = of(usual)
    (tmp_path / "state.json.gz").write_bytes(packed(data))
    assert read(tmp_path / "state.json.gz", len(data)).endswith(" rows")
    data = lines(factory)
    (tmp_path / "trainer_log.jsonl.gz").write_bytes(packed(data))
    assert read(tmp_path / "trainer_log.jsonl.gz", len(data)).endswith(" rows")
