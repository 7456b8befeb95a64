"""File stores of every release, and one with exact repeats, into each kind of MLflow target.

The source is read here from its plain files, the target by mlflow's own client.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

import bridges
from tests.bounds import HANGS
from tests.integration.sources.mlflow.oracle import MlflowClient
from tests.mlflow_defects import LINES, NEIGHBOUR, OTHER, RUN, StoreFolder, put
from tests.mlflow_stores import RELEASES, REPEATS, unpack_store
from tests.servers import PostgreSQL

STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
LARGEST = sys.float_info.max
LIMITS = {  # characters of params and tags; SQLite takes any
    "server": (6000, 8000),
    "postgres": (8000, 8000),
}
RUNS = {"0.8.2": 15, "1.0.0": 16, "1.30.1": 16, REPEATS: 1}
LATER_RUNS = 19  # of later releases
PARENT = "mlflow.parentRunId"
IN_SECONDS = 1e11  # times of MLflow 0.8's functions are below
Told = tuple[Any, ...]


def in_files(root: Path, target: str, *, deleted: bool = True) -> Counter[Told]:
    """The runs of a file store as a target holds them: one with limits gets shorter texts, and a
    server makes up missing names of runs, so that these are their ids.
    """
    folders = [*root.glob("[0-9]*"), *(root.glob(".trash/[0-9]*") if deleted else ())]
    names: dict[Path, str] = {}
    for folder in folders:
        meta = folder / "meta.yaml"
        names[folder] = yaml.safe_load(meta.read_text())["name"] if meta.exists() else ""
    told = [
        _run(meta.parent, names[folder], target)
        for folder in folders
        for meta in folder.glob("*/meta.yaml")
        if meta.parent.name != "models"
    ]
    runs = Counter(_with_parents({folder.name: run for folder, run in told}))
    return Counter({run: count for run, count in runs.items() if deleted or run[6] == "active"})


def _run(folder: Path, experiment: str, target: str) -> tuple[Path, Told]:
    param, tag = LIMITS.get(target, (None, None))
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    tags, params = _texts(folder / "tags", tag), _texts(folder / "params", param)
    name = meta.get("run_name") or meta.get("name") or tags.get("mlflow.runName")
    is_deleted = ".trash" in folder.parts or meta["lifecycle_stage"] == "deleted"
    points = {
        point
        for file in (folder / "metrics").rglob("*")
        if file.is_file()
        for point in _points(file, str(file.relative_to(folder / "metrics")))
    }
    return folder, _told(
        (experiment, name or (folder.name if target == "server" else "")),
        (STATUS[meta["status"]], meta["start_time"], meta["end_time"] or None, meta["user_id"]),
        "deleted" if is_deleted else "active",
        params,
        tags,
        points,
    )


def _with_parents(runs: dict[str, Told]) -> list[Told]:
    """The runs by id, each with the name of its parent in place of the id."""
    names = {run_id: run[1] for run_id, run in runs.items()}
    return [(*run[:-1], names.get(run[-1], run[-1])) for run in runs.values()]


def _told(name: Told, columns: Told, stage: str, params: Any, tags: Any, points: Any) -> Told:
    own = {key: text for key, text in tags.items() if key[:8] != "bridges."}
    own.pop("mlflow.runName", None)
    parent = own.pop(PARENT, "")
    return (
        *(*name, *columns, stage),
        *(tuple(sorted(params.items())), tuple(sorted(own.items())), tuple(sorted(points))),
        parent,
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
    told: dict[str, Told] = {}
    for experiment in found:
        for run in client.search_runs([experiment.experiment_id], "", 3):
            info, data = run.info, run.data
            if "bridges.key" not in data.tags:
                continue
            if "bridges.superseded" in data.tags:  # of two exports at once, which one gave up
                assert info.lifecycle_stage == "deleted"
                continue
            points = [
                (key, point.step, point.timestamp, _stored(point.value))
                for key in data.metrics
                for point in client.get_metric_history(info.run_id, key)
            ]
            assert len({*points}) == len(points)
            told[info.run_id] = _told(
                (experiment.name, info.run_name or ""),
                (info.status, info.start_time, info.end_time or None, info.user_id),
                info.lifecycle_stage,
                data.params,
                data.tags,
                points,
            )
    return Counter(_with_parents(told))


def new_target(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """A target; a used one has an experiment and a run of its own."""
    if kind == "postgres":
        postgres: PostgreSQL = request.getfixturevalue("postgres")
        return postgres.create_database(uuid.uuid4().hex)
    if kind == "server":
        return str(request.getfixturevalue("mlflow_url"))
    uri = f"sqlite:///{folder}/target.db"
    if kind == "used":
        client = MlflowClient(uri)
        client.create_run(client.create_experiment("exp A"))
        client.create_experiment("another")
    return uri


QUICK = ("0.8.2", REPEATS)  # into every target; the others are slow
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in RELEASES[1:])]
KINDS = pytest.mark.parametrize("kind", ["empty", "used", "postgres", "server"])


def own_names(store: Path) -> None:
    """Give the experiments names that no other test uses in the server."""
    prefix = uuid.uuid4().hex
    for meta in (*store.glob("*/meta.yaml"), *store.glob(".trash/*/meta.yaml")):
        meta.write_text(meta.read_text().replace("\nname: ", f"\nname: {prefix} "))


@KINDS
@pytest.mark.parametrize("name", NAMES)
def test_a_target_holds_all_of_a_store(
    name: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store, uri = unpack_store(name, tmp_path), new_target(kind, request, tmp_path)
    if kind == "server":
        own_names(store)
    expected = in_files(store, kind)
    assert expected.total() == RUNS.get(name, LATER_RUNS)
    report = bridges.export(store, to="mlflow", tracking_uri=uri, deleted=True, verify=True)
    assert {(run.status, run.verified) for run in report.runs} == {("exported", True)}
    losses = {note.code for run in report.runs for note in run.findings if note.severity == "loss"}
    assert losses <= ({"value-cut"} if kind in LIMITS else set())
    found = in_target(uri, {experiment for experiment, *_ in expected})
    assert found == expected
    again = bridges.export(store, to="mlflow", tracking_uri=uri, deleted=True)
    assert {run.status for run in again.runs} == {"unchanged"}


@pytest.mark.parametrize("name", ["0.8.2", "1.0.0", "1.30.1", "3.17.2"])
def test_deleted_runs_are_left_out_unless_they_are_asked_for(name: str, tmp_path: Path) -> None:
    """Releases before 2.3 mark the runs of a deleted experiment by their place only."""
    store, uri = unpack_store(name, tmp_path), f"sqlite:///{tmp_path}/target.db"
    for deleted in (False, True):
        bridges.export(store, to="mlflow", tracking_uri=uri, deleted=deleted)
        expected = in_files(store, "empty", deleted=deleted)
        assert in_target(uri, {experiment for experiment, *_ in expected}) == expected
    stages = {run[0]: run[6] for run in expected if run[1] == "in deleted exp"}
    assert stages == {"to-delete": "deleted"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["empty", "used", "postgres", "server"])
def test_two_exports_of_a_store_at_once_write_each_run_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each process reads the whole store."""
    store, uri = unpack_store("3.17.2", tmp_path), new_target(kind, request, tmp_path)
    if kind == "server":
        own_names(store)
    command = [sys.executable, "-m", "bridges", "export", str(store), "--deleted"]
    command += ["--to", "mlflow", "--tracking-uri", uri]
    quiet = subprocess.DEVNULL
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=quiet, stderr=quiet) for _ in range(2)]
    cut = int(kind in LIMITS)  # texts that are too long are a loss
    assert [process.wait(HANGS) for process in both] == [cut, cut]
    expected = in_files(store, kind)
    assert in_target(uri, {experiment for experiment, *_ in expected}) == expected
    again = bridges.export(store, to="mlflow", tracking_uri=uri, deleted=True)
    assert {(run.status, run.verified) for run in again.runs} == {("unchanged", True)}


def test_texts_beyond_the_columns_of_postgresql_cost_no_other_run(
    postgres: PostgreSQL, tmp_path: Path
) -> None:
    """In a store with an id of 18 digits, which is too long for PostgreSQL as well."""
    folder = StoreFolder(tmp_path / "mlruns")
    folder.make()
    folder.experiment.rename(folder.root / "312345678901234567")
    for meta in folder.root.glob("31*/**/meta.yaml"):
        text = meta.read_text().replace('"0"', '"312345678901234567"')
        meta.write_text(text.replace("'0'", "'312345678901234567'"))
    run = folder.root / "312345678901234567" / RUN
    for file in (run / "metrics" / ("m" * 150) / ("n" * 149), run / "params" / ("p" * 250) / "q"):
        put(file, LINES if "metrics" in str(file) else "1")
    put(run / "params/long", "x" * 9000)
    put(run / "params/nul", b"a\0b")
    uri = f"s3://bucket/{'d' * 200}"
    own_meta = (run / "meta.yaml").read_text()
    put(run / "meta.yaml", own_meta.replace(f"file:///x/0/{RUN}/artifacts", uri))
    target = postgres.create_database(uuid.uuid4().hex)
    report = bridges.export(folder.root, to="mlflow", tracking_uri=target)
    assert {(one.status, one.verified) for one in report.runs} == {("exported", True)}
    losses = {one.source: [f.code for f in one.findings if f.fails] for one in report.runs}
    own = sorted(losses.pop(str(run)))
    assert own == ["artifact-uri-too-long", "nul-replaced", "value-cut"]
    assert [*losses.values()] == [[], []]
    with psycopg.connect(target) as database:
        ids = database.execute("select experiment_id from experiments").fetchall()
        assert all(number < 100 for (number,) in ids)
        query = "select run_uuid, count(*) from metrics group by run_uuid"
        counts: dict[str, int] = dict(database.execute(query).fetchall())
        assert counts == {RUN: 4, NEIGHBOUR: 2, OTHER: 2}
        keys = "select key, length(key), value from params where run_uuid = %s and key <> 'lr'"
        params = {key[:4]: (size, value) for key, size, value in database.execute(keys, (RUN,))}
    assert params.pop("pppp")[0] <= 250
    assert params == {"long": (4, "x" * 8000), "nul": (3, "a\ufffdb")}


@pytest.mark.parametrize("kind", ["empty", "postgres", "server"])
def test_a_repeated_point_of_a_logged_model_is_one_point_of_each(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """`log_model` logs the point again to link it with the model, which stays linked."""
    store, uri = unpack_store(REPEATS, tmp_path), new_target(kind, request, tmp_path)
    (metric,) = store.glob("*/*/metrics/acc")
    assert len(metric.read_text().splitlines()) == 2
    report = bridges.export(store, to="mlflow", tracking_uri=uri)
    (exported,) = report.runs
    assert report.exit_code == 0
    client: Any = MlflowClient(uri)
    (point,) = client.get_metric_history(exported.run_id, "acc")
    assert (point.value, point.step) == (0.9, 0)
    (output,) = client.get_run(exported.run_id).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.source_run_id, str(model.status)) == (exported.run_id, "READY")
    assert [(each.key, each.value, each.run_id) for each in model.metrics] == [
        ("acc", 0.9, exported.run_id)
    ]
