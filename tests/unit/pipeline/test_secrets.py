"""No secret of a source reaches a target, a file beside it, or a message."""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli import main as cli
from bridges.exporters.base import Exporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.formats.mlflow_store.uri import quoted_uri
from bridges.migration.config.templates import render
from bridges.pipeline import target as target_module
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream import layout
from bridges.stream.redact import redact
from tests.support import make_run, read_bytes

TOKEN = "hf_AbCdEfGhIjKlMnOpQrSt"
ROWS = [
    {"loss": 1.0, "step": 1, "note": TOKEN, "url": "https://u:hunter2@h/x"},
    {"loss": 0.5, "step": 2, "args": {"cmd": "--hub_token s3cr3t", "n": [TOKEN]}, TOKEN: 1.0},
    {"loss": 0.25, "step": 3, "tokens": ["s3cr3t"], "note": "nothing"},
]
TARGETS = ("tensorboard", "mlflow", "wandb", "csv", "trackio")
PLANTED = (TOKEN, "hunter2", "s3cr3t")


@pytest.fixture(autouse=True)
def _artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow puts attached files into the working directory."""
    (tmp_path / "mlflow").mkdir()
    monkeypatch.chdir(tmp_path / "mlflow")


def write_state(path: Path, rows: list[dict[str, Any]] = ROWS, **fields: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"log_history": rows, "global_step": len(rows), **fields}))
    return path


def export(source: Path, to: str, folder: Path, **options: Any) -> RunReport:
    folder.mkdir(exist_ok=True)
    places = {"tensorboard": "logdir", "wandb": "wandb_dir", "mlflow": "tracking_uri"}
    places |= {"csv": "out", "trackio": "trackio_dir"}
    place = places[to]
    options[place] = f"sqlite:///{folder}/mlflow.db" if to == "mlflow" else folder
    (run,) = bridges.export(source, to=to, **options).runs
    return run


def codes(run: RunReport) -> list[str]:
    return [finding.code for finding in run.findings]


def files_with_secrets(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    contents = {path: f"{path} {path.read_bytes()!r}" for path in files}
    return [path for path, text in contents.items() if any(each in text for each in PLANTED)]


@pytest.mark.parametrize("to", TARGETS)
def test_secrets_of_the_log_are_masked_and_counted(to: str, tmp_path: Path) -> None:
    source = write_state(tmp_path / "run" / "trainer_state.json")
    run = export(source, to, tmp_path / to)
    assert (run.status, run.verified, run.failed) == ("exported", True, False)
    (finding,) = (each for each in run.findings if each.code == "secret-masked-in-log")
    assert finding.count == 6
    assert finding.where == "<SECRET>, note, url, args.cmd, args.n, tokens"
    assert files_with_secrets(tmp_path / to) == []
    assert export(source, to, tmp_path / to).status == "unchanged"


@pytest.mark.parametrize(
    "to", ["tensorboard", "wandb", "csv", "trackio"]
)  # MLflow keeps no texts of rows
def test_a_run_that_was_written_unmasked_is_found_and_told(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"loss": 1.0, "step": 1, "note": TOKEN}]
    source = write_state(tmp_path / "run" / "trainer_state.json", rows)
    with monkeypatch.context() as earlier:
        earlier.setattr(layout, "redact_stream", lambda stream, keys: (stream, []))
        export(source, to, tmp_path / to, verify=False)
    assert files_with_secrets(tmp_path / to)
    run = export(source, to, tmp_path / to)
    assert (run.status, run.verified, run.failed) == ("unchanged", True, False)
    assert codes(run)[-1] == "secret-in-target"


@pytest.mark.parametrize("to", TARGETS)
def test_a_token_that_is_the_key_of_a_metric_in_a_run_of_the_first_rules_stays_and_is_told(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place_by_first_rules(
        *run: Any, stored: layout.Stored | None, **known: Any
    ) -> layout.Layout:
        first = replace(stored or layout.Stored(), rules=layout.EARLIEST_RULES)
        return layout.lay_out(*run, stored=first, **known)

    def write(*keys: str) -> Path:
        rows = [{"loss": 1.0, key: 2.0, "step": step} for step, key in enumerate(keys, 1)]
        return write_state(tmp_path / "run" / "trainer_state.json", rows)

    source = write(TOKEN, TOKEN)
    with monkeypatch.context() as earlier:
        earlier.setattr(target_module, "lay_out", place_by_first_rules)
        assert export(source, to, tmp_path / to, verify=False).status == "exported"
    for keys, status in (
        ([TOKEN], "unchanged"),  # the target holds more
        ([TOKEN, TOKEN], "unchanged"),
        ([TOKEN] * 3, "appended"),
        ([TOKEN] * 3, "unchanged"),
    ):
        run = export(write(*keys), to, tmp_path / to)
        assert (run.status, run.verified, run.failed) == (status, True, False)
        assert TOKEN not in str(run.findings)
    (finding,) = (each for each in run.findings if each.code == "secret-in-target")
    assert finding.where.endswith("<SECRET>")
    other = TOKEN.replace("A", "Z")
    run = export(write(TOKEN, TOKEN, TOKEN, other), to, tmp_path / to)
    assert run.failed
    assert "new rows have a secret in the key '<SECRET>'" in run.findings[-1].message
    files = [path for path in (tmp_path / to).rglob("*") if path.is_file()]
    assert not [path for path in files if other.encode() in path.read_bytes()]


EXPORTERS: dict[str, Callable[[Path], Exporter]] = {
    "tensorboard": lambda folder: TensorBoardExporter(TensorBoardOptions(str(folder / "tb"))),
    "mlflow-direct": lambda folder: MlflowExporter(MlflowOptions(f"sqlite:///{folder}/m.db")),
    "mlflow-client": lambda folder: MlflowExporter(
        MlflowOptions(f"sqlite:///{folder}/m.db", mlflow_writer="client")
    ),
    "wandb": lambda folder: WandbExporter(WandbOptions(wandb_dir=str(folder))),
}


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "mlflow-client" else [])
        for name in EXPORTERS
    ],
)
def test_secrets_that_are_in_the_params_of_a_target_are_told(target: str, tmp_path: Path) -> None:
    exporter = EXPORTERS[target](tmp_path)
    settings = {"hub_token": TOKEN, "note": f"a|b {TOKEN}", "lr": 0.5, "url": "https://h/x"}
    run = make_run(ROWS[:1], params=settings)
    masked = replace(run, params=redact(settings)[0])
    assert export_run(run, exporter, ExportOptions()).status == "exported"  # as earlier versions
    for report in (
        export_run(masked, exporter, ExportOptions()),
        verify_run(masked, exporter, ExportOptions()),
    ):
        assert (report.status, report.verified) == ("unchanged", True)
        (found,) = (each for each in report.findings if "params" in each.message)
        assert (found.code, found.count) == ("secret-in-target", 2)
        assert found.where == "keys 'hub_token', 'note'"
        assert TOKEN not in str(report.findings)
    other = EXPORTERS[target](tmp_path / "other")
    (tmp_path / "other").mkdir()
    for _ in range(2):
        report = export_run(masked, other, ExportOptions())
        assert report.verified
        assert not [each for each in report.findings if "params" in each.message]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"log_history": [{"loss": 1, "step": 1, "tokens": ["s3cr3t"]}]},
        {"log_history": [{"loss": 1, "step": 1, "args": ["--hub_token", "s3cr3t"]}]},
        {"log_history": [{"loss": 1, "step": 1}], "trial_params": {"db_pass": "hunter2"}},
        {"log_history": [{"loss": 1, "step": 1}], "stateful_callbacks": {"A": {"key": TOKEN}}},
        {"log_history": [{"loss": 1, "step": 1}], "unknown": '{"hub_token": "s3cr3t"}'},
    ],
    ids=["log", "tokens", "options", "trial", "callback", "unknown"],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("to", ["mlflow", "wandb"])
def test_a_file_with_secrets_is_not_attached(
    to: str, fields: dict[str, Any], packed: bool, tmp_path: Path
) -> None:
    source = write_state(tmp_path / "run" / "trainer_state.json", **fields)
    if packed:
        source = source.with_suffix(".json.gz")
        source.write_bytes(gzip.compress(source.with_suffix("").read_bytes()))
    run = export(source, to, tmp_path / to, attach_source=True)
    (finding,) = [each for each in run.findings if each.code == "source-not-attached"]
    assert (finding.severity.value, finding.count) == ("loss", 1)
    assert "holds secrets" in finding.message
    assert run.failed
    assert files_with_secrets(tmp_path / to) == []


@pytest.mark.parametrize("to", ["mlflow", "wandb"])
def test_a_file_without_secrets_is_attached(to: str, tmp_path: Path) -> None:
    rows = [{"loss": 1, "step": 1, "num_tokens": 5000000, "eos_token": "</s>"}]
    source = write_state(tmp_path / "run" / "trainer_state.json", rows)
    run = export(source, to, tmp_path / to, attach_source=True)
    assert not run.failed
    assert [*(tmp_path / to).rglob("trainer_state.json")]


def test_names_are_masked_and_keep_runs_apart(tmp_path: Path) -> None:
    state = {"log_history": [], "global_step": 0, "trial_name": f"run {TOKEN}"}
    state["trial_params"] = {"lr": 1}
    run = read_bytes(tmp_path, json.dumps(state).encode())
    assert (run.trial_name, render("{trial_name} {trial}", run)) == (
        "run <SECRET>",
        "run <SECRET> run <SECRET>[('lr', 1)]",
    )
    assert run.trial == f"run {TOKEN}[('lr', 1)]"  # as ever: part of the run's key
    source = write_state(tmp_path / f"out-{TOKEN}" / "trainer_state.json")
    for number, place in enumerate((source, source.parent)):
        assert [run.name for run in bridges.read(place)] == ["out-<SECRET>"]
        for to in TARGETS:
            assert not export(place, to, tmp_path / f"{to}{number}").failed
            assert files_with_secrets(tmp_path / f"{to}{number}") == []


@pytest.mark.parametrize("to", TARGETS)
def test_secrets_of_results_files_are_masked(to: str, tmp_path: Path) -> None:
    source = write_state(tmp_path / "run" / "trainer_state.json", [{"loss": 1.0, "step": 1}])
    results = {"eval_loss": 0.5, "eval_note": TOKEN, f"eval_{TOKEN}": 2.0, "epoch": 1.0}
    source.with_name("eval_results.json").write_text(json.dumps(results))
    for status in ("exported", "unchanged"):
        run = export(source.parent, to, tmp_path / to)
        assert (run.status, run.verified, run.rows, run.failed) == (status, True, 2, False)
    assert files_with_secrets(tmp_path / to) == []


@pytest.mark.parametrize(
    "text", [f'{{"log_history": [], "global_step": "{TOKEN}"}}', f"{{ {TOKEN}"]
)
def test_messages_about_a_file_show_none_of_its_secrets(text: str, tmp_path: Path) -> None:
    with pytest.raises(bridges.SourceError, match="<SECRET>") as error:
        read_bytes(tmp_path, text.encode())
    assert TOKEN not in str(error.value)


def test_inspect_masks_a_secret_in_a_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_state(
        tmp_path / TOKEN / "trainer_state.json", [{"loss": 1, "step": 1}], max_steps=5
    )
    for options in ([], ["--json"]):
        assert cli.run(["inspect", str(source.parent), *options]) == 0
        assert TOKEN not in "".join(capsys.readouterr())


def test_inspect_masks_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_state(tmp_path / "trainer_state.json")
    for options in ([], ["--json"]):
        assert cli.run(["inspect", str(source), *options]) == 0
        shown = capsys.readouterr().out
        assert "secret-masked-in-log" in shown
        assert not any(each in shown for each in PLANTED)


@pytest.mark.parametrize(
    ("uri", "quoted", "shown"),
    [
        ("postgresql://u:p@S3C/w0rd@h:5432/db", "u:p%40S3C%2Fw0rd@", "postgresql://u@h:5432/db"),
        ("postgresql+psycopg://u:S3C@h/db", "u:S3C@", "postgresql+psycopg://u@h/db"),
        ("postgresql://u:S'3 \"C@h/db", "u:S%273%20%22C@", "postgresql://u@h/db"),
        ("postgresql://u:Sé%40C@h/db", "u:S%C3%A9%40C@", "postgresql://u@h/db"),
        (
            "postgresql://u@h/db?sslpassword=S3C",
            "u@h/db",
            "postgresql://u@h/db?sslpassword=<SECRET>",
        ),
        ("mysql+pymysql://u:S3C?#@h/db", "u:S3C%3F%23@", "mysql+pymysql://u@h/db"),
        ("mysql://h:3306/db?ca=/a@b", "h:3306", "mysql://h@b"),
        ("https://u:S3C@S3C@h:5000", "u:S3C%40S3C@", "https://<LOGIN>@h:5000"),
        ("https://h:5000/x@y", "h:5000/x@y", "https://h:5000/x@y"),
        ("https://S3C@h", "S3C@", "https://<LOGIN>@h"),
        ("sqlite:////data/a@b/c.db", "/data/a@b/c.db", "sqlite:////data/a@b/c.db"),
    ],
)
def test_tracking_uris(uri: str, quoted: str, shown: str) -> None:
    exporter = MlflowExporter(MlflowOptions(uri))
    assert quoted in exporter.uri
    assert quoted_uri(exporter.uri) == exporter.uri
    assert exporter.shown == shown
    assert exporter.view_command(["x"], 1) in (
        None,  # a server
        f"mlflow ui --backend-store-uri {shlex.quote(shown)}",
    )


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://u:p@S3CRET/S3CRET@127.0.0.1:1/db",
        "postgresql://u:S3CRET/S3CRET@127.0.0.1:1/db",
        "http://u:S3CRET/S3CRET@127.0.0.1:1",
        "http://S3CRET@127.0.0.1:1",
        "mysql+pymysql://u:S3CRET@S3CRET@127.0.0.1:1/db",
        "nothing://u:S3CRET/S3CRET@127.0.0.1:1/db",
    ],
)
def test_no_message_shows_the_password_of_a_tracking_uri(uri: str, tmp_path: Path) -> None:
    source = write_state(tmp_path / "trainer_state.json", [{"loss": 1, "step": 1}])
    try:
        message = repr(bridges.export(source, to="mlflow", tracking_uri=uri).as_dict())
    except bridges.BridgeError as error:
        message = str(error)
    assert "S3CRET" not in message
    assert "127.0.0.1" in message or "contains a login" in message or "no scheme" in message.lower()


@pytest.mark.parametrize("command", ["inspect", "export", "migrate"])
@pytest.mark.parametrize("url", ["http://u:S3C/H1DE@127.0.0.1:1/x.json", "s3x://b/x?sig=S3CH1DE"])
def test_no_message_shows_the_login_of_a_source(
    command: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"sources": [url], "targets": ["memory"]}))
    arguments = {
        "inspect": ["inspect", url],
        "export": ["export", url, "--to", "memory", "--json"],
        "migrate": ["migrate", str(config), "--json"],
    }[command]
    assert cli.run(arguments) in (1, 2)
    shown = "".join(capsys.readouterr())
    assert "H1DE" not in shown
    assert "<LOGIN>@127.0.0.1" in shown or "<SECRET>" in shown or "credential" in shown
