"""The artifact location of a copied run: that of its source, or its own directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bridges.exporters.mlflow.locations import artifact_uri
from tests.mlflow_records import record


@pytest.mark.parametrize("linked", ["", "artifacts", "run", "experiment", "store"])
def test_a_directory_is_named_without_links(tmp_path: Path, linked: str) -> None:
    places = {"store": "s", "experiment": "s/1", "run": "s/1/r", "artifacts": "s/1/r/artifacts"}
    for name, place in places.items():
        path = tmp_path / place
        if name == linked:
            (tmp_path / "elsewhere").mkdir()
            path.symlink_to(tmp_path / "elsewhere")
        else:
            path.mkdir()
    folder = tmp_path / places["artifacts"]
    copied = replace(record(), artifact_uri="file:///gone", artifact_folder=str(folder))
    assert artifact_uri(copied) == (folder.resolve().as_uri(), [])
    assert ("elsewhere" in folder.resolve().as_uri()) == bool(linked)


def test_two_experiments_have_their_own_directories(tmp_path: Path) -> None:
    for place in ("1/a", "2/b", "1/c"):
        folder = tmp_path / place / "artifacts"
        folder.mkdir(parents=True)
        copied = replace(record(), artifact_uri="file:///gone", artifact_folder=str(folder))
        assert artifact_uri(copied)[0] == folder.resolve().as_uri()
