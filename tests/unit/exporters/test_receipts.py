"""Marks: what they say survives as text, what is broken is none, and every target keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges import plugins
from bridges.exporters import receipts as marks
from bridges.exporters.mlflow import api as mlflow_api
from bridges.exporters.mlflow import receipts as mlflow_marks
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions, MlflowWriter
from bridges.exporters.mlflow.state import MlflowRun, receipt_in
from bridges.exporters.receipts import Receipt, ReceiptFile, RunReceipt, SupportsReceipts
from bridges.exporters.state import State
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.migration.config.config import SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.migration.known_runs import KnownRuns
from bridges.migration.tasks import Done, Task
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.short_retries import HAS_SHORT_RETRIES
from tests.support import make_run

RECEIPT = Receipt(
    "a" * 32, 2, 1, "/é\udc80/trainer_state.json", "d" * 32, 7, 20, (0.1, -2e300), "b" * 32
)
RUN = RunReceipt("k" * 32, "run", "", RECEIPT)


def test_every_built_in_exporter_remembers() -> None:
    found = [plug_in.load()() for plug_in in plugins.built_in("exporters")]
    assert len(found) >= 3
    assert [exporter.name for exporter in found if not isinstance(exporter, SupportsReceipts)] == []


def test_places_tell_projects_and_experiments_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert WandbExporter(WandbOptions("p", "e")).place == "e/p"
    assert WandbExporter().place == "/huggingface"
    assert MlflowExporter(MlflowOptions("sqlite:///x.db", "named")).place == "named"
    assert MlflowExporter(MlflowOptions("sqlite:///x.db")).place == "bridges"


STORED = (  # the keys are those of the first version: receipts in targets stay valid
    f'{{"made_of": "{"a" * 32}", "runs": 2, "left_out": 1, '
    r'"source": "/\u00e9\udc80/trainer_state.json", '
    f'"digest": "{"d" * 32}", "rows": 7, "points": 20, "course": [0.1, -2e+300], '
    f'"looks": "{"b" * 32}"}}'
)


def test_a_receipt_survives_as_text() -> None:
    text = RECEIPT.text()
    assert text == STORED
    assert text.isascii()
    assert Receipt.parse(text) == RECEIPT
    assert Receipt.parse(replace(RECEIPT, trend=(1 / 3,)).text()) == replace(
        RECEIPT, trend=(0.3333,)
    )


def test_a_receipt_keeps_the_name_of_its_metric() -> None:
    named = replace(RECEIPT, trend_metric="loss")
    assert Receipt.parse(named.text()) == named
    assert len(replace(RECEIPT, trend_metric="x" * 10_000).text()) < 1_000


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1", "{", '{"made_of": 1}'])
def test_another_text_is_not_a_receipt(text: str) -> None:
    assert Receipt.parse(text) is None


@pytest.mark.parametrize("name", [*json.loads(RECEIPT.text())])
def test_an_incomplete_receipt_is_ignored(name: str) -> None:
    lacking = {key: value for key, value in json.loads(RECEIPT.text()).items() if key != name}
    assert Receipt.parse(json.dumps(lacking)) is None


@pytest.fixture
def file(tmp_path: Path) -> ReceiptFile:
    """The receipts of a directory, in which there is one receipt of a run of two files."""
    for name in ("run/a", "run/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    receipts = ReceiptFile(str(tmp_path / "marks"), str(tmp_path))
    put(receipts, RUN)
    return receipts


def paths(file: ReceiptFile) -> list[str]:
    return [os.path.join(file.root, name) for name in ("run", "run/a", "run/b")]


def put(file: ReceiptFile, *runs: RunReceipt) -> None:
    file.put((replace(run, location=paths(file)[0]), paths(file)) for run in runs)


def in_place(file: ReceiptFile, *runs: RunReceipt) -> list[RunReceipt]:
    return [replace(run, location=paths(file)[0]) for run in runs]


def test_the_receipt_of_a_run(file: ReceiptFile) -> None:
    assert [*file.read()] == in_place(file, RUN)
    newer = replace(RUN, receipt=replace(RECEIPT, rows=8))
    put(file, newer)
    assert [*file.read()] == in_place(file, newer)
    others = replace(RUN, key="l" * 32), replace(RUN, receipt=replace(RECEIPT, source="another"))
    put(file, *others)
    assert [*file.read()] == in_place(file, *reversed(others), newer)


def test_receipts_move_with_their_runs(file: ReceiptFile, tmp_path: Path) -> None:
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    there = ReceiptFile(str(moved / "marks"), str(moved))
    assert [*there.read()] == in_place(there, RUN)


def grow(folder: Path) -> None:
    (folder / "a").write_text("longer")


def touch(folder: Path) -> None:
    os.utime(folder / "b", ns=(5, 5))


def remove(folder: Path) -> None:
    (folder / "b").unlink()


def add(folder: Path) -> None:
    (folder / "c").touch()
    os.utime(folder, ns=(5, 5))  # whatever the clock of the file system is


def move(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("change", [grow, touch, remove, add, move])
def test_a_run_whose_files_changed_has_no_receipt(file: ReceiptFile, change: Any) -> None:
    change(Path(file.root, "run"))
    assert [*file.read()] == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\xff", b"null", b"[1]", b"{}", b'{"then": 1}', b'{"then": [1]}', b'"then"'],
)
def test_a_broken_line_is_ignored(file: ReceiptFile, content: bytes) -> None:
    with open(file.path, "ab") as lines:
        lines.write(b"\n" + content)
    assert [*file.read()] == in_place(file, RUN)
    Path(file.path).write_bytes(content)
    assert [*file.read()] == []


def test_a_line_that_is_cut_off_anywhere_is_ignored_and_harms_no_other(file: ReceiptFile) -> None:
    content, other = Path(file.path).read_bytes(), replace(RUN, key="l" * 32)
    for length in range(len(content)):
        Path(file.path).write_bytes(content[:length])
        assert [*file.read()] == []
        put(file, other)
        assert [*file.read()] == in_place(file, other)


def test_receipts_that_cannot_be_saved_are_skipped(file: ReceiptFile) -> None:
    put(ReceiptFile(f"{file.root}/nowhere/marks", file.root), RUN)
    file.put([(replace(RUN, key="x", location="x"), [*paths(file), "not there"])])
    assert [*file.read()] == in_place(file, RUN)
    assert sorted(os.listdir(file.root)) == ["marks", "run"]
    Path(file.path).unlink()
    assert [*file.read()] == []
    Path(file.path).mkdir()
    put(file, RUN)
    assert [*file.read()] == []


def test_lines_that_are_void_do_not_pile_up(
    file: ReceiptFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "SPARE_LINES", 5)
    others = [replace(RUN, key=f"{number:032}") for number in range(3)]
    put(file, *others)
    for _ in range(20):
        put(file, RUN)
        assert [*file.read()] == in_place(file, RUN, *reversed(others))
        assert len(Path(file.path).read_bytes().split(b"\n")) <= 2 * 4 + 5 + 1
    assert sorted(os.listdir(file.root)) == ["marks", "run"]


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_mlflow_asks_page_by_page_and_skips_a_receipt_that_is_too_long(
    writer: MlflowWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_marks, "RUNS_PER_QUERY", 2)
    monkeypatch.setattr(mlflow_api, "ITEMS_PER_PAGE", 2)
    monkeypatch.setattr("bridges.exporters.mlflow.sdk.ITEMS_PER_PAGE", 2)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    saved = []
    for number in range(5):
        exporter = MlflowExporter(MlflowOptions(uri, f"experiment {number % 3}", writer))
        run = make_run([{"loss": float(number), "step": 1}])
        report = export_run(run, exporter, ExportOptions())
        receipt = replace(RECEIPT, digest=report.digest, rows=report.rows)
        saved.append(RunReceipt.of(report, receipt))
    long = replace(saved[0], receipt=replace(RECEIPT, source="x" * 9000))
    other = MlflowExporter(MlflowOptions(uri, "another", writer))
    other.save_receipts([*saved[1:], long])
    assert by_key(other.receipts()) == by_key(saved[1:])


def by_key(runs: Any) -> list[RunReceipt]:
    return sorted(runs, key=lambda run: run.key)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    exporter = MlflowExporter(
        MlflowOptions(f"sqlite:///{tmp_path}/mlflow.db", mlflow_writer="direct")
    )
    assert [*exporter.receipts()] == []
    exporter.preload()
    (tmp_path / "empty.db").touch()
    assert [*MlflowExporter(MlflowOptions(f"sqlite:///{tmp_path}/empty.db")).receipts()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_target_that_cannot_be_asked_remembers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not waited for before others get their runs."""
    asked = []

    def receipts(self: MlflowExporter) -> Iterator[RunReceipt]:
        asked.append(HAS_SHORT_RETRIES.get())
        raise RuntimeError
        yield  # it is a generator

    monkeypatch.setattr(MlflowExporter, "receipts", receipts)
    known_runs = KnownRuns([TargetSpec(to="mlflow")])
    known_runs.load()
    task = Task(SourceSpec(location="x"), "x", tuple(known_runs.targets))
    assert known_runs.sift(task) == (task, Done(()))
    assert asked == [True]


@pytest.mark.parametrize(("style", "is_known"), [("tags", True), ("trainer", False)])
def test_the_copy_of_a_running_run_has_a_receipt(style: str, is_known: bool) -> None:
    """It is complete although it is running; a run of the Trainer that is running is not."""
    state = State(RECEIPT.rows, RECEIPT.digest, "recorded", (RECEIPT.rows,), {}, style=style)
    run = MlflowRun("a" * 32, "run", "active", "RUNNING", state.text(8000))
    found = receipt_in(run, "k" * 32, RECEIPT.text(), "sqlite:///m.db", "1")
    assert (found is not None) == is_known
    deleted = replace(run, stage="deleted")
    assert receipt_in(deleted, "k" * 32, RECEIPT.text(), "sqlite:///m.db", "1") is None
