"""`-v` shows every finding, `-vv` also the log of what was done, which Python can read, too."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bridges
from bridges.log import SHOWN, log, show
from bridges.stream.redact import redact_message
from tests.support import state

ROWS = [{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}]
TIME = re.compile(r"\d+\.\d+ (ms|s)\b")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_bytes(state(ROWS))


def run(*arguments: str) -> tuple[str, str]:
    """The output and errors of a command without times."""
    command = [sys.executable, "-m", "bridges", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return TIME.sub("", done.stdout), TIME.sub("", done.stderr)


def test_vv_also_prints_the_log() -> None:
    export = ("export", "a.json", "--to", "tensorboard")
    run(*export)
    short, nothing = run(*export)
    in_full, still_nothing = run(*export, "-v")
    same, logged = run(*export, "-vv")
    assert (nothing, still_nothing) == ("", "")
    assert len(in_full) > len(short)
    assert same == in_full
    lines = [" ".join(line.split()) for line in logged.splitlines()]
    assert lines[0] == "bridges.read trainer_state: 2 rows of a.json"
    assert lines[1].startswith("bridges.match tensorboard: a has the key ")
    assert lines[1].endswith(" and continues runs/a")
    assert lines[2] == "bridges.run tensorboard: verifying a"
    assert lines[3].startswith("bridges.run tensorboard: unchanged a in")


def test_the_workers_of_a_migration_print_theirs() -> None:
    Path("m.yaml").write_text("sources: [a.json]\ntargets: [tensorboard]\nengine: {workers: 1}")
    assert "bridges.run tensorboard: writing a" in " ".join(
        run("migrate", "m.yaml", "-vv")[1].split()
    )
    again = " ".join(run("migrate", "m.yaml", "-vv")[1].split())
    assert "a.json: known by its files in 1 targets" in again


def test_python_reads_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "bridges"):
        bridges.export("a.json", to="tensorboard")
        Path("a.json").write_bytes(state([*ROWS, {"loss": 0.25, "step": 3}]))
        bridges.export("a.json", to="tensorboard", x_axis="epoch")
    assert {record.name for record in caplog.records} == {f"bridges.{name}" for name in
            ("read", "match", "run")}  # fmt: skip
    assert "and is new" in caplog.text


def test_a_bug_leaves_its_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(bridges.MemoryExporter):
        def find(self, identity: bridges.Identity) -> list[bridges.ExistingRun]:
            raise KeyError("key")

    with caplog.at_level(logging.DEBUG, "bridges"):
        report = bridges.export("a.json", to=Broken())
    assert report.runs[0].findings[-1].code == "internal-error"
    assert 'raise KeyError("key")' in caplog.text


def test_secrets_and_control_characters_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in SHOWN]
    before = [[*logger.handlers] for logger in loggers]
    try:
        show(redact_message)
        log("http", "GET %s", "https://me:pass@h/x?token=abc\x1b[2J")
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(logging.NOTSET)
    told = capsys.readouterr().err
    assert "bridges.http" in told
    assert "https://<LOGIN>@h/x?token=<SECRET>" in told
    assert "\x1b" not in told


def test_without_a_reader_logging_is_not_imported() -> None:
    code = (
        "import sys; from bridges.cli.main import run\n"
        "run(['export', 'a.json', '--to', 'tensorboard'])\n"
        "print('logging' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
