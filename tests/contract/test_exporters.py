"""The exporters that ship, against the contract."""

from __future__ import annotations

from pathlib import Path

from bridges.exporters.memory import MemoryExporter
from bridges.exporters.mlflow import MlflowExporter
from bridges.exporters.mlflow_options import MlflowOptions
from bridges.exporters.tensorboard import TensorBoardExporter
from bridges.exporters.tensorboard_options import TensorBoardOptions
from bridges.exporters.wandb import WandbExporter
from bridges.exporters.wandb_options import WandbOptions
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
