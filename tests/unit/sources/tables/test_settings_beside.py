"""Settings beside a table: hostile ones are bounded and told, and never stop the table."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from bridges.sources.tables.params import MAX_BYTES
from bridges.stream.finding import Severity
from tests.unit.sources.tables.tables import LIGHTNING, SB3, ULTRALYTICS, codes, one, put

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)
HOSTILE = {
    "laughs": (LAUGHS.encode(), "its aliases expand to more than 50,000 values"),
    "itself": (b"a: &a [*a]\n", "its aliases expand to more than 50,000 values"),
    "not-utf-8": ("name: caf\xe9\n".encode("latin-1"), "utf-8"),
    "utf-16": ("lr: 1\n".encode("utf-16"), "utf-8"),
    "binary": (bytes(range(256)), "not read as settings"),
    "list": (b"- 1\n- 2\n", "it is a YAML list, not a mapping"),
    "cut": (b"a: [1,\n", "it is not YAML of plain values"),
    "deep": (b"a: " + b"[" * 5000 + b"]" * 5000, "not read as settings"),
    "long": (b"a: 1\n" * 60_000, "it has 300,000 bytes, and YAML settings no more than 250,000"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-LFS pointer"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_yaml_is_told(tmp_path: Path, kind: str) -> None:
    data, message = HOSTILE[kind]
    put(tmp_path / "metrics.csv", LIGHTNING)
    put(tmp_path / "hparams.yaml", data)
    run = one(tmp_path)
    assert (run.params, run.stream.points) == ({}, 6)
    (found,) = (each for each in run.findings if each.code == "beside-unreadable")
    assert (found.severity, found.where) == (Severity.WARNING, str(tmp_path / "hparams.yaml"))
    assert message in found.message


def test_no_object_is_made_of_a_python_tag(tmp_path: Path) -> None:
    target = tmp_path / "made"
    put(tmp_path / "metrics.csv", LIGHTNING)
    put(
        tmp_path / "hparams.yaml",
        f"a: !!python/object/apply:os.mkdir ['{target}']\n"
        f"b: !!python/object/new:os.system ['mkdir {target}']\n"
        "c: !!python/module:os ''\nd: !!python/object/apply:builtins.eval [1/0]\n"
        "e: !!python/tuple [1, 2]\nf: !!binary aGk=\ng: 2026-01-01\nh: !!set {x, y}\n",
    )
    run = one(tmp_path)
    assert not target.exists()
    assert run.params["e"] == [1, 2]
    assert run.params["c"] == "os"
    assert {type(value) for value in run.params.values()} <= {str, list, dict}


@pytest.mark.parametrize(
    ("table", "text", "name"),
    [
        ("metrics.csv", LIGHTNING, "hparams.yaml"),
        ("results.csv", ULTRALYTICS, "args.yaml"),
        ("results.csv", ULTRALYTICS, "opt.yaml"),
        ("progress.csv", SB3, "config.yml"),
    ],
)
def test_a_file_of_100_mb_is_not_read(tmp_path: Path, table: str, text: str, name: str) -> None:
    put(tmp_path / table, text)
    with (tmp_path / name).open("wb") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    try:
        run = one(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_BYTES
    (found,) = (each for each in run.findings if each.code == "beside-unreadable")
    assert f"more than {MAX_BYTES:,} bytes" in found.message


def test_a_large_file_of_catboost_is_read_at_its_beginning(tmp_path: Path) -> None:
    """Its file has a value of each iteration behind the settings."""
    put(tmp_path / "catboost_info/learn_error.tsv", "iter\tRMSE\n0\t1.5\n1\t1.25\n")
    rows = [{"learn": [0.5], "iteration": n, "passed_time": n / 7} for n in range(200_000)]
    text = json.dumps({"meta": {"iteration_count": 2, "name": "x"}, "iterations": rows})
    put(tmp_path / "catboost_info/catboost_training.json", text)
    run = one(tmp_path)
    assert run.params == {"iteration_count": 2, "name": "x"}
    assert "beside-unreadable" not in codes(run)
    put(tmp_path / "catboost_info/catboost_training.json", '{"meta": [1], "iterations": []}')
    assert "beside-unreadable" in codes(one(tmp_path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}", "not read as settings"),
        (b"[1, 2]", "it is a JSON list, not an object"),
        (b"{" + b'"a": 1,' * 200_000 + b'"b": 2}', "it contains more than 100,000 values"),
        (b'{"a": \0}', "zero byte"),
    ],
)
def test_hostile_json_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    formats = "tables: {mine: {files: x.csv, step: step, params: config.json}}\n"
    own = put(tmp_path / "f/formats.yaml", formats)
    put(tmp_path / "x/x.csv", "step,loss\n1,2\n")
    put(tmp_path / "x/config.json", data)
    run = one(tmp_path / "x", format=own)
    (found,) = (each for each in run.findings if each.code == "beside-unreadable")
    assert message in found.message


def test_a_bad_file_beside_good_ones(tmp_path: Path) -> None:
    """Ultralytics: each readable file gives its params; the others are told, one by one."""
    put(tmp_path / "results.csv", ULTRALYTICS)
    put(tmp_path / "opt.yaml", "epochs: 2\nlr0: 0.5\n")
    put(tmp_path / "hyp.yaml", "a: [")
    put(tmp_path / "args.yaml", LAUGHS)
    run = one(tmp_path)
    assert (run.params, run.status) == ({"epochs": 2, "lr0": 0.5}, "finished")
    assert sum(each.code == "beside-unreadable" for each in run.findings) == 2
