"""Which program shows a target."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bridges.errors import ConfigError
from bridges.views.viewers import ALL_POINTS, viewers

EVERY = f" --samples_per_plugin {ALL_POINTS}"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One target of each kind."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/a/events.out.tfevents.1", "my tb/events.out.tfevents.2", "page.html"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    sqlite3.connect("other.sqlite").execute("create table x (y)").connection.close()
    Path("store/0").mkdir(parents=True)
    Path("store/0/meta.yaml").touch()
    Path("w/wandb/offline-run-1").mkdir(parents=True)
    Path("empty").mkdir()


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("runs", f"tensorboard --logdir runs{EVERY}"),
        ("my tb", f"tensorboard --logdir 'my tb'{EVERY}"),
        ("other.sqlite", "mlflow ui --backend-store-uri sqlite:///other.sqlite"),
        ("sqlite:///x.db", "mlflow ui --backend-store-uri sqlite:///x.db"),
        ("store", "MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri store"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("https://wandb.ai/me/project", "https://wandb.ai/me/project"),
    ],
)
def test_the_viewer_of_a_target(target: str, command: str) -> None:
    (viewer,) = viewers([target])
    assert viewer.shown == command


def test_a_page_opens_in_the_browser(tmp_path: Path) -> None:
    (viewer,) = viewers(["page.html"])
    assert viewer.page == (tmp_path / "page.html").as_uri()


def test_a_password_is_not_an_argument() -> None:
    (viewer,) = viewers(["postgresql://me:s3cr3t@host/db"])
    assert viewer.arguments == ("ui",)
    assert viewer.environment == {"MLFLOW_BACKEND_STORE_URI": "postgresql://me:s3cr3t@host/db"}
    assert "s3cr3t" not in viewer.shown
    assert viewer.shown.endswith("mlflow ui")


def test_several_targets() -> None:
    first, second, third = viewers(["runs", "other.sqlite", "my tb", "store"])
    assert first.arguments[:2] == ("--logdir_spec", "runs:runs,my tb:my tb")
    assert second.arguments[-1] == "sqlite:///other.sqlite"
    assert third.arguments[-2:] == ("--port", "5001")


def test_ports_are_counted_up() -> None:
    first, page, second = sorted(
        viewers(["runs", "page.html", "store"], 7000), key=lambda one: one.program or "n"
    )
    assert (first.program, first.arguments[-2:]) == ("mlflow", ("--port", "7001"))
    assert page.arguments == ()
    assert second.arguments[-2:] == ("--port", "7000")


def test_the_targets_of_exports_without_options() -> None:
    assert [one.program for one in viewers([])] == ["tensorboard"]
    sqlite3.connect("mlflow.db").execute("create table x (y)").connection.close()
    assert [one.program for one in viewers([])] == ["tensorboard", "mlflow"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing", "nothing: found nothing there; expected a directory of event files"),
        ("empty", "empty: found nothing that has a viewer"),
        ("w", "Upload them with: wandb sync w/wandb/offline-run-*"),
    ],
)
def test_a_target_without_a_viewer(target: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        viewers([target])
    assert message in str(error.value)


def test_nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"found none of runs, mlflow\.db, mlruns here"):
        viewers([])
