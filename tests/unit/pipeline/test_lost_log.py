"""A log that lay beside a state is gone: the run that has its rows in the target stays the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.base import Exporter
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.identity import run_key
from tests.unit.pipeline.test_match_logged import SUMMARY, TARGETS, export, exporter_of, points_of
from tests.unit.sources.tuning_logs.test_further_rows import ROWS, TOOLS, put, save, swift

ALL_TARGETS = [*TARGETS, pytest.param("mlflow-client", marks=pytest.mark.slow)]
Row = dict[str, Any]


def with_extras(lines: list[Row]) -> list[Row]:
    """Lines with a metric that no state holds."""
    return [{**line, "throughput": 1000.5 + at} for at, line in enumerate(lines)]


def found(report: RunReport, code: str) -> list[int]:
    return [finding.count for finding in report.findings if finding.code == code]


def steps_of(place: Path, exporter: Exporter, tag: str) -> list[int]:
    """The steps at which the target holds a tag, after the run was found anew."""
    return [step for step, _ in points_of(place, exporter, tag)]


def remove(place: Path, name: str, how: str) -> None:
    """Take the log away."""
    if how == "cleared":
        (place / name).write_text("")
    else:
        (place / name).unlink()


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("how", ["deleted", "cleared"])
def test_a_state_that_is_shorter_than_the_log_was(
    how: str, name: str, target: str, tmp_path: Path
) -> None:
    exporter, place = exporter_of(target, tmp_path), tmp_path / "run"
    put(place, name, with_extras(TOOLS[name](ROWS)))
    save(place / "checkpoint-40", ROWS[:4], max_steps=90)
    first = export(place, exporter)
    assert first.rows == 9
    remove(place, name, how)
    report = export(place, exporter)
    assert (report.status, report.location) == ("unchanged", first.location)
    assert found(report, "target-is-longer") == [1]
    save(place / "checkpoint-60", ROWS[:6], max_steps=90)  # it holds two of the log's rows
    report = export(place, exporter)
    assert report.location == first.location
    assert steps_of(place, exporter, "loss") == [row["step"] for row in ROWS]
    assert [*found(report, "rows-kept-from-log"), *found(report, "rows-from-log-replaced")]


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("name", TOOLS)
def test_a_state_that_is_longer_than_the_log_was(name: str, target: str, tmp_path: Path) -> None:
    exporter, place = exporter_of(target, tmp_path), tmp_path / "run"
    put(place, name, with_extras(TOOLS[name](ROWS[:7])))
    save(place / "checkpoint-40", ROWS[:4], max_steps=90)
    first = export(place, exporter)
    remove(place, name, "deleted")
    save(place / "checkpoint-80", ROWS[:8], max_steps=90)
    second = export(place, exporter)
    assert (second.status, second.location, second.rows) == ("appended", first.location, 8)
    save(place, [*ROWS, SUMMARY], max_steps=90)
    third = export(place, exporter)
    assert (third.status, third.location, third.rows) == ("appended", first.location, 10)
    assert steps_of(place, exporter, "loss") == [row["step"] for row in ROWS]
    put(place, name, with_extras(TOOLS[name](ROWS[:7])))  # it is back
    assert export(place, exporter).location == first.location


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("state_too", [False, True])
def test_a_log_that_was_followed_alone(
    state_too: bool, name: str, target: str, tmp_path: Path
) -> None:
    """Its speed is in no state, and no part of the run's key."""
    exporter, place = exporter_of(target, tmp_path), tmp_path / "run"
    put(place, name, with_extras(TOOLS[name](ROWS[:3])))
    first = export(place, exporter, growing=True)
    if state_too:
        save(place / "checkpoint-20", ROWS[:2], max_steps=90)
        assert export(place, exporter, growing=True).location == first.location
    remove(place, name, "deleted")
    save(place / "checkpoint-20", ROWS[:2], max_steps=90)
    assert export(place, exporter).location == first.location
    assert steps_of(place, exporter, "loss") == [10, 20, 30]
    save(place, [*ROWS, SUMMARY], max_steps=90)
    report = export(place, exporter)
    assert (report.status, report.location) == ("appended", first.location)
    assert steps_of(place, exporter, "loss") == [row["step"] for row in ROWS]


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_a_log_that_the_first_version_exported_stays_its_run(target: str, tmp_path: Path) -> None:
    """That version made the key of a log of its speed, too."""
    exporter, place = exporter_of(target, tmp_path), tmp_path / "run"
    put(place, "logging.jsonl", swift(ROWS[:3]))
    (run,) = bridges.read(place)
    first = export_run(replace(run, identity=()), exporter, ExportOptions())
    keys = {first.key, export(place, exporter).key}
    assert keys == {run_key(replace(run, identity=()))} != {run_key(run)}
    put(place, "logging.jsonl", swift(ROWS[:5]))
    grown = export(place, exporter)
    assert (grown.status, grown.location, grown.key) == ("appended", first.location, first.key)
    put(place, "logging.jsonl", swift(ROWS[:2]))
    shorter = export(place, exporter)
    assert (shorter.status, shorter.location) == ("unchanged", first.location)
    put(place, "logging.jsonl", swift(ROWS))
    save(place / "checkpoint-80", ROWS[:8], max_steps=90)
    assert export(place, exporter).location == first.location


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("name", ["slow", "fast"])
@pytest.mark.parametrize("is_lost", [True, False])
def test_a_state_continues_the_log_of_its_directory(
    is_lost: bool, name: str, target: str, tmp_path: Path
) -> None:
    """Another log differs from it in its speed alone."""
    exporter, places = exporter_of(target, tmp_path), {}
    for each, speed in (("slow", 0.25), ("fast", 4.0)):
        lines = [{**line, "train_speed(iter/s)": speed} for line in swift(ROWS[:3])]
        put(tmp_path / each, "logging.jsonl", lines)
        places[each] = export(tmp_path / each, exporter).location
    if is_lost:
        remove(tmp_path / name, "logging.jsonl", "deleted")
    save(tmp_path / name, ROWS, max_steps=100)
    assert export(tmp_path / name, exporter).location == places[name]


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_logs_that_differ_in_their_speed_alone_are_two_runs(target: str, tmp_path: Path) -> None:
    exporter = exporter_of(target, tmp_path)
    for name, speed in (("slow", 0.25), ("fast", 4.0)):
        lines = [{**line, "train_speed(iter/s)": speed} for line in swift(ROWS[:3])]
        put(tmp_path / name, "logging.jsonl", lines)
    reports = [export(tmp_path / name, exporter) for name in ("slow", "fast", "slow", "fast")]
    assert [report.status for report in reports] == ["exported"] * 2 + ["unchanged"] * 2
    assert len({report.location for report in reports}) == 2


def test_another_run_is_not_taken_for_the_one_with_the_log(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", TOOLS["trainer_log.jsonl"](ROWS))
    save(place / "checkpoint-40", ROWS[:4], max_steps=90)
    export(place, exporter)
    other = [*ROWS[:5], *({**row, "loss": row["loss"] + 0.5} for row in ROWS[5:])]
    save(tmp_path / "other", other, max_steps=90)
    assert export(tmp_path / "other", exporter).status == "exported"
    assert len(exporter.runs) == 2
