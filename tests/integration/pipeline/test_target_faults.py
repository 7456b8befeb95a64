"""Targets that cannot be written: a message that names the cause, and nothing of other programs."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.mlflow.schema import COLUMNS
from bridges.report import RunReport
from tests.integration.exporters.mlflow.support import command
from tests.integration.exporters.tensorboard.support import training_rows, write_state

TARGETS = ["tensorboard", "wandb", "mlflow", "parquet", "trackio"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return write_state(tmp_path / "source" / "trainer_state.json", training_rows(20))


def export(state: Path, target: str, place: Path) -> RunReport:
    """Export into a log directory, a folder, or a database at a place."""
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"logdir": place / "logs"},
        "wandb": {"wandb_dir": place},
        "parquet": {"out": place / "tables"},
        "trackio": {"trackio_dir": place / "trackio"},
        "mlflow": {"tracking_uri": f"sqlite:///{place}/mlflow.db"},
    }
    (report,) = bridges.export(state, to=target, **options[target]).runs
    return report


def failure_of(report: RunReport) -> str:
    """The message of a run that failed, and not as a bug."""
    assert (report.status, report.findings[-1].code) == ("failed", "failed"), report
    return report.findings[-1].message


# --- file systems -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_a_link_that_leads_nowhere_is_named(target: str, state: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    message = failure_of(export(state, target, link))
    assert message.endswith(f"{link} is a link to nowhere, which does not exist"), message
    assert not (tmp_path / "nowhere").exists()


def test_a_log_directory_that_is_a_link_to_nowhere_is_named(state: Path, tmp_path: Path) -> None:
    (tmp_path / "logs").symlink_to("nowhere")
    message = failure_of(export(state, "tensorboard", tmp_path))
    logs = tmp_path / "logs"
    assert (
        message == f"{logs}: cannot be written: {logs} is a link to nowhere, which does not exist"
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_place_below_a_file_is_named(target: str, state: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert failure_of(export(state, target, file)).endswith(f"{file} is not a directory")


@pytest.mark.parametrize("target", TARGETS)
def test_a_read_only_file_system_is_named(
    target: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    export(state, "mlflow", tmp_path)  # makes the template, which lies elsewhere

    def refused(call: Callable[..., Any]) -> Callable[..., Any]:
        def read_only(path: Any, *arguments: Any, **named: Any) -> Any:
            if str(place) in f"{path}{arguments}":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return call(path, *arguments, **named)

        return read_only

    for module, name in ((os, "mkdir"), (os, "unlink"), (Path, "write_bytes")):
        monkeypatch.setattr(module, name, refused(getattr(module, name)))
    message = failure_of(export(state, target, place))
    assert message.endswith("cannot be written: Read-only file system"), message
    assert "/." not in message


# --- databases --------------------------------------------------------------------------------


def test_a_database_file_of_no_bytes_gets_its_tables(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.touch()
    node = file.stat().st_ino
    report = export(state, "mlflow", tmp_path)
    assert (report.status, report.verified) == ("exported", True)
    assert file.stat().st_ino == node
    with closing(sqlite3.connect(file)) as database:
        filled = list(database.iterdump())
    (tmp_path / "other").mkdir()
    export(state, "mlflow", tmp_path / "other")
    with closing(sqlite3.connect(tmp_path / "other" / "mlflow.db")) as database:
        made = list(database.iterdump())
    schemas = [[line for line in dump if line.startswith("CREATE")] for dump in (filled, made)]
    assert schemas[0] == schemas[1]
    assert len(filled) == len(made)


def test_exports_that_meet_at_a_file_of_no_bytes_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.touch()
    states = [
        write_state(tmp_path / str(seed) / "trainer_state.json", training_rows(20, seed=seed))
        for seed in range(3)
    ]
    children = [
        subprocess.Popen(command(f"sqlite:///{file}", state), stdout=subprocess.DEVNULL)
        for state in states
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("select count(*) from runs").fetchone() == (3,)


def test_a_database_behind_a_link_to_nowhere_is_made_there(state: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").symlink_to("real.db")
    assert export(state, "mlflow", tmp_path).verified
    assert (tmp_path / "real.db").stat().st_size


@pytest.mark.parametrize("table", COLUMNS)
def test_a_database_that_lost_a_table_is_left_alone(
    table: str, state: Path, tmp_path: Path
) -> None:
    export(state, "mlflow", tmp_path)
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("pragma foreign_keys = off")
        database.execute(f"drop table {table}")
        database.commit()
    before = file.read_bytes()
    assert failure_of(export(state, "mlflow", tmp_path)) == (
        f"{file}: this MLflow database has lost its table {table!r}. Restore a backup, or give "
        "another tracking_uri."
    )
    assert file.read_bytes() == before


def test_mlflow_and_its_parts_print_nothing_of_their_own(state: Path, tmp_path: Path) -> None:
    export(state, "mlflow", tmp_path)
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("drop table latest_metrics")
        database.commit()
    done = subprocess.run(
        command(f"sqlite:///{file}", state, "--mlflow-writer", "client", "--quiet"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no such table: latest_metrics" in done.stdout + done.stderr
    for foreign in ("Traceback", "[SQL:", "mlflow.store", "Background on this error"):
        assert foreign not in done.stdout + done.stderr
