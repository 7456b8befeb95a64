"""`bridge report` and `bridge inspect --html`: a page of charts from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridges.cli.main import run as bridge
from tests.support import state


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("ab"):
        (tmp_path / "out" / name).mkdir(parents=True)
        rows = [{"loss": number + 1 / step, "step": step} for step in (1, 2)]
        (tmp_path / "out" / name / "trainer_state.json").write_bytes(state(rows))


def test_a_page_of_all_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["report", "out", "-o", "my page.html"]) == 0
    assert capsys.readouterr().out == "2 runs → my page.html. View: bridge view 'my page.html'\n"
    assert "<h1>out</h1>" in Path("my page.html").read_text()


def test_as_json_with_a_broken_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out/a/trainer_state.json").write_text("{")
    assert bridge(["report", "out", "-o", "page.html", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["page"], document["runs"]) == ("page.html", 1)
    assert document["errors"][0]["source"] == "out/a/trainer_state.json"
    assert bridge(["report", "nothing", "-o", "none.html"]) == 2
    assert not Path("none.html").exists()


def test_inspect_writes_the_page_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["inspect", "out/a", "--html", "run.html"]) == 0
    out = capsys.readouterr().out
    assert "loss" in out
    assert out.endswith("1 run → run.html. View: bridge view run.html\n")
    assert bridge(["inspect", "out/a", "--html", "run.html", "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_a_page_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["report", "out", "-o"], ["inspect", "out", "--html"]):
        assert bridge([*command, "no/page.html"]) == 2
        out, err = capsys.readouterr()
        assert "the page 'no/page.html' cannot be written: there is no directory" in err
        assert out == ""
