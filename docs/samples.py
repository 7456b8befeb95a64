"""The directories that the pages of the documentation use, as copies of recorded trainings."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridges.formats.events import proto

REPOSITORY = Path(__file__).resolve().parents[1]
TRAININGS = {  # those of quickstart.md
    "grpo": "trl_grpo",
    "resumed": "resume_other_cadence",
    "seq2seq": "seq2seq_test_prefix",
    "streamed": "iterable_tokens_resume",
}


def write_samples(folder: Path) -> None:
    """Write the example configs, and runs in directories of several names."""
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    data = REPOSITORY / "tests" / "data"
    for name, recorded in TRAININGS.items():
        shutil.copytree(data / "live" / recorded / "out", folder / "outputs" / name)
    shutil.copytree(data / "faults" / "lf_live", folder / "factory")
    with tarfile.open(data / "mlflow_stores" / "2.9.2.tar.xz") as archive:
        archive.extractall(folder, filter="data")  # mlruns and mlflow.db
    with tarfile.open(data / "wandb_runs" / "0.31.0.tar.xz") as archive:
        archive.extractall(folder / "project", filter="data")  # project/wandb
    for run in (folder / "project" / "wandb").glob("*-id-values"):
        shutil.rmtree(run)  # has texts, which MLflow cannot hold
    for tag in (folder / "mlruns").glob("*/*/tags/long9000"):
        tag.unlink()  # longer than PostgreSQL and servers take
    _write_experiments(folder / "experiments")
    _write_tables(folder)
    _write_event_files(folder / "logs")


def _write_experiments(folder: Path) -> None:
    """A training with a fork, and a search of two trials."""
    base, whole = folder / "baseline", _losses(1500, 0.42)
    for step in (500, 1000, 1500):
        _put(base / f"checkpoint-{step}", whole[: step // 100], global_step=step, max_steps=1500)
    _put(base, whole, global_step=1500, max_steps=1500)
    (base / "config.json").write_text('{"hidden_size": 8}')
    fork = [*whole[:10], *({**row, "loss": 0.9} for row in whole[10:12])]
    _put(base / "checkpoint-1200", fork, global_step=1200, max_steps=1500)
    for rate, last in ((3e-5, 0.5), (9e-5, 0.6)):
        trial = folder / "search" / f"lr{rate:.0e}".replace("e-0", "e-")
        for step in (200, 400, 600, 800):
            fields = {"trial_params": {"learning_rate": rate}, "global_step": step}
            _put(trial / f"checkpoint-{step}", _losses(step, last), max_steps=800, **fields)


def _write_tables(folder: Path) -> None:
    """Tables of Lightning and Ultralytics, and one of unknown origin."""
    for version, last in enumerate((0.5, 0.25)):
        run = folder / "lightning_logs" / f"version_{version}"
        rows = [
            f"{step // 300},{step},{last + 30 / (step + 1):.4f}," for step in range(49, 900, 50)
        ]
        rows += [f"{epoch},{300 * epoch + 299},,{last + 1 / (epoch + 1)}" for epoch in range(3)]
        rows.sort(key=lambda row: int(row.split(",")[1]))
        _put_text(run / "metrics.csv", ["epoch,step,train_loss,val_loss", *rows])
        _put_text(run / "hparams.yaml", [f"lr: {last / 100}", "optimizer: adam"])
    epochs = [
        f"{n},{31.5 * n},{2 / n:.6g},{1 - 1 / (n + 1):.6g},{0.01 / n:.6g}" for n in range(1, 6)
    ]
    header = "epoch,time,train/box_loss,metrics/mAP50(B),lr/pg0"
    _put_text(folder / "yolo/runs/detect/train/results.csv", [header, *epochs])
    _put_text(folder / "yolo/runs/detect/train/args.yaml", ["epochs: 5", "model: yolov8n.pt"])
    losses = [f"{100 * n};{1_700_000_000 + 60 * n};{2 / n:.4f}" for n in range(1, 9)]
    _put_text(folder / "own" / "losses.csv", ["update;at;loss", *losses])


def _put_text(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _write_event_files(folder: Path) -> None:
    """Two trainings in one directory, a run in two, and a run with params."""
    start = 1_700_000_000.0
    for number in range(2):
        _put_events(folder / "ppo", start + 1000 * number, {"rollout/reward": 1.0})
        _put_events(
            folder / "keras" / ("train", "validation")[number],
            start + number / 10,
            {"epoch_loss": 0.5},
            f"0.host.7.{number}.v2",
        )
    _put_events(folder / "lightning_logs" / "version_3", start + 7, {"val_loss": 0.25}, lr=0.1)


def _put_events(
    folder: Path, start: float, last: Mapping[str, float], name: str = "", **params: float
) -> None:
    """An event file with ten points of each tag."""
    events = [proto.file_version_event(start)]
    if params:
        events.append(proto.summary_event(start, 0, [proto.session_start("", params, start)]))
    for step in range(10):
        points = {tag: np.float32(value + 1 / (step + 1)) for tag, value in last.items()}
        values = [proto.scalar_value(tag, value.tobytes()) for tag, value in points.items()]
        events.append(proto.summary_event(start + step, step, values))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{name or f'{start:.0f}.host.7.0'}"
    path.write_bytes(b"".join(proto.frames(events)))


def _losses(stop: int, last: float) -> list[dict[str, Any]]:
    """A loss at every hundredth step that comes down to about the last one."""
    return [
        {"loss": round(last + 2 / n, 4), "epoch": n / 10, "step": 100 * n}
        for n in range(1, stop // 100 + 1)
    ]


def _put(folder: Path, rows: Sequence[Mapping[str, Any]], **fields: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"log_history": rows, **fields}
    (folder / "trainer_state.json").write_text(json.dumps(state))
