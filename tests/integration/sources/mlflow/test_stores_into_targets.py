"""The oldest file stores, and one with exact repeats, into each kind of MLflow target.

The source is read here from its plain files, the target by mlflow's own client.
"""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import bridges
from tests.integration.sources.mlflow.oracle import MlflowClient
from tests.mlflow_stores import REPEATS, unpack_store
from tests.servers import PostgreSQL

STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
LARGEST = sys.float_info.max
SERVER_PARAM, SERVER_TAG = 6000, 8000  # characters; MLflow's API takes no longer ones
IN_SECONDS = 1e11  # times of MLflow 0.8's functions are below
Told = tuple[Any, ...]


def in_files(root: Path, *, is_for_server: bool) -> Counter[Told]:
    """The runs of a file store; a server gets shorter texts, and makes up missing names of runs,
    so that these are their ids.
    """
    folders = [*root.glob("[0-9]*"), *root.glob(".trash/[0-9]*")]
    names: dict[Path, str] = {}
    for folder in folders:
        meta = folder / "meta.yaml"
        names[folder] = yaml.safe_load(meta.read_text())["name"] if meta.exists() else ""
    return Counter(
        _run(meta.parent, names[folder], is_for_server)
        for folder in folders
        for meta in folder.glob("*/meta.yaml")
        if meta.parent.name != "models"
    )


def _run(folder: Path, experiment: str, is_for_server: bool) -> Told:
    param, tag = (SERVER_PARAM, SERVER_TAG) if is_for_server else (None, None)
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    tags, params = _texts(folder / "tags", tag), _texts(folder / "params", param)
    name = meta.get("run_name") or meta["name"] or tags.get("mlflow.runName")
    is_deleted = ".trash" in folder.parts or meta["lifecycle_stage"] == "deleted"
    points = {
        point
        for file in (folder / "metrics").rglob("*")
        if file.is_file()
        for point in _points(file, str(file.relative_to(folder / "metrics")))
    }
    return _told(
        (experiment, name or (folder.name if is_for_server else "")),
        (STATUS[meta["status"]], meta["start_time"], meta["end_time"] or None, meta["user_id"]),
        "deleted" if is_deleted else "active",
        params,
        tags,
        points,
    )


def _told(name: Told, columns: Told, stage: str, params: Any, tags: Any, points: Any) -> Told:
    links = {"mlflow.parentRunId"}
    own = {key: text for key, text in tags.items() if key not in links and key[:8] != "bridges."}
    own.pop("mlflow.runName", None)
    return (
        *(*name, *columns, stage),
        *(tuple(sorted(params.items())), tuple(sorted(own.items())), tuple(sorted(points))),
    )


def _texts(folder: Path, most: int | None) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(folder)): file.read_bytes().decode()[:most]  # with CRLF
        for file in files
    }


def _points(file: Path, key: str) -> list[tuple[str, int, int, str]]:
    lines = [line.split() for line in file.read_text().splitlines()]
    is_old = all(len(line) == 2 and int(line[0]) < IN_SECONDS for line in lines)
    return [
        (
            *(key, int(line[2]) if len(line) > 2 else 0, int(line[0]) * (1000 if is_old else 1)),
            _stored(1.0 if line[1] == "True" else float(line[1])),
        )
        for line in lines
    ]


def _stored(value: float) -> str:
    return repr(min(max(value, -LARGEST), LARGEST) + 0.0)


def in_target(uri: str, names: set[str]) -> Counter[Told]:
    """The runs of these experiments that bridges wrote."""
    client = MlflowClient(uri)
    found = [each for each in client.search_experiments(3) if each.name in names]
    told: list[Told] = []
    for experiment in found:
        for run in client.search_runs([experiment.experiment_id], "", 3):
            info, data = run.info, run.data
            if "bridges.key" not in data.tags:
                continue
            points = [
                (key, point.step, point.timestamp, _stored(point.value))
                for key in data.metrics
                for point in client.get_metric_history(info.run_id, key)
            ]
            assert len({*points}) == len(points)
            told.append(
                _told(
                    (experiment.name, info.run_name or ""),
                    (info.status, info.start_time, info.end_time or None, info.user_id),
                    info.lifecycle_stage,
                    data.params,
                    data.tags,
                    points,
                )
            )
    return Counter(told)


@pytest.fixture(params=["empty", "used", "postgres", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A target; a used one has an experiment and a run of its own."""
    if request.param == "postgres":
        postgres: PostgreSQL = request.getfixturevalue("postgres")
        return postgres.create_database(uuid.uuid4().hex)
    if request.param == "server":
        return str(request.getfixturevalue("mlflow_url"))
    uri = f"sqlite:///{tmp_path}/target.db"
    if request.param == "used":
        client = MlflowClient(uri)
        client.create_run(client.create_experiment("exp A"))
        client.create_experiment("another")
    return uri


@pytest.mark.parametrize("name", ["0.8.2", REPEATS])
def test_a_target_holds_all_of_a_store(name: str, uri: str, tmp_path: Path) -> None:
    store = unpack_store(name, tmp_path)
    is_server = uri.startswith("http")
    expected = in_files(store, is_for_server=is_server)
    assert expected.total() == (15 if name == "0.8.2" else 1)
    report = bridges.export(store, to="mlflow", tracking_uri=uri, deleted=True, verify=True)
    assert {(run.status, run.verified) for run in report.runs} == {("exported", True)}
    losses = {note.code for run in report.runs for note in run.findings if note.severity == "loss"}
    assert losses <= ({"value-cut"} if is_server else set())
    found = in_target(uri, {experiment for experiment, *_ in expected})
    assert found == expected
    again = bridges.export(store, to="mlflow", tracking_uri=uri, deleted=True)
    assert {run.status for run in again.runs} == {"unchanged"}
