"""No control character, no override of directions and no lone surrogate reaches the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bridges.cli.console import json_text, printable
from bridges.cli.main import run as bridge

BAD = "\x1b]0;x\x07\x08\r\x7f\x85\x9b31m\u061c\u200e\u202e\u2066\ud800\udc9b\U000e0001"
RAW = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0001]"
)
NAME = "n\x1b[31m\x7f\x9b\u202e"  # of a file


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs in which every text is bad, a broken file, and a config for them."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        folder = tmp_path / "tree" / f"{NAME}{number}"
        folder.mkdir(parents=True)
        rows = [
            {"loss": 1.5 + number, f"eval_{BAD}": 2.0, "step": 1, "epoch": 0.1},
            {"loss": 1.0, "note": BAD, BAD: None, "list": [BAD], "step": 1},
            {"loss": 0.5, "step": 0, f"{BAD}_other": {BAD: BAD}},
        ]
        state = {
            "log_history": rows,
            "global_step": 1,
            "trial_name": BAD,
            "trial_params": {"a": BAD},
        }
        (folder / "trainer_state.json").write_text(json.dumps(state))
        (folder / "config.json").write_text(json.dumps({BAD: BAD, "model_type": BAD}))
        (folder / "README.md").write_text(
            f"---\nmodel_name: {json.dumps(BAD)}\n---\n{BAD}", "utf-8", "replace"
        )
    broken = tmp_path / "tree" / f"{NAME}broken"
    broken.mkdir()
    (broken / "trainer_state.json").write_bytes(b'{"log_history": [{"loss": \x9b\x1b[31m')
    config = {
        "sources": [{"location": "tree", "tags": {"tag": "x\x7f\x9b\u202e{name}"}}],
        "targets": [{"to": "tensorboard", "logdir": "tb\x9b\u202e"}],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "tree"


REPORTS = ["--report", "report", "--html", "page"]
COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "inspect": lambda tree: ["inspect", tree],
    "inspect -v": lambda tree: ["inspect", tree, "-v"],
    "inspect one": lambda tree: ["inspect", f"{tree}/{NAME}0"],
    "inspect --json": lambda tree: ["inspect", tree, "--json"],
    "ls": lambda tree: ["ls", tree],
    "ls --json": lambda tree: ["ls", tree, "--json"],
    "ls as CSV": lambda tree: ["ls", tree, "--csv"],
    "ls column": lambda tree: ["ls", tree, "--sort", "x\x9b\u202e\x7f"],
    "diff": lambda tree: ["diff", f"{tree}/{NAME}0", f"{tree}/{NAME}1", "-v"],
    "diff as JSON": lambda tree: ["diff", f"{tree}/{NAME}0", f"{tree}/{NAME}1", "--json"],
    "diff missing": lambda tree: ["diff", tree, f"{tree}/no\x9b\u202e"],
    "report": lambda tree: ["report", tree, "-o", "page"],
    "report of one": lambda tree: ["report", f"{tree}/{NAME}0", "-o", "page"],
    "init": lambda tree: ["init", tree, "-o", "-"],
    "init file": lambda tree: ["init", tree, "-o", "x\x9b\u202e.yaml"],
    "view": lambda tree: ["view", f"{tree}/no\x9b\u202e"],
    "view --dry-run": lambda tree: ["view", "http://x\x9b\u202e", "--dry-run"],
    "explain": lambda tree: ["explain", "x\x9b\u202e\x7f"],
    "export": lambda tree: ["export", tree, "--to", "tensorboard", "--logdir", "l\x9b\u202e"],
    "export -v": lambda tree: ["export", tree, "--to", "tensorboard", "-v", "--group", BAD[:-3]],
    "export --json": lambda tree: ["export", tree, "--to", "tensorboard", "--json"],
    "export --dry-run": lambda tree: ["export", tree, "--to", "wandb", "--dry-run", "-v"],
    "wandb": lambda tree: ["export", tree, "--to", "wandb", "-v", "--run-name", "r\x9b\u202e"],
    "verify": lambda tree: ["verify", tree, "--to", "tensorboard", "-v"],
    "migrate": lambda tree: [
        "migrate",
        "config.yaml",
        "-v",
        "--report",
        "report",
        "--html",
        "page",
    ],
    "migrate --json": lambda tree: ["migrate", "config.yaml", "--json"],
    "migrate --dry-run": lambda tree: ["migrate", "config.yaml", "--dry-run", "-v"],
    "missing": lambda tree: ["inspect", f"{tree}/no\x9b\x7f\u202esuch"],
    "config": lambda tree: ["migrate", "no\x9b\x7f\u202esuch.yaml"],
    "usage": lambda tree: ["export", tree, "--to", "x\x9b\u202e"],
    "option": lambda tree: ["export", tree, "--no\x9b\u202esuch"],
    "choice": lambda tree: ["export", tree, "--to", "wandb", "--mode", "\x9b\u202e\x7f"],
    "number": lambda tree: ["migrate", "config.yaml", "--workers", "\x9b\u202e\x7f"],
    "extra": lambda tree: ["migrate", "config.yaml", "extra\x9b\u202e\x7f"],
    "command": lambda tree: ["no\x9b\u202e\x7fsuch"],
    "tag": lambda tree: ["export", tree, "--to", "tensorboard", "--tag", "\x9b\u202e"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_that_rewrites_the_screen_is_printed(
    name: str, tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bridge(COMMANDS[name](str(tree)))
    said = capfd.readouterr()
    assert said.out + said.err
    for text in (said.out, said.err):
        assert RAW.findall(text) == [], text
    for written in ("report", "page"):
        if (tmp_path / written).exists():
            text = (tmp_path / written).read_text()
            assert RAW.findall(text) == []
    if "--json" in name:
        document = json.loads(said.out)
        assert NAME in document["runs"][0]["source"]


def test_json_is_the_same_document_in_printable_characters() -> None:
    document = {"text": BAD, BAD: [BAD, "é", "损失", "🙂", "\u2028", "\\u202e", '"']}
    text = json_text(document)
    assert RAW.findall(text) == []
    assert json.loads(text) == json.loads(json.dumps(document))
    for kept in ("é", "损失", "🙂"):
        assert kept in text


def test_what_is_printed_keeps_letters_of_every_script() -> None:
    assert printable("é 损失 🙂 שלום") == "é 损失 🙂 שלום"
    assert not RAW.search(printable(BAD))
