"""TensorBoard runs on disk: what each export leaves there, what it refuses, and what it mends."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridges
from bridges.errors import ConfigError
from bridges.exporters.receipts import Receipt, RunReceipt
from bridges.exporters.tensorboard import exporter as tensorboard
from bridges.exporters.tensorboard import records as event_records
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.names import directory_name
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.tensorboard.segments import read_event_file
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.identity import identity_of
from tests.integration.exporters.tensorboard.support import (
    Row,
    contents,
    entries,
    show,
    training_rows,
    tree,
    visible,
    write_state,
)
from tests.support import make_run

ROWS = training_rows(60)
CUT = 40
NAME = re.compile(r"events\.out\.tfevents\.\d{10}\.bridges\.[0-9a-f]{32}\.\d{10}")


def export(logdir: Path, rows: list[Row], name: str = "run", **options: Any) -> RunReport:
    """Export rows under a name; what became of them."""
    fields = options.pop("fields", {})
    state = write_state(logdir.parent / "source" / "trainer_state.json", rows, **fields)
    report = bridges.export(state, to="tensorboard", logdir=logdir, run_name=name, **options)
    return report.runs[0]


def verify(logdir: Path, rows: list[Row], name: str = "run", **options: Any) -> RunReport:
    """Verify rows under a name."""
    state = write_state(logdir.parent / "source" / "trainer_state.json", rows)
    report = bridges.verify(state, to="tensorboard", logdir=logdir, run_name=name, **options)
    return report.runs[0]


def codes(report: RunReport) -> list[str]:
    return [finding.code for finding in report.findings]


def failure_of(report: RunReport) -> str:
    """The message of the finding that failed a run."""
    assert (report.status, report.failed) == ("failed", True)
    return report.findings[-1].message


def points(directory: Path) -> dict[str, list[tuple[int, str]]]:
    """Step and value of each point by tag, in the order of the files and of their records."""
    out: dict[str, list[tuple[int, str]]] = {}
    for path in visible(directory):
        for tag, parts in read_event_file(str(path)).scalars.items():
            listed = [
                (offset, step, show(value))
                for part in parts
                for offset, step, value in zip(
                    part.offset.tolist(), part.step.tolist(), part.value, strict=True
                )
            ]
            out.setdefault(tag, []).extend((step, value) for _, step, value in sorted(listed))
    return out


def expected(rows: list[Row]) -> dict[str, list[tuple[int, str]]]:
    """The points that the live callback would have left."""
    out: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        for key, value in row.items():
            if key != "step":
                tag = f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}"
                out.setdefault(tag, []).append((row["step"], show(value)))
    return out


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    return tmp_path / "logs"


# --- new, unchanged, longer, shorter ----------------------------------------------------------


def test_a_new_run_is_one_file_in_its_directory(logdir: Path) -> None:
    report = export(logdir, ROWS)
    assert (report.status, report.verified, report.failed) == ("exported", True, False)
    assert (report.run, report.location) == ("run", str(logdir / "run"))
    (path,) = (logdir / "run").iterdir()
    assert NAME.fullmatch(path.name)
    assert points(logdir / "run") == expected(ROWS)
    assert entries(logdir) == ["run"]


def test_the_same_again_changes_nothing_on_disk(logdir: Path) -> None:
    export(logdir, ROWS)
    before = tree(logdir)
    report = export(logdir, ROWS)
    assert (report.status, report.verified, report.new_points) == ("unchanged", True, 0)
    assert tree(logdir) == before


def test_a_longer_history_adds_a_file_with_its_new_rows(logdir: Path) -> None:
    export(logdir, ROWS[:CUT])
    before = tree(logdir / "run")
    report = export(logdir, ROWS)
    assert (report.status, report.verified) == ("appended", True)
    old, new = visible(logdir)
    assert tree(logdir / "run")[old.name] == before[old.name]
    assert new.name.endswith(f".{CUT:010}")
    assert sum(len(p) for p in expected(ROWS[CUT:]).values()) == report.new_points
    assert points(logdir / "run") == expected(ROWS)
    assert export(logdir, ROWS).status == "unchanged"


def test_many_appends_sort_in_the_order_of_their_rows(logdir: Path) -> None:
    cuts = [1, 2, 9, 10, 11, 20, len(ROWS)]
    for cut in cuts:
        assert export(logdir, ROWS[:cut]).verified
    names = sorted(path.name for path in visible(logdir))
    assert [int(name[-10:]) for name in names] == [0, *cuts[:-1]]
    assert points(logdir / "run") == expected(ROWS)


def test_an_older_checkpoint_after_the_newer_one_changes_nothing(logdir: Path) -> None:
    export(logdir, ROWS)
    before = tree(logdir)
    report = export(logdir, ROWS[:CUT])
    assert (report.status, report.verified, report.failed) == ("unchanged", True, False)
    assert "target-is-longer" in codes(report)
    assert tree(logdir) == before
    assert verify(logdir, ROWS[:CUT]).verified


def test_a_fork_with_the_same_beginning_is_a_run_of_its_own(logdir: Path) -> None:
    fork = [*ROWS[:CUT], *({**row, "loss": 9.0} for row in ROWS[CUT:])]
    assert export(logdir, ROWS).run == "run"
    forked = export(logdir, fork)
    assert (forked.status, forked.run, forked.verified) == ("exported", "run-2", True)
    before = tree(logdir)
    assert [export(logdir, rows).status for rows in (ROWS, fork)] == ["unchanged"] * 2
    assert [verify(logdir, rows).verified for rows in (ROWS, fork)] == [True] * 2
    assert tree(logdir) == before
    assert points(logdir / "run-2")["train/loss"] == expected(fork)["train/loss"]


def test_a_growing_fork_goes_on_in_its_own_directory(logdir: Path) -> None:
    fork = [*ROWS[:CUT], *({**row, "loss": 9.0} for row in ROWS[CUT:])]
    export(logdir, ROWS)
    export(logdir, fork[:-3])
    report = export(logdir, fork)
    assert (report.status, report.run, report.verified) == ("appended", "run-2", True)
    assert points(logdir / "run") == expected(ROWS)
    assert points(logdir / "run-2") == expected(fork)


def test_two_runs_of_one_name_get_two_directories(logdir: Path) -> None:
    other = training_rows(20, seed=7)
    assert [export(logdir, rows).run for rows in (ROWS, other)] == ["run", "run-2"]
    assert [export(logdir, rows).status for rows in (ROWS, other)] == ["unchanged"] * 2
    assert points(logdir / "run-2") == expected(other)


def test_a_run_is_found_under_another_name(logdir: Path) -> None:
    export(logdir, ROWS, "first name")
    report = export(logdir, ROWS, "second name")
    assert (report.status, report.run) == ("unchanged", "first name")


def test_a_moved_run_is_found(logdir: Path) -> None:
    export(logdir, ROWS[:CUT])
    (logdir / "archive").mkdir()
    (logdir / "run").rename(logdir / "archive" / "old")
    report = export(logdir, ROWS)
    assert (report.status, report.run) == ("appended", "archive/old")


def test_a_foreign_directory_of_the_name_is_left_alone(logdir: Path) -> None:
    (logdir / "run").mkdir(parents=True)
    (logdir / "run" / "events.out.tfevents.1.host").write_bytes(b"not ours")
    before = tree(logdir / "run")
    report = export(logdir, ROWS)
    assert (report.status, report.run, report.verified) == ("exported", "run-2", True)
    assert tree(logdir / "run") == before
    assert export(logdir, ROWS).status == "unchanged"


def test_an_empty_directory_of_the_name_is_taken(logdir: Path) -> None:
    (logdir / "run").mkdir(parents=True)
    assert export(logdir, ROWS).run == "run"
    assert points(logdir / "run") == expected(ROWS)


def test_a_file_of_the_name_is_left_alone(logdir: Path) -> None:
    logdir.mkdir()
    (logdir / "run").write_text("a note")
    assert export(logdir, ROWS).run == "run-2"
    assert (logdir / "run").read_text() == "a note"


def test_an_empty_history_is_not_exported(logdir: Path) -> None:
    assert (export(logdir, []).status, logdir.exists()) == ("failed", False)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_plan_shows_the_name_that_the_run_gets(logdir: Path, dry_run: bool) -> None:
    run = make_run([{"loss": 1.0, "step": 1}], name="../../x:y")
    report = export_run(
        run, TensorBoardExporter(TensorBoardOptions(str(logdir))), ExportOptions(dry_run=dry_run)
    )
    assert report.run == "x_y"
    assert [f.code for f in report.findings if f.code == "name-changed"] == ["name-changed"]
    assert (logdir / "x_y").is_dir() is not dry_run


def test_params_of_any_text_are_cells_of_the_table(logdir: Path) -> None:
    params = {"dir": "C:\\dir\\", "a|b": "x|y\\|z", "share": "\\\\srv\\x", "empty": "", "n": 3}
    run = make_run([{"loss": 1.0, "step": 1}], params={**params, "lines": "a\r\nb"})
    exporter = TensorBoardExporter(TensorBoardOptions(str(logdir)))
    export_run(run, exporter, ExportOptions())
    (existing,) = exporter.find(identity_of(run))
    there = exporter.stored_params(existing)
    assert there == {key: str(value) for key, value in params.items()} | {"lines": "a  b"}


# --- names ------------------------------------------------------------------------------------

DIRECTORIES = {
    "../x": "x",
    "../../etc/passwd": "etc/passwd",
    "/etc/x": "etc/x",
    "": "run",
    "/": "run",
    ".": "run",
    "..": "run",
    "...": "run",
    ". .": "run",
    "a/b": "a/b",
    "a/../b": "a/b",
    "./a/./b/": "a/b",
    ".hidden": "hidden",
    ".bridges-x": "bridges-x",
    "a\x00b": "a_b",
    "a\nb": "a_b",
    "..\\x": "_x",
    "C:\\x": "C__x",
    'a<b>c:"d|e?f*g': "a_b_c__d_e_f_g",
    "损失 🙂": "损失 🙂",
    "x" * 300: "x" * 200,
    "损" * 300: "损" * 66,
    "  a  ": "a",
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_odd_names_stay_below_the_log_directory(name: str, logdir: Path) -> None:
    assert directory_name(name) == DIRECTORIES[name]
    report = export(logdir, ROWS[:3], name or "/")
    assert (report.status, report.verified) == ("exported", True)
    (path,) = visible(logdir.parent)
    assert path.parent == logdir / DIRECTORIES[name]
    assert {entry.name for entry in logdir.parent.iterdir()} == {"logs", "source"}
    assert export(logdir, ROWS[:3], name or "/").status == "unchanged"


@given(st.text(max_size=40))
def test_no_name_leaves_the_log_directory(name: str) -> None:
    relative = directory_name(name)
    path = os.path.normpath(os.path.join("/logs", relative))
    assert path.startswith("/logs/")
    assert not any(part.startswith(".") for part in relative.split("/"))
    assert all(0 < len(part.encode()) <= 250 for part in relative.split("/"))
    assert "\x00" not in relative


def test_a_surrogate_in_a_name_is_no_error(logdir: Path) -> None:
    report = export(logdir, ROWS[:3], "a\ud800b")
    assert (report.status, report.verified) == ("exported", True)


def test_runs_within_runs_keep_apart(logdir: Path) -> None:
    assert export(logdir, ROWS, "a/b").run == "a/b"
    other = training_rows(10, seed=3)
    assert export(logdir, other, "a").run == "a-2"
    assert points(logdir / "a") == expected(ROWS)


# --- options make runs of their own -----------------------------------------------------------

TWICE: list[Row] = [
    {"loss": 3.0, "epoch": 0.5, "step": 1},
    {"loss": 2.0, "epoch": 1.0, "step": 2},
    {"loss": 2.5, "epoch": 1.0, "step": 2},
    {"loss": 1.0, "epoch": 1.5, "step": 3},
]
LOSS = {
    "all": [(1, "3.0"), (2, "2.0"), (2, "2.5"), (3, "1.0")],
    "first": [(1, "3.0"), (2, "2.0"), (3, "1.0")],
    "last": [(1, "3.0"), (2, "2.5"), (3, "1.0")],
}


def test_every_layout_is_a_run_of_its_own(logdir: Path) -> None:
    variants: list[dict[str, str]] = [
        {},
        {"duplicates": "first"},
        {"duplicates": "last"},
        {"naming": "raw"},
        {"x_axis": "epoch"},
        {"naming": "raw", "x_axis": "epoch"},
        {"callback_version": "3.4"},
    ]
    names = [export(logdir, TWICE, **variant).run for variant in variants]
    assert names == ["run", *(f"run-{n}" for n in range(2, len(variants) + 1))]
    before = tree(logdir)
    again = [export(logdir, TWICE, **variant) for variant in variants]
    assert [(report.status, report.run) for report in again] == [("unchanged", n) for n in names]
    assert all(verify(logdir, TWICE, **variant).verified for variant in variants)
    assert tree(logdir) == before


@pytest.mark.parametrize("policy", LOSS)
def test_duplicates(policy: str, logdir: Path) -> None:
    report = export(logdir, TWICE, duplicates=policy)
    assert points(logdir)["train/loss"] == LOSS[policy]
    assert ("hidden-by-duplicates" in codes(report)) == (policy == "all")


@pytest.mark.parametrize("policy", LOSS)
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_duplicates_of_a_history_that_grows(policy: str, cut: int, logdir: Path) -> None:
    export(logdir, TWICE[:cut], duplicates=policy)
    report = export(logdir, TWICE, duplicates=policy)
    assert (report.status, report.verified, report.failed) == ("appended", True, False)
    assert verify(logdir, TWICE, duplicates=policy).verified
    shown = dict(points(logdir)["train/loss"])
    assert shown == dict(LOSS[policy])  # what a reader shows is the last of a step


def test_duplicates_can_be_refused(logdir: Path) -> None:
    message = failure_of(export(logdir, TWICE, duplicates="error"))
    assert message.startswith("key 'loss' is logged more than once at step 2 (rows 1, 2)")
    assert not logdir.exists()


def test_the_epoch_as_x_axis(logdir: Path) -> None:
    export(logdir, TWICE, x_axis="epoch")
    assert [step for step, _ in points(logdir)["train/loss"]] == [500, 1000, 1000, 1500]


def test_steps_that_go_back_are_sorted_in_the_file(logdir: Path) -> None:
    rows: list[Row] = [
        {"loss": float(n), "note": f"row {n}", "step": step}
        for n, step in enumerate([1, 2, 5, 3, 4, 2, 6])
    ]
    assert export(logdir, rows).verified
    in_order = [(1, "0.0"), (2, "1.0"), (2, "5.0"), (3, "3.0"), (4, "4.0"), (5, "2.0"), (6, "6.0")]
    assert points(logdir)["train/loss"] == in_order
    (path,) = visible(logdir)
    texts = read_event_file(str(path)).texts
    notes = [(text.step, text.text) for text in texts if text.tag == "train/note/text_summary"]
    assert notes == [(step, f"row {int(float(n))}") for step, n in in_order]


# --- what float32 cannot hold -----------------------------------------------------------------


def test_values_beyond_float32_are_counted(logdir: Path) -> None:
    values = [1.0, 1e39, -1e300, 1e-60, -1e-50, 0.0, float("inf"), float("nan"), 2**53 + 1]
    rows: list[Row] = [{"x": value, "step": n} for n, value in enumerate(values)]
    report = export(logdir, rows)
    counted = {finding.code: finding for finding in report.findings}
    assert counted["overflow-to-infinity"].count == 2
    assert counted["underflow-to-zero"].count == 2
    assert counted["overflow-to-infinity"].where == "tag 'train/x'"
    assert (report.verified, report.failed) == (True, False)
    held = ["1.0", "inf", "-inf", "0.0", "-0.0", "0.0", "inf", "nan", "9007199254740992.0"]
    assert [value for _, value in points(logdir)["train/x"]] == held


def test_rounding_alone_is_no_finding(logdir: Path) -> None:
    report = export(logdir, [{"x": 0.1, "flag": True, "n": 2**62 + 1, "step": 1}])
    assert not {"overflow-to-infinity", "underflow-to-zero"} & set(codes(report))


# --- places that cannot be written ------------------------------------------------------------


def test_a_file_as_log_directory(logdir: Path) -> None:
    logdir.write_text("in the way")
    message = failure_of(export(logdir, ROWS))
    assert re.match(rf"{re.escape(str(logdir))}\S*: cannot be written: ", message)
    assert logdir.read_text() == "in the way"


def test_a_file_above_the_log_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    state = write_state(tmp_path / "trainer_state.json", ROWS)
    (report,) = bridges.export(state, to="tensorboard", logdir=tmp_path / "file" / "logs").runs
    assert failure_of(report).endswith("/file is not a directory")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_log_directory_without_permission(logdir: Path) -> None:
    logdir.mkdir(mode=0o500)
    assert "cannot be written: Permission denied" in failure_of(export(logdir, ROWS))


@pytest.mark.parametrize("url", ["s3://bucket/logs", "hf://datasets/x", "memory://logs"])
def test_a_url_as_log_directory(url: str, tmp_path: Path) -> None:
    state = write_state(tmp_path / "trainer_state.json", ROWS)
    with pytest.raises(ConfigError) as caught:
        bridges.export(state, to="tensorboard", logdir=url)
    assert str(caught.value) == (
        f"logdir {url}: event files are written to a local directory. "
        "Export to a local directory, then copy all of it."
    )


_FULL_DISK = """
import resource, sys, bridges
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
options = {"logdir": sys.argv[2], "run_name": "run", "verify": False}
runs = bridges.export(sys.argv[1], to="tensorboard", **options).runs
print(runs[0].status, runs[0].findings[-1].message)
"""


@pytest.mark.parametrize("missing", [1, 50, 5_000, 60_000])
def test_a_full_disk_publishes_nothing(missing: int, logdir: Path) -> None:
    rows = training_rows(1_000)
    export(logdir, rows)
    (whole,) = visible(logdir)
    state = logdir.parent / "source" / "trainer_state.json"
    full = logdir.parent / "full"
    limit = whole.stat().st_size - missing
    arguments = [sys.executable, "-c", _FULL_DISK, str(state), str(full), str(limit)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert re.match(r"failed \S+: cannot be written: File too large", done.stdout), done
    assert contents(full) == {}
    again = bridges.export(state, to="tensorboard", logdir=full, run_name="run").runs[0]
    assert (again.status, again.verified) == ("exported", True)


# --- damage -----------------------------------------------------------------------------------


def test_a_damaged_file_is_named_and_never_trusted(logdir: Path) -> None:
    export(logdir, ROWS)
    (path,) = visible(logdir)
    data = path.read_bytes()
    for at in [*range(0, 900, 7), *range(900, len(data), 61), len(data) - 1]:
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        for report in (verify(logdir, ROWS), export(logdir, ROWS)):
            message = failure_of(report)
            assert str(path) in message, (at, message)
            assert "damaged" in message
            assert "Delete its directory and export the run again." in message
            assert report.verified is not True
    assert entries(logdir) == ["run"]
    assert len(visible(logdir)) == 1


def test_a_cut_file_is_named(logdir: Path) -> None:
    export(logdir, ROWS)
    (path,) = visible(logdir)
    data = path.read_bytes()
    for size in (0, 5, 20, 60, 500, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        for report in (verify(logdir, ROWS), export(logdir, ROWS)):
            assert str(path) in failure_of(report), size


def test_a_file_cut_between_records_lacks_points(logdir: Path) -> None:
    export(logdir, ROWS)
    (path,) = visible(logdir)
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0] + 16
    second = size + 16 + struct.unpack("<Q", data[size : size + 8])[0]
    path.write_bytes(data[:second])
    report = verify(logdir, ROWS)
    assert (report.status, report.verified) == ("failed", False)
    assert codes(report).count("missing-points") == len(expected(ROWS))


def test_what_others_add_to_the_directory_does_not_matter(logdir: Path) -> None:
    export(logdir, ROWS)
    (logdir / "run" / "events.out.tfevents.9999999999.host.1.0").write_bytes(b"")
    (logdir / "run" / "notes.txt").write_text("mine")
    assert export(logdir, ROWS).status == "unchanged"
    assert verify(logdir, ROWS).verified


@pytest.mark.parametrize("gone", [0, 1])
def test_a_missing_segment_is_told(gone: int, logdir: Path) -> None:
    cuts = [10, 20, len(ROWS)]
    for cut in cuts:
        export(logdir, ROWS[:cut])
    visible(logdir)[gone].unlink()
    low, high = [0, *cuts][gone], cuts[gone]
    for report in (verify(logdir, ROWS), export(logdir, ROWS)):
        assert failure_of(report) == (
            f"{logdir}/run: the event file with rows {low} to {high - 1} is missing. "
            "Delete the directory and export the run again."
        )


def test_a_missing_last_segment_is_written_again(logdir: Path) -> None:
    export(logdir, ROWS[:CUT])
    export(logdir, ROWS)
    before = contents(logdir)
    visible(logdir)[-1].unlink()
    assert failure_of(verify(logdir, ROWS)).startswith(f"the target holds only {CUT} of its ")
    assert export(logdir, ROWS).status == "appended"
    assert contents(logdir) == before


# --- killed exports ---------------------------------------------------------------------------


def _partial_of(path: Path) -> str:
    return f".{path.name.removeprefix('events.out.tfevents.')}.partial"


def test_a_killed_export_before_the_claim_is_mended(logdir: Path, tmp_path: Path) -> None:
    export(logdir, ROWS)
    (path,) = visible(logdir)
    key = path.name.split(".")[-2]
    hidden = logdir / f".bridges-{key}-01234567"
    hidden.mkdir()
    (hidden / _partial_of(path)).write_bytes(path.read_bytes()[:300])
    clean = contents(logdir / "run")
    for entry in (logdir / "run").iterdir():
        entry.unlink()
    assert visible(logdir) == []
    assert export(logdir, ROWS).status == "exported"
    assert {f"run/{name}": data for name, data in clean.items()} == contents(logdir)
    assert entries(logdir) == ["run"]


def test_a_leftover_beside_a_whole_run_is_removed(logdir: Path) -> None:
    export(logdir, ROWS)
    key = visible(logdir)[0].name.split(".")[-2]
    (logdir / f".bridges-{key}-01234567").mkdir()
    assert export(logdir, ROWS).status == "unchanged"
    assert entries(logdir) == ["run"]


@pytest.mark.parametrize("name", ["run", "run-2"])
def test_a_killed_export_after_the_claim_is_mended(name: str, logdir: Path) -> None:
    export(logdir, ROWS)
    if name != "run":
        (logdir / "run").rename(logdir / name)
        (logdir / "run").mkdir()
        (logdir / "run" / "foreign").write_text("")
    clean = contents(logdir)
    (path,) = visible(logdir)
    path.rename(path.with_name(_partial_of(path)))
    assert visible(logdir) == []
    report = export(logdir, ROWS)
    assert (report.status, report.verified, report.run) == ("unchanged", True, name)
    assert contents(logdir) == clean


@pytest.mark.parametrize("published", [False, True])
def test_a_killed_append_is_mended(published: bool, logdir: Path) -> None:
    export(logdir, ROWS[:CUT])
    export(logdir, ROWS)
    clean = contents(logdir)
    path = visible(logdir)[-1]
    leftover = path.with_name(f"{_partial_of(path)}-89abcdef")
    if published:
        os.link(path, leftover)
    else:
        path.rename(leftover)
    report = export(logdir, ROWS)
    assert (report.status, report.verified) == ("unchanged" if published else "appended", True)
    if not published:
        export(logdir, ROWS)
    assert contents(logdir) == clean


def test_leftovers_of_others_are_left_alone(logdir: Path) -> None:
    export(logdir, ROWS)
    foreign = {
        logdir / f".bridges-{'0' * 32}-01234567" / "x": "another key",
        logdir / "run" / "x-89abcdef": "a name like an attempt",
        logdir / "run" / "events.out.tfevents.x": "its final name",
    }
    for path, text in foreign.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    export(logdir, ROWS)
    export(logdir, [*ROWS, {"loss": 1.0, "step": 999}])
    assert {path: path.read_text() for path in foreign} == foreign


# --- what stands in the files -----------------------------------------------------------------


def test_the_first_wall_time_is_the_start_of_the_run(logdir: Path) -> None:
    export(logdir, ROWS[:CUT])
    export(logdir, ROWS)
    for path in visible(logdir):
        file = read_event_file(str(path))
        assert file.start == 946_684_800.0
        assert path.name.split(".")[3] == "0946684800"
    first = read_event_file(str(visible(logdir)[0]))
    times = np.concatenate([part.wall_time for parts in first.scalars.values() for part in parts])
    assert first.start is not None
    assert times.min() >= first.start


def test_steps_and_times_rise_over_all_segments(logdir: Path) -> None:
    for cut in (5, CUT, len(ROWS)):
        export(logdir, ROWS[:cut])
    times: list[float] = []
    for path in visible(logdir):
        parts = read_event_file(str(path)).scalars["train/loss"]
        times += [time for part in parts for time in part.wall_time.tolist()]
    assert all(low < high for low, high in pairwise(times))


def test_the_state_record_tells_what_the_file_is(logdir: Path) -> None:
    export(logdir, ROWS[:CUT], tags={"team": "nlp"})
    export(logdir, ROWS, tags={"team": "nlp"})
    states = []
    for path in visible(logdir):
        texts = {text.tag: text.text for text in read_event_file(str(path)).texts}
        text = texts["bridges/provenance/text_summary"]
        assert text.startswith("```json\n")
        states.append(json.loads(text.removeprefix("```json\n").removesuffix("\n```")))
    assert [state["rows"] for state in states] == [[0, CUT], [CUT, len(ROWS)]]
    assert {state["tags"]["team"] for state in states} == {"nlp"}
    assert states[0]["digest"] != states[1]["digest"]
    assert states[0]["key"] == states[1]["key"] == visible(logdir)[0].name.split(".")[-2]


# --- while it is being written ----------------------------------------------------------------


def test_no_reader_sees_a_file_that_is_not_whole(
    logdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def slowly(layout: Any, *parts: Any) -> Iterator[Any]:
        for record in event_records.records(layout, *parts):
            seen.append([path.name for path in logdir.rglob("*tfevents*")])
            yield record
        seen.append([path.name for path in logdir.rglob("*tfevents*")])

    monkeypatch.setattr(tensorboard, "records", slowly)
    export(logdir, ROWS[:CUT])
    assert len(seen) > 2
    assert all(names == [] for names in seen)
    seen.clear()
    export(logdir, ROWS)
    (old, _) = visible(logdir)
    assert len(seen) > 2
    assert all(names == [old.name] for names in seen)


@pytest.mark.parametrize("cut", [0, CUT])
def test_a_write_that_fails_leaves_nothing(
    cut: int, logdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut:
        export(logdir, ROWS[:cut])
    before = contents(logdir) if cut else {}

    def failing(layout: Any, *parts: Any) -> Iterator[Any]:
        yield from list(event_records.records(layout, *parts))[:2]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard, "records", failing)
    assert "cannot be written: No space left on device" in failure_of(export(logdir, ROWS))
    assert contents(logdir) == before
    monkeypatch.undo()
    assert export(logdir, ROWS).verified


def test_a_faster_export_of_the_same_run_wins(
    logdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process publishes the run while this one writes it: one run, no error."""
    again = False

    def overtaken(layout: Any, *parts: Any) -> Iterator[Any]:
        nonlocal again
        yield from event_records.records(layout, *parts)
        if not again:
            again = True
            assert export(logdir, ROWS).verified

    monkeypatch.setattr(tensorboard, "records", overtaken)
    report = export(logdir, ROWS)
    assert (report.status, report.verified) == ("unchanged", True)
    assert len(visible(logdir)) == 1
    assert points(logdir) == expected(ROWS)


@pytest.mark.parametrize("other", [CUT + 5, len(ROWS)])
def test_a_faster_append_wins(other: int, logdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(logdir, ROWS[:CUT])
    again = False

    def overtaken(layout: Any, *parts: Any) -> Iterator[Any]:
        nonlocal again
        yield from event_records.records(layout, *parts)
        if not again:
            again = True
            assert export(logdir, ROWS[:other]).verified

    monkeypatch.setattr(tensorboard, "records", overtaken)
    report = export(logdir, ROWS)
    assert report.verified
    assert points(logdir) == expected(ROWS)
    assert [path.name[-2:] for path in visible(logdir)] == ["00", f"{CUT}"] + (
        [f"{other}"] if other < len(ROWS) else []
    )


def test_an_append_while_a_shorter_history_is_verified(
    logdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_back = TensorBoardExporter.read_back

    def overtaken(self: TensorBoardExporter, held: Any) -> Any:
        monkeypatch.undo()
        assert export(logdir, ROWS).status == "appended"
        return read_back(self, held)

    monkeypatch.setattr(TensorBoardExporter, "read_back", overtaken)
    report = export(logdir, ROWS[:CUT])
    assert (report.status, report.verified, report.failed) == ("exported", True, False)


def test_a_dry_run_writes_nothing(logdir: Path) -> None:
    assert export(logdir, ROWS, dry_run=True).status == "planned"
    assert not logdir.exists()


def test_a_receipt_alone_does_not_take_the_name_of_a_run(tmp_path: Path) -> None:
    """Who deletes the event files of a run by hand finds the run in its own directory again."""
    exporter, run = (
        TensorBoardExporter(TensorBoardOptions(str(tmp_path))),
        make_run([{"loss": 1.0, "step": 1}]),
    )
    first = export_run(run, exporter, ExportOptions())
    assert first.location is not None
    receipt = Receipt("a" * 32, 1, 0, "", first.digest, 1, 1)
    exporter.save_receipts([RunReceipt.of(first, receipt)])
    assert len([*exporter.receipts()]) == 1
    for file in Path(first.location).glob("events*"):
        file.unlink()
    assert [*exporter.receipts()] == []
    again = export_run(run, TensorBoardExporter(TensorBoardOptions(str(tmp_path))), ExportOptions())
    assert (again.status, again.location) == ("exported", first.location)
