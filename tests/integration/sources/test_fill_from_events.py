"""Points that only event files hold are counted, and rows of them added where they fit.

The judges are live trainings: where the last states are taken away, what is filled in makes the
export equal to what the live callbacks received, in the same order.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.migration.config.config import MigrationConfig
from bridges.stream.finding import Severity
from bridges.stream.identity import run_key
from bridges.stream.model import Run
from tests.integration.exporters.tensorboard.support import read_raw
from tests.integration.exporters.wandb.support import file_of, rows_of
from tests.integration.pipeline.test_live_trainings import LIVE, live_points, received
from tests.support import DATA

ONLY, OTHERS, FILLED = "rows-only-in-events", "points-only-in-events", "rows-from-events"
# points of attempts that crashed or ran out of memory, and of the rows behind the last whole save
NEVER_SAVED = {"iterable_tokens_resume": 7, "oom_smaller_batch": 23, "resume_other_cadence": 19}
SCENARIOS = sorted(path.name for path in LIVE.iterdir())


def cut(scenario: str, place: Path) -> Path:
    """The output directory as a crash before its last save leaves it: without results either."""
    out = shutil.copytree(LIVE / scenario / "out", place / "out")
    (out / "trainer_state.json").unlink()
    saves = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    shutil.rmtree(saves[-1])
    for file in out.glob("*_results.json"):
        file.unlink()
    return out


def counts(run: Run) -> dict[str, int]:
    found = (ONLY, OTHERS, FILLED)
    return {one.code: one.count for one in run.findings if one.code in found}


def test_nothing_is_said_of_event_files_that_hold_no_more_than_the_state() -> None:
    for scenario in ("nested_named_env", "odd_keys_apart", "st_evaluators", "trl_grpo"):
        (run,) = bridges.read(LIVE / scenario / "out")
        assert counts(run) == {}, scenario


@pytest.mark.parametrize("scenario", NEVER_SAVED)
def test_points_of_attempts_that_were_given_up_are_counted_and_not_added(scenario: str) -> None:
    (plain,) = bridges.read(LIVE / scenario / "out")
    (filled,) = bridges.read(LIVE / scenario / "out", fill_from_events=True)
    assert counts(plain) == counts(filled) == {OTHERS: NEVER_SAVED[scenario]}
    assert list(map(repr, plain.stream)) == list(map(repr, filled.stream))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_was_logged_after_the_last_save_is_filled_in(scenario: str, tmp_path: Path) -> None:
    out, logdir = cut(scenario, tmp_path), tmp_path / "tb"
    (plain,) = bridges.read(out)
    never = NEVER_SAVED.get(scenario, 0)
    points = sum(live_points(scenario, "tensorboard").values()) - never
    missing = points - plain.stream.points
    assert missing > 0
    assert counts(plain) == {ONLY: missing} | ({OTHERS: never} if never else {})
    (finding,) = [one for one in plain.findings if one.code == ONLY]
    assert finding.severity is Severity.WARNING

    report = bridges.export(out, to="tensorboard", logdir=str(logdir), fill_from_events=True)
    assert [(run.status, run.verified) for run in report.runs] == [("exported", True)]
    ours = Counter(
        (step, tag, value) for tag, found in read_raw(logdir)[0].items() for step, value in found
    )
    live = live_points(scenario, "tensorboard")
    assert ours - live == Counter()
    assert (live - ours).total() == never


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_filled_rows_are_where_the_live_callback_put_them(scenario: str, tmp_path: Path) -> None:
    out = cut(scenario, tmp_path)
    report = bridges.export(out, to="wandb", wandb_dir=str(tmp_path), fill_from_events=True)
    assert [(run.status, run.verified) for run in report.runs] == [("exported", True)]
    mine = [tags_of(row) for row in rows_of(file_of(tmp_path))]
    rows: dict[tuple[str, int], list[str]] = {}
    for one in received(scenario, "wandb", "history"):
        rows.setdefault((one["run"], one["row"]), []).append(one["tag"])
    # event files hold no null
    theirs = [frozenset(map(first_part, tags)) - {"train/sometimes"} for tags in rows.values()]
    assert in_this_order([tags - {"train/sometimes"} for tags in mine], theirs)


def first_part(tag: str) -> str:
    """The tag, of one in an object the object's."""
    return re.split(r"\.", tag)[0]


def tags_of(row: dict[str, object]) -> frozenset[str]:
    return frozenset(map(first_part, row))


def in_this_order(some: list[frozenset[str]], every: list[frozenset[str]]) -> bool:
    """Whether `some` are in `every` one, in this order."""
    left = iter(every)
    return all(one in left for one in some)


def test_filled_rows_do_not_make_another_run(tmp_path: Path) -> None:
    out = cut("oom_smaller_batch", tmp_path)
    options: dict[str, Any] = {"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    (first,) = bridges.export(out, **options).runs
    (filled,) = bridges.export(out, fill_from_events=True, **options).runs
    (again,) = bridges.export(out, fill_from_events=True, **options).runs
    (without,) = bridges.export(out, **options).runs
    assert [one.status for one in (first, filled, again, without)] == [
        "exported",
        "appended",
        "unchanged",
        "unchanged",
    ]
    assert {one.location for one in (first, filled, again, without)} == {first.location}
    assert all(one.verified for one in (first, filled, again, without))


def test_filled_rows_are_no_history_and_have_times_of_their_own(tmp_path: Path) -> None:
    out = cut("st_evaluators", tmp_path)
    (plain,) = bridges.read(out)
    (run,) = bridges.read(out, fill_from_events=True)
    assert list(map(repr, run.history)) == list(map(repr, plain.stream))
    assert run_key(run) == run_key(plain)
    (known,) = [one for one in run.evidence if one.source == "events"]
    assert known.rows.tolist() == list(range(len(run.stream)))
    assert (np.diff(known.time) > 0).all()
    assert (plain.status, run.status) == ("unfinished", "finished")


def test_a_config_and_the_command_have_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, logdir = cut("nested_named_env", tmp_path), tmp_path / "tb"
    source = {"location": str(out), "fill_from_events": True}
    made = MigrationConfig.model_validate({"sources": [source], "targets": ["memory"]})
    assert made.sources[0].read_options().fill_from_events
    arguments = ["export", str(out), "--to", "tensorboard", "--logdir", str(logdir)]
    assert bridge([*arguments, "--fill-from-events", "-v"]) == 0
    assert FILLED in capsys.readouterr().out
    assert bridge([*arguments, "--fill-from-events", "--follow"]) == 2
    assert "leave out one of the two" in capsys.readouterr().err


def test_a_run_read_in_python_names_the_parameter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = cut("nested_named_env", tmp_path)
    (run,) = bridges.read(out)
    (message,) = (one.message for one in run.findings if one.code == ONLY)
    assert message.endswith("after the training has ended, fill_from_events=True adds them")
    assert bridge(["inspect", str(out)]) == 0
    assert "--fill-from-events adds" in " ".join(capsys.readouterr().out.split())


def test_event_files_of_bridges_itself_are_no_source(tmp_path: Path) -> None:
    out = cut("nested_named_env", tmp_path)
    bridges.export(out, to="tensorboard", logdir=str(out / "runs"), fill_from_events=True)
    (again,) = bridges.read(out, fill_from_events=True)
    (whole,) = bridges.read(LIVE / "nested_named_env" / "out")
    assert again.stream.points == whole.stream.points


def test_trials_that_share_a_directory_of_event_files_have_their_own_points(tmp_path: Path) -> None:
    search = DATA / "groundtruth" / "hp_search_unnamed"
    out = tmp_path / "out"
    shutil.copytree(search / "logs", out / "runs")
    shutil.copytree(search / "trial_0", out / "run-0" / "checkpoint-8")
    (out / "run-1").mkdir()
    shutil.copy(search / "trainer_state.json", out / "run-1")
    first, last = sorted(bridges.read(out), key=lambda run: run.source)
    assert (counts(first), counts(last)) == ({ONLY: 6}, {})  # the summary of the first trial
    filled, _ = sorted(bridges.read(out, fill_from_events=True), key=lambda run: run.source)
    assert {"train_loss", "total_flos", "epoch"} < {*list(filled.stream)[-1]}


STORES: dict[str, str] = {"tensorboard": "logdir", "mlflow": "tracking_uri", "wandb": "wandb_dir"}


@pytest.mark.parametrize("target", STORES)
@pytest.mark.parametrize("goes_on", [False, True])
def test_filled_rows_that_a_state_holds_later_are_not_there_twice(
    target: str, goes_on: bool, tmp_path: Path
) -> None:
    out = cut("st_evaluators", tmp_path)
    place = f"sqlite:///{tmp_path}/mlflow.db" if target == "mlflow" else str(tmp_path / target)
    options: dict[str, Any] = {"to": target, STORES[target]: place}
    (filled,) = bridges.export(out, fill_from_events=True, **options).runs
    state = LIVE / "st_evaluators" / "out" / "trainer_state.json"
    content = json.loads(state.read_text())
    if goes_on:
        content["log_history"].append({"eval_loss": 0.5, "epoch": 5.0, "step": 20})
    (out / "trainer_state.json").write_text(json.dumps(content))
    (saved,) = bridges.export(out, fill_from_events=True, **options).runs
    if target == "tensorboard" and not goes_on:  # a new file needs a new name
        assert "would be stored twice" in saved.findings[-1].message
        return
    assert (saved.status, saved.verified, saved.location) == ("appended", True, filled.location)
    assert "filled-rows-replaced" in [finding.code for finding in saved.findings]
    assert saved.points == filled.points + (2 if goes_on else 0)
    (again,) = bridges.export(out, fill_from_events=True, **options).runs
    assert (again.status, again.verified) == ("unchanged", True)
