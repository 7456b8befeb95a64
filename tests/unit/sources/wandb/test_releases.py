"""Runs of seven releases of wandb: each value is that of wandb's protocol buffers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.source import WandbSource
from bridges.stream.identity import identity_of, prefix_digest
from bridges.stream.model import Run
from tests.support import codes
from tests.wandb_logs import rows_of
from tests.wandb_runs import EARLY, RELEASES, unpack_runs

OWN = {"_step", "_timestamp", "_runtime"}
START = 1_700_000_000.25
Values = dict[str, list[str]]


def runs_in(location: Path | str, **options: Any) -> dict[str, Run]:
    """The runs at a location by name."""
    return {run.name: run for run in WandbSource().read(str(location), ReadOptions(**options))}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wandb")
    return {release: unpack_runs(release, folder / release) for release in (*RELEASES, EARLY)}


def logged(folder: Path, name: str, release: str) -> list[dict[str, object]]:
    """The rows of a run by the oracle, with objects flat under dotted keys."""
    rows: list[dict[str, object]] = []
    for place in sorted(folder.glob(f"*-id-{name}")):
        if release == EARLY:
            lines = (place / "wandb-history.jsonl").read_text().splitlines()
            rows += [flat(json.loads(line)) for line in lines]
        else:
            (log,) = place.glob("*.wandb")
            rows += [flat(nested(row)) for row in rows_of(log.read_bytes())]
    return rows


def nested(row: dict[tuple[str, ...], object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in row.items():
        target = found
        for name in path[:-1]:
            target = target.setdefault(name, {})
        target[path[-1]] = value
    return found


def flat(row: dict[str, Any], before: str = "") -> dict[str, object]:
    """The values of a row without media and null."""
    found: dict[str, object] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            if "_type" not in value:
                found |= flat(value, f"{before}{key}.")
        elif value is not None:
            found[before + key] = value
    return found


def by_key(rows: list[dict[str, object]]) -> Values:
    """The values of each key in their order, whole floats as integers."""
    found: Values = {}
    for row in rows:
        for key, value in row.items():
            if key not in OWN and key != "step":
                found.setdefault(key, []).append(shown(value))
    return found


def shown(value: object) -> str:
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**63
    if is_whole and not (value == 0 and math.copysign(1, float(str(value))) < 0):
        value = int(float(str(value)))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        value = float(value)
    return f"{type(value).__name__} {value!r}"


@pytest.mark.parametrize("release", [*RELEASES, EARLY])
@pytest.mark.parametrize("name", ["values", "metrics", "steps", "labels", "media", "resumed"])
def test_all_values_are_those_of_the_protocol_buffers(
    release: str, name: str, unpacked: dict[str, Path]
) -> None:
    if (release, name) == (EARLY, "metrics"):
        return  # wandb 0.9 has no such definitions
    expected = logged(unpacked[release], name, release)
    runs = runs_in(unpacked[release])
    run = runs[f"id-{name}" if release == EARLY and name not in runs else name]
    assert by_key([*run.stream]) == by_key(expected)
    assert run.stream.time is not None
    seconds = {round(float(str(row["_timestamp"])) * 1e6) for row in expected}
    assert {*run.stream.time.tolist()} == seconds


@pytest.mark.parametrize("release", RELEASES)
def test_the_steps_are_those_of_the_defined_metrics(
    release: str, unpacked: dict[str, Path]
) -> None:
    stream = runs_in(unpacked[release])["metrics"].stream
    steps = {key: stream.step[stream.column(key)[0]].tolist() for key in stream.keys}
    assert steps["train/loss"] == [10, 20, 30, 40, 50, 60]
    assert steps["val/acc"] == [0, 1, 2]
    assert steps["global_step"] == [0, 1, 3, 4, 6, 7]


@pytest.mark.parametrize("release", [*RELEASES, EARLY])
def test_explicit_steps_and_rows_in_pieces(release: str, unpacked: dict[str, Path]) -> None:
    stream = runs_in(unpacked[release])["steps"].stream
    assert stream.step.tolist() == [0, 10, 20, 1_000_000, 1_000_001]
    assert stream.column("loss")[1].tolist() == [0.5, 10.5, 20.5, 1_000_000.5]
    assert stream.column("last")[1].tolist() == [3.5]


@pytest.mark.parametrize("release", RELEASES)
def test_a_run_of_the_trainer_has_its_rows_and_names(
    release: str, unpacked: dict[str, Path]
) -> None:
    run = runs_in(unpacked[release])["trainer"]
    assert run.key_style == "trainer"
    assert [*run.stream] == [
        {"loss": 0.7, "grad_norm": 1.5, "learning_rate": 0.0, "epoch": 0.5, "step": 5},
        {
            "eval_loss": 0.69,
            "eval_accuracy": 1.0,
            "eval_runtime": 0.1,
            "eval_samples_per_second": 302.0,
            "eval_steps_per_second": 37.5,
            "epoch": 0.5,
            "step": 5,
        },
        {"loss": 0.5, "grad_norm": 2.0, "learning_rate": 2.5e-05, "epoch": 1.0, "step": 10},
        {
            "epoch": 1.0,
            "train_runtime": 2.5,
            "train_samples_per_second": 40.0,
            "train_steps_per_second": 4.0,
            "train_loss": 0.6,
            "total_flos": 1e12,
            "step": 10,
        },
    ]
    assert all(part.values.dtype == np.float64 for part in run.stream.series)
    assert run.params == {"learning_rate": 5e-05, "hub_token": "<HUB_TOKEN>"}


@pytest.mark.parametrize("release", [*RELEASES, EARLY])
def test_the_labels_config_and_summary_of_a_run(release: str, unpacked: dict[str, Path]) -> None:
    run = runs_in(unpacked[release])["labels"]
    assert run.params == {"lr": 0.002, "deep": {"a": 1, "b": [1, 2]}, "api_key": "<API_KEY>"}
    assert (run.status, run.project, run.note) == ("failed", "golden", "some notes")
    assert run.facts["wandb.version"] == release
    assert run.facts["wandb.summary.best"] == 0.25
    if release != EARLY:  # which keeps no group and tags
        assert (run.group, dict(run.tags)) == ("group", {"one": "", "two": ""})
        assert run.facts["wandb.job_type"] == "train"
    assert run.start is not None
    assert run.end is not None
    assert run.start <= run.end


@pytest.mark.parametrize("release", [*RELEASES, EARLY])
def test_media_are_counted_by_type(release: str, unpacked: dict[str, Path]) -> None:
    run = runs_in(unpacked[release])["media"]
    assert {*run.stream.keys} == {"loss", "group.score"}
    (found,) = [finding for finding in run.findings if finding.code == "media-skipped"]
    assert found.count == 8
    assert found.message.endswith(": histogram (2), html-file (4), table-file (2)")


@pytest.mark.parametrize("release", [*RELEASES, EARLY])
def test_two_directories_of_one_id_are_one_run(release: str, unpacked: dict[str, Path]) -> None:
    run = runs_in(unpacked[release])["resumed"]
    is_known = release == RELEASES[-1]  # before 0.30, a log does not know that it resumes a run
    second = [3, 4, 5] if is_known else [0, 1, 2]
    assert run.stream.step.tolist() == [0, 1, 2, *second]
    assert run.stream.column("loss")[1].tolist() == [1, 1.1, 1.2, 2, 2.1, 2.2]
    assert ("resumed-steps" if is_known else "resumed-overlap") in codes(run)
    assert run.params == {"part": 2}
    assert len(run.saves) >= 2


@pytest.mark.parametrize("release", [*RELEASES, EARLY])
def test_runs_without_rows_are_left_out_and_counted(
    release: str, unpacked: dict[str, Path]
) -> None:
    runs = runs_in(unpacked[release])
    assert "empty" not in runs
    found = [finding.code for run in runs.values() for finding in run.findings]
    assert found.count("run-without-rows") + found.count("empty-log") == 1


def test_times_in_whole_seconds_are_reported(unpacked: dict[str, Path]) -> None:
    assert "seconds-resolution" in codes(runs_in(unpacked["0.10.33"])["values"])
    assert "seconds-resolution" not in codes(runs_in(unpacked["0.31.0"])["values"])


def test_system_metrics_are_read_on_request(unpacked: dict[str, Path]) -> None:
    run = runs_in(unpacked["0.31.0"])["values"]
    more = runs_in(unpacked["0.31.0"], system_metrics=True)["values"]
    assert "system-skipped" in codes(run)
    assert "system-skipped" not in codes(more)
    added = {*more.stream.keys} - {*run.stream.keys}
    assert added
    assert all(key.startswith("system/") for key in added)


@pytest.mark.parametrize(
    "stride", [pytest.param(1, marks=pytest.mark.slow), pytest.param(53, id="some")]
)
@pytest.mark.parametrize("name", ["metrics", "steps", "trainer"])
@pytest.mark.parametrize("release", ["0.10.33", "0.16.6", RELEASES[-1]])
def test_a_log_cut_at_any_byte_is_the_beginning_of_its_run(
    release: str, name: str, stride: int, unpacked: dict[str, Path], tmp_path: Path
) -> None:
    """So a later export of the complete log appends: the run key and the first rows stay."""
    (source,) = unpacked[release].glob(f"*-id-{name}/*.wandb")
    data, path = source.read_bytes(), tmp_path / source.name
    (whole,) = runs_in(source).values()
    counts = set()
    for size in range(0, len(data), stride):
        path.write_bytes(data[:size])
        try:
            (run,) = runs_in(path).values()
        except MissingSourceError:  # no rows yet
            continue
        counts.add(count := len(run.stream))
        assert identity_of(run).key == identity_of(whole).key
        assert prefix_digest(run.stream, count) == prefix_digest(whole.stream, count)
    assert len(counts) > 2
