"""The plug-in registry: finds the class of an exporter or source by name.

Built-in classes are imported on first use. Other names are looked up in the entry point groups
`bridges.exporters` and `bridges.sources`; this scan takes longer than a small export, so it is
avoided for built-in names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bridges.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUILT_IN: dict[str, dict[str, str]] = {
    "exporters": {
        "csv": "bridges.exporters.tables.exporter:CsvExporter",
        "memory": "bridges.exporters.memory:MemoryExporter",
        "mlflow": "bridges.exporters.mlflow.exporter:MlflowExporter",
        "parquet": "bridges.exporters.tables.exporter:ParquetExporter",
        "tensorboard": "bridges.exporters.tensorboard.exporter:TensorBoardExporter",
        "trackio": "bridges.exporters.trackio.exporter:TrackioExporter",
        "wandb": "bridges.exporters.wandb.exporter:WandbExporter",
    },
    "sources": {
        "mlflow": "bridges.sources.mlflow.source:MlflowSource",
        "run_directory": "bridges.sources.trainer.run_directory:RunDirectorySource",
        "tables": "bridges.sources.tables.source:TablesSource",
        "tensorboard": "bridges.sources.tensorboard.source:TensorBoardSource",
        "trainer_log": "bridges.sources.tuning_logs.source:TrainerLogSource",
        "trainer_state": "bridges.sources.trainer.state_file:TrainerStateSource",
        "wandb": "bridges.sources.wandb.source:WandbSource",
    },
}


class PlugIn(NamedTuple):
    """An entry of the registry; `origin` is `built-in` or the name of its distribution."""

    kind: str
    name: str
    path: str
    origin: str

    def load(self) -> Any:
        """Import the class. Raises BridgeError if that fails."""
        module, _, attribute = self.path.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise BridgeError(
                f"the plug-in {self.name!r} of {self.origin} cannot be loaded "
                f"({self.path}): {error}"
            ) from error


def built_in(kind: str) -> list[PlugIn]:
    """The built-in entries of a kind, by name."""
    return [PlugIn(kind, name, path, "built-in") for name, path in sorted(BUILT_IN[kind].items())]


def third_party(kind: str) -> list[PlugIn]:
    """The entries of other installed packages, by name; built-in names take precedence."""
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    found = {
        entry.name: PlugIn(kind, entry.name, entry.value, _origin(entry))
        for entry in entry_points(group=f"bridges.{kind}")
        if entry.name not in BUILT_IN[kind]
    }
    return [found[name] for name in sorted(found)]


def find(kind: str, name: str) -> PlugIn:
    """The entry with this name. Raises ConfigError with the nearest existing name."""
    if name in BUILT_IN[kind]:
        return PlugIn(kind, name, BUILT_IN[kind][name], "built-in")
    plug_ins = {plug_in.name: plug_in for plug_in in third_party(kind)}
    if name in plug_ins:
        return plug_ins[name]
    known = sorted({*BUILT_IN[kind], *plug_ins})
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    command = "bridge sources" if kind == "sources" else "bridge targets"
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"unknown {kind[:-1]} {name!r}. {hint}Installed: {', '.join(known)} (see `{command}`)."
    )


def _origin(entry: EntryPoint) -> str:
    distribution = entry.dist
    return f"{distribution.name} {distribution.version}" if distribution else "unknown package"
