"""Every independent reader gives the same series, texts and settings of what is exported."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import bridges
from tests.bounds import until
from tests.integration.exporters.tensorboard import readers
from tests.integration.exporters.tensorboard.readers import Runs
from tests.integration.exporters.tensorboard.support import (
    Point,
    Row,
    last_of_steps,
    raw_events,
    read_raw,
    show,
    training_rows,
    visible,
    write_state,
)
from tests.support import DATA

MIXED: list[Row] = [
    *training_rows(30),
    {"loss": math.nan, "grad_norm": math.inf, "epoch": 0.31, "step": 31},
    {"loss": -math.inf, "grad_norm": -0.0, "note": "first *line*\n| a | b |", "step": 31},
    {"loss": 2, "flag": True, "tokens": 2**53 + 1, "step": 32},
    {"loss": 0.5, "flag": False, "tiny": 1e-42, "huge": 1e300, "": 1.0, "损失": 2.0, "step": 33},
    {"eval_loss": 0.25, "eval_note": "good", "epoch": 0.34, "step": 34},
    {"loss": 9.0, "note": "", "epoch": 0.2, "step": 20},
    {"loss": 8.0, "epoch": 0.21, "step": 21},
    *training_rows(30, first=35),
    {"train_runtime": 60.5, "train_loss": 1.5, "total_flos": 1e15, "epoch": 0.64, "step": 64},
]
GROWN = training_rows(400)
TRIALS: list[dict[str, Any]] = [
    {"learning_rate": 1e-4, "optim": "adamw", "fp16": True},
    {"learning_rate": 3e-4, "optim": "sgd", "fp16": False, "extra": 7},
]


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every sort: the seed, odd values, a mixed one, one in three files, two trials."""
    root = tmp_path_factory.mktemp("readers")
    sources = {
        "seed": DATA / "seed.txt",
        "odd": DATA / "groundtruth" / "odd_values" / "trainer_state.json",
        "nan": DATA / "groundtruth" / "nan_loss" / "trainer_state.json",
        "mixed": write_state(root / "mixed.json", MIXED),
    }
    for number, params in enumerate(TRIALS):
        rows = training_rows(20, seed=number)
        sources[f"trials/{number}"] = write_state(
            root / f"{number}.json", rows, trial_name=f"trial {number}", trial_params=params
        )
    logs = root / "logs"
    for name, source in sources.items():
        export(source, logs, name)
    for size in (100, 101, len(GROWN)):
        export(write_state(root / "grown.json", GROWN[:size]), logs, "grown")
    export(sources["mixed"], logs, "mixed by epoch", x_axis="epoch")
    return logs


def export(source: Path, logdir: Path, name: str, **options: Any) -> None:
    (report,) = bridges.export(
        source, to="tensorboard", logdir=logdir, run_name=name, **options
    ).runs
    assert report.verified, report
    assert report.run == name


RUNS = ["grown", "mixed", "mixed by epoch", "nan", "odd", "seed", "trials/0", "trials/1"]


@pytest.fixture(scope="module")
def written(logdir: Path) -> Runs:
    """The truth: every record, by tensorboard's raw loader."""
    runs: Runs = {}
    for name in RUNS:
        series, texts = read_raw(logdir / name)
        shown = runs[name] = readers.Shown(series)
        for tag, step, text in texts:
            shown.texts.setdefault(tag, []).append((step, text))
    return runs


@pytest.fixture(scope="module")
def by_rust(logdir: Path) -> Runs:
    return readers.by_rust_server(logdir, len(RUNS))


def one_a_step(runs: Runs) -> dict[str, dict[str, list[Point]]]:
    return {
        run: {tag: last_of_steps(points) for tag, points in shown.scalars.items()}
        for run, shown in runs.items()
    }


def texts_of(runs: Runs) -> dict[str, dict[str, list[tuple[int, str]]]]:
    return {run: shown.texts for run, shown in runs.items()}


PYTHON_READERS = {
    "legacy accumulator": readers.by_legacy_accumulator,
    "multiplexer": lambda logdir: readers.by_provider(readers.python_provider(logdir)),
    "tbparse": readers.by_tbparse,
}


@pytest.mark.parametrize("reader", PYTHON_READERS)
def test_python_readers_give_every_point(reader: str, logdir: Path, written: Runs) -> None:
    shown = PYTHON_READERS[reader](logdir)
    assert sorted(shown) == RUNS
    for run in RUNS:
        have = {tag: sorted(points) for tag, points in shown[run].scalars.items()}
        assert have == {tag: sorted(points) for tag, points in written[run].scalars.items()}


@pytest.mark.parametrize("reader", PYTHON_READERS)
def test_python_readers_give_every_text(reader: str, logdir: Path, written: Runs) -> None:
    assert texts_of(PYTHON_READERS[reader](logdir)) == texts_of(written)


def test_the_data_server_gives_the_last_point_of_every_step(by_rust: Runs, written: Runs) -> None:
    assert sorted(by_rust) == RUNS
    assert {run: shown.scalars for run, shown in by_rust.items()} == one_a_step(written)


def test_the_data_server_gives_the_last_text_of_every_step(by_rust: Runs, written: Runs) -> None:
    want = {
        run: {tag: sorted(dict(lines).items()) for tag, lines in shown.texts.items()}
        for run, shown in written.items()
    }
    assert texts_of(by_rust) == want


def test_the_truth_itself_is_what_was_logged(written: Runs) -> None:
    losses = [(row["step"], show(row["loss"])) for row in MIXED if "loss" in row]
    assert written["mixed"].scalars["train/loss"] == sorted(losses, key=lambda point: point[0])
    assert written["mixed"].scalars["train/flag"] == [(32, "1.0"), (33, "0.0")]
    assert written["mixed"].scalars["train/huge"] == [(33, "inf")]
    assert written["mixed"].scalars["train/tokens"] == [(32, "9007199254740992.0")]
    assert written["mixed"].texts["train/note/text_summary"] == [
        (20, ""),
        (31, "first *line*\n| a | b |"),
    ]
    assert len(written["seed"].scalars["train/loss"]) == 100
    assert len(written["grown"].scalars["train/loss"]) == 400


def test_three_files_of_one_run_are_one_series(logdir: Path, by_rust: Runs) -> None:
    assert len(visible(logdir / "grown")) == 3
    want = [(row["step"], show(row["loss"])) for row in GROWN if "loss" in row]
    assert by_rust["grown"].scalars["train/loss"] == want


def test_both_loaders_list_the_same_settings(logdir: Path) -> None:
    python = readers.session_groups(readers.python_provider(logdir))
    with readers.rust_provider(logdir) as provider:
        until(lambda: len(provider_runs(provider)) == len(RUNS))
        rust = readers.session_groups(provider)
    assert settings_of(python) == settings_of(rust)
    assert sorted(settings_of(python)) == RUNS
    for number, params in enumerate(TRIALS):
        listed = settings_of(python)[f"trials/{number}"]
        for key, value in params.items():
            assert listed[key] == value


def provider_runs(provider: Any) -> list[Any]:
    from tensorboard import context

    return list(provider.list_runs(context.RequestContext(), experiment_id=""))


def by_session(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The groups by the one session that each has."""
    listed = {}
    for group in groups:
        (session,) = group["sessions"]
        listed[session["name"]] = group
    return listed


def settings_of(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: group["hparams"] for name, group in by_session(groups).items()}


def test_the_settings_page_shows_the_last_metrics(logdir: Path) -> None:
    groups = by_session(readers.session_groups(readers.python_provider(logdir)))
    for number in range(len(TRIALS)):
        (session,) = groups[f"trials/{number}"]["sessions"]
        rows = training_rows(20, seed=number)
        last = next(row for row in reversed(rows) if "loss" in row)
        metrics = {m["name"]["tag"]: m for m in session["metricValues"]}
        assert show(metrics["train/loss"]["value"]) == show(last["loss"])
        assert metrics["train/loss"]["trainingStep"] == last["step"]


def test_runs_of_one_name_and_equal_settings_are_two_groups(tmp_path: Path) -> None:
    for number in range(2):
        rows = training_rows(5, seed=number)
        state = write_state(tmp_path / "state.json", rows)
        bridges.export(state, to="tensorboard", logdir=tmp_path / "logs", run_name="twin")
    groups = readers.session_groups(readers.python_provider(tmp_path / "logs"))
    assert sorted(by_session(groups)) == ["twin", "twin-2"]


def test_no_run_has_an_experiment_summary(logdir: Path) -> None:
    tags = {v.tag for name in RUNS for e in raw_events(logdir / name) for v in e.summary.value}
    assert "_hparams_/session_start_info" in tags
    assert "_hparams_/experiment" not in tags
