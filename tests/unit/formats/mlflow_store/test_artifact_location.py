"""Artifact locations: local paths, `file:` URIs and others."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.sources.mlflow.artifacts import artifact_folder


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/data/1/abc/artifacts", "/data/1/abc/artifacts"),
        ("../mlruns/3/abc/artifacts", "../mlruns/3/abc/artifacts"),
        ("file:///data/a%20b/%C3%A9", "/data/a b/é"),
        ("file:/data/1", "/data/1"),
        ("file:///C:/Users/me", "/C:/Users/me"),
        ("C:\\Users\\me", "C:\\Users\\me"),
        ("mlflow-artifacts:/1/abc/artifacts", None),
        ("s3://bucket/1", None),
        ("dbfs:/databricks/1", None),
        ("", ""),
    ],
)
def test_the_local_path_of_a_location(location: str, path: str | None) -> None:
    assert local_path(location) == path


def test_a_dead_location_gives_the_directory_of_the_store(tmp_path: Path) -> None:
    """Also a plain path of Windows, whose drive looks like a scheme."""
    near = str(tmp_path)
    for dead in ("file:///gone", "/gone", "C:\\Users\\me", "mlflow-artifacts:/1/a", "gone"):
        assert artifact_folder(dead, [near]) == near
    assert artifact_folder("s3://bucket/1", [near]) is None
    alive = tmp_path / "a b"
    alive.mkdir()
    assert artifact_folder(alive.as_uri(), [near]) == str(alive)
