"""Tables for tests: small ones as loggers write them, and the runs in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridges.sources.options import ReadOptions
from bridges.sources.tables.source import TablesSource
from bridges.stream.model import Run

LIGHTNING = "epoch,step,train_loss,val_loss\n0,49,0.5,\n0,99,0.4,\n0,99,,0.45\n"
ULTRALYTICS = (
    "epoch,time,train/box_loss,metrics/mAP50(B),val/box_loss,lr/pg0\n"
    "1,10.5,1.5,0.1,1.6,0.01\n2,21.25,1.25,0.2,1.5,0.009\n"
)
KERAS = "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,1.5,0.4,1.75\n1,0.75,1.25,0.5,1.5\n"
SB3 = (
    "time/total_timesteps,time/time_elapsed,rollout/ep_rew_mean,train/loss\n"
    "2048,2,-1.5,\n4096,5,-1.25,0.5\n"
)


def put(path: Path, text: str | bytes) -> str:
    """Write a file with its directories. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def runs(location: object, **options: Any) -> list[Run]:
    """The runs at a location."""
    return list(TablesSource().read(str(location), ReadOptions(**options)))


def one(location: object, **options: Any) -> Run:
    """The only run at a location."""
    (run,) = runs(location, **options)
    return run


def points(run: Run) -> dict[str, list[tuple[int, Any]]]:
    """The steps and values of each key."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for part in run.stream.series:
        steps = run.stream.step[part.rows].tolist()
        found.setdefault(part.key, []).extend(zip(steps, part.values.tolist(), strict=True))
    return found


def codes(found: Sequence[Run] | Run) -> set[str]:
    """The codes of the findings of runs."""
    listed = [found] if isinstance(found, Run) else found
    return {finding.code for run in listed for finding in run.findings}
