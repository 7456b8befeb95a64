"""Every command leaves the files of a store as they are: content, times, modes, and no new ones."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bridges.cli.main import run as bridge
from tests.mlflow_stores import unpack_database, unpack_store


def state_of(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time of change and digest of all that is in a directory."""
    return {
        str(path): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in (folder, *folder.rglob("*"))
    }


@contextmanager
def in_use(database: Path) -> Iterator[None]:
    """Another program has written into the file in WAL mode, and keeps it open."""
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("update runs set source_version = 'changed'")
        assert Path(f"{database}-wal").stat().st_size
        yield


@pytest.mark.parametrize("kind", ["files", "database"])
def test_no_command_changes_a_store(kind: str, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    files = unpack_store("1.30.1", source) if kind == "files" else source
    database = unpack_database("3.17.2", source)
    location = str(files if kind == "files" else database)
    config = {
        "sources": [{"location": location, "deleted": True}],
        "targets": [{"to": "tensorboard", "logdir": str(out / "migrated")}],
        "engine": {"workers": 1},
    }
    (out / "config.yaml").write_text(json.dumps(config))
    to_mlflow = ["--to", "mlflow", "--tracking-uri", f"sqlite:///{out}/target.db", "--deleted"]
    commands = [
        ["inspect", location],
        ["ls", location],
        ["export", location, *to_mlflow, "--dry-run"],
        ["export", location, *to_mlflow, "--copy-artifacts"],
        ["export", location, *to_mlflow],
        ["verify", location, *to_mlflow],
        ["migrate", str(out / "config.yaml")],
    ]
    with in_use(database):
        before = state_of(source)
        for command in commands:
            assert bridge(command) in (0, 1), command
            assert state_of(source) == before, command
