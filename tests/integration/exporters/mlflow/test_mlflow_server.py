"""Exports through a real tracking server, and through a proxy that makes its answers fail."""

from __future__ import annotations

import json
import random
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import bridges
from bridges import http
from bridges.errors import ConfigError
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.testing.exporters import ROWS
from tests.bounds import HANGS
from tests.integration.exporters.mlflow.support import (
    Judged,
    MlflowClient,
    command,
    export,
    failure,
    judge,
    long_history,
    long_rows,
)
from tests.proxy import Cut, Drop, Fault, LoseAnswer, Refuse, Replace
from tests.servers import FaultyProxy, free_port
from tests.support import make_run, state

pytestmark = pytest.mark.slow
PARAMS = {f"param{n}": n for n in range(150)}
FAULTS: list[Fault] = [
    Refuse(429, "0"),
    Refuse(500),
    Refuse(503),
    Replace(500),
    Replace(504),
    LoseAnswer(),
    LoseAnswer(reset=True),
    Drop(),
    Drop(reset=True),
    Cut(),
]


@pytest.fixture
def experiment() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def proxy(mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)
    with FaultyProxy(mlflow_url) as faulty:
        yield faulty


def path_of(request: str) -> str:
    return urlsplit(request).path.removeprefix("/api/2.0/mlflow/")


@pytest.fixture(scope="module")
def clean(mlflow_url: str) -> list[Judged]:
    name = uuid.uuid4().hex
    assert export(make_run(long_rows(1200), params=PARAMS), mlflow_url, name).verified
    return judge(mlflow_url, name)


def test_the_page_of_the_run_is_the_hint(mlflow_url: str, experiment: str, tmp_path: Path) -> None:
    file = long_history(tmp_path, 3)
    done = subprocess.run(
        command(mlflow_url, file, "--experiment", experiment), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"View: {mlflow_url}/#/experiments/" in done.stdout


@pytest.mark.parametrize("seed", range(4))
def test_faults_lose_and_double_nothing(
    seed: int, proxy: FaultyProxy, experiment: str, clean: list[Judged]
) -> None:
    chance = random.Random(seed)

    def script(method: str, path: str, n: int) -> Fault | None:
        return chance.choice(FAULTS) if chance.random() < 0.3 else None

    proxy.script = script
    report = export(make_run(long_rows(1200), params=PARAMS), proxy.url, experiment)
    assert (report.status, report.verified) == ("exported", True), report.findings
    assert sum(proxy.faults.values()) >= 3
    assert judge(proxy.upstream_url, experiment) == clean


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: repr(fault).replace(" ", ""))
@pytest.mark.parametrize("call", ["runs/create", "runs/log-batch", "runs/update", "runs/search"])
def test_each_fault_at_each_call(
    call: str, fault: Fault, proxy: FaultyProxy, experiment: str, clean: list[Judged]
) -> None:
    proxy.script = lambda method, path, n: fault if path_of(path) == call and n == 1 else None
    report = export(make_run(long_rows(1200), params=PARAMS), proxy.url, experiment)
    assert report.verified, report.findings
    assert proxy.faults[type(fault).__name__] == 1
    assert judge(proxy.upstream_url, experiment) == clean


def test_a_server_that_fails_for_good_is_told_and_the_rest_follows(
    proxy: FaultyProxy, experiment: str, clean: list[Judged]
) -> None:
    proxy.script = lambda method, path, n: (
        Refuse(500) if path_of(path) == "runs/log-batch" and n > 2 else None
    )
    run = make_run(long_rows(1200), params=PARAMS)
    assert "answers 500" in failure(export(run, proxy.url, experiment))
    (half,) = judge(proxy.upstream_url, experiment)
    assert half.status == "RUNNING"
    assert half.end is None
    assert 0 < sum(map(len, half.points.values())) < 2400
    proxy.script = None
    report = export(run, proxy.url, experiment)
    assert (report.status, report.verified) == ("exported", True)
    assert "interrupted-before" in [finding.code for finding in report.findings]
    assert judge(proxy.upstream_url, experiment) == clean
    assert export(run, proxy.url, experiment).status == "unchanged"


@pytest.mark.parametrize("fails", ["the mark", "the status", "the points", "the end"])
def test_an_append_that_fails_is_finished_later(
    fails: str, proxy: FaultyProxy, experiment: str
) -> None:
    call, first = {
        "the mark": ("runs/log-batch", 1),
        "the status": ("runs/update", 1),
        "the points": ("runs/log-batch", 3),
        "the end": ("runs/update", 2),
    }[fails]
    short, whole = make_run(long_rows(700)), make_run(long_rows(1900))
    export(short, proxy.url, experiment)
    proxy.clear()
    proxy.script = lambda method, path, n: (
        Refuse(400) if path_of(path) == call and n >= first else None
    )
    assert "MLflow rejects the request (400" in failure(export(whole, proxy.url, experiment))
    proxy.script = None
    again = export(short, proxy.url, experiment)  # its rows are there, and more
    assert (again.status, again.verified) == ("unchanged", True)
    report = export(whole, proxy.url, experiment)
    assert (report.status, report.verified) == ("appended", True)
    (run,) = judge(proxy.upstream_url, experiment)
    assert [len(points) for points in run.points.values()] == [1900, 1900]
    assert run.status == "FINISHED"


def test_a_refusal_is_told(proxy: FaultyProxy, experiment: str) -> None:
    run = make_run(ROWS)
    proxy.script = lambda method, path, n: Refuse(401)
    assert "access denied (401). Set MLFLOW_TRACKING_TOKEN" in failure(
        export(run, proxy.url, experiment)
    )
    proxy.script = lambda method, path, n: Refuse(400)
    assert "MLflow rejects the request (400 SCRIPTED_FAULT): the proxy says 400" in failure(
        export(run, proxy.url, experiment)
    )
    proxy.script = lambda method, path, n: Refuse(404)
    assert "rejects the request (404 SCRIPTED_FAULT)" in failure(export(run, proxy.url, experiment))
    assert judge(proxy.upstream_url, experiment) == []


def test_what_is_no_mlflow_server_is_told(mlflow_url: str) -> None:
    run = make_run(ROWS)
    assert "this is not an MLflow tracking server (404)" in failure(
        export(run, f"{mlflow_url}/no/such")
    )
    message = failure(export(run, f"http://127.0.0.1:{free_port()}"))
    assert "does not answer: Connection refused. Is the server running?" in message
    with pytest.raises(ConfigError, match="Remove it from the URL and set MLFLOW_TRACKING_USER"):
        export(run, mlflow_url.replace("://", "://anna:secret@"))


def test_a_token_goes_to_the_server_and_nowhere_else(
    proxy: FaultyProxy, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "very-secret-token"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    file = long_history(tmp_path, 3)
    said = ""
    for script in (None, lambda method, path, n: Refuse(401)):
        proxy.script = script
        for more in (["--json"], ["-v"]):
            order = command(proxy.url, file, "--experiment", experiment, *more)
            done = subprocess.run(order, capture_output=True, text=True)
            said += done.stdout + done.stderr
    assert "access denied" in said
    assert token not in said
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    assert token not in repr(judge(proxy.upstream_url, experiment))
    assert proxy.authorizations == {f"Bearer {token}"}


def test_a_dry_run_writes_nothing(mlflow_url: str, experiment: str, tmp_path: Path) -> None:
    order = command(mlflow_url, long_history(tmp_path, 3), "--experiment", experiment, "--dry-run")
    done = subprocess.run([*order, "--json"], capture_output=True, text=True, check=True)
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["status"], run["new_points"]) == ("planned", 6)
    assert MlflowClient(mlflow_url).get_experiment_by_name(experiment) is None


def test_no_command_imports_mlflow_for_a_server(
    mlflow_url: str, experiment: str, tmp_path: Path
) -> None:
    order = command(mlflow_url, long_history(tmp_path, 3), "--experiment", experiment)
    code = (
        "import sys\nfrom bridges.cli.main import run\n"
        f"assert run({order[3:]!r}) == 0\nassert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([order[0], "-c", code], check=True, capture_output=True)


def test_exports_at_the_same_time_make_one_run(
    mlflow_url: str, experiment: str, tmp_path: Path
) -> None:
    file = long_history(tmp_path, 1500)
    order = command(mlflow_url, file, "--experiment", experiment)
    children = [subprocess.Popen(order, stdout=subprocess.PIPE) for _ in range(3)]
    said = [child.communicate(timeout=HANGS)[0].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], said
    (run,) = judge(mlflow_url, experiment)
    assert [len(points) for points in run.points.values()] == [1500, 1500]
    assert run.status == "FINISHED"
    again = subprocess.run(order, capture_output=True, text=True, check=True)
    assert "unchanged" in again.stdout


def test_a_deleted_run_is_told_and_forced(mlflow_url: str, experiment: str) -> None:
    run = make_run(ROWS)
    report = export(run, mlflow_url, experiment)
    MlflowClient(mlflow_url).delete_run(str(report.location).rpartition("/")[2])
    assert "exported before and then deleted in MLflow" in failure(
        export(run, mlflow_url, experiment)
    )
    forced = export(run, mlflow_url, experiment, force=True)
    assert (forced.status, forced.verified) == ("exported", True)
    assert export(run, mlflow_url, experiment).location == forced.location
    MlflowClient(mlflow_url).delete_experiment(str(forced.location).split("/")[-3])
    assert "is deleted in MLflow. Restore it" in failure(export(run, mlflow_url, experiment))


def test_a_run_gets_another_name_and_keeps_its_end(mlflow_url: str, experiment: str) -> None:
    def exported(**labels: Any) -> Any:
        run = make_run(long_rows(3), **({"name": labels["run_name"]} if labels else {}))
        exporter = MlflowExporter(MlflowOptions(mlflow_url, experiment))
        return export_run(run, exporter, ExportOptions(**labels))

    exported()
    before = _only_run(mlflow_url, experiment)
    report = exported(run_name="second", tags={"team": "b"})
    assert (report.status, report.run, report.verified) == ("unchanged", "second", True)
    after = _only_run(mlflow_url, experiment)
    assert (after.info.run_name, after.data.tags["team"]) == ("second", "b")
    assert after.info.end_time == before.info.end_time
    assert after.info.status == before.info.status == "FINISHED"


def test_runs_take_few_requests(proxy: FaultyProxy, experiment: str, tmp_path: Path) -> None:
    """Whether the experiment has runs of tools' logs is asked once, not for each new run."""
    runs = 4
    for number in range(runs):
        (folder := tmp_path / str(number)).mkdir()
        row = {"loss": 1 / (3 + number), "grad_norm": 0.5, "step": 1}
        (folder / "trainer_state.json").write_bytes(state([row]))

    def requests() -> Counter[str]:
        proxy.clear()
        report = bridges.export(
            tmp_path, to="mlflow", tracking_uri=proxy.url, experiment=experiment
        )
        assert [run.verified for run in report.runs] == [True] * runs
        return Counter(path_of(path) for _, path, _ in proxy.log)

    first, again = requests(), requests()
    # the first run is not looked for, as its experiment is new; each looks for rivals in the end
    assert first["runs/search"] == (runs - 1) + runs + 2
    assert (again["runs/search"], again["runs/get"]) == (runs, runs)


def _only_run(url: str, experiment: str) -> Any:
    import mlflow

    client = mlflow.MlflowClient(url)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run
