"""The page of charts as a file: its data, its policy, and what is masked or escaped in it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.errors import ConfigError
from bridges.pipeline.key_rules import with_key_rules
from bridges.stream.model import Run
from bridges.views.charts.page import ChartPage
from tests.support import read_bytes, state

ROWS = [
    {"loss": 0.1 + 0.2, "epoch": 0.5, "step": 1},
    {"loss": math.nan, "epoch": 1.0, "step": 2},
    {"loss": 1e-300, "eval_f1": 0.5, "epoch": 1.0, "step": 2},
    {"train_runtime": 9.0, "train_loss": 0.5, "total_flos": 8.0, "step": 2},
]
END = "</script><script>alert(1)</script>"


def made(folder: Path, name: str = "run", rows: Any = ROWS, **params: Any) -> Run:
    run = with_key_rules(read_bytes(folder, state(rows)))
    return Run(**{**vars(run), "name": name, "params": params})


def page_of(folder: Path, *runs: Run) -> str:
    page = ChartPage(str(folder / "page.html"), "a title")
    for run in runs:
        page.add(run)
    page.write()
    return (folder / "page.html").read_text()


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    document: dict[str, Any] = json.loads(found[1])
    return document


def column(data: dict[str, Any], place: int) -> list[float]:
    values = np.frombuffer(base64.b64decode(data["columns"][place]), "<f8")
    return [float(value) for value in values]


def test_the_data_is_exact(tmp_path: Path) -> None:
    data = data_of(page_of(tmp_path, made(tmp_path)))
    assert data["metrics"] == ["loss"]
    (run,) = data["runs"]
    assert (run["name"], run["synthetic"]) == ("run", False)  # its durations are known
    untimed = data_of(page_of(tmp_path, made(tmp_path, rows=ROWS[:3])))
    assert untimed["runs"][0]["synthetic"] is True
    (line,) = run["lines"]
    assert line["points"] == 3
    assert column(data, line["step"]) == [1, 2, 2]
    assert column(data, line["epoch"]) == [0.5, 1, 1]
    first, second, third = column(data, line["value"])
    assert (first, third) == (0.1 + 0.2, 1e-300)
    assert math.isnan(second)


def test_equal_columns_are_kept_once(tmp_path: Path) -> None:
    runs = [made(tmp_path, name) for name in "abc"]
    assert len(data_of(page_of(tmp_path, *runs))["columns"]) == 4


def test_the_tables(tmp_path: Path) -> None:
    text = page_of(tmp_path, made(tmp_path, "a", lr=0.1), made(tmp_path, "b", lr=0.2))
    assert "<h1>a title</h1>" in text
    assert "2 runs, 14 points." in text
    assert '<th scope="row"><bdi>a</bdi></th><td class="n">4</td><td class="n">2</td>' in text
    assert '<td class="wide"><bdi>lr=0.2</bdi></td>' in text
    once = text[text.index("Logged once") :]
    assert "train_runtime" in once
    assert '<td class="n">9</td>' in once
    assert "Findings" not in text
    single = page_of(tmp_path, made(tmp_path, "a", lr=0.1))
    assert "Params (1)" in single
    assert "clock-synthetic" in single


def test_only_its_own_code_runs(tmp_path: Path) -> None:
    text = page_of(tmp_path, made(tmp_path))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none';")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert (len(scripts), len(styles)) == (2, 2)
    for code in (*scripts, *styles):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert not re.search(r"(src|href)=", text.replace("default-src=", ""))
    assert "Copyright (c)" in text
    assert "Permission is hereby granted" in text


def test_texts_are_escaped_and_secrets_masked(tmp_path: Path) -> None:
    token = "hf_" + "a1B2" * 9
    rows = [{END: 1.0, f"m {token}": 2.0, "step": step} for step in (1, 2)]
    run = made(tmp_path, f"{END} {token} @DATA@ \u202e", rows, note=END)
    other = made(tmp_path, "b", rows, note="<b>")
    for text in (page_of(tmp_path, run), page_of(tmp_path, run, other)):
        assert END not in text
        assert text.count("<script>") == 2
        assert token not in text
        assert "\u202e" not in text
        assert END in data_of(text)["metrics"]
        assert data_of(text)["runs"][0]["name"].startswith(END)


def test_runs_without_rows_or_numbers(tmp_path: Path) -> None:
    text = page_of(tmp_path, made(tmp_path, rows=[]), made(tmp_path, rows=[{"note": "x"}]))
    assert data_of(text)["metrics"] == []


def test_many_runs_say_how_many_are_drawn(tmp_path: Path) -> None:
    run = made(tmp_path)
    assert "50 runs are drawn at first" in page_of(tmp_path, *[run] * 51)
    assert "drawn at first" not in page_of(tmp_path, *[run] * 50)


def test_thinned_lines_are_named(tmp_path: Path) -> None:
    rows = [{"loss": 1 / step, "step": step} for step in range(1, 5_001)]
    text = page_of(tmp_path, made(tmp_path, rows=rows))
    assert "thinned to 2,000 points" in text
    (line,) = data_of(text)["runs"][0]["lines"]
    assert line["points"] == 5_000
    assert len(column(data_of(text), line["value"])) <= 2_000


@pytest.mark.parametrize("place", ["no/such/page.html", "."])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        ChartPage(str(tmp_path / place), "")
