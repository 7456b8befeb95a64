"""The runs of tests/data/wandb_runs, which `tests/golden/make_wandb_runs.py` made."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.support import DATA

RUNS = DATA / "wandb_runs"
EARLY = "0.9.7"  # JSON lines in place of a log
RELEASES = ("0.10.33", "0.13.11", "0.16.6", "0.19.11", "0.23.1", "0.31.0")


def unpack_runs(release: str, folder: Path) -> Path:
    """Unpack the runs of a release; their directory `wandb`."""
    with tarfile.open(RUNS / f"{release}.tar.xz") as archive:
        for member in archive.getmembers():
            archive.extract(member, folder)
    return folder / "wandb"
