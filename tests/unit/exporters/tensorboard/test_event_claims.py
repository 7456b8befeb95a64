"""Exports of one run that meet in a log directory, whatever its names: one of them publishes it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bridges.exporters.base import ConflictError, ExistingRun
from bridges.exporters.tensorboard import claims as event_claims
from bridges.exporters.tensorboard.claims import Attempt, attempt
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.journal import JOURNAL, Journal
from bridges.exporters.tensorboard.names import attempt_name, segment_name
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.pipeline.options import LayoutOptions
from bridges.stream.layout import Layout, lay_out
from tests.integration.exporters.tensorboard.support import Row, contents, entries, training_rows
from tests.support import make_run

ROWS = training_rows(30)
FORK = [*ROWS[:20], *({**row, "loss": 9.0} for row in ROWS[20:] if "loss" in row)]


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim is taken from its owner at once."""
    monkeypatch.setattr(event_claims, "CLAIM_SECONDS", -1.0)


def layout_of(name: str, rows: list[Row] = ROWS) -> Layout:
    return lay_out(make_run(rows, name=name), "tensorboard", LayoutOptions())


Searched = tuple[TensorBoardExporter, list[ExistingRun]]


def searched(logdir: Path, layout: Layout, holds: int = 0) -> Searched:
    """An exporter that has looked for the run, and the runs that it saw: so many."""
    exporter = TensorBoardExporter(TensorBoardOptions(str(logdir)))
    seen = exporter.find(layout.identity)
    assert len(seen) == holds
    return exporter, seen


def export(logdir: Path, layout: Layout) -> str:
    """Export as the pipeline does; the name of the run's directory."""
    exporter = TensorBoardExporter(TensorBoardOptions(str(logdir)))
    seen = exporter.find(layout.identity)
    there = next((run for run in seen if run.state.digest == layout.digest), None)
    return (there or exporter.write(layout, seen, None)).name


# --- two exporters ----------------------------------------------------------------------------


def test_a_run_is_written_once_under_two_names(logdir: Path) -> None:
    one, other = layout_of("A"), layout_of("B")
    (first, seen), (second, seen_by_second) = searched(logdir, one), searched(logdir, other)
    first.write(one, seen, None)
    with pytest.raises(ConflictError):
        second.write(other, seen_by_second, None)
    (run,) = second.find(other.identity)
    assert (run.name, run.state.digest) == ("A", one.digest)
    assert entries(logdir) == ["A"]


def test_an_exporter_learns_of_a_run_long_after_it_looked(logdir: Path) -> None:
    runs = [layout_of(name, training_rows(5, seed=seed)) for seed, name in enumerate("abc")]
    (first, _), (second, _) = searched(logdir, runs[0]), searched(logdir, runs[1])
    for run in runs:
        first.write(run, first.find(run.identity), None)
    again = layout_of("other", training_rows(5, seed=2))
    (found,) = second.find(again.identity)
    assert found.name == "c"


def test_two_runs_with_one_beginning_stay_two(logdir: Path) -> None:
    one, fork = layout_of("A"), layout_of("B", FORK)
    assert one.key == fork.key
    (first, seen), (second, seen_by_second) = searched(logdir, one), searched(logdir, fork)
    first.write(one, seen, None)
    with pytest.raises(ConflictError):
        second.write(fork, seen_by_second, None)
    second.write(fork, second.find(fork.identity), None)
    assert entries(logdir) == ["A", "B"]


def test_a_run_that_was_moved_by_hand_is_found_all_the_same(logdir: Path) -> None:
    assert export(logdir, layout_of("A")) == "A"
    (logdir / "A").rename(logdir / "moved")
    assert export(logdir, layout_of("B")) == "moved"


def test_a_run_that_was_removed_by_hand_is_written_again(logdir: Path) -> None:
    export(logdir, layout_of("A"))
    for path in (logdir / "A").iterdir():
        path.unlink()
    (logdir / "A").rmdir()
    assert export(logdir, layout_of("B")) == "B"
    assert entries(logdir) == ["B"]


# --- killed and slow exports ------------------------------------------------------------------


def begun(logdir: Path, layout: Layout) -> Attempt:
    """Another export, which has written the run's file."""
    made = Attempt(str(logdir), layout.key, segment_name(layout.key, 1_700_000_000, 0))
    made.begin()
    Path(made.path).write_bytes(b"as much as was written")
    return made


@pytest.mark.usefixtures("impatient")
def test_an_export_that_was_killed_with_its_claim_stops_nobody(logdir: Path) -> None:
    layout = layout_of("A")
    begun(logdir, layout).claim()
    assert export(logdir, layout) == "A"
    assert entries(logdir) == ["A"]


def test_an_export_that_was_killed_before_it_published_leaves_nothing(logdir: Path) -> None:
    layout = layout_of("A")
    killed = begun(logdir, layout)
    killed.claim()
    Journal(str(logdir)).add(layout.key, "B")
    killed.move(str(logdir / "B"))
    assert entries(logdir) == ["B"]
    assert export(logdir, layout) == "A"
    assert entries(logdir) == ["A"]


def test_what_was_not_published_does_not_take_the_name_of_the_run(logdir: Path) -> None:
    layout = layout_of("A")
    (logdir / "A").mkdir(parents=True)
    name = attempt_name(segment_name(layout.key, 1_700_000_000, 0))
    (logdir / "A" / name).write_bytes(b"")
    assert export(logdir, layout) == "A"
    assert list(contents(logdir / "A")) == [
        segment_name(layout.key, layout.clock.start // 1_000_000, 0)
    ]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("steps", ["claim", "claim move"])
def test_an_export_that_was_too_slow_does_not_publish(logdir: Path, steps: str) -> None:
    layout = layout_of("A")
    slow = begun(logdir, layout)
    slow.claim()
    if "move" in steps:
        Journal(str(logdir)).add(layout.key, "slow")
        slow.move(str(logdir / "slow"))
    assert export(logdir, layout) == "A"
    with pytest.raises(ConflictError):
        slow.publish()
    slow.withdraw()
    assert entries(logdir) == ["A"]


@pytest.mark.usefixtures("impatient")
def test_an_export_that_was_too_slow_does_not_publish_the_run_of_the_next(logdir: Path) -> None:
    layout = layout_of("A")
    slow, next_one = begun(logdir, layout), begun(logdir, layout)
    slow.claim()
    next_one.claim()
    Journal(str(logdir)).add(layout.key, "slow")
    slow.move(str(logdir / "slow"))  # the other's, for both claims have one name
    for each in (slow, next_one):
        with pytest.raises(ConflictError):
            each.publish()
    assert export(logdir, layout) == "A"
    assert entries(logdir) == ["A"]


def test_a_claim_is_waited_for(logdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of("A")
    owner, other = begun(logdir, layout), begun(logdir, layout)
    owner.claim()
    monkeypatch.setattr(time, "sleep", lambda _: owner.move(str(logdir / "owner")))
    other.claim()
    assert Path(owner.publish()).name == "owner"


def test_an_attempt_that_fails_leaves_nothing(logdir: Path) -> None:
    key = "0" * 32
    for steps in (["claim"], ["claim", "move"], []):
        with pytest.raises(OSError, match="full"), attempt(str(logdir), key, "name") as made:  # noqa: PT012
            Path(made.path).write_bytes(b"")
            for step in steps:
                made.claim() if step == "claim" else made.move(str(logdir / "A"))
            raise OSError("full")
        assert entries(logdir) == []


# --- the journal ------------------------------------------------------------------------------


def test_each_line_of_the_journal_is_told_once(logdir: Path) -> None:
    logdir.mkdir()
    one, other = Journal(str(logdir)), Journal(str(logdir))
    assert one.news() == []
    assert one.add("k1", "a b/é") == [("k1", "a b/é")]
    assert other.add("k2", "x\udcff") == [("k1", "a b/é"), ("k2", "x\udcff")]
    assert (one.news(), one.news(), other.news()) == ([("k2", "x\udcff")], [], [])


def test_a_torn_line_of_the_journal_harms_no_other(logdir: Path) -> None:
    logdir.mkdir()
    (logdir / JOURNAL).write_bytes(b"\nk1 whole\n\nk2 tor")
    journal = Journal(str(logdir))
    assert journal.news() == [("k1", "whole")]
    assert ("k3", "next") in journal.add("k3", "next")


def test_a_journal_that_was_removed_is_begun_again(logdir: Path) -> None:
    logdir.mkdir()
    journal = Journal(str(logdir))
    journal.add("k1", "a-long-name")
    (logdir / JOURNAL).unlink()
    assert journal.news() == []
    Journal(str(logdir)).add("k2", "b")
    assert journal.news() == [("k2", "b")]


@pytest.mark.parametrize("content", [b"\x00" * 99, b"\xff\xfe \xfd\n", b"no-path\n", b" \n \n"])
def test_a_damaged_journal_is_only_a_lost_hint(logdir: Path, content: bytes) -> None:
    logdir.mkdir()
    (logdir / JOURNAL).write_bytes(content)
    assert export(logdir, layout_of("A")) == "A"
    assert export(logdir, layout_of("B")) == "A"
