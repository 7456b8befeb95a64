"""The exporters that ship, against the contract."""

from __future__ import annotations

from pathlib import Path

from bridges.exporters.memory import MemoryExporter
from bridges.exporters.mlflow import MlflowExporter
from bridges.exporters.tensorboard import TensorBoardExporter
from bridges.exporters.wandb import WandbExporter
from tests.contract.suite import ExporterContract, OpenTarget


class TestMemory(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        exporter = MemoryExporter()
        return lambda: exporter


class TestMlflowSqlite(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: MlflowExporter(f"sqlite:///{folder}/mlflow.db", "contract")


class TestTensorBoard(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: TensorBoardExporter(str(folder / "runs"))


class TestWandbOffline(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        return lambda: WandbExporter(wandb_dir=str(folder))
