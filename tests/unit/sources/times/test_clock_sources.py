"""Where times come from beside a history, what is refused as a clock, and how a run grows on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridges
from bridges.exporters.memory import MemoryExporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.formats.events.proto import file_version_event, frame, scalar_value, summary_event
from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.pipeline.options import LayoutOptions
from bridges.report import RunReport
from bridges.sources.options import ReadOptions
from bridges.sources.times.clocks import EVENTS
from bridges.sources.times.start import start_evidence
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.clock import SYNTHETIC_ORIGIN, apply_clock, times_digest
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Stored, lay_out
from bridges.stream.model import Evidence, Run
from tests.support import DATA, make_stream, state

T0 = 1_700_000_000.0
Row = dict[str, Any]


def history(count: int, loss: float = 3.0) -> list[Row]:
    return [
        {"loss": loss - step / 64, "learning_rate": 0.1, "epoch": step / 4, "step": step}
        for step in range(1, count + 1)
    ]


def live(step: int) -> float:
    """When a step was logged: not evenly, so that nothing else gives these times."""
    return T0 + step * 10 + (step % 3) * 0.25


def put_state(folder: Path, rows: Sequence[Row], **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trainer_state.json"
    file.write_bytes(state(rows, **fields))
    return file


def put_events(
    folder: Path, rows: Sequence[Row], *, shift: float = 0.0, start: float = T0, cut: int = 0
) -> Path:
    """What a live callback writes of these rows; `cut` bytes of the end are not there yet."""
    records = [frame(file_version_event(start))]
    for row in rows:
        for key, value in row.items():
            if key != "step":
                with np.errstate(over="ignore"):
                    parts = [scalar_value(f"train/{key}", np.float32(value).tobytes())]
                event = summary_event(live(row["step"]) + shift, row["step"], parts)
                records.append(frame(event))
    data = b"".join(records)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"events.out.tfevents.{int(start)}.host.1.0"
    file.write_bytes(data[: len(data) - cut])
    return file


def read(place: Path) -> list[Run]:
    return list(RunDirectorySource().read(str(place), ReadOptions()))


def clocked(run: Run, source: str | None = None) -> tuple[list[float], str, list[Finding]]:
    """Times in seconds, the clock's name, and what is said of it."""
    stream, clock, findings = apply_clock(run.stream, run.key_rules, run.evidence, source)
    assert stream.time is not None
    return [time / 1e6 for time in stream.time.tolist()], clock.name, findings


def told(run: Run) -> list[str]:
    return [finding.code for finding in run.findings]


def test_event_files_below_the_run_tell_its_times(tmp_path: Path) -> None:
    put_state(tmp_path / "out", history(6))
    put_events(tmp_path / "out" / "runs" / "Nov14_host", history(6))
    (run,) = read(tmp_path)
    times, name, (finding,) = clocked(run)
    assert times == [live(step) for step in range(1, 7)]
    assert (name, finding.code, finding.severity) == ("events", "clock-source", Severity.INFO)
    assert finding.message == "times are from event files"


def test_event_files_beside_the_output_directory_count_too(tmp_path: Path) -> None:
    put_state(tmp_path / "out", history(6))
    put_events(tmp_path / "tb", history(6))
    (run,) = read(tmp_path)
    assert clocked(run)[1] == "events"


def test_each_run_has_the_event_file_with_its_values(tmp_path: Path) -> None:
    for number in range(3):
        put_state(tmp_path / f"out{number}", history(5, 3.0 + number))
        put_events(tmp_path / "logs" / str(2 - number), history(5, 3.0 + number), shift=number)
    for number, run in enumerate(read(tmp_path)):
        assert clocked(run)[0] == [live(step) + number for step in range(1, 6)]


def test_event_files_of_another_run_of_the_recipe_are_none(tmp_path: Path) -> None:
    put_state(tmp_path / "out", history(6))
    put_events(tmp_path / "out" / "runs", history(6, loss=2.5))  # equal but for the loss
    (run,) = read(tmp_path)
    times, name, _ = clocked(run)
    assert name == "synthetic from start"  # the one run here owns the file: its name tells that
    assert times[0] == T0 + 1


def test_a_row_needs_all_its_numbers_in_the_file(tmp_path: Path) -> None:
    rows = history(6)
    other = [{**row, "loss": 9.0} if row["step"] == 4 else row for row in rows]
    put_state(tmp_path / "out", rows)
    put_events(tmp_path / "out" / "runs", other)
    (run,) = read(tmp_path)
    times, _, (finding,) = clocked(run)
    assert times[2] < times[3] < times[4]
    assert [times[i] for i in (0, 1, 2, 4, 5)] == [live(step) for step in (1, 2, 3, 5, 6)]
    assert finding.message == (
        "times are from event files for 5 of 6 rows, the others by one second for each step"
    )


def test_after_a_crash_the_attempt_that_went_on_counts(tmp_path: Path) -> None:
    put_state(tmp_path / "out", history(8))
    put_events(tmp_path / "out" / "runs" / "a", history(6))
    put_events(tmp_path / "out" / "runs" / "b", history(8)[4:], shift=100, start=T0 + 90)
    (run,) = read(tmp_path)
    times, _, (finding,) = clocked(run)
    assert times[:4] == [live(step) for step in range(1, 5)]
    assert times[4:] == [live(step) + 100 for step in range(5, 9)]
    assert finding.message.endswith("2 rows were written twice and get the later time")
    assert finding.severity is Severity.WARNING


def test_a_state_of_the_crashed_attempt_has_its_times(tmp_path: Path) -> None:
    """Rows 5 and 6 are in both files, but row 7 only in the first one, and earlier."""
    first = history(7)
    put_state(tmp_path / "out", first)
    again = [*history(6)[4:], {**history(7)[6], "loss": 1.5}]
    put_events(tmp_path / "out" / "runs" / "a", first)
    put_events(tmp_path / "out" / "runs" / "b", again, shift=100, start=T0 + 90)
    (run,) = read(tmp_path)
    assert clocked(run)[0] == [live(step) for step in range(1, 8)]


def test_an_event_file_that_is_still_written_is_read_to_its_last_whole_record(
    tmp_path: Path,
) -> None:
    put_state(tmp_path / "out", history(6))
    put_events(tmp_path / "out" / "runs", history(6), cut=5)
    (run,) = read(tmp_path)
    times, name, _ = clocked(run)
    assert name == "events"
    assert times[:5] == [live(step) for step in range(1, 6)]
    assert "beside-unreadable" not in told(run)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:40] + b"\0\0\0\0" + data[44:], "damaged"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
    ids=["damaged", "pointer"],
)
def test_an_event_file_that_cannot_be_read_is_told(tmp_path: Path, damage: Any, said: str) -> None:
    put_state(tmp_path / "out", history(6))
    file = put_events(tmp_path / "out" / "runs", history(6))
    file.write_bytes(damage(file.read_bytes()))
    (run,) = read(tmp_path)
    (finding,) = [finding for finding in run.findings if finding.code == "beside-unreadable"]
    assert said in finding.message
    assert clocked(run)[1] == "synthetic from start"


def test_values_that_are_no_float32_are_found_all_the_same(tmp_path: Path) -> None:
    values = [0.1, float("nan"), 1e300, -0.0, 1e-320, 2**53 + 1]
    rows = [{"loss": value, "epoch": 0.1 * i, "step": i} for i, value in enumerate(values, 1)]
    put_state(tmp_path / "out", rows)
    put_events(tmp_path / "out" / "runs", rows)
    (run,) = read(tmp_path)
    assert clocked(run)[0] == [live(step) for step in range(1, 7)]


def saved(folder: Path, rows: Sequence[Row], moment: float, *, copied: bool = False) -> None:
    """A checkpoint as Trainer saves it at a moment (seconds since 1970), or as a copy has it."""
    file = put_state(folder, rows)
    args = folder / "optimizer.pt"
    args.write_bytes(b"")
    os.utime(file, (moment, moment))
    os.utime(args, (moment + 0.01, moment + 0.01) if copied else (moment - 0.5, moment - 0.5))


def test_times_of_saving_are_a_clock_on_the_original_disk(tmp_path: Path) -> None:
    for count in (2, 4, 8):
        saved(tmp_path / "out" / f"checkpoint-{count}", history(count), live(count))
    (run,) = read(tmp_path)
    times, name, _ = clocked(run)
    assert name == "mtimes"
    assert [times[1], times[3], times[7]] == [live(2), live(4), live(8)]
    assert times == sorted(times)
    assert times[5] == pytest.approx((live(4) + live(8)) / 2, abs=0.01)  # half way
    assert times[0] < times[1]


@pytest.mark.parametrize(
    ("moments", "copied", "said"),
    [
        ((0.0, 0.0), False, "do not increase"),
        ((20.0, 10.0), False, "do not increase"),
        ((10.0, 20.0), True, "order of saving"),
    ],
    ids=["one moment", "backwards", "alphabetical"],
)
def test_times_of_a_copy_are_no_clock(
    tmp_path: Path, moments: tuple[float, float], copied: bool, said: str
) -> None:
    for count, moment in zip((4, 8), moments, strict=True):
        folder = tmp_path / "out" / f"checkpoint-{count}"
        saved(folder, history(count), T0 + moment, copied=copied)
    (run,) = read(tmp_path)
    assert clocked(run)[1] == "synthetic"
    (finding,) = [finding for finding in run.findings if finding.code == "clock-copied"]
    assert said in finding.message


def test_times_that_are_too_close_for_the_log_are_no_clock(tmp_path: Path) -> None:
    rows = history(8)
    for row in rows:
        row["eval_runtime"] = 5.0
    for count in (4, 8):
        put_state(tmp_path / "out" / f"checkpoint-{count}", rows[:count])
        moment = T0 + count
        os.utime(tmp_path / "out" / f"checkpoint-{count}" / "trainer_state.json", (moment, moment))
    (run,) = read(tmp_path)
    (finding,) = [finding for finding in run.findings if finding.code == "clock-copied"]
    assert "evaluations took longer" in finding.message


def test_what_nothing_speaks_for_is_no_clock(tmp_path: Path) -> None:
    for count in (4, 8):
        file = put_state(tmp_path / "out" / f"checkpoint-{count}", history(count))
        os.utime(file, (live(count), live(count)))
    (run,) = read(tmp_path)
    (finding,) = [finding for finding in run.findings if finding.code == "clock-copied"]
    assert "nothing shows" in finding.message


@pytest.mark.parametrize("more", [{"eval_runtime": 0.4}, {"train_runtime": 1.9}])
def test_durations_too_short_to_tell_speak_for_nothing(tmp_path: Path, more: Row) -> None:
    """A script that writes a tree, or a copy, takes milliseconds: so may what the log tells of."""
    rows = history(8)
    rows[-1] |= {"train_loss": 1.0, "total_flos": 1.0} if "train_runtime" in more else {}
    rows[-1] |= more
    for count in (4, 8):
        file = put_state(tmp_path / "out" / f"checkpoint-{count}", rows[:count])
        os.utime(file, (T0 + count / 1000, T0 + count / 1000))
    (run,) = read(tmp_path)
    assert "mtimes" not in [one.source for one in run.evidence]
    (finding,) = [finding for finding in run.findings if finding.code == "clock-copied"]
    assert "nothing shows" in finding.message


def counted(count: int) -> list[Row]:
    """Rows that tell their own elapsed seconds."""
    return [{**row, "train_runtime": live(row["step"]) - T0} for row in history(count)]


def test_elapsed_rows_begin_where_the_times_of_saving_say(tmp_path: Path) -> None:
    for count in (4, 8):
        saved(tmp_path / "out" / f"checkpoint-{count}", counted(count), live(count) + count / 100)
    (run,) = read(tmp_path)
    times, name, _ = clocked(run)
    assert name == "elapsed from mtimes"
    expected = [live(step) + 0.04 for step in range(1, 9)]  # the closest of them
    assert times == pytest.approx(expected, abs=0.002)


def test_times_of_saving_that_do_not_fit_the_log_are_told(tmp_path: Path) -> None:
    for count in (4, 8):
        saved(tmp_path / "out" / f"checkpoint-{count}", counted(count), T0 + count * 1000)
    (run,) = read(tmp_path)
    _, name, findings = clocked(run)
    assert name == "elapsed"
    assert [finding.code for finding in findings] == ["clock-disagrees", "clock-synthetic"]


def test_after_a_resume_each_process_has_its_own_instant(tmp_path: Path) -> None:
    rows = counted(8)
    for row in rows[4:]:
        row["train_runtime"] -= 40.0  # begins anew
    saved(tmp_path / "out" / "checkpoint-4", rows[:4], live(4))
    saved(tmp_path / "out" / "checkpoint-8", rows, live(8) + 5000)
    (run,) = read(tmp_path)
    times, name, _ = clocked(run)
    assert name == "elapsed from mtimes"
    expected = [live(step) + (5000 if step > 4 else 0) for step in range(1, 9)]
    assert times == pytest.approx(expected, abs=0.002)


def log_lines(count: int) -> str:
    lines = [
        {
            "current_steps": step,
            "total_steps": count,
            "loss": 3.0 - step / 64,
            "epoch": 0.1,
            "percentage": 1.0,
            "elapsed_time": f"0:{int(live(step) - T0) // 60:02}:{int(live(step) - T0) % 60:02}",
            "remaining_time": "0:00:00",
        }
        for step in range(1, count + 1)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_a_log_beside_a_state_tells_its_pace(tmp_path: Path) -> None:
    put_state(tmp_path / "out", history(6))
    (tmp_path / "out" / "trainer_log.jsonl").write_text(log_lines(6))
    (run,) = read(tmp_path)
    times, name, _ = clocked(run)
    assert name == "log"
    began = SYNTHETIC_ORIGIN / 1e6
    assert times == [began + int(live(step) - T0) for step in range(1, 7)]


def test_a_log_alone_has_its_own_pace(tmp_path: Path) -> None:
    (tmp_path / "trainer_log.jsonl").write_text(log_lines(6))
    (run,) = read(tmp_path)
    assert clocked(run)[1] == "log"


@pytest.mark.parametrize(
    ("outputs", "logging_dir", "writer", "moment", "note"),
    [
        (["runs/v0-20241122-094604"], None, None, (2024, 11, 22, 9, 46, 4), "UTC is assumed"),
        ([], "out/runs/Nov22_09-46-44_vm", "4.41-4.49", (2024, 11, 22, 9, 46, 44), "year 2024"),
        ([], "out\\runs\\Feb02_01-02-03_vm", "4.41-4.49", (2025, 2, 2, 1, 2, 3), "year 2025"),
        ([], "out/runs/Feb29_01-02-03_vm", "4.32-4.35", (2024, 2, 29, 1, 2, 3), "year 2024"),
        # a date or a year in the path is the year of the log directory
        (
            ["a/20260521-lora"],
            "b/May21_01-02-03_vm",
            None,
            (2026, 5, 21, 1, 2, 3),
            "UTC is assumed",
        ),
        ([], "2023-12-31/Jan01_01-02-03_vm", None, (2024, 1, 1, 1, 2, 3), "UTC is assumed"),
        (["2026/a"], "b/May21_01-02-03_vm", "4.41-4.49", (2026, 5, 21, 1, 2, 3), "UTC is assumed"),
        (["x-2026-02-02"], "May21_01-02-03_vm", "4.41-4.49", (2024, 5, 21, 1, 2, 3), "year 2024"),
    ],
)
def test_names_tell_the_start(
    outputs: list[str],
    logging_dir: str | None,
    writer: str | None,
    moment: tuple[int, int, int, int, int, int],
    note: str,
) -> None:
    found = start_evidence([], outputs, logging_dir, writer)
    assert found is not None
    assert found.start == datetime(*moment, tzinfo=timezone.utc).timestamp() * 1e6
    assert note in found.note
    assert ("year" in note) == ("year" in found.note)


@pytest.mark.parametrize(
    ("logging_dir", "writer"),
    [
        ("out/runs/Nov22_09-46-44_vm", "3.5-4.31"),  # several years are possible
        ("out/runs/Nov22_09-46-44_vm", None),
        ("out/runs/Nov31_09-46-44_vm", "4.41-4.49"),
        ("out/runs/mine", "4.41-4.49"),
        (None, "4.41-4.49"),
    ],
)
def test_names_that_tell_no_start(logging_dir: str | None, writer: str | None) -> None:
    assert start_evidence([], ["out"], logging_dir, writer) is None


def event_name(start: int, pid: int = 1, file: int = 0) -> str:
    return f"out/events.out.tfevents.{start}.my.host.{pid}.{file}"


@pytest.mark.parametrize(
    ("events", "duration", "start", "several"),
    [
        ([event_name(1_700_000_000)], None, 1_700_000_000, False),
        # an evaluation after the training has a file of its own, by the same process
        ([event_name(1_700_000_000), event_name(1_700_003_600, 1, 1)], 3600, 1_700_000_000, False),
        # an attempt that ended after two minutes did not train for an hour
        ([event_name(1_700_000_000), event_name(1_700_000_120, 2)], 3600, 1_700_000_120, True),
        ([event_name(1_700_000_000), event_name(1_700_000_120, 2)], None, 1_700_000_000, True),
        ([event_name(1_700_000_000), event_name(1_700_009_000, 2)], 3600, 1_700_000_000, True),
    ],
    ids=["one", "evaluation", "aborted before", "no duration", "both may be"],
)
def test_the_first_process_that_its_duration_allows_tells_the_start(
    events: list[str], duration: float | None, start: int, several: bool
) -> None:
    found = start_evidence(events, ["out"], None, None, duration)
    assert found is not None
    assert (found.start, bool(found.note)) == (start * 1_000_000, several)


def test_a_forced_clock_is_taken(tmp_path: Path) -> None:
    put_state(tmp_path / "out", counted(6))
    put_events(tmp_path / "out" / "runs", counted(6), shift=0.5)
    (run,) = read(tmp_path)
    assert clocked(run)[1] == "events"
    assert clocked(run, "elapsed")[1] == "elapsed from events"
    times, name, (finding,) = clocked(run, "synthetic")
    assert (name, finding.code) == ("synthetic", "clock-synthetic")
    assert times[0] == SYNTHETIC_ORIGIN / 1e6 + 1


def export(place: Path, exporter: MemoryExporter, **options: Any) -> RunReport:
    (report,) = bridges.export(place, to=exporter, **options).runs
    return report


def test_a_forced_clock_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    put_state(tmp_path / "out", history(6))
    report = export(tmp_path, MemoryExporter(), clock="events")
    (finding,) = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    assert finding.message == (
        f"{tmp_path / 'out' / 'trainer_state.json'}: clock='events': found no such "
        "times for this run; expected one of its clocks: synthetic. "
        "Omit clock for the best of these, or export the run's complete directory."
    )
    with pytest.raises(bridges.ConfigError, match="clock 'sundial' is not one of events, "):
        export(tmp_path, MemoryExporter(), clock="sundial")


def held_times(exporter: MemoryExporter) -> list[float]:
    (stored,) = exporter.runs.values()
    times = exporter.read_back(stored.run).points["loss"].time
    return [float(time) for time in times]


def statuses(*reports: RunReport) -> list[tuple[str, bool | None]]:
    return [(report.status, report.verified) for report in reports]


def test_a_run_grows_with_its_event_files(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    for count in (3, 6, 6):
        put_state(tmp_path / "out", history(count))
        put_events(tmp_path / "out" / "runs", history(count))
        report = export(tmp_path, exporter)
        assert report.verified
        assert "clock-kept" not in [finding.code for finding in report.findings]
    assert report.status == "unchanged"
    assert held_times(exporter) == [live(step) for step in range(1, 7)]


def test_event_files_that_vanish_change_nothing(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    put_state(tmp_path / "out", history(4))
    put_events(tmp_path / "out" / "runs", history(4))
    first = export(tmp_path, exporter)
    shutil.rmtree(tmp_path / "out" / "runs")
    again = export(tmp_path, exporter)
    put_state(tmp_path / "out", history(6))
    longer = export(tmp_path, exporter)
    assert statuses(first, again, longer, export(tmp_path, exporter)) == [
        ("exported", True),
        ("unchanged", True),
        ("appended", True),
        ("unchanged", True),
    ]
    times = held_times(exporter)
    assert times[:4] == [live(step) for step in range(1, 5)]
    assert times[4:] == [live(4) + 1, live(4) + 2]
    assert "clock-kept" in [finding.code for finding in longer.findings]


def test_a_clock_that_comes_later_changes_nothing(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    put_state(tmp_path / "out", history(4))
    export(tmp_path, exporter)
    before = held_times(exporter)
    put_events(tmp_path / "out" / "runs", history(6))
    put_state(tmp_path / "out", history(6))
    assert statuses(export(tmp_path, exporter)) == [("appended", True)]
    assert held_times(exporter)[:4] == before


def test_a_rotated_checkpoint_moves_no_time(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    for count in (2, 4, 6):
        saved(tmp_path / "out" / f"checkpoint-{count}", history(count), live(count))
    export(tmp_path, exporter)
    before = held_times(exporter)
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    saved(tmp_path / "out" / "checkpoint-8", history(8), live(8))
    assert statuses(export(tmp_path, exporter)) == [("appended", True)]
    assert held_times(exporter)[:6] == before
    assert held_times(exporter)[-1] > before[-1]


@pytest.mark.parametrize("target", ["tensorboard", "mlflow", "wandb"])
def test_every_target_keeps_its_times(tmp_path: Path, target: str) -> None:
    options: dict[str, Any] = {
        "tensorboard": {"logdir": str(tmp_path / "tb")},
        "mlflow": {"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
        "wandb": {"wandb_dir": str(tmp_path)},
    }[target]
    put_state(tmp_path / "out", history(4))
    put_events(tmp_path / "out" / "runs", history(4))
    reports = [bridges.export(tmp_path / "out", to=target, **options).runs[0]]
    shutil.rmtree(tmp_path / "out" / "runs")
    put_state(tmp_path / "out", history(7))
    for _ in range(2):
        reports += bridges.export(tmp_path / "out", to=target, **options).runs
    assert statuses(*reports) == [("exported", True), ("appended", True), ("unchanged", True)]


def test_times_that_were_changed_in_the_target_are_told(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    put_state(tmp_path / "out", history(4))
    put_events(tmp_path / "out" / "runs", history(4))
    export(tmp_path, exporter)
    (stored,) = exporter.runs.values()
    (start, layout), *_ = stored.layouts
    assert layout.stream.time is not None
    moved = replace(layout.stream, time=layout.stream.time + 5)
    stored.layouts[0] = (start, replace(layout, stream=moved))
    assert export(tmp_path, exporter).status == "failed"
    shutil.rmtree(tmp_path / "out" / "runs")  # nor does it pass where nothing tells the times
    assert export(tmp_path, exporter).status == "failed"


def test_a_row_has_the_time_of_its_first_point_and_what_the_others_differ_is_told(
    tmp_path: Path,
) -> None:
    put_state(tmp_path / "out", history(3))
    records = [frame(file_version_event(T0))]
    for row in history(3):
        for place, key in enumerate(("loss", "learning_rate", "epoch")):
            parts = [scalar_value(f"train/{key}", np.float32(row[key]).tobytes())]
            time = T0 + row["step"] + place * 0.043_001
            records.append(frame(summary_event(time, row["step"], parts)))
    file = tmp_path / "out" / "events.out.tfevents.1700000000.host.1.0"
    file.write_bytes(b"".join(records))
    (run,) = read(tmp_path)
    times, _, (finding,) = clocked(run)
    assert times == [T0 + 1, T0 + 2, T0 + 3]
    assert finding.message == (
        "times are from event files; a row has the time of its first point, the others were within "
        "0.086 s"
    )
    assert run.evidence[0].spread == 86_002


def test_times_are_microseconds_and_of_earlier_rules_milliseconds(tmp_path: Path) -> None:
    put_state(tmp_path / "out", history(3))
    put_events(tmp_path / "out", history(3), shift=0.123_456)
    (run,) = read(tmp_path)
    fine, coarse = (
        lay_out(run, "tensorboard", LayoutOptions(), stored=Stored(rules=rules)) for rules in (2, 1)
    )
    assert fine.stream.time is not None
    assert coarse.stream.time is not None
    assert (fine.stream.time % 1000).tolist() == [456] * 3
    assert (coarse.stream.time - fine.stream.time).tolist() == [-456] * 3
    assert coarse.times_digest(3) == times_digest(coarse.stream.time // 1000)
    in_mlflow = (
        MlflowExporter(MlflowOptions(f"sqlite:///{tmp_path}/mlflow.db")).adapt(fine).stream.time
    )
    assert in_mlflow is not None
    assert in_mlflow.tolist() == coarse.stream.time.tolist()


def test_rows_of_one_millisecond_are_moved_apart_for_targets_that_keep_whole_ones() -> None:
    rows = make_stream([{"loss": 1.0, "step": step} for step in (1, 2, 3)])
    known = Evidence(EVENTS, np.arange(3), np.array([5_000_100, 5_000_900, 5_001_400]), "x")
    timed, _, _ = apply_clock(rows, TRAINER_RULES, [known])
    assert timed.time is not None
    assert timed.time.tolist() == [5_000_100, 5_001_000, 5_002_000]


def test_a_live_iterable_dataset_is_no_resume_with_other_data() -> None:
    (run,) = read(DATA / "live" / "iterable_tokens_resume" / "out")
    assert not {"resume-other-steps-per-epoch", "epoch-not-linear"} & {*told(run)}
    assert {"epoch-restarts", "iterable-dataset"} <= {*told(run)}
