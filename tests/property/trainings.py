"""A training directory that changes over time, and what targets should then hold: plain rows.

Nothing here asks `bridges`: the rules are those of the Trainer's callbacks and of the README.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
Points = Counter[tuple[str, int, str]]  # tag, step, repr of the value
STEPS = 10  # between two rows of training


@dataclass
class Training:
    """An output directory.

    `rows` is the log history in the training's memory, `saves` how many rows of it each saved state
    has by the state's path, `results` the metrics of each results file.
    """

    folder: Path
    rows: list[Row] = field(default_factory=list)
    saves: dict[str, int] = field(default_factory=dict)
    results: dict[str, Row] = field(default_factory=dict)
    settings: Row = field(default_factory=lambda: {"seed": 0, "model_dir": "/a", "dtype": "bf16"})
    step: int = 0
    calls: int = 0
    _steps: dict[str, int] = field(default_factory=dict)

    def train(self, losses: Iterable[float]) -> None:
        """Log more rows."""
        for loss in losses:
            self.step += STEPS
            row = {"loss": loss, "learning_rate": 1 / self.step, "epoch": self.epoch}
            self.rows.append({**row, "step": self.step})

    @property
    def epoch(self) -> float:
        """The epoch of the step."""
        return self.step / 30

    def save(self, name: str) -> None:
        """Save the state, as the directory's own (``""``) or as a checkpoint."""
        state = {"global_step": self.step, "max_steps": 10**6, "log_history": self.rows}
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "trainer_state.json").write_text(json.dumps(state))
        self.saves.pop(name, None)
        self.saves[name] = len(self.rows)
        self._steps[name] = self.step

    def drop_last_save(self) -> None:
        """Delete the longest state, as someone does who wants to go back."""
        name = max(self.saves, key=lambda one: (self.saves[one], self._steps[one]))
        (self.folder / name / "trainer_state.json").unlink()
        if name:
            shutil.rmtree(self.folder / name)
        del self.saves[name], self._steps[name]

    def evaluate(self, split: str, *, is_logged: bool) -> None:
        """Evaluate and save the metrics; in the training's process, they are also logged."""
        self.calls += 1
        metrics: Row = {f"{split}_loss": 0.1 * self.calls, f"{split}_runtime": 1 + self.calls / 7}
        if split != "predict":
            metrics["epoch"] = self.epoch
            if is_logged:
                self.rows.append({**metrics, "step": self.step})
        self.results[split] = metrics
        self.results["all"] = self.results.get("all", {}) | metrics
        for name in (split, "all"):
            self._write(f"{name}_results.json", self.results[name])

    def drop_results(self, name: str) -> None:
        """Delete a results file."""
        del self.results[name]
        (self.folder / f"{name}_results.json").unlink()

    def write_settings(self, indent: int | None = None) -> None:
        """Write the settings file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "args.json").write_text(json.dumps(self.settings, indent=indent))

    def _write(self, name: str, content: Row) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(json.dumps(content))

    # what the directory tells

    @property
    def history(self) -> list[Row]:
        """The rows of the longest state."""
        return self.rows[: max(self.saves.values())]

    def found(self) -> list[Row]:
        """The calls of the results files that the history lacks."""
        calls: dict[str, Row] = {}
        for name in sorted(self.results, key=lambda one: one == "all"):
            metrics = self.results[name]
            splits = {key.removesuffix("_runtime") for key in metrics if key.endswith("_runtime")}
            for split in splits:
                own = {key: metrics[key] for key in (f"{split}_loss", f"{split}_runtime")}
                if split != "predict" and "epoch" in metrics:
                    own["epoch"] = metrics["epoch"]
                calls.setdefault(split, own)
        step = max([row["step"] for row in self.history] + [self._steps[self._longest]])
        known = {call_of(row) for row in self.history}
        return [{**call, "step": step} for call in calls.values() if call_of(call) not in known]

    @property
    def _longest(self) -> str:
        return max(self.saves, key=lambda one: (self.saves[one], self._steps[one]))


def call_of(row: Mapping[str, Any]) -> float | None:
    """What tells one evaluation from another: how long it took."""
    return next((value for key, value in row.items() if key.endswith("_runtime")), None)


@dataclass
class Stored:
    """A run as a target should hold it."""

    history: list[Row]
    added: list[Row]
    settings: Any


@dataclass
class Expected:
    """What a target should hold.

    `moved` are the rows that the last export found beside the history in the target, and that the
    history holds since.
    """

    runs: list[Stored] = field(default_factory=list)
    moved: list[Row] = field(default_factory=list)

    def export(self, training: Training) -> tuple[str, int]:
        """What an export of the directory does: its status, and how many rows are a loss."""
        history, found, seed = training.history, training.found(), training.settings["seed"]
        run = self._run_of(history, seed)
        self.moved = []
        if run is None:
            self.runs.append(Stored(history, found, seed))
            return "exported", 0
        known = {call_of(row) for row in [*run.added, *run.history]}
        fresh = [row for row in found if call_of(row) not in known]
        if len(run.history) > len(history):
            return "unchanged", len(fresh)
        is_longer = len(history) > len(run.history)
        saved = {call_of(row) for row in history}
        self.moved = [row for row in run.added if call_of(row) in saved]
        added = [*(row for row in run.added if row not in self.moved), *fresh]
        before = [*run.history, *run.added]
        run.history, run.added = history, added
        if not is_longer and not fresh:
            return "unchanged", 0
        run.settings = seed
        is_same = len(before) == len([*history, *added])
        return "unchanged" if is_same else "appended", 0

    def _run_of(self, history: list[Row], seed: Any) -> Stored | None:
        fits = [run for run in self.runs if _begins(run.history, history)]
        fits = [run for run in fits if run.settings == seed or len(run.history) != len(history)]
        fits.sort(key=lambda run: (run.settings != seed, -len(run.history)))
        return fits[0] if fits else None

    def points(self, target: str) -> list[Points]:
        """The points of each run, in the order of their text."""
        tags = TAGS[target]
        return in_order(
            Counter(
                (tags(key), row["step"], shown(target, value))
                for row in [*run.history, *run.added]
                for key, value in row.items()
                if key != "step"
            )
            for run in self.runs
        )


def _begins(one: list[Row], other: list[Row]) -> bool:
    """Whether one list of rows is the beginning of the other."""
    return all(repr(a) == repr(b) for a, b in zip(one, other, strict=False))


def in_order(runs: Iterable[Points]) -> list[Points]:
    """Runs in an order of their own, as their names do not matter."""
    return sorted(runs, key=lambda points: repr(sorted(points.items())))


def shown(target: str, value: float) -> str:
    """A number as the target holds it: event files as float32."""
    if math.isnan(value):
        return "nan"
    return repr(float(np.float32(value)) if target == "tensorboard" else float(value))


def _slashed(key: str) -> str:
    for split in ("eval", "test"):
        if key.startswith(f"{split}_"):
            return f"{split}/{key.removeprefix(f'{split}_')}"
    return f"train/{key}"


def _plain(key: str) -> str:
    return key


TAGS = {"tensorboard": _slashed, "wandb": _slashed, "mlflow": _plain}
