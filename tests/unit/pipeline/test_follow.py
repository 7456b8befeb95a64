"""Following: when a state is read, when it is over, and what is told of what cannot be read."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest

import bridges
from bridges.cli.follow_screen import waiting_line
from bridges.cli.main import run as run_command
from bridges.errors import ConfigError, ExportError
from bridges.exporters.base import ExistingRun
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.follow import Following, Seen, Waiting
from bridges.pipeline.options import ExportOptions, Pace
from bridges.pipeline.watching import Stamp, stamps
from bridges.report import BatchReport, RunReport
from bridges.sources.options import ReadOptions
from bridges.sources.remote import MISSING
from bridges.sources.trainer.checkpoint_paths import output_of
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from tests.support import state

ROWS: list[dict[str, Any]] = [
    {"loss": 3.0 - step / 10, "learning_rate": 0.1, "epoch": step / 4, "step": step}
    for step in range(1, 9)
]
SUMMARY = {"train_runtime": 8.0, "train_loss": 2.5, "total_flos": 1.0, "epoch": 2.0, "step": 8}
SAVED = count(1_600_000_000_000_000_000, 1_000_000_000)  # mtimes of states, in ns
Event = Callable[[], object]


def nothing() -> None:
    """A poll before which nothing happens."""


def put(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> Path:
    """A state of these rows in that directory, newer than all that were put before."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trainer_state.json"
    file.write_bytes(state(rows, **fields))
    saved = next(SAVED)
    os.utime(file, ns=(saved, saved))
    return file


@dataclass
class Training:
    """What happens while it is followed: one event in each pause. Time passes in pauses only."""

    events: list[Event]
    now: float = 0.0
    pauses: list[float] = field(default_factory=list)
    appended: list[RunReport] = field(default_factory=list)
    waited: list[Waiting] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        if self.events:
            return self.events.pop(0)() is True
        assert len(self.pauses) < 5_000, "it never ends"
        return False

    def phase(self, run: str, phase: str) -> None:
        self.read += [run] if phase == "reading" else []

    def following(self, *places: Path | str, **changes: Any) -> Following:
        options = changes.pop("options", ExportOptions())
        exporters = changes.pop("exporters", [MemoryExporter()])
        return Following(
            [str(place) for place in places],
            exporters,
            options,
            changes.pop("pace", Pace(10, 100)),
            on_phase=self.phase,
            on_append=self.appended.append,
            on_wait=self.waited.append,
            wait=self.wait,
            clock=lambda: self.now,
            **changes,
        )

    @property
    def told(self) -> list[tuple[str, int, int]]:
        return [(report.status, report.rows, report.new_points) for report in self.appended]


def statuses(report: BatchReport) -> list[tuple[str, int, bool | None]]:
    return [(run.status, run.rows, run.verified) for run in report.runs]


def held(exporter: MemoryExporter) -> dict[str, list[float]]:
    """The losses that a target holds, by run."""
    found = {}
    for name, stored in exporter.runs.items():
        points = exporter.read_back(stored.run).points
        found[name] = points["loss"].value.tolist() if "loss" in points else []
    return found


def losses(rows: list[dict[str, Any]]) -> list[float]:
    return [row["loss"] for row in rows if "loss" in row]


# --- the ordinary course ----------------------------------------------------------------------


def test_new_rows_are_appended_until_the_summary_is_there(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-2", ROWS[:2])
    training = Training(
        [
            lambda: put(tmp_path / "checkpoint-4", ROWS[:4]),
            nothing,
            lambda: shutil.rmtree(tmp_path / "checkpoint-2"),
            lambda: put(tmp_path / "checkpoint-8", ROWS),
            lambda: put(tmp_path, [*ROWS, SUMMARY]),
        ]
    )
    target = MemoryExporter()
    followed = training.following(tmp_path, exporters=[target])
    report = followed.run()
    assert training.told == [
        ("exported", 2, 6),
        ("appended", 4, 6),
        ("appended", 8, 12),
        ("appended", 9, 4),
    ]
    assert statuses(report) == [("exported", 9, True)]
    assert (report.runs[0].new_points, report.runs[0].points) == (28, 28)
    assert report.exit_code == 0
    assert held(target) == {tmp_path.name: losses(ROWS)}
    assert followed.reason == "every run has its summary row"
    assert training.pauses == [10.0] * 5


def test_what_is_finished_is_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path, [*ROWS, SUMMARY])
    training = Training([])
    assert statuses(training.following(tmp_path).run()) == [("exported", 9, True)]
    assert training.pauses == []


def test_the_last_step_is_not_the_end(tmp_path: Path) -> None:
    """The checkpoint of the last step is saved before the summary row is written."""
    put(tmp_path / "checkpoint-8", ROWS, max_steps=8, global_step=8)
    (run,) = bridges.read(tmp_path)
    assert run.status == "finished"
    training = Training([nothing] * 3 + [lambda: put(tmp_path, [*ROWS, SUMMARY], max_steps=8)])
    assert statuses(training.following(tmp_path).run()) == [("exported", 9, True)]
    assert len(training.pauses) == 4


def test_the_idle_timeout(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-4", ROWS[:4])
    training = Training([nothing, nothing, lambda: put(tmp_path / "checkpoint-6", ROWS[:6])])
    followed = training.following(tmp_path, pace=Pace(10, 45))
    report = followed.run()
    assert (statuses(report), report.exit_code) == ([("exported", 6, True)], 0)
    assert followed.reason == "nothing changed for 45 s"
    assert training.pauses == [10, 10, 10, 10, 10, 10, 10, 5]  # 45 seconds from the change at 30


def test_without_an_idle_timeout_it_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-4", ROWS[:4])
    training = Training([nothing] * 1_000 + [lambda: True])
    followed = training.following(tmp_path, pace=Pace(10, 0))
    assert statuses(followed.run()) == [("exported", 4, True)]
    assert (len(training.pauses), followed.reason) == (1_001, "stopped by the caller")


def test_a_poll_without_a_change_reads_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    put(one / "checkpoint-4", ROWS[:4])
    put(two / "checkpoint-4", [{**row, "loss": 9.0} for row in ROWS[:4]])
    training = Training([nothing] * 50 + [lambda: put(one / "checkpoint-6", ROWS[:6]), nothing])
    training.following(one, two, pace=Pace(1, 100)).run()
    last = [str(one), str(two)]
    assert training.read == [*last, str(one), *last]  # at first, the one that changed, at the end
    assert len(training.pauses) == 151


def test_runs_that_did_not_change_are_not_exported_again(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path / str(number), [{**row, "loss": number} for row in ROWS[:4]])
    asked: list[str] = []

    class Counting(MemoryExporter):
        def find(self, identity: Identity) -> list[ExistingRun]:
            asked.append(identity.path)
            return super().find(identity)

    more = [{**row, "loss": 3} for row in ROWS]

    def stop() -> bool:
        asked.append("end")
        return True

    training = Training([lambda: put(tmp_path / "3", more), stop])
    training.following(tmp_path, exporters=[Counting()]).run()
    assert asked == [*"01234", "3", "end", *"01234"]


def test_every_target_gets_every_row(tmp_path: Path) -> None:
    put(tmp_path, ROWS[:4])
    targets = [MemoryExporter(), MemoryExporter()]
    training = Training([lambda: put(tmp_path, [*ROWS, SUMMARY])])
    training.following(tmp_path / "trainer_state.json", exporters=targets).run()
    assert [held(target) for target in targets] == [{tmp_path.name: losses(ROWS)}] * 2


def test_targets_that_wait_for_a_network_are_written_by_threads(tmp_path: Path) -> None:
    class Remote(MemoryExporter):
        parallel = True

    runs = [[{**row, "loss": row["loss"] + number} for row in ROWS] for number in range(6)]
    for number, rows in enumerate(runs):
        put(tmp_path / str(number), rows[:4])
    more = [functools.partial(put, tmp_path / str(n), [*r, SUMMARY]) for n, r in enumerate(runs)]
    target = Remote()
    training = Training([*more])
    report = training.following(tmp_path, exporters=[target]).run()
    assert held(target) == {str(number): losses(rows) for number, rows in enumerate(runs)}
    assert statuses(report) == [("exported", 9, True)] * 6
    assert len(training.appended) == 12


# --- what cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_half_written_state_writes_nothing(share: float, tmp_path: Path) -> None:
    whole = state(ROWS)
    file = tmp_path / "out" / "checkpoint-8" / "trainer_state.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(whole[: int(len(whole) * share)])
    target = MemoryExporter()
    seen: list[dict[str, Any]] = []
    training = Training([lambda: seen.append(held(target)), lambda: file.write_bytes(whole)])
    options = ExportOptions(read=ReadOptions(salvage=True))
    report = training.following(tmp_path / "out", exporters=[target], options=options).run()
    assert seen == [{}]
    assert held(target) == {"out": losses(ROWS)}
    assert (statuses(report), report.exit_code) == ([("exported", 8, True)], 0)
    assert [len(waiting.failures) for waiting in training.waited[:3]] == [1, 1, 0]


def test_a_broken_state_hides_no_other_run(tmp_path: Path) -> None:
    put(tmp_path / "out" / "checkpoint-4", ROWS[:4])
    late = tmp_path / "out" / "checkpoint-6" / "trainer_state.json"
    late.parent.mkdir()
    late.write_text("{")
    training = Training([nothing, lambda: put(late.parent, ROWS[:6])])
    assert statuses(training.following(tmp_path).run()) == [("exported", 6, True)]
    assert training.told == [("exported", 4, 12), ("appended", 6, 6)]


def test_what_stays_broken_is_told_at_the_end(tmp_path: Path) -> None:
    put(tmp_path / "out", ROWS[:4])
    broken = tmp_path / "broken" / "trainer_state.json"
    broken.parent.mkdir()
    broken.write_bytes(state(ROWS)[:100])
    training = Training([])
    report = training.following(tmp_path).run()
    assert statuses(report) == [("exported", 4, True), ("failed", 0, None)]
    assert (report.runs[1].source, report.exit_code) == (str(broken), 1)
    assert len(training.appended) == 1
    # read at once, after 1, 2 and 4 polls more, and at the end: not at each of the ten polls
    assert training.read == [str(tmp_path)] * 5


def test_finished_runs_wait_a_minute_for_what_is_broken_beside_them(tmp_path: Path) -> None:
    put(tmp_path / "out", [*ROWS, SUMMARY])
    (tmp_path / "trainer_state.json").write_text("{")
    training = Training([])
    report = training.following(tmp_path, pace=Pace(10, 1_000)).run()
    assert (len(training.pauses), report.exit_code) == (6, 1)


def test_salvage_is_for_what_stays_truncated(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state(ROWS)[:-40])
    options = ExportOptions(read=ReadOptions(salvage=True))
    training = Training([])
    report = training.following(tmp_path, options=options).run()
    assert statuses(report) == [("exported", 7, True)]
    assert training.appended == []


def test_a_directory_that_comes_later(tmp_path: Path) -> None:
    out = tmp_path / "out"
    training = Training(
        [
            nothing,
            out.mkdir,
            nothing,
            lambda: (out / "checkpoint-2").mkdir(),
            lambda: put(out / "checkpoint-2", ROWS[:2]),
            lambda: put(out, [*ROWS, SUMMARY]),
        ]
    )
    report = training.following(out).run()
    assert (statuses(report), report.exit_code) == ([("exported", 9, True)], 0)
    assert training.told == [("exported", 2, 6), ("appended", 9, 22)]


def test_a_directory_that_never_comes(tmp_path: Path) -> None:
    training = Training([])
    report = training.following(tmp_path / "nowhere").run()
    assert (statuses(report), report.exit_code) == ([("failed", 0, None)], 2)
    assert sum(training.pauses) == 100


def test_a_checkpoint_that_is_listed_but_gone(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-2", ROWS[:2])
    (tmp_path / "checkpoint-1").mkdir()
    link = tmp_path / "checkpoint-1" / "trainer_state.json"
    link.symlink_to("rotated away")
    training = Training([link.unlink, lambda: put(tmp_path, [*ROWS, SUMMARY])])
    report = training.following(tmp_path).run()
    assert (statuses(report), report.exit_code) == ([("exported", 9, True)], 0)
    assert len(training.waited[0].failures) == 1


def test_a_state_that_is_written_at_the_very_end_is_waited_for(tmp_path: Path) -> None:
    """A second `save_state()` may come between the poll that saw the summary and the last read."""
    file = put(tmp_path, [*ROWS, SUMMARY])

    class Rewriting(MemoryExporter):
        def write(
            self, layout: Layout, seen: Sequence[ExistingRun], there: ExistingRun | None
        ) -> ExistingRun:
            file.write_text("{" if there is None else file.read_text())
            return super().write(layout, seen, there)

    evaluated = [*ROWS, SUMMARY, {"eval_loss": 1.0, "step": 8}]
    training = Training([nothing, lambda: put(tmp_path, evaluated)])
    report = training.following(tmp_path, exporters=[Rewriting()]).run()
    assert (statuses(report), report.exit_code) == ([("exported", 10, True)], 0)


# --- what is in a directory -------------------------------------------------------------------


def crash_and_resume(out: Path) -> tuple[list[dict[str, Any]], list[Event]]:
    """Rows to 6, a crash, and from 4 on again with other values; the rows of the second attempt."""
    again = [*ROWS[:4], *({**row, "loss": 7.0} for row in ROWS[4:])]
    return again, [
        lambda: put(out / "checkpoint-6", ROWS[:6]),
        lambda: put(out / "checkpoint-5", again[:5]),
        lambda: put(out / "checkpoint-8", again),
        lambda: put(out, [*again, SUMMARY]),
    ]


def test_a_history_that_goes_another_way_is_another_run(tmp_path: Path) -> None:
    put(tmp_path / "out" / "checkpoint-4", ROWS[:4])
    again, events = crash_and_resume(tmp_path / "out")
    target = MemoryExporter()
    training = Training(events)
    report = training.following(tmp_path, exporters=[target]).run()
    assert sorted(held(target).values()) == sorted([losses(ROWS[:6]), losses(again)])
    assert sorted(statuses(report)) == [("exported", 6, True), ("exported", 9, True)]
    assert not training.events
    assert len(training.pauses) == 4  # the crashed attempt is not waited for


def test_a_history_that_shrinks_for_a_while(tmp_path: Path) -> None:
    put(tmp_path, ROWS[:6])
    steps = (4, 5, 8)
    training = Training([functools.partial(put, tmp_path, ROWS[:rows]) for rows in steps])
    target = MemoryExporter()
    report = training.following(tmp_path, exporters=[target]).run()
    assert held(target) == {tmp_path.name: losses(ROWS)}
    assert statuses(report) == [("exported", 8, True)]
    assert training.told == [("exported", 6, 18), ("appended", 8, 6)]


def test_a_new_training_in_the_directory_of_an_old_one(tmp_path: Path) -> None:
    put(tmp_path, [{**row, "loss": 5.0} for row in ROWS] + [SUMMARY])
    put(tmp_path / "checkpoint-2", ROWS[:2])
    training = Training([nothing, nothing, lambda: put(tmp_path, [*ROWS, SUMMARY])])
    training.following(tmp_path).run()
    assert len(training.pauses) == 3


def test_every_run_of_a_tree_is_waited_for(tmp_path: Path) -> None:
    put(tmp_path / "a", [*ROWS, SUMMARY])
    put(tmp_path / "b", [{**row, "loss": 5.0} for row in ROWS])
    training = Training([nothing, lambda: put(tmp_path / "b", [{**ROWS[0], "loss": 5.0}, SUMMARY])])
    training.following(tmp_path).run()
    assert len(training.pauses) == 2
    assert (training.waited[0].over, len(training.waited[0].runs)) == (1, 2)


def test_runs_are_held_back_until_they_can_be_told_apart(tmp_path: Path) -> None:
    """The key of a run is made of its first measured value: before that, it would be another."""
    rows = [{"learning_rate": 0.1, "step": 1}, {"learning_rate": 0.1, "step": 2}, *ROWS[2:]]
    put(tmp_path, [])
    training = Training([functools.partial(put, tmp_path, rows[:n]) for n in (1, 2, 3, 4)])
    target = MemoryExporter()
    training.following(tmp_path, exporters=[target]).run()
    assert training.told[0][:2] == ("exported", 3)
    assert held(target) == {tmp_path.name: losses(rows[:4])}


def test_results_come_last(tmp_path: Path) -> None:
    """They lie there from an earlier training, or would stand where the summary row belongs."""
    put(tmp_path / "checkpoint-8", ROWS, max_steps=8, global_step=8)
    (tmp_path / "test_results.json").write_text(json.dumps({"test_loss": 0.5}))
    target = MemoryExporter()
    training = Training([lambda: put(tmp_path, [*ROWS, SUMMARY], max_steps=8)])
    training.following(tmp_path, exporters=[target]).run()
    assert [rows for _, rows, _ in training.told] == [8, 9]
    assert [stored.run.state.rows for stored in target.runs.values()] == [10]


# --- targets that fail, and interruptions -----------------------------------------------------


class Down(MemoryExporter):
    """A target that cannot be written to at first."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], there: ExistingRun | None
    ) -> ExistingRun:
        if self.failures:
            self.failures -= 1
            raise ExportError("the disk is full")
        return super().write(layout, seen, there)


def test_a_target_that_fails_is_tried_again(tmp_path: Path) -> None:
    put(tmp_path, ROWS[:4])
    target = Down(4)
    training = Training([])
    report = training.following(tmp_path, exporters=[target], pace=Pace(1, 100)).run()
    assert held(target) == {tmp_path.name: losses(ROWS[:4])}
    assert statuses(report) == [("exported", 4, True)]
    assert [told[0] for told in training.told] == ["failed", "exported"]  # the failure once
    assert [len(waiting.failures) for waiting in training.waited[:17]] == [1] * 15 + [0, 0]


def test_a_target_that_fails_to_the_end_is_told(tmp_path: Path) -> None:
    put(tmp_path, [*ROWS, SUMMARY])
    report = Training([]).following(tmp_path, exporters=[Down(1_000)]).run()
    assert statuses(report) == [("failed", 9, None)]
    assert report.exit_code == 1


def test_an_interruption_leaves_a_report(tmp_path: Path) -> None:
    put(tmp_path / "one", ROWS[:4])

    def interrupt() -> None:
        raise KeyboardInterrupt

    training = Training([nothing, interrupt])
    followed = training.following(tmp_path, tmp_path / "later")
    with pytest.raises(KeyboardInterrupt):
        followed.run()
    assert statuses(followed.report()) == [("exported", 4, None), ("failed", 0, None)]


def test_an_interruption_while_runs_are_written_keeps_those_before(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / name, [{**row, "loss": ord(name)} for row in ROWS])

    class Interrupted(MemoryExporter):
        def write(
            self, layout: Layout, seen: Sequence[ExistingRun], there: ExistingRun | None
        ) -> ExistingRun:
            if layout.run.name == "b":
                raise KeyboardInterrupt
            return super().write(layout, seen, there)

    followed = Training([]).following(tmp_path, exporters=[Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        followed.run()
    assert [run.run for run in followed.report().runs] == ["a"]


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--follow", "--dry-run"], "--follow writes new rows and --dry-run writes nothing"),
        (["-", "--follow"], "standard input cannot be followed"),
        (["--follow", "--interval", "0"], "--interval 0 is not a time above 0 in seconds"),
        (["--follow", "--interval", "-1"], "--interval -1 is not"),
        (["--follow", "--interval", "nan"], "--interval nan is not"),
        (["--follow", "--interval", "inf"], "--interval inf is not"),
        (["--follow", "--idle-timeout", "-1"], "--idle-timeout -1 is not a time in seconds"),
        (["--interval", "1"], "--interval is for --follow only"),
        (["--idle-timeout", "1"], "--idle-timeout is for --follow only"),
    ],
)
def test_bad_usage(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, ROWS)
    assert run_command(["export", ".", "--to", "tensorboard", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_in_python(tmp_path: Path) -> None:
    put(tmp_path, [*ROWS, SUMMARY])
    told: list[RunReport] = []
    target = MemoryExporter()
    report = bridges.follow(tmp_path, to=target, interval=0.01, on_append=told.append)
    assert statuses(report) == [("exported", 9, True)]
    assert [run.verified for run in told] == [None]
    with pytest.raises(ConfigError, match="interval 0 "):
        bridges.follow(tmp_path, to=target, interval=0)


def test_in_python_it_stops_when_it_is_told_to(tmp_path: Path) -> None:
    put(tmp_path, ROWS)
    stop = threading.Event()
    report = bridges.follow(
        tmp_path, to="memory", interval=60, stop=stop, on_append=lambda report: stop.set()
    )
    assert statuses(report) == [("exported", 8, True)]


def test_the_waiting_line() -> None:
    run = Seen("out", 1200, False, (), "")
    failure = RunReport("out/checkpoint-4/trainer_state.json", "x", "memory", "failed")
    one = Waiting((run,), 0, (), 0.0)
    assert waiting_line(one, 3.4) == "waiting for out, 1,200 rows; last change 3 s ago"
    assert waiting_line(Waiting((), 0, (), 0.0), 0) == "waiting for a run; last change 0 s ago"
    assert waiting_line(Waiting((run, run), 1, (failure, failure), 0.0), 60) == (
        "waiting for 2 runs, 1 finished, 2,400 rows; last change 60 s ago; "
        "not readable or writable yet: out/checkpoint-4/trainer_state.json"
    )


# --- stamps -----------------------------------------------------------------------------------


def test_stamps_see_every_change(tmp_path: Path) -> None:
    file = put(tmp_path / "checkpoint-1", ROWS)
    (tmp_path / "checkpoint-1" / "optimizer.pt").write_text("large")
    before = stamps(str(tmp_path))
    assert before is not None
    assert [*before] == [str(file)]
    assert stamps(str(tmp_path)) == before
    time = file.stat().st_mtime_ns
    os.utime(file, ns=(time, time + 1))
    assert stamps(str(tmp_path)) != before
    copy = file.with_name("copy")  # as large and as old, and renamed to its place
    copy.write_bytes(file.read_bytes()[::-1])
    os.utime(copy, ns=(time, time))
    os.replace(copy, file)
    assert stamps(str(tmp_path)) != before
    put(tmp_path, ROWS)
    after = stamps(str(tmp_path))
    assert after is not None
    assert len(after) == 2


def test_stamps_of_what_cannot_be_read(tmp_path: Path) -> None:
    assert stamps(str(tmp_path)) == {}
    nowhere = str(tmp_path / "nowhere")
    assert stamps(nowhere) == {nowhere: Stamp(MISSING)}
    pattern = str(tmp_path / "*" / "x")
    assert stamps(pattern) == {pattern: Stamp("MissingSourceError")}
    assert stamps("nope://x/y.json") == {"nope://x/y.json": Stamp("ValueError")}


def test_remote_stamps(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}-stamps"
    files = fsspec.filesystem("memory")
    for name in ("a/trainer_state.json", "a/config.json", "a/model.bin"):
        files.pipe(f"{place}/{name}", state(ROWS[:2]))
    before = stamps(place)
    assert before is not None
    assert len(before) == 2
    assert stamps(place) == before
    files.pipe(f"{place}/a/trainer_state.json", state(ROWS[:2]))
    assert stamps(place) != before
    one = f"{place}/a/trainer_state.json"
    assert stamps(one) == stamps(one)


def test_a_remote_directory_is_followed(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}-followed"
    files = fsspec.filesystem("memory")
    files.pipe(f"{place}/checkpoint-2/trainer_state.json", state(ROWS[:2]))
    last = state([*ROWS, SUMMARY])
    training = Training([nothing, nothing, lambda: files.pipe(f"{place}/trainer_state.json", last)])
    assert statuses(training.following(place).run()) == [("exported", 9, True)]
    assert training.read == [place] * 3


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of the folder, which gives neither times nor etags."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Nothing."""

        def send_header(self, keyword: str, value: str) -> None:
            if keyword != "Last-Modified":
                super().send_header(keyword, value)

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_where_nothing_tells_of_a_change_every_poll_reads(web: str, tmp_path: Path) -> None:
    put(tmp_path, ROWS[:4])
    location = f"{web}/trainer_state.json"
    assert stamps(location) is None
    training = Training([nothing, lambda: put(tmp_path, ROWS), nothing])
    report = training.following(location, pace=Pace(10, 30)).run()
    assert statuses(report) == [("exported", 8, True)]
    assert training.told == [("exported", 4, 12), ("appended", 8, 12)]
    assert sum(training.pauses) == 50  # the timeout counts from the append


PLUG_IN = """
from bridges.stream.model import Run
from tests.support import make_run

READ = []

class Lines:
    name = "lines"

    def claims(self, location):
        return False

    def read(self, location, options):
        READ.append(location)
        with open(location.removeprefix("lines:") + "/losses.txt") as file:
            rows = [{"loss": float(line), "step": n} for n, line in enumerate(file)]
        yield make_run(rows, name="lines", source=location)
"""


@pytest.mark.parametrize(
    ("scheme", "reads"),
    # a place that is no file tells of no change: it is read at each of 14 polls, and at the end
    [("", 3), ("lines:", 15)],
)
def test_a_plug_in_source_is_asked_only_when_a_file_changed(
    scheme: str, reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, data = tmp_path / "site", tmp_path / "data"
    (site / "lines-1.0.dist-info").mkdir(parents=True)
    (site / "lines-1.0.dist-info" / "METADATA").write_text("Name: lines\nVersion: 1.0\n")
    entry = "[bridges.sources]\nlines = lines_source:Lines\n"
    (site / "lines-1.0.dist-info" / "entry_points.txt").write_text(entry)
    (site / "lines_source.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(site)
    data.mkdir()
    (data / "losses.txt").write_text("3\n2\n")
    training = Training([nothing, nothing, lambda: (data / "losses.txt").write_text("3\n2\n1\n")])
    options = ExportOptions(source="lines")
    report = training.following(f"{scheme}{data}", options=options).run()
    lines_source = import_module("lines_source")

    assert statuses(report) == [("exported", 3, True)]
    assert [f"{scheme}{data}"] * reads == lines_source.READ
    lines_source.READ.clear()


def test_output_directories() -> None:
    assert output_of("a/out/trainer_state.json") == "a/out"
    assert output_of("a/out/checkpoint-12/trainer_state.json") == "a/out"
    assert output_of("s3://b/out/checkpoint-2/trainer_state.json") == "s3://b/out"
    assert output_of("trainer_state.json") == ""
