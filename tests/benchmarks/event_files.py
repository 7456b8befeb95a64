"""Benchmarks of event files: of reading, in CPU seconds, and of an export into MLflow.

Compared with EventAccumulator, and with the usual loop over TensorBoard's protobuf, which checks no
CRC.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from bridges.formats.events import proto
from bridges.formats.events.content import EventBytes, EventFile
from bridges.formats.events.reader import decode, decode_many
from bridges.formats.protobuf import integer, sized
from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from tests.benchmarks.mlflow import quiet, sqlite_store
from tests.benchmarks.timing import BRIDGE, in_turn, least_cpu, line, millis, process

TAGS = ("train/loss", "train/learning_rate", "train/grad_norm", "eval/accuracy", "epoch")
SCALARS, SHARE = 1_000_000, 10  # EventAccumulator reads SCALARS / SHARE
FILES, SCALARS_PER_FILE = 200, 1000
OTHERS = Path(__file__).parents[3] / "shared" / "corpus_trackers" / "events"
POINTS = 100_000  # of an export into MLflow
LOOP = """
import sys
from mlflow import MlflowClient
from mlflow.entities import Metric
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
events.Reload()
client = MlflowClient(sys.argv[2])
run_id = client.create_run("0").info.run_id
points = [
    Metric(tag, event.value, round(event.wall_time * 1000), event.step)
    for tag in events.Tags()["scalars"]
    for event in events.Scalars(tag)
]
for start in range(0, len(points), 1000):
    client.log_batch(run_id, points[start : start + 1000])
client.set_terminated(run_id)
"""
READ = "import os, sys; from bridges.formats.events import reader; data = open({}, 'rb').read()"


def tensor_value(tag: str, raw: bytes) -> bytes:
    """A scalar as TensorFlow 2 writes it."""
    tensor = integer(1, 1) + sized(2, b"") + sized(4, raw)
    metadata = sized(9, sized(1, sized(1, b"scalars")))
    return sized(1, tag.encode()) + sized(8, tensor) + metadata


def event_file(value: Callable[[str, bytes], bytes], scalars: int, seed: int = 0) -> bytes:
    """A file with a record for each scalar, the tags in turn."""
    random = np.random.default_rng(seed)
    times = (1.7e9 + np.cumsum(random.random(scalars))).tolist()
    raw = random.random(scalars).astype("<f4").tobytes()
    records = [proto.file_version_event(1.7e9)]
    for number, time in enumerate(times):
        scalar = value(TAGS[number % len(TAGS)], raw[4 * number : 4 * number + 4])
        records.append(proto.summary_event(time, number // len(TAGS), [scalar]))
    return b"".join(proto.frames(records))


def protobuf_loop(data: bytes) -> dict[str, list[tuple[int, float, float]]]:
    """The points of a file by tag: step, wall time, value. No CRC is checked."""
    from tensorboard.compat.proto.event_pb2 import Event

    out: dict[str, list[tuple[int, float, float]]] = {}
    at, unpack, parse = 0, struct.Struct("<Q").unpack_from, Event.FromString
    while at + 16 <= len(data):
        end = at + 12 + unpack(data, at)[0]
        if end + 4 > len(data):
            break
        event = parse(data[at + 12 : end])
        at = end + 4
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                number = value.simple_value
            elif kind == "tensor" and value.metadata.plugin_data.plugin_name == "scalars":
                (number,) = struct.unpack("<f", value.tensor.tensor_content)
            else:
                continue
            out.setdefault(value.tag, []).append((event.step, event.wall_time, number))
    return out


def accumulated(path: Path) -> None:
    """Read a file as TensorBoard's API does."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def points(file: EventFile | Exception) -> dict[str, list[tuple[int, float, float]]]:
    """As `protobuf_loop`, for comparison."""
    if isinstance(file, Exception):
        raise file
    columns = {tag: file.points(tag) for tag in file.scalars}
    return {
        tag: [*zip(c.step.tolist(), c.wall_time.tolist(), c.value.tolist(), strict=True)]
        for tag, c in columns.items()
    }


def large(folder: Path) -> None:
    """A long file, with simple values and with tensors."""
    long("simple", folder, proto.scalar_value)
    long("TF2", folder, tensor_value)


def long(name: str, folder: Path, value: Callable[[str, bytes], bytes]) -> None:
    """A long file with one kind of values."""
    data = event_file(value, SCALARS)
    some = folder / f"events.out.tfevents.{name}"
    some.write_bytes(event_file(value, SCALARS // SHARE))
    assert points(decode(name, data)) == protobuf_loop(data)
    ours, loop = least_cpu(lambda: decode("", data), lambda: protobuf_loop(data), repeats=3)
    (slow,) = least_cpu(lambda: accumulated(some), repeats=2)
    title = f"{SCALARS:,} scalars of an event file, {name}"
    line(f"{title}: EventAccumulator", SHARE * slow / ours, "≥ 100", f"{SHARE} times a tenth")
    line(f"{title}: protobuf loop", loop / ours, "≥ 12", millis(ours))
    path = folder / f"{name}.tfevents"
    path.write_bytes(data)
    codes = f"{READ.format('sys.argv[1]')}; reader.decode('', data)", READ.format("os.devnull")
    full, floor = (process([sys.executable, "-c", code, str(path)])[1] for code in codes)
    line(f"{title}: peak memory", (full - floor) / (len(data) / 2**20), "≤ 3")


def many(_: Path) -> None:
    """Many small files, joined."""
    for name, value in (("simple", proto.scalar_value), ("TF2", tensor_value)):
        datas = [event_file(value, SCALARS_PER_FILE, seed) for seed in range(FILES)]
        compare(f"{FILES} event files of {SCALARS_PER_FILE:,} scalars, {name}", datas, "≥ 6")


def compare(title: str, datas: list[bytes], goal: str) -> None:
    """Print how much faster than the loop files are read together."""
    files = [EventBytes(str(number), data, {}) for number, data in enumerate(datas)]
    assert [points(file) for file in decode_many(files, complete=False)] == [
        protobuf_loop(data) for data in datas
    ]
    ours, loop = least_cpu(
        lambda: [*decode_many(files, complete=False)],
        lambda: [protobuf_loop(data) for data in datas],
    )
    line(f"{title}: protobuf loop", loop / ours, goal, millis(ours))


def sources(folder: Path) -> None:
    """Many small files in directories of their own, as a source: found, read, and made runs."""
    for name, value in (("simple", proto.scalar_value), ("TF2", tensor_value)):
        paths = []
        for number in range(FILES):
            path = folder / name / f"run{number}" / f"events.out.tfevents.{number}.host.{number}.0"
            path.parent.mkdir(parents=True)
            path.write_bytes(event_file(value, SCALARS_PER_FILE, number))
            paths.append(path)

        def ours(place: Path = folder / name) -> int:
            runs = TensorBoardSource().read(str(place), ReadOptions())
            return sum(run.stream.points for run in runs)

        def loop(files: list[Path] = paths) -> int:
            found = (protobuf_loop(path.read_bytes()) for path in files)
            return sum(len(column) for columns in found for column in columns.values())

        assert ours() == loop() == FILES * SCALARS_PER_FILE
        own, usual = least_cpu(ours, loop)
        line(f"{FILES} runs of event files, {name}: protobuf loop", usual / own, "", millis(own))


def into_mlflow(folder: Path) -> None:
    """Whole processes into a new SQLite store: ours, verified, and the loop that people write."""
    quiet()
    logs = folder / "logs"
    logs.mkdir()
    (logs / "events.out.tfevents.1700000000.host.7.0").write_bytes(
        event_file(proto.scalar_value, POINTS)
    )
    sqlite_store(folder / "empty.db")
    code = folder / "loop.py"
    code.write_text(LOOP)

    def new_store(name: str) -> str:
        shutil.copy(folder / "empty.db", folder / name)
        return f"sqlite:///{folder / name}"

    def bridge() -> list[str]:
        target = ["--to", "mlflow", "--tracking-uri", new_store("ours.db"), "--verify"]
        return [*BRIDGE, "export", str(logs), *target]

    def loop() -> list[str]:
        return [sys.executable, str(code), str(logs), new_store("theirs.db")]

    (ours, _), (usual, _) = in_turn(bridge, loop, repeats=3)
    counts = [count_of_metrics(folder / name) for name in ("ours.db", "theirs.db")]
    assert counts == [POINTS, POINTS], counts
    title = f"event file of {POINTS:,} scalars into MLflow, verified: EventAccumulator, log_batch"
    line(title, usual / ours, "≥ 10", f"{millis(ours)}")


def count_of_metrics(path: Path) -> int:
    """The number of points in an SQLite store."""
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("select count(*) from metrics").fetchone()[0])


def of_others(_: Path) -> None:
    """Event files of other people, where they are."""
    datas = [data for data in _others() if not isinstance(_decoded(data), Exception)]
    if not datas:
        print(f"event files of others: {OTHERS} is missing")
        return
    files = [EventBytes(str(number), data, {}) for number, data in enumerate(datas)]
    ours, loop = least_cpu(
        lambda: [*decode_many(files, complete=False)],
        lambda: [protobuf_loop(data) for data in datas],
    )
    line(f"{len(datas)} event files of others: protobuf loop", loop / ours, "≥ 1", millis(ours))


def _others() -> Iterator[bytes]:
    for folder, _, names in os.walk(OTHERS):
        yield from ((Path(folder) / name).read_bytes() for name in names if "tfevents" in name)


def _decoded(data: bytes) -> EventFile | Exception:
    (found,) = decode_many([EventBytes("", data, {})], complete=False)
    return found


SECTIONS: dict[str, Callable[[Path], None]] = {
    "event_files_large": large,
    "event_files_many": many,
    "event_files_as_source": sources,
    "event_files_of_others": of_others,
    "event_files_into_mlflow": into_mlflow,
}
