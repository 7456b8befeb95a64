"""Texts beyond the columns of MLflow's schemas: a counted loss or a clear error, run by run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.formats.mlflow_store.records import Dataset, Input, LoggedModel, RunRecord
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from tests.integration.exporters.mlflow.support import MlflowClient, failure
from tests.mlflow_records import TAGS, VISION, head, record, run
from tests.servers import MariaDB, PostgreSQL, mariadb, mlflow_server
from tests.support import make_run

DATASET = Input(Dataset("n" * 501, "d" * 37, "t", "s" * 65_536), {"k" * 256: "v" * 501})
MODEL = LoggedModel(
    "m-" + "1" * 32,
    name="m" * 501,
    status="READY",
    model_type="t" * 501,
    params={"p" * 256: "1"},
    tags={"t" * 256: "1"},
)


def of_experiment(**changes: Any) -> RunRecord:
    own: dict[str, Any] = {"name": uuid.uuid4().hex, "tags": {}, **changes}
    return record(head(experiment=replace(VISION, **own)))


def of_run(**changes: Any) -> RunRecord:
    details: dict[str, Any] = {key: changes.pop(key) for key in ("name", "tags") if key in changes}
    experiment = replace(VISION, name=uuid.uuid4().hex)
    return record(head(experiment=experiment, **details), **changes)


CUT, KEY, NUL = "value-cut", "key-changed", "nul-replaced"
LOCATION = "artifact-uri-too-long"
# the record, and the findings of PostgreSQL, and of MLflow's API with any database
CASES: dict[str, tuple[Callable[[], RunRecord], list[str], list[str]]] = {
    "name of an experiment": (lambda: of_experiment(name="n" * 257), [CUT], [CUT]),
    "long name of an experiment": (lambda: of_experiment(name="n" * 501), [CUT], [CUT]),
    "NUL in the name of an experiment": (lambda: of_experiment(name="a\0b"), [NUL], [NUL]),
    "location of an experiment": (
        lambda: of_experiment(artifact_location="s3://" + "b" * 252),
        [LOCATION],
        [],
    ),
    "key of an experiment's tag": (lambda: of_experiment(tags={"k" * 251: "1"}), [KEY], [KEY]),
    "experiment's tag": (lambda: of_experiment(tags={"k": "v" * 5001}), [CUT], [CUT]),
    "NUL in an experiment's tag": (lambda: of_experiment(tags={"k": "a\0b"}), [NUL], [NUL]),
    "name": (lambda: of_run(name="n" * 251, tags={}), [CUT], [CUT]),
    "name and its tag": (
        lambda: of_run(name="n" * 251, tags={"mlflow.runName": "n" * 251}),
        [CUT],
        [CUT],
    ),
    "name and another one in its tag": (
        lambda: of_run(name="a", tags={"mlflow.runName": "b"}),
        [],
        [],
    ),
    "key of a param": (lambda: of_run(params={"k" * 251: "1"}), [KEY], [KEY]),
    "param": (lambda: of_run(params={"k": "v" * 8001}), [CUT], [CUT]),
    "key of a tag": (lambda: of_run(tags={**TAGS, "k" * 251: "1"}), [KEY], [KEY]),
    "tag": (lambda: of_run(tags={**TAGS, "k": "v" * 8001}), [CUT], [CUT]),
    "user": (lambda: of_run(user="u" * 257), [CUT], [CUT]),
    "source": (lambda: of_run(source_name="s" * 501), [CUT], []),
    "version": (lambda: of_run(source_version="s" * 51), [CUT], []),
    "entry point": (lambda: of_run(entry_point="s" * 51), [CUT], []),
    "location": (lambda: of_run(artifact_uri="s3://" + "b" * 196), [LOCATION], []),
    "dataset": (lambda: of_run(inputs=(DATASET,)), [CUT] * 4, [CUT] * 5),
    "model": (lambda: of_run(models=(MODEL,)), [CUT] * 4, [CUT, CUT, KEY, KEY]),
}
WARNED = {CUT, KEY, NUL, LOCATION}


@pytest.fixture(scope="module", params=["sqlite", "postgres", "server", "server of postgres"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """A store of each kind, with its limits: none, those of PostgreSQL or those of the API."""
    folder = tmp_path_factory.mktemp("store")
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/mlflow.db", "none"
    elif request.param == "server":
        yield request.getfixturevalue("mlflow_url"), "api"
    else:
        postgres: PostgreSQL = request.getfixturevalue("postgres")
        uri = postgres.create_database(uuid.uuid4().hex)
        if request.param == "postgres":
            yield uri, "postgres"
        else:
            with mlflow_server(uri, workers=1) as url:
                yield url, "api"


def send(of: RunRecord, uri: str) -> RunReport:
    exporter = MlflowExporter(MlflowOptions(uri))
    return export_run(run(of), exporter, ExportOptions())


def check(case: str, uri: str, limits: str) -> None:
    """The run is in the target, with its losses each time, and only once."""
    make, of_postgres, of_api = CASES[case]
    wanted = {"none": [], "postgres": of_postgres, "api": of_api}[limits]
    of = make()
    of = replace(of, head=replace(of.head, run_id=uuid.uuid4().hex))
    if of.models:
        model = replace(MODEL, model_id=f"m-{uuid.uuid4().hex}")
        of = replace(of, models=(model,))
    for status in ("exported", "unchanged"):
        report = send(of, uri)
        assert (report.status, report.verified) == (status, True), report.findings
        assert [f.code for f in report.findings if f.code in WARNED] == wanted, report.findings


@pytest.mark.parametrize("case", CASES)
def test_texts_beyond_the_columns(
    store: tuple[str, str], case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(case, *store)


@pytest.fixture(scope="module")
def maria() -> Iterator[MariaDB]:
    with mariadb() as server:
        yield server


@pytest.mark.slow
def test_texts_beyond_the_columns_of_mysql(maria: MariaDB, tmp_path: Path) -> None:
    uri = maria.create_database("limits")
    for case in CASES:
        check(case, uri, "api")


def test_two_long_names_of_experiments_stay_two(
    store: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start = uuid.uuid4().hex + "n" * 300
    for number, end in enumerate("ab"):
        experiment = replace(VISION, name=start + end)
        send(
            record(replace(head(experiment=experiment), run_id=f"{number}" + start[:31])), store[0]
        )
    found = MlflowClient(store[0]).search_experiments(filter_string=f"name LIKE '{start[:32]}%'")
    assert len({each.name for each in found}) == 2


def test_a_name_and_locations_that_users_chose_are_an_error(
    postgres: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = postgres.create_database(uuid.uuid4().hex)
    mine = make_run([{"loss": 1.0, "step": 1}])

    def send_to(experiment: str) -> RunReport:
        return export_run(mine, MlflowExporter(MlflowOptions(uri, experiment)), ExportOptions())

    monkeypatch.chdir(tmp_path)
    assert send_to("usual").verified
    message = "the experiment's name is longer than 256 characters, the limit of the target: nnn"
    assert failure(send_to("n" * 257)).startswith(message)
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.chdir(deep)
    message = "the artifact location of a run is longer than 200 characters"
    assert failure(send_to("deep")).startswith(message)
    assert send_to("usual").status == "unchanged"
