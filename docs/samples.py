"""The directories that the pages of the documentation use, as copies of recorded trainings."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
TRAININGS = {  # those of quickstart.md
    "grpo": "trl_grpo",
    "resumed": "resume_other_cadence",
    "seq2seq": "seq2seq_test_prefix",
    "streamed": "iterable_tokens_resume",
}


def write_samples(folder: Path) -> None:
    """Write the example configs, and runs in directories of five names."""
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
