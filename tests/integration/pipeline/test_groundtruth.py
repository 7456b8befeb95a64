"""What is exported from a state alone is what the live TensorBoard callback received.

Tags, steps and float32 values as multisets, texts included. What only the live callback had is
listed by name: it was logged after the last save, or never became part of a state.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import pytest

import bridges
from tests.integration.exporters.tensorboard.support import read_raw
from tests.support import DATA

GROUNDTRUTH = DATA / "groundtruth"
SCENARIOS = sorted(path.name for path in GROUNDTRUTH.iterdir())
OWN = ("bridges/provenance/text_summary", "bridges/params/text_summary")

TRAIN = ("train/loss", "train/grad_norm", "train/learning_rate", "train/epoch")
EVAL = (
    "eval/loss",
    "eval/accuracy",
    "eval/f1_macro",
    "eval/runtime",
    "eval/samples_per_second",
    "eval/steps_per_second",
    "train/epoch",
)
SUMMARY = (
    "train/train_runtime",
    "train/train_samples_per_second",
    "train/train_steps_per_second",
    "train/total_flos",
    "train/train_loss",
    "train/epoch",
)
AT_START = ("args/text_summary", "model_config/text_summary")  # each tracker run begins with them

# scenario -> step -> the tags that only the live callback had there
LIVE_ONLY: dict[str, dict[int, tuple[str, ...]]] = {
    "crash_resume_new_run": {  # the crashed process went on from step 10 to 18 in vain
        0: AT_START * 2,
        12: TRAIN,
        14: TRAIN,
        15: EVAL,
        16: TRAIN,
        18: TRAIN,
    },
    "crash_resume_same_run": {
        0: AT_START * 2,
        12: TRAIN,
        14: TRAIN,
        15: EVAL,
        16: TRAIN,
        18: TRAIN,
    },
    "epoch_two_eval_sets": {0: AT_START},
    "hp_search_unnamed": {  # trial 0 ended without a state of its summary row
        0: AT_START * 2,
        8: SUMMARY,
    },
    "nan_loss": {0: AT_START},
    "odd_values": {  # a user key of that name, which the state's own step replaced
        0: AT_START,
        1: ("train/step",),
    },
    "steps_eval_predict": {0: AT_START},
    "token_counts": {0: AT_START},
}

Received = Counter[tuple[str, int, str]]


def live(scenario: str) -> Received:
    """What the live callback wrote."""
    points: Received = Counter()
    for line in (GROUNDTRUTH / scenario / "received.jsonl").read_text().splitlines():
        record = json.loads(line)
        value = record["value"]
        if record["kind"] == "text":
            value = repr(ast.literal_eval(value.replace("…", "...")).decode())
        points[record["tag"], record["step"], value] += 1
    return points


def exported(scenario: str, logdir: Path) -> Received:
    """What the export of every state of the scenario wrote."""
    points: Received = Counter()
    for state in sorted((GROUNDTRUTH / scenario).rglob("trainer_state.json")):
        (report,) = bridges.export(state, to="tensorboard", logdir=logdir, run_name="run").runs
        assert (report.status, report.verified, report.failed) == ("exported", True, False)
    series, texts = read_raw(logdir)
    for tag, listed in series.items():
        points.update((tag, step, value) for step, value in listed)
    points.update((tag, step, repr(text)) for tag, step, text in texts if tag not in OWN)
    return points


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_export_equals_the_live_run(scenario: str, tmp_path: Path) -> None:
    received, written = live(scenario), exported(scenario, tmp_path)
    assert written - received == Counter()
    missing = Counter((tag, step) for tag, step, _ in (received - written).elements())
    named = Counter((tag, s) for s, tags in LIVE_ONLY[scenario].items() for tag in tags)
    assert missing == named


def test_every_scenario_is_here_and_has_points() -> None:
    assert sorted(LIVE_ONLY) == SCENARIOS
    numbers = {scenario: sum(live(scenario).values()) for scenario in SCENARIOS}
    assert numbers == {
        "crash_resume_new_run": 135,
        "crash_resume_same_run": 135,
        "epoch_two_eval_sets": 90,
        "hp_search_unnamed": 61,
        "nan_loss": 54,
        "odd_values": 77,
        "steps_eval_predict": 75,
        "token_counts": 42,
    }


def test_texts_are_among_what_is_equal() -> None:
    texts = {(tag, step) for tag, step, _ in live("odd_values") if tag.endswith("/text_summary")}
    assert texts - {(tag, 0) for tag in AT_START} == {
        ("train/completions/text_summary", 1),
        ("train/remaining_time/text_summary", 1),
        ("eval/verdict/text_summary", 3),
        ("eval/empty/text_summary", 3),
        ("eval/verdict/text_summary", 6),
        ("eval/empty/text_summary", 6),
    }
