"""Plug-ins: a real package is installed and used from the command line; errors name the way out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridges import plugins
from bridges.errors import BridgeError, ConfigError
from bridges.pipeline import make_exporters
from tests.support import DATA


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the plug-in package is installed."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    subprocess.run(["cp", "-R", str(DATA / "plug-in") + "/.", str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, capture_output=True)
    return folder


def bridge(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "bridges", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_targets_lists_the_plug_in(site: Path, tmp_path: Path) -> None:
    listed = json.loads(bridge(site, tmp_path, "targets", "--json").stdout)
    names = {entry["name"]: entry["origin"] for entry in listed["exporters"]}
    assert names["plain"] == "bridges-plain 0.3"
    assert names["tensorboard"] == "built-in"
    assert "csv" in {entry["name"] for entry in listed["sources"]}


def test_the_plug_in_source_and_exporter_are_used(site: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n2,0.25\n")
    arguments = ["log.csv", "--to", "plain", "-o", "path=out.txt", "--to", "tensorboard", "--json"]
    done = bridge(site, tmp_path, "export", *arguments)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [(run["target"], run["points"], run["verified"]) for run in runs] == [
        ("plain", 2, True),
        ("tensorboard", 2, True),
    ]
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        "{'loss': 0.5, 'step': 1}",
        "{'loss': 0.25, 'step': 2}",
    ]


def test_a_migration_always_reads_the_runs_of_a_plug_in(site: Path, tmp_path: Path) -> None:
    """Of what else it reads, a change would not be seen."""
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n2,0.25\n")
    targets = "{to: plain, path: out.txt}, {to: tensorboard, logdir: tb}"
    (tmp_path / "m.yaml").write_text(f"sources: [log.csv]\ntargets: [{targets}]\n")
    for status in ("exported", "unchanged"):
        done = bridge(site, tmp_path, "migrate", "m.yaml", "--json")
        assert done.returncode == 0, done.stderr
        runs = {run["target"]: run for run in json.loads(done.stdout)["runs"]}
        assert runs.keys() == {"plain", "tensorboard"}
        assert runs["tensorboard"]["status"] == status
        assert all(run["verified"] for run in runs.values())


def test_a_source_can_be_named(site: Path, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("step,loss\n1,0.5\n")
    done = bridge(site, tmp_path, "inspect", "log.txt", "--source", "csv", "--json")
    assert json.loads(done.stdout)["runs"][0]["points"] == 1


def test_an_error_inside_a_plug_in_source_stops_nothing_else(site: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("step,loss\n1,abc\n")
    (tmp_path / "good.csv").write_text("step,loss\n1,0.5\n")
    done = bridge(site, tmp_path, "export", "bad.csv", "good.csv", "--to", "memory", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    bad, good = json.loads(done.stdout)["runs"]
    assert (bad["status"], good["status"]) == ("failed", "exported")
    assert bad["findings"][0]["message"] == (
        "bad.csv: found ValueError: could not convert string to float: 'abc'; expected something "
        "that the source 'csv' can read. If it is what it should be, this is a bug of that source."
    )
    assert bridge(site, tmp_path, "inspect", "bad.csv").stderr.startswith("error: bad.csv: found")


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        make_exporters(["tensorbord"], {})
    assert str(caught.value) == (
        "there is no exporter 'tensorbord'. Did you mean 'tensorboard'? "
        "Installed: memory, mlflow, tensorboard, wandb (see `bridge targets`)."
    )


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        make_exporters(["memory"], {"logdir": "x"})
    assert str(caught.value) == "the option 'logdir' is not one of the target memory"


def test_a_broken_plug_in_is_named() -> None:
    broken = plugins.PlugIn("exporters", "broken", "no_such_module:Thing", "some-package 1.0")
    with pytest.raises(BridgeError) as caught:
        broken.load()
    assert str(caught.value) == (
        "the plug-in 'broken' of some-package 1.0 cannot be loaded "
        "(no_such_module:Thing): No module named 'no_such_module'"
    )
