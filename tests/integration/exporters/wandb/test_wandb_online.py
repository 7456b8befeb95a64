"""Runs on a W&B server: uploaded by the official client, which bridges does not believe.

The server is our own (no W&B server can run here); it answers the official client, keeps what it is
sent, and fails on request.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.receipts import Receipt, RunReceipt
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.offline import run_id_of
from bridges.exporters.wandb.online import OnlineRuns
from bridges.exporters.wandb.options import WandbOptions
from bridges.huggingface.settings_digests import digests
from bridges.migration.config.config import MigrationConfig
from bridges.migration.migrate import migrate
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from bridges.stream.model import Run
from bridges.stream.settings import Settings
from bridges.testing.exporters import ROWS, ExporterContract, OpenTarget
from tests import kills
from tests.bounds import HANGS, until
from tests.integration.exporters.mlflow.support import long_history
from tests.integration.exporters.wandb.support import (
    GROUNDTRUTH,
    KEY,
    SCENARIOS,
    environment,
    file_of,
    post,
    received,
    rows_of,
    wandb_server,
    without,
)
from tests.integration.exporters.wandb.support import export as export_to
from tests.integration.migration.test_migrate import make_tree
from tests.support import make_run, read_one, state

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wandb-online")]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One server for the module: wandb keeps the address that it saw first."""
    with wandb_server() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(url).items():
            patch.setenv(name, value)
        yield url


@pytest.fixture
def project(server: str) -> str:
    """A project that nobody has used."""
    return f"project-{uuid.uuid4().hex[:8]}"


def runs_of(server: str, project: str) -> list[dict[str, Any]]:
    return [run for run in received(server) if run["project"] == project]


@pytest.mark.usefixtures("server")
class TestOnline(ExporterContract):
    def new_target(self, folder: Path) -> OpenTarget:
        project = f"contract-{uuid.uuid4().hex[:8]}"
        return lambda: WandbExporter(
            WandbOptions(project=project, wandb_dir=str(folder), mode="online")
        )


def export(run: Run, project: str, folder: Path, **options: Any) -> Any:
    return export_to(run, folder, project=project, mode="online", **options)


def test_a_run_has_the_rows_of_the_live_callback(server: str, project: str, tmp_path: Path) -> None:
    for scenario in SCENARIOS:
        run = read_one(GROUNDTRUTH / scenario / "trainer_state.json")
        assert export(run, project, tmp_path).verified
        export_to(run, tmp_path / "offline" / scenario)
        (there,) = [r for r in runs_of(server, project) if r["displayName"] == scenario]
        rows = rows_of(file_of(tmp_path / "offline" / scenario))
        assert [without(row) for row in there["history"]] == [without(row) for row in rows]
        assert (there["state"], there["rows_received"]) == ("finished", len(rows))


def test_runs_go_to_the_project_of_their_library(server: str, tmp_path: Path) -> None:
    library = f"library-{uuid.uuid4().hex[:8]}"
    values = {"loss": random.random()}
    stored = make_run([{**row, **values} for row in ROWS[:3]])
    assert export_to(stored, tmp_path, mode="online").status == "exported"  # by the first version
    grown = make_run([{**row, **values} for row in ROWS], project=library)
    report = export_to(grown, tmp_path, mode="online")
    assert (report.status, report.verified) == ("appended", True)
    assert runs_of(server, library) == []
    fresh = make_run([{**row, "loss": random.random()} for row in ROWS], project=library)
    for status in ("exported", "unchanged"):
        report = export_to(fresh, tmp_path, mode="online")
        assert (report.status, report.verified) == (status, True)
    assert len(runs_of(server, library)) == 1


def test_a_run_keeps_its_name_on_the_server(server: str, project: str, tmp_path: Path) -> None:
    export(make_run(ROWS[:3], name="first"), project, tmp_path)
    report = export(make_run(ROWS, name="second"), project, tmp_path)
    assert (report.status, report.run) == ("appended", "first")
    assert [run["displayName"] for run in runs_of(server, project)] == ["first"]


def test_calls_of_the_client_are_logged(
    project: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "bridges.http"):
        export(make_run(ROWS), project, tmp_path)
    logged = [record.getMessage() for record in caplog.records]
    for call in ("login", "find", "claim", "content"):
        assert any(message.startswith(f"W&B {call}: ") for message in logged)
    assert any(message.startswith("wandb sync ") for message in logged)
    assert os.environ["WANDB_API_KEY"] not in caplog.text


def test_a_run_that_grows_gets_its_new_rows_only(server: str, project: str, tmp_path: Path) -> None:
    for stop in (2, 4, 6):
        assert export(make_run(ROWS[:stop]), project, tmp_path / str(stop)).verified
    (run,) = runs_of(server, project)
    assert [row["_step"] for row in run["history"]] == list(range(6))
    assert (run["rows_received"], run["rows_overwritten"]) == (6, 0)


def test_an_upload_that_stopped_is_finished(server: str, project: str, tmp_path: Path) -> None:
    export(make_run(ROWS), project, tmp_path)
    (run,) = runs_of(server, project)
    post(server, "/_rows", run=f"fake-entity/{project}/{run['name']}", keep=[0, 1])
    report = export(make_run(ROWS), project, tmp_path)
    assert (report.status, report.verified) == ("appended", True)
    assert "interrupted-before" in [finding.code for finding in report.findings]
    (run,) = runs_of(server, project)
    assert [row["_step"] for row in run["history"]] == list(range(6))


@pytest.mark.parametrize("keep", [[0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 5], [0, 2, 3]])
def test_a_run_with_holes_or_doubles_is_left_and_made_anew(
    server: str, project: str, tmp_path: Path, keep: list[int]
) -> None:
    export(make_run(ROWS), project, tmp_path)
    (run,) = runs_of(server, project)
    post(server, "/_rows", run=f"fake-entity/{project}/{run['name']}", keep=keep)
    assert export(make_run(ROWS), project, tmp_path).verified
    broken, whole = sorted(runs_of(server, project), key=lambda other: len(other["name"]))
    assert whole["name"] == f"{broken['name']}-2"
    assert [row["_step"] for row in whole["history"]] == list(range(6))
    again = export(make_run(ROWS), project, tmp_path)
    assert (again.status, again.location[-2:]) == ("unchanged", "-2")


def test_a_deleted_id_is_not_used_again(server: str, project: str, tmp_path: Path) -> None:
    first = export(make_run(ROWS), project, tmp_path)
    for number in (2, 3):
        (run,) = runs_of(server, project)
        post(server, "/_delete", run=f"fake-entity/{project}/{run['name']}")
        report = export(make_run(ROWS), project, tmp_path)
        assert (report.status, report.verified) == ("exported", True)
        assert report.location == f"{first.location}-{number}"
    assert export(make_run(ROWS), project, tmp_path).status == "unchanged"


def test_sources_are_uploaded_once(server: str, project: str, tmp_path: Path) -> None:
    source = GROUNDTRUTH / "token_counts" / "trainer_state.json"
    exporter = WandbExporter(WandbOptions(project=project, mode="online", wandb_dir=str(tmp_path)))
    for _ in range(2):
        report = export_run(read_one(source), exporter, ExportOptions(attach_source=True))
        assert (report.verified, report.failed) == (True, False)
    (run,) = runs_of(server, project)
    assert run["files"]["source/trainer_state.json"] == source.read_text()
    assert run["uploads"]["source/trainer_state.json"] == 1


def test_an_offline_copy_is_not_uploaded_as_well(server: str, project: str, tmp_path: Path) -> None:
    export_to(make_run(ROWS), tmp_path, project=project)
    assert export(make_run(ROWS), project, tmp_path).verified
    assert Path(f"{file_of(tmp_path)}.synced").exists()


def test_merged_rows(server: str, project: str, tmp_path: Path) -> None:
    for stop in (2, 6):
        report = export(make_run(ROWS[:stop]), project, tmp_path, wandb_step="global_step")
    assert report.failed  # row 2 has the step of row 1, which is there already
    assert "no longer be merged" in report.findings[-1].message
    other = make_run([{**row, "loss": row.get("loss", 0.0)} for row in ROWS])
    for _ in range(2):
        report = export(other, f"{project}-2", tmp_path, wandb_step="global_step")
        assert report.verified
    assert report.status == "unchanged"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bridges", *arguments]


def bridge(url: str, place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own; an empty variable is not set."""
    variables = {**environment(url), "HOME": str(place), **more}
    return subprocess.run(
        command(*arguments),
        cwd=place,
        env={name: value for name, value in variables.items() if value},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


def to_wandb(file: Path, *more: str) -> list[str]:
    return ["export", str(file), "--to", "wandb", "--mode", "online", "--project", "p", *more]


def counts_of(url: str) -> Counter[str]:
    """The numbers of requests, GraphQL operations and faults of the server."""
    with urllib.request.urlopen(f"{url}/_stat") as answer:
        return Counter(json.load(answer))


def faults_of(url: str) -> int:
    """The number of injected faults."""
    counts = counts_of(url).items()
    return sum(n for name, n in counts if name.startswith(("fault", "drop", "ack_lost")))


QUICK = {
    "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "0.1",
    "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "0.3",
    "WANDB__FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "0.1",
    "WANDB__FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "0.3",
}


@pytest.mark.parametrize(
    "faults",
    [
        "--fail-first 3 --fail-codes 500",
        "--fail-first 3 --fail-codes 429 --retry-after 1",
        "--fail-rate 0.3 --fail-codes 500,503,429 --seed 3",
        "--ack-lost 0.5 --fail-on file_stream --seed 1",
        "--drop 0.5 --fail-on file_stream --seed 1",
    ],
)
def test_faults_lose_and_double_nothing(faults: str, tmp_path: Path) -> None:
    file = long_history(tmp_path, 3_000)
    with wandb_server(*faults.split()) as url:
        for _ in range(6):  # what fails clearly may be tried again
            done = bridge(url, tmp_path, *to_wandb(file, "--json"), **QUICK)
            (report,) = json.loads(done.stdout)["runs"]
            assert (report["status"] == "failed") == (done.returncode == 1), done.stderr
            if done.returncode == 0:
                break
        assert report["verified"]
        assert faults_of(url) > 0
        whole = [run for run in received(url) if len(run["history"]) == 3_000]
        assert len(whole) == 1
        assert [row["_step"] for row in whole[0]["history"]] == list(range(3_000))


def test_a_run_takes_few_requests(tmp_path: Path) -> None:
    file = tmp_path / "trainer_state.json"
    file.write_bytes(state([{"loss": 1 / 3, "grad_norm": 0.5, "step": 1}]))

    def requests(url: str) -> Counter[str]:
        before = counts_of(url)
        done = bridge(url, tmp_path, *to_wandb(file))
        assert done.returncode == 0, done.stdout
        return counts_of(url) - before

    with wandb_server() as url:
        new, known = requests(url), requests(url)
    assert new["Runs"] == 3  # by its own key, by those in the logs of tools, before the upload
    assert (known["Runs"], known["Run"]) == (1, 1)


@pytest.mark.parametrize("code", ["400", "403", "409", "413"])
def test_rows_that_are_refused_fail_the_run(code: str, tmp_path: Path) -> None:
    file = long_history(tmp_path, 100)
    with wandb_server("--reject-filestream", code) as url:
        done = bridge(url, tmp_path, *to_wandb(file, "--json"), **QUICK)
        assert done.returncode == 1
        (report,) = json.loads(done.stdout)["runs"]
        assert (report["status"], bool(report["verified"])) == ("failed", False)
        assert received(url)[0]["history"] == []
        assert KEY not in done.stdout + done.stderr


def test_a_server_that_refuses_the_key_is_told(tmp_path: Path) -> None:
    with wandb_server("--fail-rate", "1", "--fail-codes", "401") as url:
        done = bridge(url, tmp_path, *to_wandb(long_history(tmp_path, 10)), **QUICK)
    assert done.returncode == 1
    assert "W&B" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_key_is_told(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"
    done = bridge(url, tmp_path, *to_wandb(long_history(tmp_path, 10)), WANDB_API_KEY="")
    assert done.returncode == 1
    assert "no valid API key for its server: set WANDB_API_KEY, or run `wandb login`" in (
        " ".join(done.stdout.split())
    )


def test_a_key_in_netrc_is_enough(tmp_path: Path) -> None:
    with wandb_server() as url:
        host = url.removeprefix("http://")
        (tmp_path / ".netrc").write_text(f"machine {host} login user password {KEY}\n")
        (tmp_path / ".netrc").chmod(0o600)
        done = bridge(url, tmp_path, *to_wandb(long_history(tmp_path, 10)), WANDB_API_KEY="")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(received(url)) == 1


def test_exports_at_the_same_time_make_one_run(tmp_path: Path) -> None:
    file = long_history(tmp_path, 2_000)
    with wandb_server() as url:
        children = [
            subprocess.Popen(
                command(*to_wandb(file)),
                cwd=tmp_path,
                env=environment(url),
                stdout=subprocess.PIPE,
            )
            for _ in range(3)
        ]
        said = [child.communicate(timeout=HANGS)[0] for child in children]
        assert [child.returncode for child in children] == [0, 0, 0], said
        (run,) = received(url)
        assert (run["rows_received"], run["rows_overwritten"]) == (2_000, 0)


def test_several_runs_are_uploaded_at_once(tmp_path: Path) -> None:
    files = [GROUNDTRUTH / scenario / "trainer_state.json" for scenario in SCENARIOS]
    with wandb_server("--latency", "0.05") as url:
        names = [str(file) for file in files[1:]]
        done = bridge(url, tmp_path, *to_wandb(files[0], "--json", "--jobs", "3"), *names)
        assert done.returncode == 0, done.stdout
        assert [run["source"] for run in json.loads(done.stdout)["runs"]] == [*map(str, files)]
        assert len(received(url)) == len(SCENARIOS)


def test_a_killed_export_is_finished_by_the_next(tmp_path: Path) -> None:
    file, projects = long_history(tmp_path, 20_000), (f"p{number}" for number in count())
    project = ""
    with wandb_server() as url:

        def order() -> list[str]:
            return [part if part != "p" else project for part in to_wandb(file)]

        def there() -> list[dict[str, Any]]:
            return [run for run in received(url) if run["project"] == project]

        def begin() -> kills.Command:
            nonlocal project
            project = next(projects)
            process = kills.start(command(*order()), cwd=tmp_path, env=environment(url))
            return kills.Command(process, lambda: bool(there()), is_whole_group=False)

        def check() -> None:
            done = bridge(url, tmp_path, *order())
            assert done.returncode == 0, done.stdout
            whole = [run for run in there() if len(run["history"]) == 20_000]
            assert len(whole) == 1
            assert [row["_step"] for row in whole[0]["history"]] == list(range(20_000))

        kills.kill_often(8, 11, begin, check)  # the client that a command has started lives on


def test_an_interrupted_export_ends_what_it_began(tmp_path: Path) -> None:
    files = [str(GROUNDTRUTH / scenario / "trainer_state.json") for scenario in SCENARIOS]
    with wandb_server("--latency", "0.2") as url:
        order = [*to_wandb(Path(files[0]), "--json", "--jobs", "2"), *files[1:]]
        child = subprocess.Popen(
            command(*order),
            cwd=tmp_path,
            env=environment(url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        until(lambda: bool(received(url)), child)
        child.send_signal(signal.SIGINT)
        said, error = child.communicate(timeout=HANGS)
        assert child.returncode == 130, (said, error)
        assert b"Traceback" not in error
        assert 0 < len(received(url)) < len(files)
        for run in received(url):  # each is whole: nothing was cut off
            assert run["complete"]
        done = bridge(url, tmp_path, *order)
        assert done.returncode == 0, done.stdout
        runs = received(url)
        assert len(runs) == len(files)
        assert sum(run["rows_overwritten"] for run in runs) == 0
        assert all(run["rows_received"] == len(run["history"]) for run in runs)


def test_a_receipt_changes_nothing_else_of_a_run(server: str, project: str, tmp_path: Path) -> None:
    run = make_run(ROWS, params={"lr": 1e-05, "big": 2**60, "none": None, "inf": float("inf")})
    exporter = WandbExporter(WandbOptions(project=project, wandb_dir=str(tmp_path), mode="online"))
    reports = [export_run(run, exporter, ExportOptions()), export(run, f"{project}-2", tmp_path)]
    (before,) = runs_of(server, project)
    receipts = [Receipt("a", 1, 0, "/x", at.digest, at.rows, at.points, (1.5,)) for at in reports]
    places = [*zip(reports, receipts, strict=True)]
    exporter.save_receipts([RunReceipt.of(at, receipt) for at, receipt in places])
    (after,) = runs_of(server, project)
    receipt = after["config"].pop("bridges_mark")
    assert json.loads(receipt["value"])["rows"] == [len(ROWS), len(ROWS) - 1]
    assert after["config"]["_wandb"]["value"] == before["config"]["_wandb"]["value"]
    unlike = {name for name in before if before[name] != after[name]}
    assert unlike <= {"upserts", "config"}
    values = [
        {key: item["value"] for key, item in each["config"].items()} for each in (before, after)
    ]
    assert values[0] == values[1]
    assert "bridges_mark" not in runs_of(server, f"{project}-2")[0]["config"]  # another project's
    assert verify_run(run, exporter, ExportOptions()).verified
    (found,) = exporter.receipts()
    assert (found.location, found.receipt) == (reports[0].location, receipts[0])


def test_a_run_that_lost_rows_has_no_receipt(server: str, project: str, tmp_path: Path) -> None:
    exporter = WandbExporter(WandbOptions(project=project, wandb_dir=str(tmp_path), mode="online"))
    report = export_run(make_run(ROWS), exporter, ExportOptions())
    receipt = Receipt("a", 1, 0, "/x", report.digest, report.rows, report.points)
    exporter.save_receipts([RunReceipt.of(report, receipt)])
    assert len([*exporter.receipts()]) == 1
    (run,) = runs_of(server, project)
    post(server, "/_rows", run=f"fake-entity/{project}/{run['name']}", keep=[0, 1, 2, 3, 4])
    assert [*exporter.receipts()] == []


def test_runs_of_a_project_are_asked_for_at_once(server: str, project: str, tmp_path: Path) -> None:
    def asked() -> int:
        return counts_of(server)["POST /graphql"]

    runs = [make_run([{"loss": float(n), "step": 1}]) for n in range(4)]
    for run in runs[:3]:
        assert export(run, project, tmp_path).verified
    exporter = WandbExporter(WandbOptions(project=project, wandb_dir=str(tmp_path), mode="online"))
    exporter.preload()
    before = asked()
    planned = [export_run(run, exporter, ExportOptions(dry_run=True)) for run in runs]
    assert [report.new_points for report in planned] == [0, 0, 0, 1]
    assert asked() == before


def test_a_migration_done_again_reads_nothing(server: str, project: str, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 4, 0)
    target = {"to": "wandb", "mode": "online", "project": project, "wandb_dir": str(tmp_path)}
    said = {"sources": [str(tmp_path / "tree")], "targets": [target], "engine": {"workers": 2}}
    config = MigrationConfig.model_validate(said)
    planned = migrate(config, dry_run=True)
    assert {run.status for run in planned.runs} == {"planned"}
    assert {(run.status, run.verified) for run in migrate(config).runs} == {("exported", True)}
    (run, *_) = runs_of(server, project)
    again = migrate(config)
    assert [run.findings[0].code for run in again.runs] == ["known-by-its-files"] * 4
    post(server, "/_delete", run=f"fake-entity/{project}/{run['name']}")
    assert sorted(run.status for run in migrate(config).runs) == ["exported", *["unchanged"] * 3]


def test_labels_of_a_run_on_the_server_change(server: str, project: str, tmp_path: Path) -> None:
    rows = long_history_rows(3)
    export(make_run(rows, name="first", tags={"team": "a", "stay": ""}), project, tmp_path)
    exporter = WandbExporter(WandbOptions(project=project, wandb_dir=str(tmp_path), mode="online"))
    options = ExportOptions(run_name="second", group="g", tags={"team": "b"})
    report = export_run(make_run(rows, name="second", tags={"team": "b"}), exporter, options)
    assert (report.status, report.run, report.verified) == ("unchanged", "second", True)
    (there,) = runs_of(server, project)
    assert (there["displayName"], there["group"]) == ("second", "g")
    assert sorted(there["tags"]) == ["stay", "team:b"]


def test_a_second_run_with_equal_rows_has_the_id_that_it_has_offline(
    server: str, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (
        make_run(ROWS, settings=Settings(known=digests({"seed": seed}))) for seed in (1, 2, 3)
    )
    exporter = WandbExporter(WandbOptions(project=project, wandb_dir=str(tmp_path), mode="online"))
    assert export_run(first, exporter, ExportOptions()).status == "exported"
    report = export_run(second, exporter, ExportOptions())
    assert report.status == "exported"
    for run in (first, second):
        offline = export_to(run, tmp_path / "offline", project=project)
    assert offline.location.endswith(f"/run-{str(report.location).rsplit('/')[-1]}.wandb")
    with monkeypatch.context() as patch:  # as earlier versions called it
        patch.setattr(OnlineRuns, "_new_id", lambda self, layout, found: f"{run_id_of(layout)}-2")
        earlier = export_run(third, exporter, ExportOptions())
    for run, stored in ((second, report), (third, earlier)):
        again = export_run(run, exporter, ExportOptions())
        assert (again.status, again.location) == ("unchanged", stored.location)
    assert str(earlier.location).endswith("-2")
    assert len(runs_of(server, project)) == 3


def test_marks_of_runs_in_the_projects_of_libraries(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    values = {"loss": random.random()}
    run = make_run([{**row, **values} for row in ROWS], project="sentence-transformers")
    report = export_to(run, tmp_path, mode="online")
    assert "/sentence-transformers/" in report.location
    receipt = Receipt("a", 1, 0, "/x", report.digest, report.rows, report.points)
    # of another process, which did not write the run
    exporter = WandbExporter(WandbOptions(wandb_dir=str(tmp_path), mode="online"))
    exporter.save_receipts([RunReceipt.of(report, receipt)])
    found = [run.location for run in WandbExporter(WandbOptions(mode="online")).receipts()]
    assert found.count(report.location) == 1


def long_history_rows(count: int) -> list[dict[str, Any]]:
    return [{"loss": float(number), "step": number} for number in range(count)]
