"""`bridge diff`: its page, its document, and exit codes like those of diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridges.cli.main import run as bridge
from tests.support import state


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name, rate in (("a", 0.1), ("b", 0.2), ("same", 0.1)):
        rows: list[dict[str, Any]] = [
            {"loss": 8.0 - step * rate, "step": step} for step in range(1, 11)
        ]
        rows.append({"eval_accuracy": 0.5, "eval_runtime": rate, "step": 10})
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_bytes(state(rows))
        (tmp_path / name / "config.json").write_text(json.dumps({"rate": rate, "size": 8}))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    capsys.readouterr()
    assert bridge(["diff", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code == 2 else out


def test_two_runs_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.rstrip() for line in printed(capsys, "a", "b", code=1).splitlines()]
    assert lines == [
        "A  a  11 rows, steps 1 to 10",
        "   a/trainer_state.json",
        "B  b  11 rows, steps 1 to 10",
        "   b/trainer_state.json",
        "",
        "params that differ  A    B",
        "rate                0.1  0.2",
        "",
        "metric            last  B − A  best  trend",
        "loss           A     7            7  ███▇▇▆▆▆▅▅",
        "               B     6     -1     6  █▇▆▆▅▄▃▂▁▁",
        "eval_accuracy  A   0.5          0.5",
        "               B   0.5      =   0.5",
        "",
        "row 0 is the first that differs (11 rows in all, 1 of them in durations only)",
        "  A  step 1, loss 7.9",
        "  B  step 1, loss 7.8",
    ]
    assert "eval_runtime" in printed(capsys, "a", "b", "-v", code=1)
    assert printed(capsys, "a", "b", "-q", code=1) == ""


def test_equal_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = printed(capsys, "a", "same", code=0)
    assert page.rstrip().endswith("The params and rows are equal.")
    assert "loss" in printed(capsys, "a", "same", "-v", code=0)
    ignore = [part for key in ("rate", "loss", "*_runtime") for part in ("--ignore", key)]
    assert "are equal" in printed(capsys, "a", "b", *ignore, code=0)


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, "a", "b", "--json", code=1))
    assert document["equal"] is False
    assert document["params"] == {"rate": {"a": 0.1, "b": 0.2}}
    assert document["a"] == {"run": "a", "source": "a/trainer_state.json", "rows": 11}
    assert document["metrics"]["loss"]["b"]["best_step"] == 10
    assert (document["rows_that_differ"], document["in_durations_only"]) == (11, 1)
    first = {"row": 0, "a": {"step": 1, "loss": 7.9}, "b": {"step": 1, "loss": 7.8}}
    assert document["first_difference"] == first
    document = json.loads(printed(capsys, "a", "same", "--json", code=0))
    assert (document["equal"], document["first_difference"]) == (True, None)


def test_trouble_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing" in printed(capsys, "a", "nothing", code=2)
    err = printed(capsys, "a", ".", code=2)
    assert ".: found several runs, such as a and b; expected one run." in err
    Path("broken.json").write_text("{")
    assert "broken.json" in printed(capsys, "broken.json", "a", code=2)


def test_a_run_that_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    Path("short.json").write_bytes(state([{"loss": 7.9, "step": 1}]))
    out = printed(capsys, "short.json", "a", code=1)
    assert "A  this run has ended" in out
    assert "B  step 2, loss 7.8" in out
    assert "size                –" in out


def test_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    token = "hf_" + "a1B2" * 9
    for name in "xy":
        rows = [{"loss": 1.0, "note": f"{name} {token}", "step": 1}]
        Path(f"{name}.json").write_bytes(state(rows))
    for more in ([], ["--json"]):
        assert token not in printed(capsys, "x.json", "y.json", *more, code=1)
