"""Tables by the programs themselves: `tests/golden/make_tables.py` wrote them."""

from __future__ import annotations

import math

from bridges.pipeline.read_runs import source_of
from bridges.sources.options import ReadOptions
from tests.support import DATA
from tests.unit.sources.tables.tables import codes, one, points

TABLES = DATA / "tables"


def test_dvclive() -> None:
    run = one(TABLES / "dvclive")
    found = points(run)
    assert found["loss"] == [(0, 1 / 3), (1, 1 / 4), (2, 1 / 5)]
    assert found["val/deep/acc (top 1)"] == [(0, 0.0), (1, 1 / 7), (2, 2 / 7)]
    ((step, value),) = found["nan"]
    assert step == 2
    assert math.isnan(value)
    assert run.params == {"lr": 0.1, "layers": [1, 2]}
    (loss,) = (part for part in run.stream.series if part.key == "loss")
    with (TABLES / "dvclive/plots/metrics/loss.tsv").open() as file:
        times = [1000 * int(line.split()[0]) for line in list(file)[1:]]
    assert run.stream.times(loss).tolist() == times


def test_catboost_with_its_event_files() -> None:
    source = source_of(str(TABLES / "catboost"), None)
    (run,) = source.read(str(TABLES / "catboost"), ReadOptions())
    assert "table-folded" in codes(run)
    assert (run.status, run.params["iteration_count"]) == ("finished", 8)
    with (TABLES / "catboost/test_error.tsv").open() as file:
        lines = [line.split() for line in list(file)[1:]]
    expected = [(int(step), float(value)) for step, value in lines]
    assert points(run)["test/RMSE"] == expected
    assert run.stream.time is not None
