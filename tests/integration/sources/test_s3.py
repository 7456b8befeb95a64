"""Run directories in an object store: a real S3 server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import s3fs

import bridges
from bridges.migration.config.config import MigrationConfig
from tests.bounds import HANGS, until
from tests.object_store import object_store
from tests.support import state

HISTORY = [{"loss": 3.0 / step, "epoch": step / 4, "step": step} for step in range(1, 9)]


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """The environment in which the store is found; it has one bucket, with two runs."""
    with object_store() as (found, files):
        fill(files)
        yield found


def fill(files: Any) -> None:
    for name, shift in (("one", 0.0), ("two", 1.0)):
        rows = [{**row, "loss": row["loss"] + shift} for row in HISTORY]
        for steps in (4, 8):
            folder = f"bucket/out/{name}/checkpoint-{steps}"
            files.pipe(f"{folder}/trainer_state.json", state(rows[:steps]))
            files.pipe(f"{folder}/config.json", b'{"hidden_size": 8}')
            files.pipe(f"{folder}/model.safetensors", b"never read")


def bridge(store: dict[str, str], place: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bridges", *arguments, "--json"],
        cwd=place,
        env={**os.environ, **store},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_process_that_lives_on_sees_what_others_wrote_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system remembers what it listed: neither an export nor a migration takes that."""
    with object_store() as (found, _):
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        other = s3fs.S3FileSystem(skip_instance_cache=True)
        other.pipe("bucket/out/one/trainer_state.json", state(HISTORY[:4]))
        targets = [{"to": "tensorboard", "logdir": str(tmp_path / "migrated")}]
        config = MigrationConfig.model_validate(
            {"sources": ["s3://bucket/out/"], "targets": targets, "engine": {"workers": 1}}
        )

        def both() -> list[list[tuple[str, int]]]:
            migrated = bridges.migrate(config)
            logdir = str(tmp_path / "exported")
            exported = bridges.export("s3://bucket/out/", to="tensorboard", logdir=logdir)
            return [sorted((r.status, r.rows) for r in each.runs) for each in (migrated, exported)]

        assert both() == [[("exported", 4)]] * 2
        known = bridges.migrate(config).runs[0]
        assert [finding.code for finding in known.findings] == ["known-by-its-files"]
        other.pipe("bucket/out/one/trainer_state.json", state(HISTORY))
        other.pipe("bucket/out/two/trainer_state.json", state([{"loss": 9.0, "step": 1}]))
        assert both() == [[("appended", 8), ("exported", 1)]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("source", ["s3://bucket/out", "s3://bucket/out/", "s3://bucket/*/*"])
def test_runs_of_a_bucket_are_exported(store: dict[str, str], source: str, tmp_path: Path) -> None:
    for status in ("exported", "unchanged"):
        found = bridge(store, tmp_path, "export", source, "--to", "tensorboard")
        runs = [(run["run"], run["rows"], run["status"], run["verified"]) for run in found["runs"]]
        assert runs == [("one", 8, status, True), ("two", 8, status, True)]


@pytest.mark.slow
def test_settings_of_a_bucket_are_read(store: dict[str, str], tmp_path: Path) -> None:
    found = bridge(store, tmp_path, "inspect", "s3://bucket/out/one")
    (run,) = found["runs"]
    assert run["source"] == "s3://bucket/out/one/checkpoint-8/trainer_state.json"
    assert run["params"]["hidden_size"] == 8
    assert run["param_files"]["hidden_size"] == "s3://bucket/out/one/checkpoint-8/config.json"


@pytest.mark.slow
def test_a_training_that_saves_into_a_bucket_is_followed(
    store: dict[str, str], tmp_path: Path
) -> None:
    files = s3fs.S3FileSystem(
        key="someone", secret="secret", endpoint_url=store["AWS_ENDPOINT_URL"]
    )
    options = ["--follow", "--interval", "0.2", "--idle-timeout", "0", "--json"]
    command = ["export", "s3://bucket/live", "--to", "tensorboard", *options]
    place = tmp_path / "log"

    def tells(text: str) -> bool:
        return text in place.read_text()

    with place.open("w") as log:
        follower = subprocess.Popen(
            [sys.executable, "-m", "bridges", *command],
            cwd=tmp_path,
            env={**os.environ, **store},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        until(partial(tells, "following s3://bucket/live"), follower)
        for steps in (2, 4, 6):  # each is seen, though s3fs remembers what it has listed
            rows = state(HISTORY[:steps])
            files.pipe(f"bucket/live/checkpoint-{steps}/trainer_state.json", rows)
            until(partial(tells, f"  {steps} rows"), follower)
        end = {"train_loss": 1.0, "total_flos": 1.0, "train_runtime": 9.0, "step": 8}
        files.pipe("bucket/live/trainer_state.json", state([*HISTORY, end]))
        out, _ = follower.communicate(timeout=HANGS)
    finally:
        follower.kill()
        follower.wait()
    assert follower.returncode == 0, place.read_text()
    (run,) = json.loads(out)["runs"]
    assert (run["status"], run["rows"], run["verified"]) == ("exported", 9, True)
