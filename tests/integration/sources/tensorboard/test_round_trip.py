"""Runs of event files in the targets: written back as directories, read back, appended."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import connect
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

import bridges
from bridges.errors import TreeError
from bridges.exporters.atomic_files import publish_once, write_file
from bridges.exporters.tensorboard import exporter as module
from bridges.exporters.tensorboard import folders
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import BatchReport
from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.finding import Severity
from bridges.stream.identity import prefix_digest
from bridges.stream.model import Run
from tests.event_files import START, USUAL, hparams, losses, tagged, text, write
from tests.kills import killed_at
from tests.support import SHARED

MICROSECOND = 1e-6
CORPUS = SHARED / "corpus_trackers" / "events"


def read(location: Path, **options: Any) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    with suppress(TreeError):  # the corpus has pointers of Git LFS
        for run in TensorBoardSource().read(str(location), ReadOptions(**options)):
            runs[run.name] = run
    return runs


def export(source: Path, logdir: Path) -> BatchReport:
    return bridges.export(source, to="tensorboard", logdir=logdir)


def assert_same(one: Run, other: Run) -> None:
    rows = len(one.stream)
    assert len(other.stream) == rows
    assert prefix_digest(one.stream, rows) == prefix_digest(other.stream, rows)
    theirs = {series.key: other.stream.times(series).tolist() for series in other.stream.series}
    mine = {series.key: one.stream.times(series).tolist() for series in one.stream.series}
    assert mine == theirs
    assert (one.folders, one.params) == (other.folders, other.params)


def keras(folder: Path, start: float = START, steps: int = 4) -> None:
    for number, split in enumerate(("train", "validation")):
        name = f"events.out.tfevents.{int(start)}.host.7.{number}.v2"
        events = losses(start + number / 10, range(steps), "epoch_loss")
        if number:
            events += losses(start + 0.05, [100 * n for n in range(steps)], "evaluation_loss")
        write(folder / split, events, name=name)


def accumulated(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(each.step, each.wall_time, each.value) for each in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_a_joined_run_is_written_back_as_directories(tmp_path: Path) -> None:
    keras(tmp_path / "logs" / "a")
    write(tmp_path / "logs" / "b", [hparams(START, lr=0.5, name="x"), *losses(START, range(3))])
    assert [run.status for run in export(tmp_path / "logs", tmp_path / "out").runs] == [
        "exported",
        "exported",
    ]
    folders = sorted({path.parent for path in (tmp_path / "out").rglob("*tfevents*")})
    assert [str(path.relative_to(tmp_path / "out")) for path in folders] == [
        *("a", "a/train", "a/validation", "b")
    ]
    before, after = read(tmp_path / "logs"), read(tmp_path / "out")
    assert before.keys() == after.keys() == {"a", "b"}
    for name, run in before.items():
        assert_same(run, after[name])
        assert after[name].key is not None
    for split in ("train", "validation"):
        mine = accumulated(tmp_path / "out" / "a" / split)
        theirs = accumulated(tmp_path / "logs" / "a" / split)
        assert mine.keys() == theirs.keys()
        for tag, points in theirs.items():
            assert np.abs(np.array(mine[tag]) - np.array(points)).max() <= MICROSECOND


def test_exporting_an_export_onward_is_the_same_run(tmp_path: Path) -> None:
    keras(tmp_path / "logs" / "a")
    write(tmp_path / "logs" / "b", [text(START, 0, "note", "hi"), *losses(START, range(3))])
    export(tmp_path / "logs", tmp_path / "out")
    again = export(tmp_path / "out", tmp_path / "out")
    assert [run.status for run in again.runs] == ["unchanged", "unchanged"]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    first = bridges.export(tmp_path / "logs" / "a", to="mlflow", tracking_uri=uri)
    second = bridges.export(tmp_path / "out" / "a", to="mlflow", tracking_uri=uri)
    assert [run.status for run in (*first.runs, *second.runs)] == ["exported", "unchanged"]


def test_keys_have_their_refused_characters_again_after_mlflow(tmp_path: Path) -> None:
    tags = ("metrics/mAP50(B)", "% time", "loss")
    events = [tagged(START + n, n, tag, n / 3) for n in range(4) for tag in tags]
    write(tmp_path / "logs" / "yolo", events)
    stores = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    bridges.export(tmp_path / "logs", to="mlflow", tracking_uri=stores[0])
    (run,) = bridges.read(stores[0])
    assert {*run.stream.keys} == {*tags}
    (report,) = bridges.export(stores[0], to="tensorboard", logdir=tmp_path / "out").runs
    assert report.verified
    mine = accumulated(Path(str(report.location)))
    assert mine == accumulated(tmp_path / "logs" / "yolo")
    assert export(tmp_path / "logs", tmp_path / "out").runs[0].status == "unchanged"
    # a copy in MLflow keeps the names of the store, and is read with the same keys
    for _ in range(2):
        (report,) = bridges.export(stores[0], to="mlflow", tracking_uri=stores[1]).runs
        codes = {each.code for each in report.findings}
        assert (report.verified, codes) == (True, {"artifacts-not-found"})
    with closing(connect(tmp_path / "two.db")) as database:
        keys = database.execute("select distinct key from metrics order by key").fetchall()
    assert keys == [(" time",), ("loss",), ("metrics/mAP50B",)]
    assert {*bridges.read(stores[1])[0].stream.keys} == {*tags}


def test_runs_are_read_back_equal_from_wandb(tmp_path: Path) -> None:
    keras(tmp_path / "logs" / "a")
    values = [0.1, float("nan"), float("-inf"), -0.0, 1e-45]
    events = [tagged(START + n, n - 2, "metrics/mAP50(B)", value) for n, value in enumerate(values)]
    write(tmp_path / "logs" / "b", [hparams(START, lr=0.5), text(START, -2, "note", "hi"), *events])
    bridges.export(tmp_path / "logs", to="wandb", wandb_dir=tmp_path / "out")
    before = read(tmp_path / "logs")
    after = {run.name: run for run in bridges.read(tmp_path / "out")}
    assert before.keys() == after.keys()
    for name, run in before.items():
        assert_same(replace(run, folders={}), after[name])


@pytest.mark.parametrize("tag", ["{", "[]", '{"loss": 1}', '{"loss": "acc", "other": "x(y)"}'])
def test_other_texts_in_the_tag_of_renamed_keys(tmp_path: Path, tag: str) -> None:
    write(tmp_path / "logs" / "a", [tagged(START, 0, "loss", 1), tagged(START, 0, "acc", 1)])
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    bridges.export(tmp_path / "logs", to="mlflow", tracking_uri=uri)
    with closing(connect(tmp_path / "mlflow.db")) as database, database:
        (run,) = database.execute("select run_uuid from runs").fetchone()
        database.execute("insert into tags values ('bridges.renamed', ?, ?)", (tag, run))
    assert {*bridges.read(uri)[0].stream.keys} == {"loss", "acc"}


@pytest.mark.parametrize("target", ["tensorboard", "mlflow", "wandb"])
def test_superseded_points_are_unchanged_the_second_time(tmp_path: Path, target: str) -> None:
    write(tmp_path / "logs" / "a", losses(START, range(10)))
    write(tmp_path / "logs" / "a", losses(START + 100, range(5, 12)), at=START + 100)
    every: dict[str, dict[str, Any]] = {
        "tensorboard": {"logdir": tmp_path / "out"},
        "mlflow": {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"},
        "wandb": {"wandb_dir": tmp_path / "out"},
    }
    statuses = []
    for _ in range(2):
        report = bridges.export(tmp_path / "logs", to=target, superseded="keep", **every[target])
        assert all(run.verified for run in report.runs)
        severe = [
            each
            for run in report.runs
            for each in run.findings
            if each.severity is not Severity.INFO
        ]
        assert severe == []
        statuses.append([(run.run, run.status) for run in report.runs])
    assert statuses == [
        [("a", status), ("a/superseded", status)] for status in ("exported", "unchanged")
    ]


@pytest.mark.parametrize("target", ["tensorboard", "mlflow", "wandb"])
def test_a_run_grows_in_every_target(tmp_path: Path, target: str) -> None:
    every: dict[str, dict[str, Any]] = {
        "tensorboard": {"logdir": tmp_path / "out"},
        "mlflow": {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"},
        "wandb": {"wandb_dir": tmp_path / "out"},
    }
    options = every[target]
    keras(tmp_path / "logs" / "a", steps=2)
    folder = tmp_path / "logs" / "b"
    write(folder, [*losses(START, range(3)), tagged(START + 9, 3, "loss", 1)])
    statuses = []
    for steps in (2, 4, 4):
        keras(tmp_path / "logs" / "a", steps=steps)
        if steps == 4:  # the last row gets another key, and a row follows
            more = [tagged(START + 9, 3, "acc", 2), tagged(START + 10, 4, "loss", 3)]
            write(folder, [*losses(START, range(3)), tagged(START + 9, 3, "loss", 1), *more])
        report = bridges.export(tmp_path / "logs", to=target, **options)
        assert all(run.verified for run in report.runs), report
        statuses.append([run.status for run in report.runs])
    assert statuses == [["exported"] * 2, ["appended"] * 2, ["unchanged"] * 2]
    if target == "tensorboard":
        before, after = read(tmp_path / "logs"), read(tmp_path / "out")
        assert before["a"].stream.points == after["a"].stream.points
        assert before["b"].stream.points == after["b"].stream.points


def test_parts_of_a_failed_export_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras(tmp_path / "logs" / "a")

    def refuse(path: str, content: Iterable[object]) -> None:
        if path.endswith(".part.partial") and "validation" in path:
            raise OSError(28, "No space left on device", path)
        write_file(path, content)

    monkeypatch.setattr(folders, "write_file", refuse)
    (report,) = export(tmp_path / "logs", tmp_path / "out").runs
    assert report.status == "failed"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_of_two_exports_the_parts_of_the_first_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras(tmp_path / "logs" / "a", steps=2)
    export(tmp_path / "logs", tmp_path / "out")
    keras(tmp_path / "logs" / "a", steps=6)
    slow = TensorBoardExporter(TensorBoardOptions(logdir=str(tmp_path / "out")))
    calls: list[str] = []

    def late(partial: str, path: str) -> None:
        if not calls:  # another export, of a shorter history, is faster
            calls.append(path)
            keras(tmp_path / "logs" / "a", steps=4)
            (report,) = export(tmp_path / "logs", tmp_path / "out").runs
            assert report.status == "appended"
        publish_once(partial, path)

    monkeypatch.setattr(module, "publish_once", late)
    run = read(tmp_path / "logs")["a"]
    report = export_run(run, slow, ExportOptions())
    assert (report.status, report.verified) == ("appended", True)
    assert calls
    after = read(tmp_path / "out")["a"]
    assert after.stream.points == run.stream.points
    assert {each.code for each in after.findings} <= USUAL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
@pytest.mark.parametrize("is_append", [False, True], ids=["new", "append"])
def test_a_joined_run_killed_at_every_step_leaves_no_parts(tmp_path: Path, is_append: bool) -> None:
    """The killed export had a shorter history than the one after it."""
    logs, before = tmp_path / "logs", tmp_path / "before"
    if is_append:
        keras(logs / "a", steps=2)
        export(logs, before)
    found = set()
    for step in range(200):
        out = tmp_path / str(step)
        if is_append:
            shutil.copytree(before, out)
        keras(logs / "a", steps=4)
        code = killed_at(step, out, partial(export, logs, out))
        keras(logs / "a", steps=6)
        (report,) = export(logs, out).runs
        assert report.verified
        after = read(out)["a"]
        assert after.stream.points == read(logs)["a"].stream.points
        parts = [path for path in out.rglob("*") if "part" in path.name]
        segments = [path for path in (out / "a").iterdir() if path.is_file()]
        assert len(parts) == 2 * len(segments)
        found.add(len(segments))
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0, "the export never came to its end"
    assert found == ({2, 3} if is_append else {1, 2})


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus of event files is not at {CORPUS}")
def test_runs_of_other_people_are_equal_after_the_round_trip(tmp_path: Path) -> None:
    export(CORPUS, tmp_path / "out")
    before, after = read(CORPUS), read(tmp_path / "out")
    compared = 0
    for name, run in before.items():
        if "duplicate_steps" in name or ".guild" in name:  # steps fall; copies
            continue
        assert_same(run, after[name])
        compared += 1
    assert compared > 40


def test_files_of_tensorboardx_with_add_scalars_and_add_hparams(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x"
    with SummaryWriter(str(folder)) as writer:
        for step in range(5):
            writer.add_scalar("loss", 1 / (step + 1), step)
            writer.add_scalars("acc", {"train": step, "val": step / 2}, step)
            writer.add_histogram("weights", np.arange(9), step)
        writer.add_text("note", "hello", 0)
        writer.add_hparams({"lr": 0.1, "opt": "adam", "flag": True}, {"hp/acc": 0.5})
    (run,) = read(tmp_path / "runs").values()
    assert {*run.stream.keys} == {*("loss", "acc/train/acc", "acc/val/acc", "note", "hp/acc")}
    assert run.params == {"lr": 0.1, "opt": "adam", "flag": True}
    report = export(tmp_path / "runs", tmp_path / "out")
    assert [each.status for each in report.runs] == ["exported"]
    (again,) = read(tmp_path / "out").values()
    assert again.stream.points == run.stream.points
    assert again.folders == run.folders
