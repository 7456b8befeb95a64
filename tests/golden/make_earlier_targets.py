"""Make tests/data/earlier_targets: targets as an earlier commit wrote them, and their sources.

Every later version has to recognise these runs. From the repository's root, with a checkout of the
commit and the path of its `bridge` command:

    python -m tests.golden.make_earlier_targets BRIDGE COMMIT

The commit whose targets are here wrote times in whole milliseconds, knew no settings of a run, and
counted the rows of results files as rows of the history.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.support import DATA, GROUNDTRUTH

FOLDER = DATA / "earlier_targets"
SAVED = 1_700_000_000  # seconds: every file has this time, as in a copy
OUTPUTS = {
    "plain": "steps_eval_predict/out",  # results of tests and predictions, event files
    "grown": "epoch_two_eval_sets/out",  # exported at its checkpoint, then whole
    "search": "hp_search_unnamed/out",
    "odd": "odd_values/out",  # texts, lists, keys that meet in one tag
    "tokens": "token_counts/out",  # a clock of its own
}
CONFIG = """\
sources: [sources/plain, sources/grown, sources/search, sources/odd, sources/tokens, sources/log]
targets:
  - {to: tensorboard, logdir: targets/migrated/tb}
  - {to: mlflow, tracking_uri: "sqlite:///targets/migrated/mlflow.db", experiment: migrated}
  - {to: wandb, wandb_dir: targets/migrated, project: migrated}
"""
TARGETS = (
    ("tensorboard", "--logdir", "targets/tb"),
    ("mlflow", "--tracking-uri", "sqlite:///targets/mlflow.db", "--mlflow-writer", "direct"),
    ("mlflow", "--tracking-uri", "sqlite:///targets/client.db", "--mlflow-writer", "client"),
    ("wandb", "--wandb-dir", "targets/unsynced"),
    ("wandb", "--wandb-dir", "targets/synced"),
)


def make(bridge: str, commit: str) -> None:
    """Export the sources in two steps, then migrate them, and pack everything."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        _copy_sources(root / "sources")
        whole = root / "sources" / "grown" / "trainer_state.json"
        hidden = whole.rename(root / "whole.json")
        _export(bridge, root)
        hidden.rename(whole)
        for file in (root / "targets" / "synced").rglob("*.wandb"):
            Path(f"{file}.synced").touch()
        _export(bridge, root)
        (root / "migration.yaml").write_text(CONFIG)
        _run(bridge, root, "migrate", "migration.yaml")
        FOLDER.mkdir(exist_ok=True)
        with tarfile.open(FOLDER / f"{commit}.tar.gz", "w:gz") as archive:
            for name in ("sources", "targets", "migration.yaml"):
                archive.add(root / name, name)


def _copy_sources(folder: Path) -> None:
    for name, origin in OUTPUTS.items():
        shutil.copytree(GROUNDTRUTH / origin, folder / name)
    shutil.copytree(DATA / "faults" / "lf_live" / "1", folder / "log")
    for path in folder.rglob("*"):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
        os.utime(path, (SAVED, SAVED))


def _export(bridge: str, root: Path) -> None:
    for name, *options in TARGETS:
        _run(bridge, root, "export", "sources", "--to", name, *options)


def _run(bridge: str, root: Path, *words: str) -> None:
    subprocess.run([bridge, *words], cwd=root, check=True)


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2])
