"""Runs as tables of pandas, Polars and Arrow."""

from __future__ import annotations

import math
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

from bridges.errors import MissingDependencyError
from bridges.pipeline.key_rules import with_key_rules
from bridges.stream.clock import RECORDED
from bridges.stream.model import Evidence, Run
from tests.support import read_bytes, state

ROWS: list[dict[str, Any]] = [
    {"loss": 1.5, "epoch": 0.5, "step": 1, "tokens": 7},
    {"loss": math.nan, "step": 2, "note": "x", "is_on": True},
    {"eval_f1": 1, "step": 2, "list": [1, "a"]},
    {"eval_f1": 0.25, "step": 3, "loss": math.inf, "time": 9},
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return with_key_rules(read_bytes(tmp_path, state(ROWS)))


def wide(run: Run) -> dict[str, list[Any]]:
    """The wide table by Arrow, whose values are plain."""
    return {name: column.to_pylist() for name, column in _arrow(run).items()}


def _arrow(run: Run) -> dict[str, Any]:
    table = run.to_arrow()
    return {name: table[name] for name in table.column_names}


def test_the_wide_table_in_arrow(run: Run) -> None:
    table = wide(run)
    loss = table.pop("loss")
    assert loss[0] == 1.5
    assert math.isnan(loss[1])
    assert loss[2:] == [None, math.inf]
    assert table == {
        "step": [1, 2, 2, 3],
        "epoch": [0.5, None, None, None],
        "time": [None] * 4,  # nothing tells when the run was
        "tokens": [7, None, None, None],
        "note": [None, "x", None, None],
        "is_on": [None, True, None, None],
        "eval_f1": [None, None, 1.0, 0.25],
        "list": [None, None, '[1, "a"]', None],
        "time_": [None, None, None, 9],
    }
    types = {name: str(column.type) for name, column in _arrow(run).items()}
    assert types["tokens"] == "int64"
    assert types["is_on"] == "bool"
    assert types["time"] == "timestamp[us, tz=UTC]"


def test_pandas_has_the_same_values(run: Run) -> None:
    frame = run.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert [*frame.columns] == [*wide(run)]
    dtypes = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert dtypes["step"] == "int64"
    assert (dtypes["tokens"], dtypes["is_on"]) == ("Int64", "boolean")
    assert dtypes["time"] == "datetime64[us, UTC]"
    assert frame["list"][2] == [1, "a"]  # objects stay objects
    assert frame["loss"].iloc[3] == math.inf
    assert frame["eval_f1"].isna().tolist() == [True, True, False, False]
    assert frame["tokens"].isna().tolist() == [False, True, True, True]


def test_polars_has_the_same_values(run: Run) -> None:
    frame = run.to_polars()
    assert isinstance(frame, polars.DataFrame)
    found = frame.to_dict(as_series=False)
    want = wide(run)
    for name in want:
        assert repr(found[name]) == repr(want[name]), name


def test_the_long_table_has_every_number_in_the_order_of_the_rows(run: Run) -> None:
    table = run.to_arrow(long=True).to_pydict()
    assert [*table] == ["row", "step", "epoch", "time", "key", "value"]
    assert table["row"] == [0, 0, 1, 1, 2, 3, 3, 3]
    assert table["step"] == [1, 1, 2, 2, 2, 3, 3, 3]
    pairs = {*zip(table["row"], table["key"], map(str, table["value"]), strict=True)}
    assert pairs == {
        (0, "loss", "1.5"), (0, "tokens", "7.0"), (1, "loss", "nan"), (1, "is_on", "1.0"),
        (2, "eval_f1", "1.0"), (3, "eval_f1", "0.25"), (3, "loss", "inf"), (3, "time", "9.0"),
    }  # fmt: skip
    assert table["epoch"][:3] == [0.5, 0.5, None]
    assert run.to_pandas(long=True)["value"].tolist()[0] == 1.5
    assert repr(run.to_polars(long=True).to_dict(as_series=False)) == repr(table)


def test_known_times_are_in_utc(tmp_path: Path) -> None:
    read = with_key_rules(read_bytes(tmp_path, state(ROWS)))
    times = np.array([0, 1, 2, 3], np.int64) * 1_000_000 + 1_700_000_000_000_000
    evidence = Evidence(RECORDED, np.arange(4), times, "here")
    run = Run(**{**vars(read), "evidence": (evidence,)})
    first = datetime.fromtimestamp(1_700_000_000, timezone.utc)
    assert run.to_arrow()["time"].to_pylist()[0] == first
    assert run.to_pandas()["time"][0] == first
    assert run.to_polars()["time"][0] == first


def test_a_run_without_rows(tmp_path: Path) -> None:
    run = with_key_rules(read_bytes(tmp_path, state([])))
    assert run.to_pandas().shape == (0, 3)
    assert run.to_arrow(long=True).num_rows == 0
    assert isinstance(run.to_arrow(), pyarrow.Table)


@pytest.mark.parametrize(
    ("method", "module", "extra"),
    [
        ("to_pandas", "pandas", "pandas"),
        ("to_polars", "polars", "polars"),
        ("to_arrow", "pyarrow", "arrow"),
    ],
)
def test_a_missing_library_is_named_with_its_pip_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, method: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as error:
        getattr(run, method)()
    assert f"{module} is not installed" in str(error.value)
    assert f"pip install 'tracker-bridges[{extra}]'" in str(error.value)
