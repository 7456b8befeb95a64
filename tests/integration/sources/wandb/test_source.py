"""W&B runs through the command line and Python: the contract, round trips, growth, migrations."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.follow import Following
from bridges.pipeline.options import ExportOptions, Pace
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.source import WandbSource
from bridges.stream.identity import identity_of
from bridges.testing.sources import SourceContract
from tests.mlflow_stores import unpack_store
from tests.support import DATA, state
from tests.wandb_logs import exit_record, log_of, row_record, run_record, write_run
from tests.wandb_runs import RELEASES, unpack_runs

START = 1_700_000_000
POINTS = (
    "select runs.name, key, step, timestamp, value, is_nan from metrics join runs using (run_uuid)"
)
NEWEST = RELEASES[-1]


def run(*arguments: str | Path, code: int = 0) -> str:
    """The output of a command; with errors, unless it is JSON."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        ended = bridge([*map(str, arguments)])
    assert ended == code, out.getvalue() + err.getvalue()
    return out.getvalue() if "--json" in arguments else out.getvalue() + err.getvalue()


def export(source: Path | str, database: Path, *options: str, code: int = 0) -> list[str]:
    """The status of each run of an export into an SQLite database."""
    target = ["--to", "mlflow", "--tracking-uri", f"sqlite:///{database}"]
    report = json.loads(run("export", source, *target, *options, "--json", code=code))
    assert all(each["verified"] for each in report["runs"]), report
    return [each["status"] for each in report["runs"]]


def points_in(database: Path) -> Counter[tuple[Any, ...]]:
    """The points of all runs in a database."""
    with closing(sqlite3.connect(database)) as connection:
        return Counter(connection.execute(POINTS).fetchall())


def labels_in(database: Path) -> Counter[tuple[Any, ...]]:
    """The names, bounds and params of all runs in a database."""
    bounds = "name, status, start_time, end_time"
    query = f"select {bounds}, key, value from runs join params using (run_uuid)"
    with closing(sqlite3.connect(database)) as connection:
        return Counter(connection.execute(query).fetchall())


def rows(first: int, stop: int) -> list[bytes]:
    """Rows with these steps."""
    return [
        row_record({"loss": at + 0.5, "_step": at, "_timestamp": START + at + 0.25})
        for at in range(first, stop)
    ]


class TestContract(SourceContract):
    """The contract of sources, with a folder of one run."""

    source = WandbSource

    def write_run(self, folder: Path) -> str:
        return str(write_run(folder, [run_record(), *rows(0, 3), exit_record()]))


@pytest.mark.parametrize("release", RELEASES)
def test_runs_of_every_release_are_exported_once(release: str, tmp_path: Path) -> None:
    folder, database = unpack_runs(release, tmp_path), tmp_path / "target.db"
    (values,) = folder.glob("*-id-values")
    shutil.rmtree(values)  # has texts, which MLflow cannot hold
    assert export(folder, database) == ["exported"] * 6
    points = points_in(database)
    assert export(folder, database) == ["unchanged"] * 6
    assert points_in(database) == points
    verified = ["verify", folder, "--to", "mlflow", "--tracking-uri", f"sqlite:///{database}"]
    assert run(*map(str, verified))


@pytest.mark.parametrize("release", ["0.10.33", "0.19.11", NEWEST])
def test_the_steps_in_mlflow_are_those_of_the_defined_metrics(release: str, tmp_path: Path) -> None:
    """`val/*` is defined against the epoch, `train/*` against the global step."""
    (path,) = unpack_runs(release, tmp_path).glob("*-id-metrics/*.wandb")
    assert export(path, tmp_path / "target.db") == ["exported"]
    steps: dict[str, list[int]] = {}
    for _, key, step, *_ in sorted(points_in(tmp_path / "target.db")):
        steps.setdefault(key, []).append(step)
    assert steps["val/acc"] == [0, 1, 2]
    assert steps["train/loss"] == [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("scenario", ["nan_loss", "epoch_two_eval_sets", "steps_eval_predict"])
def test_a_trainers_run_by_way_of_wandb_is_that_of_a_direct_export(
    scenario: str, tmp_path: Path
) -> None:
    source = DATA / "groundtruth" / scenario / "trainer_state.json"
    run("export", source, "--to", "wandb", "--wandb-dir", tmp_path / "runs")
    direct, onward = tmp_path / "direct.db", tmp_path / "onward.db"
    assert export(source, direct) == ["exported"]
    assert export(tmp_path / "runs", onward) == ["exported"]
    assert points_in(onward) == points_in(direct)
    assert labels_in(onward) == labels_in(direct)
    assert export(tmp_path / "runs", direct) == ["unchanged"]
    assert export(source, onward) == ["unchanged"]


def test_a_store_by_way_of_wandb_is_itself(tmp_path: Path) -> None:
    store = unpack_store("2.9.2", tmp_path)
    run("export", store, "--to", "wandb", "--wandb-dir", tmp_path / "runs")
    direct = {one.path: identity_of(one) for one in bridges.read(store)}
    keys = {identity.key: identity.digest for identity in direct.values()}
    onward = [identity_of(one) for one in bridges.read(tmp_path / "runs")]
    assert onward
    assert all(keys.get(identity.key) == identity.digest for identity in onward)


def test_a_copy_in_wandb_is_the_run_that_it_was_read_from(tmp_path: Path) -> None:
    folder = unpack_runs(NEWEST, tmp_path)
    run("export", folder, "--to", "wandb", "--wandb-dir", tmp_path / "copy")
    direct = {one.name: identity_of(one) for one in bridges.read(folder)}
    copies = {one.name: identity_of(one) for one in bridges.read(tmp_path / "copy")}
    assert {name: (each.key, each.digest) for name, each in copies.items()} == {
        name: (each.key, each.digest) for name, each in direct.items()
    }


def test_a_run_that_grows_gets_its_new_rows_only(tmp_path: Path) -> None:
    path, database = write_run(tmp_path, [run_record(), *rows(0, 5)]), tmp_path / "target.db"
    data = log_of([run_record(), *rows(0, 9), exit_record()])
    path.write_bytes(data[: len(data) // 2])  # torn
    assert export(path, database) == ["exported"]
    path.write_bytes(data)
    assert export(path, database) == ["appended"]
    assert sum(points_in(database).values()) == 9
    assert export(path, database) == ["unchanged"]


def test_a_run_is_followed_until_its_end(tmp_path: Path) -> None:
    path = write_run(tmp_path, [run_record(), *rows(0, 3)])
    whole = [run_record(), *rows(0, 8), exit_record()]
    grown = [log_of([run_record(), *rows(0, 6)]), log_of(whole)]

    def on_wait(waiting: object) -> None:
        if grown:
            path.write_bytes(grown.pop(0))

    target = MemoryExporter()
    options = ExportOptions(read=ReadOptions(growing=True))
    following = Following([str(path)], [target], options, Pace(0.05, 60), on_wait=on_wait)
    report = following.run()
    (one,) = report.runs
    assert (one.rows, one.verified) == (8, True)
    assert not grown


def test_a_migration_reads_runs_in_parts_and_knows_them_again(tmp_path: Path) -> None:
    folder = unpack_runs(NEWEST, tmp_path)
    config = tmp_path / "migration.yaml"
    config.write_text(
        f"sources:\n  - location: {folder}\ntargets:\n  - to: tensorboard\n"
        f"    logdir: {tmp_path / 'logs'}\n"
    )
    summary = run("migrate", config, "--workers", "2", code=1)  # lists, which no chart can show
    assert "7" in summary
    events = sorted((tmp_path / "logs").rglob("events*"))
    assert len(events) == 7
    sizes = [path.stat().st_size for path in events]
    run("migrate", config, code=1)
    assert [path.stat().st_size for path in sorted((tmp_path / "logs").rglob("events*"))] == sizes


def test_inspect_and_ls_name_the_runs(tmp_path: Path) -> None:
    folder = unpack_runs(NEWEST, tmp_path)
    listed = {row["name"] for row in json.loads(run("ls", folder, "--json"))["runs"]}
    assert "group/labels" in listed
    assert len(listed) == 7
    (path,) = folder.glob("*-id-metrics/*.wandb")
    assert "metrics" in run("inspect", path)


def test_a_tree_with_a_store_and_runs_is_read_by_both_sources(tmp_path: Path) -> None:
    unpack_store("2.9.2", tmp_path)
    write_run(tmp_path, [run_record(display_name="mine"), *rows(0, 3), exit_record()])
    names = {one.name for one in bridges.read(tmp_path)}
    assert "mine" in names
    assert len(names) > 3


def test_states_of_the_trainer_go_before_runs_of_wandb(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 0.5, "step": 1}]))
    write_run(tmp_path, [run_record(display_name="mine"), *rows(0, 3), exit_record()])
    (one,) = bridges.read(tmp_path)
    assert one.key_style == "trainer"
    (one,) = bridges.read(tmp_path, source="wandb")
    assert one.name == "mine"


def test_the_values_are_those_of_wandbs_own_viewer(tmp_path: Path) -> None:
    """`wandb leet inspect` joins nested names with dots and prints NaN as a text."""
    folder = unpack_runs(NEWEST, tmp_path)
    for name in ("values", "metrics", "steps"):
        (path,) = folder.glob(f"*-id-{name}/*.wandb")
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        environment = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        seen = [each["history"]["item"] for each in records if each["type"] == "history"]
        (one,) = bridges.read(path)
        found = _numbers(dict(each) for each in one.stream)
        assert found
        assert found == _numbers(seen)


def _numbers(rows: Iterable[dict[str, object]]) -> Counter[tuple[str, float]]:
    """The finite numbers of rows, except the steps and times."""
    return Counter(
        (key, float(value))
        for row in rows
        for key, value in row.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
        if key != "step" and not key.startswith("_")
    )
