"""Check by real servers of older MLflow releases that their runs are read as by mlflow's client.

For each release a virtual environment is made and thrown away. Its `mlflow server` offers the
database and the file store of tests/data/mlflow_stores, with the pages of histories cut short;
the judge is the client of the installed mlflow. From the repository's root:

    python -m tests.golden.check_mlflow_servers                # 2.22.0 and 3.12.0
    python -m tests.golden.check_mlflow_servers 2.9.2          # or another one of the stores
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bridges.formats.mlflow_store import rest
from bridges.sources.mlflow.server import ServerStore
from tests.golden.make_mlflow_stores import RECIPES, environment_of
from tests.integration.sources.mlflow.oracle import by_mlflow, by_us
from tests.mlflow_stores import unpack_database, unpack_store
from tests.servers import mlflow_server

RELEASES = ("2.22.0", "3.12.0")
POINTS_PER_PAGE = 30  # of 100: releases before 3 ignore pages


def main(releases: Sequence[str]) -> None:
    """Check these releases. Raises AssertionError."""
    rest.POINTS_PER_PAGE = POINTS_PER_PAGE
    for release in releases or RELEASES:
        with tempfile.TemporaryDirectory(prefix="mlflow-server-") as name:
            folder = Path(name)
            python = str(environment_of(RECIPES[release], folder / "venv"))
            check(release, f"sqlite:///{unpack_database(release, folder)}", python)
            check(release, str(unpack_store(release, folder)), python)


def check(release: str, store: str, python: str) -> None:
    """Compare all runs of a server over a store."""
    has_models = int(release.split(".")[0]) >= 3
    with mlflow_server(store, workers=1, python=python) as url:
        found, expected = by_us(ServerStore(url)), by_mlflow(url, has_models=has_models)
    points = sum(run.points.total() for run in expected.values())
    assert found == expected, f"{release}, {store}: not as mlflow's client reads it"
    assert points > 600, f"{release}, {store}: {points} points"
    print(f"{release}, {store.partition(':')[0]}: {len(found)} runs, {points:,} points")


if __name__ == "__main__":
    main(sys.argv[1:])
