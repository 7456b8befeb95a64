"""The packed stores hold what other tests rely on, counted by plain file names and SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.mlflow_stores import (
    DATABASE_RELEASES,
    RELEASES,
    REPEATS,
    unpack_database,
    unpack_store,
)

RUNS = {"0.8.2": 15, "1.0.0": 16, "1.30.1": 16}
LATER_RUNS = 19  # with datasets, models and system metrics


@pytest.mark.parametrize("release", RELEASES)
def test_file_stores(release: str, tmp_path: Path) -> None:
    store = unpack_store(release, tmp_path)
    runs = [meta for meta in store.glob("**/meta.yaml") if "end_time:" in meta.read_text()]
    assert len(runs) == RUNS.get(release, LATER_RUNS)
    assert [path.name for path in tmp_path.iterdir()] == ["mlruns"]


@pytest.mark.parametrize("release", DATABASE_RELEASES)
def test_databases(release: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(unpack_database(release, tmp_path))) as database:
        (runs,) = database.execute("select count(*) from runs").fetchone()
        (experiments,) = database.execute(
            "select count(*) from experiments where lifecycle_stage = 'deleted'"
        ).fetchone()
    assert (runs, experiments) == (RUNS.get(release, LATER_RUNS), 1)


def test_exact_repeat(tmp_path: Path) -> None:
    (metric,) = unpack_store(REPEATS, tmp_path).glob("*/*/metrics/acc")
    first, second = metric.read_text().splitlines()
    assert first == second
