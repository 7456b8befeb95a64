"""Tables through the commands: inspect, export, follow, migrate; and into every target."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.follow import Following
from bridges.pipeline.options import ExportOptions, Pace
from tests.unit.sources.tables.tables import KERAS, LIGHTNING, SB3, ULTRALYTICS, put


def bridge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory."""
    command = [sys.executable, "-m", "bridges", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def documents(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON document that a command prints."""
    done = bridge(folder, *arguments, "--json")
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Tables of four loggers in one tree."""
    put(tmp_path / "tree/lightning_logs/version_0/metrics.csv", LIGHTNING)
    put(tmp_path / "tree/lightning_logs/version_0/hparams.yaml", "lr: 0.5\n")
    put(tmp_path / "tree/detect/results.csv", ULTRALYTICS)
    put(tmp_path / "tree/ppo/progress.csv", SB3)
    put(tmp_path / "tree/keras/history.csv", KERAS)
    return tmp_path


NAMES = ["detect", "keras/history", "lightning_logs/version_0", "ppo"]


@pytest.mark.parametrize(
    "target",
    [
        ("--to", "mlflow", "--tracking-uri", "sqlite:///m.db"),
        ("--to", "tensorboard", "--logdir", "tb"),
        ("--to", "wandb", "--wandb-dir", "w"),
    ],
    ids=lambda target: target[1],
)
def test_a_tree_goes_into_each_target_once(tree: Path, target: tuple[str, ...]) -> None:
    for status in ("exported", "unchanged"):
        found = documents(tree, "export", "tree", *target)["runs"]
        assert sorted(run["run"] for run in found) == NAMES
        assert {(run["status"], run["verified"]) for run in found} == {(status, True)}
    path = tree / "tree/ppo/progress.csv"
    put(path, SB3 + "6144,9,-1.0,0.25\n")
    found = documents(tree, "export", "tree", *target)["runs"]
    assert {run["run"]: run["status"] for run in found} == dict.fromkeys(NAMES, "unchanged") | {
        "ppo": "appended"
    }


def test_inspect_names_the_format(tree: Path) -> None:
    found = documents(tree, "inspect", "tree")["runs"]
    formats = {
        run["run"]: finding["message"]
        for run in found
        for finding in run["findings"]
        if finding["code"] == "table-format"
    }
    assert sorted(formats) == NAMES
    assert formats["ppo"] == (
        "read as the format sb3 (Stable-Baselines3): its name is progress.csv and its columns have "
        "time/total_timesteps"
    )


def test_the_formats_are_listed(tmp_path: Path) -> None:
    text = bridge(tmp_path, "sources").stdout
    assert "lightning     Lightning's CSVLogger\n                metrics.csv; step: step" in text
    found = documents(tmp_path, "sources")
    assert found["tables"]["dvclive"]["timestamp"] == {"column": "timestamp", "unit": "ms"}
    assert "tables" in {entry["name"] for entry in found["sources"]}


def test_a_migration_knows_unchanged_tables_by_their_files(tree: Path) -> None:
    put(
        tree / "m.yaml",
        "sources: [tree]\ntargets: [{to: tensorboard, logdir: tb}]\nengine: {workers: 2}\n",
    )
    for status in ("exported", "unchanged"):
        found = documents(tree, "migrate", "m.yaml")["runs"]
        assert sorted(run["run"] for run in found) == NAMES
        assert {run["status"] for run in found} == {status}
    assert all("known-by-its-files" in str(run["findings"]) for run in found)
    put(tree / "tree/lightning_logs/version_0/metrics.csv", LIGHTNING + "1,149,0.25,\n")
    found = documents(tree, "migrate", "m.yaml")["runs"]
    assert {run["run"] for run in found if run["status"] == "appended"} == {NAMES[2]}


def test_a_format_of_a_config_is_relative_to_it(tmp_path: Path) -> None:
    put(tmp_path / "x/formats.yaml", "tables: {own: {files: '*.dat', step: n}}\n")
    put(tmp_path / "x/data/a.dat", "n,loss\n3,0.5\n4,0.25\n")
    put(
        tmp_path / "x/m.yaml",
        "sources: [{location: data, format: formats.yaml}]\n"
        "targets: [{to: tensorboard, logdir: tb}]\n",
    )
    (run,) = documents(tmp_path, "migrate", "x/m.yaml")["runs"]
    assert (run["run"], run["status"], run["points"]) == ("a.dat", "exported", 2)


def test_formats_in_a_config(tree: Path) -> None:
    """Declared in the config: recognised in trees; a change of the declaration is a new reading."""
    put(tree / "tree/own/a.dat", "n,m,loss\n3,5,0.5\n4,6,0.25\n")
    put(
        tree / "m.yaml",
        "tables: {own: {files: '*.dat', step: n, exclude: m}}\n"
        "sources: [tree]\ntargets: [{to: tensorboard, logdir: tb}]\nengine: {workers: 2}\n",
    )
    found = documents(tree, "migrate", "m.yaml")["runs"]
    assert sorted(run["run"] for run in found) == sorted([*NAMES, "own/a.dat"])
    found = documents(tree, "migrate", "m.yaml")["runs"]
    assert {run["status"] for run in found} == {"unchanged"}
    assert all("known-by-its-files" in str(run["findings"]) for run in found)
    put(tree / "tree/own/a.dat", "n,m,loss\n3,5,0.5\n4,6,0.25\n5,7,0.125\n")
    found = documents(tree, "migrate", "m.yaml")["runs"]
    assert [run["run"] for run in found if run["status"] == "appended"] == ["own/a.dat"]
    put(tree / "m.yaml", (tree / "m.yaml").read_text().replace(", exclude: m", ""))
    found = documents(tree, "migrate", "m.yaml")["runs"]
    (run,) = (run for run in found if run["status"] != "unchanged")  # its first row is another
    assert (run["run"].startswith("own/a.dat"), run["points"]) == (True, 6)


def test_a_table_is_followed_line_by_line(tmp_path: Path) -> None:
    lines = [*SB3.splitlines(keepends=True), "6144,9,-1.0,0.25\n", "8192,12,-0.5,0.125\n"]
    path = put(tmp_path / "progress.csv", "".join(lines[:2]) + lines[2][:4])
    left = lines[2:]

    def wait(seconds: float) -> bool:
        if not left:
            return True
        text = Path(path).read_text()
        whole = text[: text.rindex("\n") + 1]
        following = left[1][:3] if len(left) > 1 else ""
        put(Path(path), whole + left.pop(0) + following)
        return False

    target = MemoryExporter()
    following = Following([path], [target], ExportOptions(), Pace(), wait=wait)
    report = following.run()
    assert [(run.verified, run.points) for run in report.runs] == [(True, 7)]
    assert len(target.runs) == 1


def test_text_and_unusual_names_reach_every_target(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", "step,loss (mean),phase\n1,0.5,warm up\n2,nan,train\n")
    report = bridges.export(str(tmp_path / "a.csv"), to="tensorboard", logdir=str(tmp_path / "tb"))
    (run,) = report.runs
    assert (run.status, run.verified) == ("exported", True)
