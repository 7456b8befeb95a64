"""Tracking URIs that lack their scheme or their driver: the message has the one to type."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bridges.cli.main import run
from bridges.errors import ConfigError
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from tests.support import state


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("localhost:5000", "localhost:5000 has no scheme. Did you mean http://localhost:5000?"),
        ("10.0.0.7:80/x", "10.0.0.7:80/x has no scheme. Did you mean http://10.0.0.7:80/x?"),
        ("localhost/x", "localhost/x has no scheme. Did you mean http://localhost/x?"),
        (
            "mlflow.example.com/x",
            "mlflow.example.com/x has no scheme. Did you mean https://mlflow.",
        ),
        ("old/mlflow.db", "old/mlflow.db has no scheme. Did you mean sqlite:///old/mlflow.db?"),
        ("user:S3CRET@host/db", "the tracking URI has a login but no scheme. Put the scheme"),
    ],
)
def test_a_uri_without_its_scheme(uri: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        MlflowExporter(MlflowOptions(uri))
    assert message in str(raised.value)
    assert "S3CRET" not in str(raised.value)


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile", "uc", "./mlruns", "/a/runs"])
def test_uris_that_mlflow_takes_without_scheme(uri: str) -> None:
    assert MlflowExporter(MlflowOptions(uri)).uri == uri


@pytest.mark.parametrize(
    ("scheme", "package"), [("mysql", "mysqlclient"), ("mysql+pymysql", "pymysql")]
)
def test_a_driver_that_is_not_installed(
    scheme: str, package: str, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "bridges.formats.mlflow_store.uri.find_spec",
        lambda name: None if name in ("MySQLdb", "pymysql") else found(name),
    )
    (tmp_path / "a.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    uri = f"{scheme}://user:S3CRET@host/db"
    code = run(["export", str(tmp_path / "a.json"), "--to", "mlflow", "--tracking-uri", uri])
    shown = "".join(capfd.readouterr())
    assert code != 0
    assert f"is not installed. Run `pip install {package}`" in shown
    assert "S3CRET" not in shown
