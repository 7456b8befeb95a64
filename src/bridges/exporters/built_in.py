"""The built-in targets with options: their models, and their names in help texts.

Importing them imports no exporter.
"""

from __future__ import annotations

from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tables.options import TableOptions
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.trackio.options import TrackioOptions
from bridges.exporters.wandb.options import WandbOptions
from bridges.option import Options, described

MODELS: dict[str, type[Options]] = {
    "tensorboard": TensorBoardOptions,
    "mlflow": MlflowOptions,
    "wandb": WandbOptions,
    "trackio": TrackioOptions,
    "parquet": TableOptions,
    "csv": TableOptions,
}
HEADINGS = {
    "tensorboard": "TensorBoard",
    "mlflow": "MLflow",
    "wandb": "Weights & Biases",
    "trackio": "Trackio",
    "parquet": "Parquet and CSV",
    "csv": "Parquet and CSV",
}
PATHS = frozenset(  # options that are local paths: they locate runs and do not change them
    field.name for model in MODELS.values() for field in described(model) if field.about.completes
)
