"""Plug-ins: a real package is installed and used from the command line; errors name the way out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridges import plugins
from bridges.errors import BridgeError, ConfigError
from bridges.exporters.factory import make_exporters
from tests.support import DATA, REPOSITORY


def example() -> str:
    """The module of the worked example in CONTRIBUTING.md."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    return text.partition("## How to add a target")[2].split("```")[1].removeprefix("python\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the plug-in package is installed, with the worked example in it."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(DATA / "plug-in", source, dirs_exist_ok=True)
    (source / "src" / "bridges_plain" / "jsonl.py").write_text(example())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, capture_output=True)
    return folder


def run(site: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True
    )


def bridge(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(site, cwd, "bridges", *arguments)


def test_the_contract_suites_are_inherited_by_a_plug_in(site: Path, tmp_path: Path) -> None:
    shutil.copy(DATA / "plug-in" / "contract.py", tmp_path / "test_contract.py")
    done = run(site, tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "test_contract.py")
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 30
    assert "failed" not in done.stdout


def test_the_printed_contract_runs_as_it_stands(site: Path, tmp_path: Path) -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("and inherit the contract")[2]
    (tmp_path / "your_package.py").write_text(example())
    (tmp_path / "test_it.py").write_text(text.split("```")[1].removeprefix("python\n"))
    done = run(site, tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed", done.stdout)


def test_the_worked_example_is_short() -> None:
    assert 50 < len(example().splitlines()) < 90


def test_workers_write_by_a_plug_in_what_they_read_by_one(site: Path, tmp_path: Path) -> None:
    for number in range(6):
        rows = "".join(f"{step},{number + 1 / step}\n" for step in range(1, 5))
        (tmp_path / f"log{number}.csv").write_text(f"step,loss\n{rows}")
    logs = ", ".join(f"log{number}.csv" for number in range(6))
    config = f"sources: [{logs}]\ntargets: [{{to: jsonl, folder: out}}]\n"
    (tmp_path / "m.yaml").write_text(config)
    for status in ("exported", "unchanged"):
        done = bridge(site, tmp_path, "migrate", "m.yaml", "--workers", "2", "--json")
        assert done.returncode == 0, done.stderr
        runs = json.loads(done.stdout)["runs"]
        assert [(run["status"], run["verified"]) for run in runs] == [(status, True)] * 6
    written = sorted(
        path.read_text().splitlines()[1:] for path in (tmp_path / "out").glob("*.jsonl")
    )
    read = [[json.loads(line)[:3] for line in lines] for lines in written]
    assert read == [
        [["loss", step, number + 1 / step] for step in range(1, 5)] for number in range(6)
    ]


def test_targets_lists_the_plug_in(site: Path, tmp_path: Path) -> None:
    listed = json.loads(bridge(site, tmp_path, "targets", "--json").stdout)
    names = {entry["name"]: entry["origin"] for entry in listed["exporters"]}
    assert names["plain"] == "bridges-plain 0.3"
    assert names["tensorboard"] == "built-in"
    assert "csv" in {entry["name"] for entry in listed["sources"]}


def test_the_clock_of_a_plug_in_is_chosen_by_its_name(site: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss,seconds\n1,0.5,3\n2,0.25,9\n")
    export = ["export", "log.csv", "--to", "jsonl"]
    assert bridge(site, tmp_path, *export, "--clock", "stopwatch").returncode == 0
    (file,) = (tmp_path / "runs-jsonl").glob("*.jsonl")
    first, second = (json.loads(line)[-1] for line in file.read_text().splitlines()[1:])
    assert second - first == 6
    text = "sources: [log.csv]\ntargets: [jsonl]\ndefaults: {clock: stopwatc}"
    (tmp_path / "m.yaml").write_text(text)
    known = "events", "elapsed", "log", "mtimes", "duration", "synthetic", "stopwatch"
    unknown = bridge(site, tmp_path, *export, "--clock", "stopwatc")
    assert unknown.returncode == 2
    assert f"--clock 'stopwatc' is not one of {', '.join(known)}" in unknown.stderr
    done = bridge(site, tmp_path, "migrate", "m.yaml")
    assert done.returncode == 2
    assert "found the text 'stopwatc'; expected 'events', " in done.stderr
    assert "Did you mean 'stopwatch'?" in done.stderr


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


@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_a_migration_reads_a_plug_in_again_unless_it_knows_the_files(
    site: Path, tmp_path: Path, name: str
) -> None:
    table = "step,loss\n1,0.5\n2,0.25\n"
    (tmp_path / name).write_text(table if name == "log.csv" else table.replace(",", "\t"))
    targets = "{to: plain, path: out.txt}, {to: tensorboard, logdir: tb}"
    (tmp_path / "m.yaml").write_text(f"sources: [{name}]\ntargets: [{targets}]\n")
    for status in ("exported", "unchanged"):
        done = bridge(site, tmp_path, "migrate", "m.yaml", "--json")
        assert done.returncode == 0, done.stderr
        runs = {run["target"]: run for run in json.loads(done.stdout)["runs"]}
        assert runs.keys() == {"plain", "tensorboard"}
        assert runs["tensorboard"]["status"] == status
        is_known = "known-by-its-files" in str(runs["tensorboard"]["findings"])
        assert is_known == (status == "unchanged" and name == "log.csv")
        assert runs["plain"]["verified"]
        assert runs["tensorboard"]["verified"] or is_known


def test_a_source_can_be_named(site: Path, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("step,loss\n1,0.5\n")
    done = bridge(site, tmp_path, "inspect", "log.txt", "--source", "csv", "--json")
    assert json.loads(done.stdout)["runs"][0]["points"] == 1


def test_an_error_inside_a_plug_in_source_stops_nothing_else(site: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("step,loss\n1,abc\n")
    (tmp_path / "good.csv").write_text("step,loss\n1,0.5\n")
    done = bridge(site, tmp_path, "export", "bad.csv", "good.csv", "--to", "memory", "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr  # a line of progress may stand there
    bad, good = json.loads(done.stdout)["runs"]
    assert (bad["status"], good["status"]) == ("failed", "exported")
    assert bad["findings"][0]["message"] == (
        "bad.csv: found ValueError: could not convert string to float: 'abc'; expected a location "
        "of the source 'csv'. If it is what it should be, this is a bug of that source."
    )
    assert bridge(site, tmp_path, "inspect", "bad.csv").stderr.startswith("error: bad.csv: found")


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        make_exporters(["tensorbord"], {})
    assert str(caught.value) == (
        "unknown exporter 'tensorbord'. Did you mean 'tensorboard'? "
        "Installed: csv, memory, mlflow, parquet, tensorboard, trackio, wandb "
        "(see `bridge targets`)."
    )


def test_an_unknown_source_names_the_command_that_lists_them() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'wandb'\?.*\(see `bridge sources`\)\.$"):
        plugins.find("sources", "wand")


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        make_exporters(["memory"], {"logdir": "x"})
    assert str(caught.value) == "unknown option 'logdir' for memory. Options: none."


def test_a_broken_plug_in_is_named() -> None:
    broken = plugins.PlugIn("exporters", "broken", "no_such_module:Thing", "some-package 1.0")
    with pytest.raises(BridgeError) as caught:
        broken.load()
    assert str(caught.value) == (
        "the plug-in 'broken' of some-package 1.0 cannot be loaded "
        "(no_such_module:Thing): No module named 'no_such_module'"
    )
