"""Damaged logs of foreign runs: each is read as far as possible, or is one error of the source."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from bridges.errors import SourceError
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.source import WandbSource
from tests.property.test_fuzz_wandb import damaged, with_damaged_records
from tests.wandb_runs import EARLY, RELEASES, unpack_runs


@pytest.mark.parametrize("damage", [damaged, with_damaged_records])
@pytest.mark.parametrize("release", RELEASES)
def test_a_damaged_log_is_read_or_is_an_error(damage: object, release: str, tmp_path: Path) -> None:
    assert callable(damage)
    logs = [path.read_bytes() for path in sorted(unpack_runs(release, tmp_path).rglob("*.wandb"))]
    chance, place = random.Random(7), tmp_path / "run-x.wandb"
    read = 0
    for _ in range(60):
        place.write_bytes(damage(chance.choice(logs), chance))
        try:
            runs = [*WandbSource().read(str(place), ReadOptions(system_metrics=True))]
        except SourceError:
            continue
        read += len(runs)
        for run in runs:
            assert run.stream.time is not None
            assert len(run.stream.time) == len(run.stream.step)
            for part in run.stream.series:
                assert (np.diff(part.rows) > 0).all()
                assert part.rows[-1] < len(run.stream)
    assert read > 5


def test_damaged_files_of_an_early_run_are_read_or_an_error(tmp_path: Path) -> None:
    (folder,) = unpack_runs(EARLY, tmp_path).glob("*-id-values")
    files = {path: path.read_bytes() for path in folder.iterdir()}
    chance, read = random.Random(7), 0
    for _ in range(60):
        for path, content in files.items():
            path.write_bytes(damaged(content, chance) if chance.random() < 0.4 else content)
        try:
            read += len([*WandbSource().read(str(folder), ReadOptions(system_metrics=True))])
        except SourceError:
            continue
    assert read > 5
