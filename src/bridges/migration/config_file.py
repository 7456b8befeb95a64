"""The config file of a migration: YAML or TOML."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from bridges.errors import ConfigError
from bridges.migration.config import MigrationConfig
from bridges.sources.yaml_settings import read_yaml


def load(path: str | Path) -> MigrationConfig:
    """The config in a file. Raises ConfigError."""
    try:
        return MigrationConfig.model_validate(read_yaml(Path(path).read_bytes()))
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from None
