"""Make tests/data/wandb_runs: offline runs of seven releases of wandb.

For each release a virtual environment is made and thrown away, in which `wandb_run.py` writes the
runs. Records and keys about this machine are left out of them. From the repository's root:

    python -m tests.golden.make_wandb_runs              # all archives
    python -m tests.golden.make_wandb_runs 0.31.0       # or some

The interpreters of `RECIPES` (`python3.8` …) are taken from the PATH. Times are made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridges.formats.wandb_log.log import fields, write_log
from bridges.formats.wandb_log.reader import read_log
from tests.wandb_runs import EARLY, RUNS

FILLER = Path(__file__).with_name("wandb_run.py")
SCENARIOS = ("values", "metrics", "steps", "trainer", "labels", "media", "resumed", "empty")
NOT_EARLY = ("metrics", "trainer")  # wandb 0.9 has no `define_metric`
OF_MACHINE = {26, 13, 4}  # records: environment and console
FILES = ("config.yaml", "wandb-summary.json", "wandb-history.jsonl", "wandb-events.jsonl")
METADATA = ("name", "project", "notes", "mode", "state", "exitcode", "startedAt", "heartbeatAt")
OLD_PARTS = ("protobuf<3.21", "setuptools<60", "urllib3<2", "numpy<2")


@dataclass(frozen=True)
class Recipe:
    """The interpreter and the other packages that a release of wandb needs."""

    python: str
    packages: Sequence[str] = ("numpy<2",)


RECIPES: Mapping[str, Recipe] = {
    EARLY: Recipe("python3.8", (*OLD_PARTS, "six")),
    "0.10.33": Recipe("python3.8", OLD_PARTS),
    "0.13.11": Recipe("python3.9", ("setuptools<60", "protobuf<4.22", "urllib3<2", "numpy<2")),
    "0.16.6": Recipe("python3.10", ("setuptools<70", "numpy<2")),
    "0.19.11": Recipe("python3.10"),
    "0.23.1": Recipe("python3.11"),
    "0.31.0": Recipe("python3.11"),
}


def main(names: Sequence[str]) -> None:
    """Make the archives of these releases."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for name in names or RECIPES:
        with tempfile.TemporaryDirectory(prefix="wandb-runs-") as folder:
            python = environment_of(name, Path(folder) / "venv")
            fill(name, python, Path(folder))
            target = pack(name, Path(folder) / "wandb")
        print(f"{target.name}: {target.stat().st_size:,} bytes")


def environment_of(release: str, folder: Path) -> Path:
    """The interpreter of a new virtual environment with the release."""
    recipe = RECIPES[release]
    interpreter = shutil.which(recipe.python)
    if interpreter is None:
        raise SystemExit(f"{recipe.python} is not on the PATH")
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    wanted = [f"wandb=={release}", *recipe.packages]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def fill(release: str, python: Path, folder: Path) -> None:
    """Write all runs below `folder`, the resumed one by two processes."""
    shutil.copy(FILLER, folder / "train.py")
    more = ["dryrun"] if release == EARLY else []
    for scenario in SCENARIOS:
        if not (release == EARLY and scenario in NOT_EARLY):
            subprocess.run([str(python), "train.py", scenario, *more], check=True, cwd=folder)
    time.sleep(1.1)  # the name of a directory has its second
    command = [str(python), "train.py", "resumed", *more]
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "PART": "2"})


def pack(release: str, folder: Path) -> Path:
    """Pack the runs in a folder without what is about this machine. Returns the archive."""
    target = RUNS / f"{release}.tar.xz"
    with tempfile.TemporaryDirectory() as cleaned, tarfile.open(target, "w:xz", preset=9) as out:
        for run in sorted(folder.glob("*run-*-id-*")):
            place = Path(cleaned) / "wandb" / run.name
            clean(run, place)
        out.add(Path(cleaned) / "wandb", "wandb", filter=_without_owner)
    return target


def clean(run: Path, place: Path) -> None:
    """Copy the files of a run that are read, without what is about this machine."""
    for path in sorted(run.rglob("*")):
        goal = place / path.relative_to(run)
        if path.suffix == ".wandb":
            records = [one for one in read_log(path.read_bytes()) if not _is_of_machine(one)]
            _write(goal, b"".join(map(bytes, write_log(records))))
        elif path.name == "wandb-metadata.json":
            kept = {k: v for k, v in json.loads(path.read_bytes()).items() if k in METADATA}
            _write(goal, json.dumps(kept).encode())
        elif path.name in FILES:
            _write(goal, path.read_bytes())


def _is_of_machine(record: bytes) -> bool:
    return bool({number for number, _ in fields(record)} & OF_MACHINE)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(sys.argv[1:])
