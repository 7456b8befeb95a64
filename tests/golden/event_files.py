"""Writes event files with TensorFlow, Keras and PyTorch, and their points as TensorFlow reads them.

It imports nothing of bridges; `make_event_files.py` runs it in an environment of its own:
`python event_files.py DIRECTORY`.
"""

from __future__ import annotations

import json
import struct
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

tf: Any = import_module("tensorflow")
torch: Any = import_module("torch")
SummaryWriter: Any = import_module("torch.utils.tensorboard").SummaryWriter
Point = tuple[str, int, str, str]

VALUES = [0.1, -0.0, 0.0, float("nan"), float("inf"), float("-inf"), 1e-45, 16777217.0, 3.5]


def scalars(folder: Path) -> None:
    """Scalars of several dtypes, and other kinds, with the TF2 API."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, value in enumerate(VALUES * 4):
            tf.summary.scalar("loss", value, step=step)
            tf.summary.scalar("of float64", tf.constant(value, tf.float64), step=step * 1000)
            tf.summary.scalar("of int64", tf.constant(step, tf.int64), step=step - 3)
            tf.summary.scalar("of bool", tf.constant(step % 2 == 0), step=2**40 + step)
        tf.summary.histogram("histogram", np.arange(10.0), step=1)
        tf.summary.image("image", np.zeros((1, 2, 2, 3), np.uint8), step=2)
        tf.summary.text("text", "hello *you*", step=3)
        tf.summary.text("texts", ["one", "two"], step=4)
        tf.summary.write("custom", tf.constant([1.0, 2.0]), step=5)
        tf.summary.write("number", tf.constant(1.5), step=6)
    writer.close()


def first_only(folder: Path) -> None:
    """Tensors of which only the first of a tag has metadata, as the format allows."""
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    )
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(folder))
    for step, value in enumerate(VALUES * 4):
        tensor = tf.make_tensor_proto(value, tf.float64 if step % 2 else tf.float32)
        part = tf.compat.v1.Summary.Value(tag="loss", tensor=tensor)
        if not step:
            part.metadata.CopyFrom(metadata)
        writer.add_summary(tf.compat.v1.Summary(value=[part]), step)
    writer.close()


def restarts(folder: Path) -> None:
    """Simple values, a session's start in between, and a graph."""
    with tf.Graph().as_default() as graph:
        writer = tf.compat.v1.summary.FileWriter(str(folder), graph=graph)
    for step in [*range(8), *range(5, 12)]:
        if step == 5:
            log = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
            writer.add_session_log(log, step)
        part = tf.compat.v1.Summary.Value(tag="loss", simple_value=1 / (1 + step))
        writer.add_summary(tf.compat.v1.Summary(value=[part]), step)
    writer.close()


def keras(folder: Path) -> None:
    """A training with the callback of Keras."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([tf.keras.layers.Input((3,)), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = np.arange(60.0).reshape(20, 3) / 60, np.arange(20.0) / 20
    callback = tf.keras.callbacks.TensorBoard(str(folder), histogram_freq=1, update_freq=2)
    model.fit(x, y, 4, epochs=6, verbose=0, validation_split=0.2, callbacks=[callback])


def pytorch(folder: Path) -> None:
    """All ways of PyTorch to write a scalar, other kinds, and a purge."""
    writer = SummaryWriter(str(folder))
    for step, value in enumerate(VALUES * 4):
        writer.add_scalar("loss", value, step)
        writer.add_scalar("new", value, step, new_style=True)
        writer.add_scalar("double", value, step, new_style=True, double_precision=True)
        writer.add_scalar("no step", value)
    writer.add_text("note", "hello *you*", 7)
    writer.add_histogram("weights", np.arange(10.0), 3)
    writer.add_hparams({"lr": 0.1, "layers": 3, "flag": True, "name": "x"}, {"accuracy": 0.5})
    writer.close()
    writer = SummaryWriter(str(folder / "purged"), purge_step=5)
    for step in range(5, 9):
        writer.add_scalar("loss", step / 3, step)
    writer.close()


def points_of(path: Path) -> list[Point]:
    """Tag, step, bits of wall time and of value of each scalar, as TensorFlow reads the file."""
    plugins: dict[str, str] = {}
    points: list[Point] = []
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            if value.HasField("metadata"):
                plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
            if value.HasField("simple_value"):
                number = np.float32(value.simple_value)
            elif value.HasField("tensor") and plugins.get(value.tag) == "scalars":
                number = tf.make_ndarray(value.tensor)
            else:
                continue
            time = struct.pack("<d", event.wall_time).hex()
            bits = struct.pack("<d", float(number)).hex()
            points.append((value.tag, event.step, time, bits))
    return points


def main() -> None:
    """Write all files into the directory, with short names, and `points.json`."""
    root = Path(sys.argv[1])
    for write in (scalars, first_only, restarts, keras, pytorch):
        write(root / write.__name__)
    points: dict[str, list[Point]] = {}
    for path in sorted(root.rglob("*tfevents*")):
        parent = path.parent.name
        folder = path.parent.with_name("hparams") if parent[:1].isdigit() else path.parent
        new = folder / f"events.out.tfevents{'.v2' if path.suffix == '.v2' else ''}"
        path.parent.rename(folder)
        (folder / path.name).rename(new)
        points[str(new.relative_to(root))] = points_of(new)
    versions = {"tensorflow": tf.__version__, "torch": torch.__version__}
    text = json.dumps({**versions, "points": points}, separators=(",", ":"))
    (root / "points.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
