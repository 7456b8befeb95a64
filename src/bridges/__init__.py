"""bridges: training histories into TensorBoard, MLflow and Weights & Biases.

    runs = bridges.read("outputs/trainer_state.json")
    report = bridges.export("outputs/trainer_state.json", to="tensorboard", logdir="runs")
    report = bridges.follow("outputs", to="tensorboard")  # during a training
    report = bridges.migrate("migration.yaml")  # many runs, from a config file
    report = bridges.verify("outputs/trainer_state.json", to="tensorboard", logdir="runs")

Names are imported on first use, so importing the package is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bridges.api import export, follow, read, verify
    from bridges.errors import (
        BridgeError,
        ConfigError,
        ExportError,
        MissingDependencyError,
        SourceError,
        VerifyError,
    )
    from bridges.exporters.base import (
        BaseExporter,
        ConflictError,
        ExistingRun,
        Exporter,
        Points,
        Recorded,
    )
    from bridges.exporters.memory import MemoryExporter
    from bridges.exporters.state import State, whole_state
    from bridges.migration.migrate import migrate
    from bridges.report import BatchReport, RunReport
    from bridges.sources.base import FilePart, Source
    from bridges.sources.options import ReadOptions
    from bridges.stream.finding import Finding, Severity
    from bridges.stream.identity import Identity
    from bridges.stream.layout import Layout
    from bridges.stream.model import (
        Clock,
        Evidence,
        EvidenceKind,
        Knows,
        MetricStream,
        Provenance,
        RowKind,
        Run,
        Series,
    )
    from bridges.stream.naming import encodable

__all__ = [
    "BaseExporter",
    "BatchReport",
    "BridgeError",
    "Clock",
    "ConfigError",
    "ConflictError",
    "Evidence",
    "EvidenceKind",
    "ExistingRun",
    "ExportError",
    "Exporter",
    "FilePart",
    "Finding",
    "Identity",
    "Knows",
    "Layout",
    "MemoryExporter",
    "MetricStream",
    "MissingDependencyError",
    "Points",
    "Provenance",
    "ReadOptions",
    "Recorded",
    "RowKind",
    "Run",
    "RunReport",
    "Series",
    "Severity",
    "Source",
    "SourceError",
    "State",
    "VerifyError",
    "__version__",
    "encodable",
    "export",
    "follow",
    "migrate",
    "read",
    "verify",
    "whole_state",
]

_HOMES = {
    "bridges.api": ("export", "follow", "read", "verify"),
    "bridges.errors": (
        "BridgeError",
        "ConfigError",
        "ExportError",
        "MissingDependencyError",
        "SourceError",
        "VerifyError",
    ),
    "bridges.exporters.base": (
        "BaseExporter",
        "ConflictError",
        "ExistingRun",
        "Exporter",
        "Points",
        "Recorded",
    ),
    "bridges.exporters.memory": ("MemoryExporter",),
    "bridges.exporters.state": ("State", "whole_state"),
    "bridges.migration.migrate": ("migrate",),
    "bridges.report": ("BatchReport", "RunReport"),
    "bridges.sources.base": ("FilePart", "Source"),
    "bridges.sources.options": ("ReadOptions",),
    "bridges.stream.finding": ("Finding", "Severity"),
    "bridges.stream.identity": ("Identity",),
    "bridges.stream.layout": ("Layout",),
    "bridges.stream.model": (
        "Clock",
        "Evidence",
        "EvidenceKind",
        "Knows",
        "MetricStream",
        "Provenance",
        "RowKind",
        "Run",
        "Series",
    ),
    "bridges.stream.naming": ("encodable",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'bridges' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
