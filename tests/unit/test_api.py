"""Errors of the Python functions name their parameters; those of the command line its options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.option_names import FIELDS
from tests.support import state

ROWS = [{"loss": 1.0, "step": 1}]
UNKNOWN: Any = {"x_axis": "x"}
MISSPELT: Any = {"xaxis": "step"}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.json").write_bytes(state(ROWS))
    Path("m.yaml").write_text("sources: [a.json]\ntargets: [tensorboard]")


CALLS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "x_axis 'x' is not one of step, epoch": (
        lambda: bridges.export("a.json", to="tensorboard", **UNKNOWN),
        [],
    ),
    "run_name names one run, but several sources are given; use group": (
        lambda: bridges.export(["a.json", "b.json"], to="tensorboard", run_name="x"),
        ["export", "a.json", "b.json", "--to", "tensorboard", "--run-name", "x"],
    ),
    "callback_version 'x' is not a version": (
        lambda: bridges.verify("a.json", to="tensorboard", callback_version="x"),
        ["verify", "a.json", "--to", "tensorboard", "--callback-version", "x"],
    ),
    "tags: found 'mlflow.x'": (
        lambda: bridges.export("a.json", to="tensorboard", tags={"mlflow.x": "1"}),
        ["export", "a.json", "--to", "tensorboard", "--tag", "mlflow.x=1"],
    ),
    "idle_timeout -1 is not a time": (
        lambda: bridges.follow("a.json", to="tensorboard", idle_timeout=-1),
        ["export", "a.json", "--to", "tensorboard", "--follow", "--idle-timeout", "-1"],
    ),
    "logdir s3://x: event files": (
        lambda: bridges.export("a.json", to="tensorboard", logdir="s3://x"),
        ["export", "a.json", "--to", "tensorboard", "--logdir", "s3://x"],
    ),
    "max_unpacked 0 is less than 1": (lambda: bridges.read("a.json", max_unpacked=0), []),
    "engine 'x' is not one of local, dask": (lambda: bridges.migrate("m.yaml", engine="x"), []),
    "workers 0 is less than 1": (lambda: bridges.migrate("m.yaml", workers=0), []),
    "to is empty: name at least one target": (lambda: bridges.export("a.json", to=[]), []),
    "unknown option 'xaxis' for tensorboard. Did you mean 'x_axis'?": (
        lambda: bridges.export("a.json", to="tensorboard", **MISSPELT),
        [],
    ),
}


@pytest.mark.parametrize("message", CALLS)
def test_a_message_names_the_parameter(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    call, command = CALLS[message]
    with pytest.raises(bridges.ConfigError) as error:
        call()
    assert str(error.value).startswith(message)
    assert "--" not in str(error.value)
    if command:
        assert bridge(command) == 2
        flags = {field.name: flag for flag, field in FIELDS.items()}
        name = message.split()[0].rstrip(":")
        assert capsys.readouterr().err.startswith(f"error: {flags[name]}")


def test_a_truncated_file_is_read_with_a_parameter() -> None:
    Path("cut.json").write_bytes(state(ROWS * 3)[:-20])
    with pytest.raises(bridges.SourceError) as error:
        bridges.read("cut.json")
    assert "with salvage=True." in str(error.value)
    assert "--salvage" not in str(error.value)


def test_other_options_keep_their_names() -> None:
    with pytest.raises(bridges.ConfigError, match="unknown exporter 'x--run'"):
        bridges.export("a.json", to="x--run")
