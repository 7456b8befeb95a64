"""What the tests of event files share: strategies, histories, trees, readers and processes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bridges.exporters.tensorboard.journal import JOURNAL

Row = dict[str, Any]
Point = tuple[int, str]  # step, and the float32 as repr of its float64

# --- strategies -------------------------------------------------------------------------------

TAGS = st.one_of(
    st.sampled_from(["", "train/loss", "eval/损失", "a//b", "/lead", "🙂", "x" * 127, "y" * 300]),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
STEPS = st.one_of(
    st.sampled_from([2 ** (7 * k) + d for k in range(1, 9) for d in (-1, 0)]),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 300),
)
WALL_TIMES = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e-45, 1e-40, 3.4e38]),
    st.floats(width=32),
)


def float32_of(value: float) -> bytes:
    """The four bytes of the float32 nearest to a number."""
    with np.errstate(all="ignore"):
        return bytes(np.float32(value).astype("<f4").tobytes())


# --- records ----------------------------------------------------------------------------------


def record_bounds(data: bytes) -> list[tuple[int, int]]:
    """Start and end of each TFRecord."""
    bounds, at = [], 0
    while at < len(data):
        end = at + 16 + int(struct.unpack_from("<Q", data, at)[0])
        bounds.append((at, end))
        at = end
    return bounds


def split_records(data: bytes) -> list[bytes]:
    """The data of each TFRecord."""
    return [data[start + 12 : end - 4] for start, end in record_bounds(data)]


# --- histories --------------------------------------------------------------------------------


def training_rows(steps: int, *, first: int = 1, every: int = 1, seed: int = 0) -> list[Row]:
    """A history as a Trainer writes it: train rows, an eval row after every tenth of them."""
    rng = np.random.default_rng(seed)
    noise = rng.random(steps).tolist()
    rows: list[Row] = []
    for index in range(steps):
        step = first + index * every
        epoch = round(step / 100, 4)
        rows.append(
            {
                "loss": round(2.0 / (1 + index / 50) + noise[index] / 10, 4),
                "grad_norm": noise[index] * 3,
                "learning_rate": 5e-05 * (1 - index / steps),
                "epoch": epoch,
                "step": step,
            }
        )
        if index % 10 == 9:
            runtime = round(1 + noise[index], 4)
            rows.append(
                {"eval_loss": noise[index], "eval_runtime": runtime, "epoch": epoch, "step": step}
            )
    return rows


def write_state(path: Path, rows: Sequence[Row], **fields: Any) -> Path:
    """A `trainer_state.json` with these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    last = rows[-1].get("step", 0) if rows else 0
    state = {"global_step": last, "max_steps": 10**6, **fields, "log_history": list(rows)}
    path.write_text(json.dumps(state))
    return path


# --- trees ------------------------------------------------------------------------------------


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and modification time of every file and directory below, by relative path."""
    out = {}
    for path in sorted(directory.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        out[path.relative_to(directory).as_posix()] = (content, path.stat().st_mtime_ns)
    return out


def contents(directory: Path) -> dict[str, bytes]:
    """Bytes of every file below, by relative path; hidden ones as well, but no journal."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != JOURNAL
    }


def entries(logdir: Path) -> list[str]:
    """The names in a log directory, hidden ones as well, without its journal."""
    return sorted(path.name for path in logdir.iterdir() if path.name != JOURNAL)


def visible(directory: Path) -> list[Path]:
    """The files that TensorBoard's readers would take."""
    return sorted(path for path in directory.rglob("*tfevents*") if path.is_file())


# --- the command ------------------------------------------------------------------------------

ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def bridge_command(*arguments: str | Path) -> list[str]:
    """`bridge` with these arguments, as a process of this interpreter."""
    return [sys.executable, "-m", "bridges", *map(str, arguments)]


def bridge(*arguments: str | Path, code: int = 0) -> str:
    """Run `bridge`; its stdout. Any other exit code than `code` fails the test."""
    done = subprocess.run(
        bridge_command(*arguments), capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def export_command(state: Path, logdir: Path, *more: str) -> list[str]:
    """The command that exports a state to a log directory."""
    return bridge_command(
        "export", state, "--to", "tensorboard", "--logdir", logdir, "--quiet", *more
    )


# --- points -----------------------------------------------------------------------------------


def show(value: float) -> str:
    """A value as the tests compare it: the repr of its float32, every NaN alike."""
    return repr(float(np.float32(value)))


def last_of_steps(points: Iterable[Point]) -> list[Point]:
    """One point a step: the last one."""
    return sorted(dict(points).items())


def chunks(rows: Sequence[Row], sizes: Sequence[int]) -> Iterator[list[Row]]:
    """The prefixes of these lengths."""
    for size in sizes:
        yield list(rows[:size])


# --- independent readers ----------------------------------------------------------------------

Series = dict[str, list[Point]]
Texts = list[tuple[str, int, str]]


def raw_events(directory: Path) -> Iterator[Any]:
    """Every event of a directory, file by file, by tensorboard's own framing and protobuf."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto import event_pb2

    for path in visible(directory):
        for record in RawEventFileLoader(str(path)).Load():
            yield event_pb2.Event.FromString(record)


def read_raw(directory: Path) -> tuple[Series, Texts]:
    """All points by tag and all texts, nothing purged, nothing sampled."""
    series: Series = {}
    texts: Texts = []
    for event in raw_events(directory):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                series.setdefault(value.tag, []).append((event.step, show(value.simple_value)))
            elif value.metadata.plugin_data.plugin_name == "text":
                texts += [(value.tag, event.step, s.decode()) for s in value.tensor.string_val]
    return series, texts
