"""The exporters that ship, against the contract."""

from __future__ import annotations

from pathlib import Path

from bridges.exporters.memory import MemoryExporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tables.exporter import CsvExporter, ParquetExporter
from bridges.exporters.tables.options import TableOptions
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.trackio.exporter import TrackioExporter
from bridges.exporters.trackio.options import TrackioOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.testing.exporters import ExporterContract, OpenTarget


class TestMemory(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        exporter = MemoryExporter()
        return lambda: exporter


class TestMlflowSqlite(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: MlflowExporter(MlflowOptions(f"sqlite:///{folder}/mlflow.db", "contract"))


class TestTensorBoard(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: TensorBoardExporter(TensorBoardOptions(str(folder / "runs")))


class TestWandbOffline(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: WandbExporter(WandbOptions(wandb_dir=str(folder)))


class TestParquet(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: ParquetExporter(TableOptions(str(folder / "out")))


class TestWideParquet(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: ParquetExporter(TableOptions(str(folder / "out"), wide=True))


class TestCsv(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: CsvExporter(TableOptions(str(folder / "out"), wide=True))


class TestTrackio(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: TrackioExporter(TrackioOptions(trackio_dir=str(folder / "trackio")))


class TestTrackioByGlobalStep(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        place = str(folder / "trackio")
        options = TrackioOptions(project="mine", trackio_dir=place, trackio_step="global_step")
        return lambda: TrackioExporter(options)
