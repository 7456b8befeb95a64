"""The settings that the Trainer's callback writes into event files as texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.report import RunReport
from bridges.stream.finding import Finding
from bridges.stream.model import Run
from tests.event_files import START, hparams, losses, text, write

ARGS = {
    "output_dir": "out",
    "learning_rate": 5e-05,
    "num_train_epochs": 3,
    "save_strategy": "steps",
    "hub_token": "<HUB_TOKEN>",
    "lr_scheduler_kwargs": {},
    "logging_dir": "/home/me/runs",
}
CONFIG = {
    "architectures": ["Bert"],
    "id2label": {"0": "no", "1": "yes"},
    "transformers_version": "4.47.0",
    "output_dir": "of the model",
}


def log(folder: Path, **texts: str) -> Path:
    events = [text(START, 0, tag, content) for tag, content in texts.items()]
    write(folder / "logs" / "a", [*events, *losses(START, range(3))])
    return folder / "logs"


def trainer(folder: Path) -> Path:
    return log(folder, args=json.dumps(ARGS, indent=2), model_config=json.dumps(CONFIG))


def read(location: Path, **options: Any) -> Run:
    (run,) = bridges.read(location, **options)
    return run


def not_kept(report: RunReport) -> list[tuple[str, str]]:
    found: list[Finding] = [each for each in report.findings if each.code == "value-not-kept"]
    return [(each.severity.value, each.where) for each in found]


def test_settings_in_texts_are_params(tmp_path: Path) -> None:
    run = read(trainer(tmp_path))
    assert run.params == {**CONFIG, **ARGS, "id2label": {0: "no", 1: "yes"}}
    assert {*run.stream.keys} == {"args", "model_config", "loss"}


def test_mlflow_has_them_as_params(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    found = bridges.export(trainer(tmp_path), to="mlflow", tracking_uri=uri)
    (report,) = found.runs
    assert (report.verified, found.exit_code) == (True, 0)
    assert not_kept(report) == [
        ("info", "row 0, key 'args'"),
        ("info", "row 0, key 'model_config'"),
    ]
    (stored,) = bridges.read(uri)
    assert stored.params["learning_rate"] == 5e-05
    assert stored.params["id2label"] == "{0: 'no', 1: 'yes'}"


def test_the_texts_stay_in_event_files(tmp_path: Path) -> None:
    logs = trainer(tmp_path)
    (report,) = bridges.export(logs, to="tensorboard", logdir=tmp_path / "out").runs
    assert (report.verified, not_kept(report)) == (True, [])
    one, other = read(logs), read(tmp_path / "out")
    assert one.params == other.params
    assert [each.values.tolist() for each in one.stream.series] == [
        each.values.tolist() for each in other.stream.series
    ]


@pytest.mark.parametrize("content", ["hello", "[1]", '{"lr": 1}', "{", '{"output_dir": "x"', ""])
def test_other_texts_of_these_tags_are_texts(tmp_path: Path, content: str) -> None:
    logs = log(tmp_path, args=content)
    assert read(logs).params == {}
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (report,) = bridges.export(logs, to="mlflow", tracking_uri=uri).runs
    assert not_kept(report) == [("loss", "row 0, key 'args'")]


def test_secrets_and_home_directories_are_masked(tmp_path: Path) -> None:
    secret = "hf_" + "a1B2" * 9
    logs = log(tmp_path, args=json.dumps({**ARGS, "hub_token": secret}), note=f"token {secret}")
    run = read(logs, redact_home=True)
    assert secret not in str(run.params)
    assert "/home/me" not in str(run.params)
    bridges.export(
        logs, to=["tensorboard", "wandb"], logdir=tmp_path / "o", wandb_dir=tmp_path / "w"
    )
    written = [path for path in tmp_path.rglob("*") if path.is_file() and logs not in path.parents]
    assert written
    assert not any(secret.encode() in path.read_bytes() for path in written)


def test_they_override_the_params_of_a_session(tmp_path: Path) -> None:
    logs = trainer(tmp_path)
    write(logs / "a" / f"{START}.5", [hparams(START, num_train_epochs=3.0, seed=1.0)])
    assert read(logs).params["seed"] == 1.0
    assert type(read(logs).params["num_train_epochs"]) is int
