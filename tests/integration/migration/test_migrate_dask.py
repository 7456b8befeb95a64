"""A migration on a real Dask cluster: sources in an object store, a real MLflow server, a shared
directory; the server fails for a while and one of its two workers is killed in the middle.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.migration.config.config import MigrationConfig
from bridges.report import RunReport
from tests.bounds import HANGS
from tests.dask_cluster import Process, dask_cluster
from tests.integration.exporters.mlflow.support import MlflowClient
from tests.integration.migration.test_migrate import counts, rows_of
from tests.integration.sources.test_live_times import scalars
from tests.mlflow_stores import unpack_store
from tests.object_store import object_store
from tests.proxy import FaultyProxy, Refuse
from tests.servers import free_port
from tests.support import state

RUNS = 40
REFUSED = 10  # requests in a row, by a server that fails for a while
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """The environment in which an object store with the runs is found."""
    with object_store() as (found, files):
        for number in range(RUNS):
            rows = rows_of(number)
            place = f"bucket/out/run{number}/checkpoint-{len(rows)}/trainer_state.json"
            files.pipe(place, state(rows, global_step=len(rows)))
        yield found


@pytest.fixture
def cluster(store: dict[str, str]) -> Iterator[tuple[str, list[Process]]]:
    """The address of a scheduler, and its two workers."""
    with dask_cluster(2, store) as found:
        yield found


def config(place: Path, mlflow_url: str, experiment: str, **engine: Any) -> MigrationConfig:
    return MigrationConfig.model_validate(
        {
            "sources": ["s3://bucket/out/"],
            "targets": [
                {"to": "tensorboard", "logdir": str(place)},
                {"to": "mlflow", "tracking_uri": mlflow_url, "experiment": experiment, "limit": 1},
            ],
            "engine": engine,
        }
    )


def test_a_worker_that_is_killed_costs_nothing(
    tmp_path: Path,
    store: dict[str, str],
    cluster: tuple[str, list[Process]],
    mlflow_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    address, workers = cluster
    done: list[RunReport] = []

    def on_report(report: RunReport) -> None:
        done.append(report)
        if len(done) == RUNS // 4:  # at least three quarters of the runs in MLflow are to come
            proxy.script = lambda *_: Refuse(503) if proxy.faults["Refuse"] < REFUSED else None
        if len(done) == RUNS // 2:
            workers[0].send_signal(signal.SIGKILL)

    experiment = f"dask {time.time_ns()}"
    with FaultyProxy(mlflow_url) as proxy:
        dask = config(tmp_path / "dask", proxy.url, experiment, kind="dask", scheduler=address)
        report = bridges.migrate(dask, on_report=on_report)
    assert proxy.faults["Refuse"] >= REFUSED
    assert workers[0].wait(HANGS) == -signal.SIGKILL
    assert report.exit_code == 0
    assert len(report.runs) == 2 * RUNS
    every = {"tensorboard": {"exported": RUNS}, "mlflow": {"exported": RUNS}}
    found = counts(report)
    # what had been done already, wholly or but for its end, is no news when its task is done again
    assert {to: sum(count.values()) for to, count in found.items()} == dict.fromkeys(every, RUNS)
    assert all(set(count) <= {"exported", "appended", "unchanged"} for count in found.values())
    local = config(tmp_path / "local", mlflow_url, f"{experiment} local", workers=2)
    assert counts(bridges.migrate(local)) == every
    assert points(tmp_path / "dask") == points(tmp_path / "local")
    again = config(tmp_path / "dask", mlflow_url, experiment, workers=2)
    assert counts(bridges.migrate(again)) == {to: {"unchanged": RUNS} for to in every}


def points(logdir: Path) -> dict[str, Any]:
    files = sorted(logdir.rglob("events*"))
    assert len(files) == RUNS
    return {file.parent.relative_to(logdir).as_posix(): [*scalars([file])] for file in files}


def test_a_scheduler_that_is_not_there_is_told(
    tmp_path: Path, store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(
        bridges.ConfigError, match=f"the Dask scheduler {address} cannot be reached"
    ):
        bridges.migrate(config(tmp_path, "http://x", "y", kind="dask", scheduler=address))


def test_an_mlflow_store_is_split_among_workers(
    tmp_path: Path, cluster: tuple[str, list[Process]]
) -> None:
    """Its runs arrive once, with their links; a second migration reads none of them again."""
    address, _ = cluster
    source = unpack_store("2.9.2", tmp_path)
    every = bridges.read(source)
    spec = MigrationConfig.model_validate(
        {
            "sources": [str(source)],
            "targets": [{"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/target.db"}],
            "engine": {"kind": "dask", "scheduler": address},
        }
    )
    first, again = bridges.migrate(spec), bridges.migrate(spec)
    assert counts(first) == {"mlflow": {"exported": len(every)}}
    assert counts(again) == {"mlflow": {"unchanged": len(every)}}
    client = MlflowClient(f"sqlite:///{tmp_path}/target.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = {run.info.run_id: run for run in client.search_runs(experiments)}
    assert len(runs) == len(every)
    child = next(run for run in runs.values() if run.info.run_name == "child 1 é")
    assert runs[child.data.tags["mlflow.parentRunId"]].info.run_name == "parent"
    assert len(client.get_metric_history(child.info.run_id, "loss")) == 100
