"""Rows beside a history over time: whatever happens to a training directory between exports, each
target holds every point once, the same export again changes nothing, and what is lost is told.
"""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import tempfile
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import bridges
from tests.integration.exporters.tensorboard.readers import (
    by_provider,
    python_provider,
    wandb_records,
)
from tests.integration.exporters.tensorboard.support import contents
from tests.property.trainings import Expected, Points, Training, in_order, shown

TARGETS = ("tensorboard", "mlflow", "wandb")
LOSSES = st.lists(st.sampled_from([0.1, 0.7, 0.0, 2.5, math.nan]), min_size=1, max_size=3)
SPLITS = st.sampled_from(["eval", "eval_mm", "test", "predict"])


def tensorboard_points(place: Path) -> list[Points]:
    """What TensorBoard's own loader shows."""
    return in_order(
        Counter((tag, step, text) for tag, found in run.scalars.items() for step, text in found)
        for run in by_provider(python_provider(place)).values()
    )


def mlflow_points(place: Path) -> list[Points]:
    """What the database holds of runs that are not deleted."""
    runs: dict[str, Points] = {}
    with sqlite3.connect(place / "mlflow.db") as database:
        for (run,) in database.execute("select run_uuid from runs where lifecycle_stage='active'"):
            runs[run] = Counter()
        query = "select run_uuid, key, step, value, is_nan from metrics"
        for run, key, step, value, is_nan in database.execute(query):
            runs[run][key, step, "nan" if is_nan else shown("mlflow", value)] += 1
    return in_order(runs.values())


def wandb_points(place: Path) -> list[Points]:
    """What the files hold, those of the parts of a run together."""
    runs: dict[str, Points] = {}
    for file in sorted(place.rglob("run-*.wandb")):
        points = runs.setdefault(file.name, Counter())
        for record in wandb_records(file):
            row = {item.key: json.loads(item.value_json) for item in record.history.item}
            for key in row.keys() - {"_step", "_runtime", "_timestamp", "train/global_step"}:
                points[key, row["train/global_step"], shown("wandb", float(row[key]))] += 1
    return in_order(runs.values())


READERS = {"tensorboard": tensorboard_points, "mlflow": mlflow_points, "wandb": wandb_points}


class AddedRows(RuleBasedStateMachine):
    """One training directory and three targets."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.training = Training(self.folder / "out")
        self.expected = {target: Expected() for target in TARGETS}
        self.options: dict[str, dict[str, Any]] = {
            "tensorboard": {"logdir": str(self.folder / "tensorboard")},
            "mlflow": {"tracking_uri": f"sqlite:///{self.folder}/mlflow/mlflow.db"},
            "wandb": {"wandb_dir": str(self.folder / "wandb")},
        }
        for target in TARGETS:
            (self.folder / target).mkdir()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(losses=LOSSES)
    def begin(self, losses: list[float]) -> None:
        self.training.write_settings()
        self.training.train(losses)
        self.training.save("checkpoint-0")

    @rule(losses=LOSSES)
    def train(self, losses: list[float]) -> None:
        self.training.train(losses)

    @rule(is_root=st.booleans())
    def save(self, is_root: bool) -> None:
        self.training.save("" if is_root else f"checkpoint-{self.training.step}")

    @precondition(lambda self: len(self.training.saves) > 1)
    @rule()
    def go_back(self) -> None:
        self.training.drop_last_save()

    @rule(split=SPLITS, is_logged=st.booleans())
    def evaluate(self, split: str, is_logged: bool) -> None:
        self.training.evaluate(split, is_logged=is_logged)

    @precondition(lambda self: self.training.results)
    @rule(data=st.data())
    def drop_results(self, data: st.DataObject) -> None:
        self.training.drop_results(data.draw(st.sampled_from(sorted(self.training.results))))

    @rule(folder=st.sampled_from(["/a", "/b"]), indent=st.sampled_from([None, 2]))
    def edit_settings_harmlessly(self, folder: str, indent: int | None) -> None:
        found = self.training.settings
        self.training.settings = {key: found[key] for key in reversed(found)}
        self.training.settings["model_dir"] = folder
        self.training.write_settings(indent)

    @rule(seed=st.integers(0, 1))
    def set_seed(self, seed: int) -> None:
        self.training.settings["seed"] = seed
        self.training.write_settings()

    @rule(into=st.sets(st.sampled_from(TARGETS), min_size=1))
    def export(self, into: set[str]) -> None:
        for target in sorted(into):
            self._export(target)

    def _export(self, target: str) -> None:
        place, expected = self.folder / target, deepcopy(self.expected[target])
        status, lost = expected.export(self.training)
        report = bridges.export(self.training.folder, to=target, **self.options[target])
        (run,) = report.runs
        if run.status == "failed":  # a file of events is replaced only by one with more rows
            assert "would be stored twice" in run.findings[-1].message
            assert target == "tensorboard"
            assert expected.moved
            assert report.exit_code == 1
            assert READERS[target](place) == self.expected[target].points(target)
            return
        self.expected[target] = expected
        assert (run.status, run.verified) == (status, True), run.findings
        losses = {one.code: one.count for one in run.findings if one.fails}
        assert losses == ({"results-not-added": lost} if lost else {})
        assert READERS[target](place) == expected.points(target)

        before = contents(place)
        again = bridges.export(self.training.folder, to=target, **self.options[target])
        assert [(one.status, one.verified) for one in again.runs] == [("unchanged", True)]
        checked = bridges.verify(self.training.folder, to=target, **self.options[target])
        assert [(one.status, one.verified) for one in checked.runs] == [("unchanged", True)]
        assert contents(place) == before
        assert again.exit_code == report.exit_code == (1 if lost else 0)


def explore(examples: int, steps: int) -> None:
    """Run the machine; nothing bounds the time of an example."""
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, suppress_health_check=checks
    )
    run_state_machine_as_test(AddedRows, settings=chosen)


def test_each_target_holds_every_point_once_whatever_happens_between_exports() -> None:
    explore(examples=6, steps=10)


@pytest.mark.slow
def test_each_target_holds_every_point_once_in_many_ways() -> None:
    explore(examples=100, steps=16)
