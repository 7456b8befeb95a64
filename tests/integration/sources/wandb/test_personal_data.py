"""Secrets, and what wandb notes about a person and a machine, are in no target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2 as pb

from tests.integration.sources.wandb.test_source import run as bridge
from tests.wandb_logs import exit_record, row_record, run_record, summary_record, write_run

TOKEN = "ghp_" + "Ab1" * 12
REMOTE = f"https://anna:{TOKEN}@github.com/anna-smith/project"
PRIVATE: dict[str, Any] = {
    "host": "annas-laptop",
    "username": "anna-smith",
    "email": "anna@example.org",
    "root": "/home/anna-smith/project",
    "executable": "/home/anna-smith/venv/bin/python",
    "git": {
        "remote": f"https://anna:{TOKEN}@github.com/anna-smith/project",
        "commit": "c0ffee" * 6,
    },
    "args": ["--token", TOKEN],
}
CONFIG = {"lr": 0.5, "api_key": "sk-" + "Zy9" * 14, "remote": f"https://x:{TOKEN}@github.com/o/r"}
MARKERS = ("annas-laptop", "anna-smith", "anna@example", "ghp_Ab1", "sk-Zy9", "c0ffee")
TARGETS = {
    "mlflow": ["--tracking-uri", "sqlite:///{}/mlflow.db"],
    "tensorboard": ["--logdir", "{}/tensorboard"],
    "wandb": ["--wandb-dir", "{}/wandb-out"],
    "trackio": ["--trackio-dir", "{}/trackio"],
    "csv": ["--out", "{}/csv"],
}


def log_run(folder: Path) -> None:
    """A run of wandb 0.31, with the records about its environment."""
    run = pb.Record.FromString(
        run_record(host=PRIVATE["host"], notes=f"see {TOKEN}", config={**CONFIG, "_wandb": OWN})
    )
    run.run.git.remote_url = REMOTE
    environment = pb.Record()
    environment.environment.email = PRIVATE["email"]
    environment.environment.host = PRIVATE["host"]
    row = row_record({"loss": 0.5, "_step": 0, "_timestamp": 1_700_000_000})
    summary = summary_record({"best": 0.5, "hub_token": "hf_" + "Qw8" * 12}, is_user=True)
    records = [bytes(each.SerializeToString()) for each in (run, environment)]
    path = write_run(folder, [*records, row, summary, exit_record()])
    files = path.parent / "files"
    files.mkdir()
    (files / "wandb-metadata.json").write_text(json.dumps(PRIVATE))


def early_run(folder: Path) -> None:
    """A run of wandb 0.9."""
    place = folder / "wandb" / "run-20200101_000000-abc"
    place.mkdir(parents=True)
    (place / "wandb-history.jsonl").write_text('{"loss": 0.5, "_step": 0, "_timestamp": 1.6e9}\n')
    (place / "wandb-metadata.json").write_text(json.dumps({**PRIVATE, "notes": f"see {TOKEN}"}))
    lines = [f"{key}: {{desc: null, value: {json.dumps(value)}}}" for key, value in CONFIG.items()]
    lines.append(f"_wandb: {{desc: null, value: {json.dumps(OWN)}}}")
    (place / "config.yaml").write_text("\n".join(lines) + "\n")
    summary = {"best": 0.5, "hub_token": "hf_" + "Qw8" * 12, "_wandb": OWN}
    (place / "wandb-summary.json").write_text(json.dumps(summary))


OWN = {"e": {"x": PRIVATE}, "cli_version": "0.31.0"}


@pytest.mark.parametrize("write", [log_run, early_run])
@pytest.mark.parametrize("target", TARGETS)
def test_no_target_has_them(target: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "target"
    write(source)
    place.mkdir()
    options = [each.format(place) for each in TARGETS[target]]
    bridge("export", source, "--to", target, *options)
    content = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert content
    assert b"<API_KEY>" in content or target == "tensorboard"
    found = [marker for marker in (*MARKERS, "hf_Qw8") if marker.encode() in content]
    assert not found
