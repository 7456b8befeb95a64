"""Memory of an export: one large run at a time, and little more than its columns.

A point has 24 bytes: step, time and value. What is measured is what Python and NumPy allocate.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest

from bridges.exporters.base import Exporter, Points, Recorded
from bridges.exporters.memory import MemoryExporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.formats.mlflow_store.records import Metric
from bridges.migration import worker
from bridges.migration.config.config import MigrationConfig
from bridges.migration.tasks import plan
from bridges.pipeline import batch
from bridges.pipeline.compare import compare, expected_points
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.pipeline.read_runs import read_runs
from bridges.pipeline.small_runs import MAX_VALUES
from bridges.pipeline.target import Target
from bridges.report import RunReport
from bridges.sources.mlflow import source
from bridges.sources.mlflow.columns import ROWS_PER_CHUNK, ColumnBuilder
from bridges.sources.mlflow.runs import run_of, stream_of
from bridges.stream.model import Run
from tests.benchmarks.mlflow_files import make
from tests.mlflow_records import head, record

KEYS, POINTS, POINT_BYTES = 20, 20_000, 24
COLUMNS = KEYS * POINTS * POINT_BYTES
SMALL = 0.2  # of the columns: what is made of one key


def metrics(points: int = POINTS, keys: int = KEYS) -> list[Metric]:
    """Metrics with clocks of their own."""
    rng = np.random.default_rng(1)
    return [
        Metric(
            f"key{key}",
            rng.random(points),
            np.cumsum(rng.integers(1, 2000, points)),
            np.arange(points) * (1 + key % 2),
        )
        for key in range(keys)
    ]


def peak(work: Callable[[], object]) -> float:
    """The most memory that some work needs beside that in use before, in sizes of the columns."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    work()
    return (tracemalloc.get_traced_memory()[1] - before) / COLUMNS


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_the_stream_of_a_run_replaces_its_metrics() -> None:
    """With the metrics themselves, it is at most twice the columns."""
    found = metrics()
    assert peak(lambda: stream_of(found)) < 1 + SMALL
    assert found == []


def test_points_of_a_database_are_in_memory_twice_at_most() -> None:
    builder = ColumnBuilder()

    def build() -> list[Metric]:
        rng = np.random.default_rng(1)
        for start in range(0, KEYS * POINTS, ROWS_PER_CHUNK):
            rows = zip(
                [f"key{at % KEYS}" for at in range(ROWS_PER_CHUNK)],
                rng.random(ROWS_PER_CHUNK).tolist(),
                range(start, start + ROWS_PER_CHUNK),
                range(start, start + ROWS_PER_CHUNK),
                strict=True,
            )
            builder.add([*rows])
        return builder.metrics()

    assert peak(build) < 2 + SMALL


def test_points_are_compared_key_by_key() -> None:
    run = run_of(record(head()), metrics(), "mlruns")
    target = Target(MemoryExporter(), LayoutOptions())
    layout = target.lay_out(run, target.identity(run))

    def expected() -> Mapping[str, Points]:
        return expected_points(layout, target.exporter)

    assert peak(lambda: compare(layout, Recorded(expected()), expected())) < 2 * SMALL


class Watched:
    """Large runs, read one by one: each must be gone when the next one is read."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def read(self, *_: object) -> Iterator[Run]:
        for number in range(1, 5):
            assert [each() for each in self.seen] == [None] * len(self.seen)
            found = metrics(MAX_VALUES + 1, 1)
            self.seen.append(ref(found[0].value))
            yield run_of(record(head(number)), found, f"run{number}")
            del found


def mlflow(folder: Path) -> Exporter:
    return MlflowExporter(MlflowOptions(f"sqlite:///{folder}/t.db"))


def tensorboard(folder: Path) -> Exporter:
    return TensorBoardExporter(TensorBoardOptions(str(folder / "logs")))


@pytest.mark.parametrize("targets", [[mlflow], [tensorboard], [mlflow, tensorboard]])
def test_one_large_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: list[Callable[[Path], Exporter]]
) -> None:
    watched = Watched()
    monkeypatch.setattr(batch, "read_runs", watched.read)
    exporters = [target(tmp_path) for target in targets]
    report = batch.for_each_run(export_run, ["x"], exporters, ExportOptions())
    assert [each.verified for each in report.runs] == [True] * 4 * len(targets)
    assert len(watched.seen) == 4


def test_one_large_run_at_a_time_in_a_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    monkeypatch.setattr(worker, "_runs", watched.read)
    make(tmp_path / "mlruns", 1, 1, 1, 0, 0)
    uri = f"sqlite:///{tmp_path}/t.db"
    said = {
        "sources": [str(tmp_path / "mlruns")],
        "targets": [{"to": "mlflow", "tracking_uri": uri}],
    }
    (task,), _ = plan(MigrationConfig.model_validate(said))
    done = worker.carry_out(task, dry_run=False)
    assert [each.verified for each in done.reports] == [True] * 4


def test_a_store_is_read_one_large_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "mlruns", 3, 1, 10, 0, 0)
    seen = list[Any]()

    def made(record: Any, found: list[Metric], *values: Any, **more: Any) -> Run:
        assert [each() for each in seen] == [None] * len(seen)
        seen.append(ref(found[0].value))
        return run_of(record, found, *values, **more)

    monkeypatch.setattr(source, "run_of", made)
    for run in read_runs(str(tmp_path / "mlruns"), ExportOptions()):
        assert len(run.stream) == 10
        del run
    assert len(seen) == 3


def test_a_run_of_one_key_needs_less_than_twice_its_columns(tmp_path: Path) -> None:
    """Read from files, written to SQLite and compared, and read from there."""
    peaks_of_a_copy(tmp_path / "small", 10)  # imports what it needs
    tracemalloc.clear_traces()
    points = KEYS * POINTS * 3 // 4
    peaks = peaks_of_a_copy(tmp_path / "large", points)
    assert max(peaks) < 2 * points * POINT_BYTES / COLUMNS


def peaks_of_a_copy(root: Path, points: int) -> list[float]:
    """The most memory for reading, for exporting (with the run), and for reading the target."""
    make(root / "mlruns", 1, 1, points, 0, 0)
    uri = f"sqlite:///{root}/copy.db"
    reading = peak(lambda: [*read_runs(f"{root}/mlruns", ExportOptions())])
    runs = [*read_runs(f"{root}/mlruns", ExportOptions())]
    held = tracemalloc.get_traced_memory()[0] / COLUMNS
    reports: list[RunReport] = []
    exporter = MlflowExporter(MlflowOptions(uri))
    exporting = peak(lambda: reports.append(export_run(runs[0], exporter, ExportOptions())))
    assert reports[0].verified
    runs.clear()
    return [reading, held + exporting, peak(lambda: [*read_runs(uri, ExportOptions())])]
