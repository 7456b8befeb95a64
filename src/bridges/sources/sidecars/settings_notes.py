"""Findings about the settings in the files beside a run."""

from __future__ import annotations

from collections.abc import Collection

from bridges.stream.finding import Finding, Severity


def from_files(files: Collection[str], params: int) -> Finding:
    """A note that so many params come from these files."""
    where = f"{params} param{'s' * (params != 1)}"
    message = f"settings come from {', '.join(files)}"
    return Finding("params-beside", Severity.INFO, where, message, len(files))


def not_read(file: str, error: Exception) -> Finding:
    """A warning about a file that cannot be read as settings."""
    why = "it is nested too deeply" if isinstance(error, RecursionError) else error
    message = f"not read as settings: {why}"
    return Finding("beside-unreadable", Severity.WARNING, file, message)
