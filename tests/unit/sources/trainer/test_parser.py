"""Everything that is legal is read, whole, with its types: encodings, shapes, numbers, oddities."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.sources.json_text import parse
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.state_file import TrainerStateSource, default_name
from bridges.stream.finding import Severity
from bridges.stream.model import RowKind
from tests.support import (
    DATA,
    GROUNDTRUTH,
    codes,
    needs_groundtruth,
    packed,
    read_bytes,
    read_one,
    same,
    state,
)

ROWS: list[dict[str, Any]] = [
    {"loss": 1.5, "learning_rate": 5e-05, "epoch": 0.5, "step": 1},
    {"loss": 1.25, "learning_rate": 4e-05, "epoch": 1.0, "step": 2},
    {"eval_loss": 1.125, "epoch": 1.0, "step": 2},
]
LINES = "\n".join(map(json.dumps, ROWS)).encode()


def wrapped(data: bytes) -> bytes:
    return b"\n".join(b"| " + line + b" | |" for line in data.splitlines())


# --- the file this project began with ---------------------------------------------------------


def test_the_seed_is_read_whole() -> None:
    run = read_one(DATA / "seed.txt")
    steps = run.stream.step.tolist()
    kinds = run.stream.kind.tolist()
    assert (DATA / "seed.txt").read_bytes().count(b"\n") + 1 == 741
    assert (len(steps), kinds.count(RowKind.TRAIN), kinds.count(RowKind.EVAL)) == (101, 100, 1)
    train = [step for step, kind in zip(steps, kinds, strict=True) if kind == RowKind.TRAIN]
    assert train == list(range(100, 10_001, 100))
    assert steps[kinds.index(RowKind.EVAL)] == 9041
    assert (run.writer, run.status, codes(run)) == ("4.41-4.49", "finished", [])
    epoch = run.stream.epoch
    assert np.array_equal(epoch, run.stream.step / 9041)


# --- the same history in every coat -----------------------------------------------------------

COATS = {
    "state": state(ROWS),
    "state, indented": json.dumps({"log_history": ROWS, "global_step": 2}, indent=2).encode(),
    "state, CRLF": json.dumps({"log_history": ROWS, "global_step": 2}, indent=2)
    .replace("\n", "\r\n")
    .encode(),
    "BOM": b"\xef\xbb\xbf" + state(ROWS),
    "blanks around": b"\n\n  " + state(ROWS) + b"\n\n",
    "bare list": json.dumps(ROWS).encode(),
    "bare list, one row a line": b"[" + LINES.replace(b"\n", b",\n") + b"]",
    "JSON lines": LINES,
    "JSON lines, CRLF": LINES.replace(b"\n", b"\r\n") + b"\r\n",
    "JSON lines, blank lines between": b"\n" + LINES.replace(b"\n", b"\n \n") + b"\n\n",
    "JSON lines, BOM": b"\xef\xbb\xbf" + LINES,
    "table": wrapped(json.dumps({"log_history": ROWS, "global_step": 2}, indent=2).encode()),
    "table, one bar at the end": wrapped(state(ROWS)).replace(b" | |", b" |"),
    "table of JSON lines": wrapped(LINES),
    "table, CRLF": wrapped(LINES).replace(b"\n", b"\r\n"),
    "gzip": packed(state(ROWS)),
    "gzip, two members": packed(state(ROWS)[:50]) + packed(state(ROWS)[50:]),
    "gzip, zeros after it": packed(state(ROWS)) + b"\0" * 64,
    "gzip of a table": packed(wrapped(LINES)),
    "gzip of JSON lines with BOM": packed(b"\xef\xbb\xbf" + LINES),
}


@pytest.mark.parametrize("coat", COATS)
def test_every_coat_holds_the_same_rows(coat: str, tmp_path: Path) -> None:
    run = read_bytes(tmp_path, COATS[coat])
    assert same(list(run.stream), ROWS)
    assert codes(run) == []
    assert run.provenance[0].size == len(COATS[coat])


def test_one_line_is_one_row(tmp_path: Path) -> None:
    assert same(list(read_bytes(tmp_path, LINES.split(b"\n")[0]).stream), ROWS[:1])


def test_bars_inside_of_text_are_no_table(tmp_path: Path) -> None:
    rows = [{"note": "| a | b |", "step": 1}]
    indented = json.dumps({"log_history": rows, "global_step": 1}, indent=0).encode()
    for data in (indented, wrapped(indented)):
        assert same(list(read_bytes(tmp_path, data).stream), rows)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(state(ROWS))))
    run = read_one("-")
    assert (run.name, run.source, len(run.stream)) == ("stdin", "-", 3)


def test_an_fsspec_url() -> None:
    url = "memory://bucket/my-run/trainer_state.json"
    with fsspec.open(url, "wb") as file:
        file.write(state(ROWS))
    run = read_one(url)
    assert (run.name, run.source) == ("my-run", url)
    assert same(list(run.stream), ROWS)


@pytest.mark.parametrize("data", [state([]), b"[]"], ids=["state", "bare list"])
def test_an_empty_history_is_legal(data: bytes, tmp_path: Path) -> None:
    run = read_bytes(tmp_path, data)
    assert (len(run.stream), run.stream.keys, list(run.stream)) == (0, (), [])


# --- values -----------------------------------------------------------------------------------


def test_nan_and_infinity_are_numbers(tmp_path: Path) -> None:
    run = read_bytes(
        tmp_path,
        b'{"global_step": 3, "log_history": [{"loss": NaN, "step": 1}, {"loss": Infinity, '
        b'"step": 2}, {"loss": -Infinity, "step": 3}]}',
    )
    nan, *infinite = run.stream.column("loss")[1].tolist()
    assert math.isnan(nan)
    assert infinite == [math.inf, -math.inf]


@pytest.mark.parametrize("value", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_integers_are_exact(value: int, tmp_path: Path) -> None:
    run = read_bytes(tmp_path, state([{"num_tokens": value, "step": 1}]))
    assert same(list(run.stream), [{"num_tokens": value, "step": 1}])
    assert codes(run) == ["tail-not-logged"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (2**63, 9.223372036854775808e18),
        (-(2**63) - 1, -9.223372036854775808e18),
        (10**400, "1" + "0" * 400),
    ],
    ids=["2^63", "-2^63-1", "10^400"],
)
def test_integers_beyond_int64_are_kept_with_a_finding(
    value: int, kept: float | str, tmp_path: Path
) -> None:
    rows = [{"big": 1, "step": 1}, {"big": value, "step": 2}]
    run = read_bytes(tmp_path, state(rows))
    assert same([row["big"] for row in run.stream], [1, kept])
    (finding,) = run.findings
    assert (finding.code, finding.where, finding.count, finding.severity) == (
        "integer-beyond-int64",
        "row 1, key 'big'",
        1,
        Severity.WARNING,
    )


@pytest.mark.parametrize("step", [2**63 - 1, -(2**63), 0])
def test_steps_go_to_the_ends_of_int64(step: int, tmp_path: Path) -> None:
    run = read_bytes(tmp_path, state([{"loss": 1.5, "step": step}]))
    assert run.stream.step.tolist() == [step]


def test_types_are_kept_value_by_value(tmp_path: Path) -> None:
    values = [1, 1.0, True, None, "1", "", [1, 2], [3, 4], [], {"a": {"b": 1.5}}, {}, 2, False]
    rows = [{"x": value, "step": step} for step, value in enumerate(values)]
    run = read_bytes(tmp_path, state(rows, global_step=len(rows)))
    assert same(list(run.stream), rows)
    assert run.stream.points == 5


def test_the_odd_values_of_a_real_run(tmp_path: Path) -> None:
    run = read_one(DATA / "odd_values.json")
    rows = json.loads((DATA / "odd_values.json").read_bytes())["log_history"]
    for row in rows:
        if "eval_big" in row:
            row["eval_big"] = float(row["eval_big"])
    assert same(list(run.stream), rows)
    assert codes(run) == ["integer-beyond-int64"]
    assert run.status == "finished"


def test_lone_surrogates_are_carried(tmp_path: Path) -> None:
    data = b'{"global_step": 1, "\\udc00": 1, "log_history": [{"a\\ud800": "\\udfff", "step": 1}]}'
    assert list(read_bytes(tmp_path, data).stream) == [{"a\ud800": "\udfff", "step": 1}]


DUPLICATES = {
    "in rows": (
        b'{"global_step": 1, "log_history": [{"loss": 1, "loss": 2, "step": 1}]}',
        ["key 'loss'"],
    ),
    "in the state": (
        b'{"global_step": 9, "global_step": 1, "log_history": [{"loss": 2, "step": 1}]}',
        ["key 'global_step'"],
    ),
    "with a blank before the colon": (
        b'{"global_step": 1, "log_history": [{"loss": 1, "loss" : 2, "step": 1}]}',
        ["key 'loss'"],
    ),
    "in a nested value": (
        b'{"global_step": 1, "log_history": [{"loss": 2, "step": 1}], '
        b'"trial_params": {"lr": 1, "lr": 2}}',
        ["key 'lr'"],
    ),
    "in JSON lines": (
        b'{"loss": 1, "loss": 2, "step": 1}\n{"loss": 1, "loss": 2, "step": 1, "step": 1}',
        ["key 'loss'", "key 'step'"],
    ),
}


@pytest.mark.parametrize("name", DUPLICATES)
def test_a_key_that_stands_twice_is_a_finding_and_its_last_value_counts(
    name: str, tmp_path: Path
) -> None:
    data, where = DUPLICATES[name]
    run = read_bytes(tmp_path, data)
    assert {row["loss"] for row in run.stream} == {2}
    assert [finding.where for finding in run.findings] == where
    assert set(codes(run)) == {"duplicate-key"}


def test_a_text_that_looks_like_a_key_is_no_duplicate(tmp_path: Path) -> None:
    rows = [{"note": '"loss": 1, "loss": 2', 'a"b': 1, "step": 1}]
    run = read_bytes(tmp_path, state(rows, global_step=1))
    assert same(list(run.stream), rows)
    assert codes(run) == []


def test_a_row_without_a_step_takes_the_one_before(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": 2, "step": 5}, {"a": 3}, {"a": 4, "step": None}, {"a": 5, "step": 6}]
    run = read_bytes(tmp_path, state(rows, global_step=6))
    assert run.stream.step.tolist() == [0, 5, 5, 5, 6]
    (finding,) = run.findings
    assert (finding.code, finding.where, finding.count) == ("step-missing", "rows 0, 2, 3", 3)


# --- what is known of the run -----------------------------------------------------------------

LOGGING = {"logging_steps": 500, "eval_steps": 500, "save_steps": 500}
TOKENS = {**LOGGING, "num_input_tokens_seen": 0, "train_batch_size": 8}
CALLBACKS = {**TOKENS, "stateful_callbacks": {"TrainerControl": {"args": {}}}}
BEST = {**CALLBACKS, "best_global_step": None}
BANDS: list[tuple[dict[str, Any], float, str]] = [
    ({}, 1.2345, "3.5-4.31"),
    (LOGGING, 1.2345, "4.32-4.35"),
    (TOKENS, 1.2345, "4.36-4.40"),
    (CALLBACKS, 1.2345, "4.41-4.49"),
    (BEST, 1.2345, "4.50-4.57"),
    (BEST, 1.23456789, "5.0+"),
]


@pytest.mark.parametrize(("fields", "loss", "band"), BANDS, ids=[band for _, _, band in BANDS])
def test_the_shape_of_a_state_tells_its_writer(
    fields: dict[str, Any], loss: float, band: str, tmp_path: Path
) -> None:
    rows = [{"loss": loss, "step": 1}, {"loss": math.nan, "step": 2}, {"loss": 1e300, "step": 2}]
    assert read_bytes(tmp_path, state(rows, **fields)).writer == band


def test_bare_rows_have_no_writer(tmp_path: Path) -> None:
    run = read_bytes(tmp_path, LINES)
    assert (run.writer, run.status, dict(run.params), dict(run.facts)) == (None, "unknown", {}, {})


SUMMARY = {"train_runtime": 9.5, "train_loss": 1.25, "total_flos": 1e9, "step": 2}
STATUSES: list[tuple[str, list[dict[str, Any]], dict[str, Any], str]] = [
    ("all steps", ROWS, {"max_steps": 2}, "finished"),
    ("fewer steps", ROWS, {"max_steps": 3}, "unfinished"),
    ("summary row", [*ROWS, SUMMARY], {"max_steps": 3}, "finished"),
    ("no max_steps", ROWS, {}, "unknown"),
    ("max_steps -1", ROWS, {"max_steps": -1}, "unknown"),
    ("max_steps null", ROWS, {"max_steps": None}, "unknown"),
]


@pytest.mark.parametrize("case", STATUSES, ids=[case[0] for case in STATUSES])
def test_status(
    case: tuple[str, list[dict[str, Any]], dict[str, Any], str], tmp_path: Path
) -> None:
    _, rows, fields, status = case
    assert read_bytes(tmp_path, state(rows, **fields)).status == status


def test_params_facts_and_trial(tmp_path: Path) -> None:
    trial = {"learning_rate": 3e-5, "per_device_train_batch_size": 4}
    fields = {
        **LOGGING,
        "max_steps": 2,
        "num_train_epochs": 9223372036854775807,
        "total_flos": 12.5,
        "best_metric": 0.75,
        "best_model_checkpoint": "/home/anna/out/checkpoint-2",
        "trial_name": "t1",
        "trial_params": trial,
        "unknown_field": [1],
    }
    run = read_bytes(tmp_path, state(ROWS, **fields))
    assert run.params == {
        **LOGGING,
        "max_steps": 2,
        "num_train_epochs": 9223372036854775807,
        **trial,
    }
    assert run.facts == {
        "global_step": 2,
        "total_flos": 12.5,
        "best_metric": 0.75,
        "best_model_checkpoint": "~/out/checkpoint-2",
    }
    assert run.trial == ("t1[('learning_rate', 3e-05), ('per_device_train_batch_size', 4)]")


def test_secrets_are_nowhere_in_the_run(tmp_path: Path) -> None:
    secret = "hf_" + "A1b2C3d4" * 4
    fields = {
        "trial_name": "t",
        "trial_params": {"hub_token": secret, "note": f"key {secret}", "deep": {"x": [secret]}},
        "best_model_checkpoint": f"https://anna:{secret}@host/m",
    }
    run = read_bytes(tmp_path, state(ROWS, **fields))
    assert secret not in repr(run)
    assert run.params["hub_token"] == "<HUB_TOKEN>"
    assert "secret-masked" in codes(run)


NAMES = {
    "/data/my-run/trainer_state.json": "my-run",
    "/data/my-run/checkpoint-500/trainer_state.json": "my-run",
    "/data/my-run/checkpoint-500-run-3/trainer_state.json": "my-run",
    "/data/my-run/run-1/checkpoint-5/trainer_state.json": "run-1",
    "/checkpoint-500/trainer_state.json": "checkpoint-500",
    "/trainer_state.json": "trainer_state",
    "/data/my-run/trainer_state.json.gz": "my-run",
    "/data/my-run/log_history.jsonl": "my-run",
    "/data/my-run/loss.of.bert.json": "loss.of.bert",
    "/data/history.txt.gz": "history",
    "/data/history": "history",
    "s3://bucket/my-run/trainer_state.json": "my-run",
    "s3://bucket/trainer_state.json": "bucket",
    "https://host/org/repo/resolve/main/run.json": "run",
    "-": "stdin",
}


@pytest.mark.parametrize("location", NAMES)
def test_the_name_of_a_run(location: str) -> None:
    assert default_name(location) == NAMES[location]


def test_the_name_of_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-run").mkdir()
    monkeypatch.chdir(tmp_path / "my-run")
    Path("trainer_state.json").write_bytes(state(ROWS))
    assert read_one("trainer_state.json").name == "my-run"


@pytest.mark.parametrize(
    ("location", "claimed"),
    [
        ("trainer_state.json", True),
        ("log.JSONL", True),
        ("log.ndjson", True),
        ("table.txt", True),
        ("state.json.gz", True),
        ("-", True),
        ("memory://a/state", True),
        ("events.out.tfevents.1", False),
        ("training_args.bin", False),
        ("mlflow.db", False),
    ],
)
def test_locations_that_the_source_claims(location: str, claimed: bool) -> None:
    assert TrainerStateSource().claims(location) is claimed


# --- salvage ----------------------------------------------------------------------------------

CUT = state(ROWS)[: state(ROWS).index(b"1.125")]
SALVAGED = {
    "state": CUT,
    "state after its rows": state(ROWS[:2], max_steps=5)[:-5],
    "global_step after the rows": b'{"log_history": ' + json.dumps(ROWS[:2]).encode() + b', "gl',
    "bare list": json.dumps(ROWS).encode()[:-9],
    "JSON lines": LINES[:-9],
    "table": wrapped(json.dumps({"log_history": ROWS, "global_step": 2}, indent=2).encode())[:-60],
    "BOM": b"\xef\xbb\xbf" + CUT,
    "inside of a character": CUT[: CUT.rindex(b"eval")] + "é".encode()[:1],
    "inside of a character of four bytes": CUT[: CUT.rindex(b"eval")] + "😀".encode()[:3],
    "inside of a number": CUT + b"1.",
    "inside of null": CUT + b"nu",
}


@pytest.mark.parametrize("name", SALVAGED)
def test_salvage_reads_every_whole_row(name: str, tmp_path: Path) -> None:
    run = read_bytes(tmp_path, SALVAGED[name], salvage=True)
    assert same(list(run.stream), ROWS[:2])
    assert codes(run) == ["salvaged"]
    assert run.findings[0].where == "row 1"
    assert run.findings[0].message.startswith("the file ends too early: 2 complete rows are read, ")
    assert (run.writer, run.status) == (None, "unknown")  # the fields after the rows are lost


def test_salvage_of_gzip(tmp_path: Path) -> None:
    rows = [{"loss": math.sin(step), "step": step} for step in range(2000)]
    data = packed(state(rows))
    run = read_bytes(tmp_path, data[: len(data) // 2], salvage=True)
    count = len(run.stream)
    assert 500 < count < 1500
    assert same(list(run.stream), rows[:count])
    assert codes(run) == ["gzip-truncated", "salvaged"]


def test_gzip_that_lacks_only_its_checksum_loses_nothing(tmp_path: Path) -> None:
    run = read_bytes(tmp_path, packed(state(ROWS))[:-4], salvage=True)
    assert same(list(run.stream), ROWS)
    assert codes(run) == ["gzip-truncated"]


def test_salvage_of_a_whole_file_changes_nothing(tmp_path: Path) -> None:
    whole = read_bytes(tmp_path, state(ROWS))
    assert codes(read_bytes(tmp_path, state(ROWS), salvage=True)) == codes(whole) == []


def test_the_header_that_is_left_is_used(tmp_path: Path) -> None:
    data = b'{"best_metric": 0.5, "global_step": 7, "log_history": [{"loss": 1.5, "step": 3}, {"lo'
    assert read_bytes(tmp_path, data, salvage=True).facts == {"best_metric": 0.5, "global_step": 7}


# --- exactness --------------------------------------------------------------------------------


@given(st.lists(st.floats(), min_size=1))
def test_floats_are_bit_identical_to_those_of_python(values: list[float]) -> None:
    texts = ["NaN" if math.isnan(v) else json.dumps(v) for v in values]
    parsed, _ = parse("x", f"[{', '.join(texts)}]".encode())
    assert same(parsed, [float(text) for text in texts])


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)
def test_any_decimal_number_is_what_json_says(text: str) -> None:
    parsed, _ = parse("x", f"[{text}]".encode())
    assert same(parsed, json.loads(f"[{text}]"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES, st.booleans())
def test_any_json_is_what_the_standard_library_says(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    parsed, repeated = parse("x", text)
    assert same(parsed, json.loads(text))
    assert not repeated


# --- real runs --------------------------------------------------------------------------------


@needs_groundtruth
@pytest.mark.parametrize(
    "path",
    sorted(GROUNDTRUTH.glob("*/out/**/trainer_state.json")),
    ids=lambda path: str(path.parent.relative_to(GROUNDTRUTH)),
)
def test_recorded_runs_are_read_without_a_loss(path: Path) -> None:
    (run,) = TrainerStateSource().read(str(path), ReadOptions())
    rows = json.loads(path.read_bytes())["log_history"]
    for row in rows:
        row.update({key: float(row[key]) for key in row if key == "eval_big"})
    assert same(list(run.stream), rows)
    assert run.writer in ("4.50-4.57", "5.0+")
