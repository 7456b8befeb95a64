"""Which value of a metric is its best, and which metrics a list of runs shows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bridges.pipeline.key_rules import with_key_rules
from bridges.stream.model import Run
from bridges.views.metrics import lower_is_better, main_metrics, metric
from tests.support import read_bytes, state

ROWS = [
    {"loss": 3.0, "step": 1},
    {"loss": 1.0, "eval_accuracy": 0.5, "eval_loss": 2.0, "eval_runtime": 9.0, "step": 2},
    {"loss": 2.0, "eval_f1": 0.7, "eval_accuracy": 0.25, "step": 3},
    {"loss": math.nan, "eval_samples": 8, "eval_accuracy": math.inf, "step": 4},
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return with_key_rules(read_bytes(tmp_path, state(ROWS)))


def test_a_loss_is_best_at_its_minimum_and_a_score_at_its_maximum(run: Run) -> None:
    loss, accuracy = metric(run, "loss"), metric(run, "eval_accuracy")
    assert loss
    assert accuracy
    assert (loss.first, loss.best, loss.best_step, loss.max) == (3.0, 1.0, 2, 3.0)
    assert math.isnan(loss.last)
    assert (accuracy.last, accuracy.best, accuracy.best_step) == (math.inf, 0.5, 2)
    assert metric(run, "none") is None


def test_values_that_are_not_finite_are_never_the_best(tmp_path: Path) -> None:
    run = read_bytes(tmp_path, state([{"loss": math.nan, "step": 1}]))
    loss = metric(run, "loss")
    assert loss
    assert (loss.best, loss.best_step, loss.min) == (None, None, None)


@pytest.mark.parametrize(
    ("key", "lower"),
    [("loss", True), ("eval_loss", True), ("train/ce_loss", True), ("eval_WER", True),
     ("perplexity", True), ("eval_rmse", True), ("eval_accuracy", False), ("rewards", False),
     ("lossless", False), ("answer", False), ("eval_winner", False)],
)  # fmt: skip
def test_the_rule_of_names(key: str, lower: bool) -> None:
    assert lower_is_better(key, {}) is lower


def test_the_training_knows_better() -> None:
    params = {"metric_for_best_model": "wer_quality", "greater_is_better": False}
    assert lower_is_better("eval_wer_quality", params)
    assert lower_is_better("wer_quality", {**params, "greater_is_better": None})
    assert not lower_is_better("eval_wer_quality", {**params, "greater_is_better": True})
    assert not lower_is_better("eval_f1", params)


def test_main_metrics(run: Run) -> None:
    assert main_metrics(run) == ["loss", "eval_loss", "eval_accuracy"]


def test_the_metric_that_selects_the_best_model_is_the_main_one(run: Run) -> None:
    chosen = Run(**{**vars(run), "params": {"metric_for_best_model": "f1"}})
    assert main_metrics(chosen) == ["loss", "eval_loss", "eval_f1"]
    by_loss = Run(**{**vars(run), "params": {"metric_for_best_model": "loss"}})
    assert main_metrics(by_loss) == ["loss", "eval_loss", "eval_accuracy"]
