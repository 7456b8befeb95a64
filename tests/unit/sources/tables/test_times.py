"""The times of a table: of its columns, or its time of change as the end of the training."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bridges.errors import SourceError
from bridges.sources.times.clocks import MTIMES
from bridges.stream.layout import Layout, lay_out
from bridges.stream.model import Run
from bridges.stream.options import LayoutChoices
from tests.unit.sources.tables.tables import codes, one, put, runs

HEADER = "epoch,time,train/box_loss,lr/pg0\n"
ROWS = ["1,10.5,2,0.1\n", "2,21.25,1.5,0.1\n", "3,40,1.25,0.1\n"]
END = 1_700_000_000  # the last row, in seconds since 1970 UTC


def training(folder: Path, rows: list[str], written: float, begun: float | None) -> str:
    """A table of Ultralytics changed at `written`, and its settings at `begun`."""
    path = put(folder / "results.csv", HEADER + "".join(rows))
    if begun is not None:
        settings = put(folder / "args.yaml", "lr0: 0.1\n")
        os.utime(settings, (begun, begun))
    os.utime(path, (written, written))
    return path


def laid_out(run: Run) -> Layout:
    """The layout of a run with the best clock."""
    return lay_out(run, "mlflow", LayoutChoices())


def seconds(run: Run) -> list[float]:
    """The times of the rows in seconds since 1970 UTC."""
    time = laid_out(run).stream.time
    assert time is not None
    return [float(each) for each in np.asarray(time) / 1e6]


@pytest.mark.parametrize(
    ("begun", "is_original"),
    [
        (END - 40, True),
        (END - 41.9, True),  # settings are written before the first epoch
        (END - 79, True),  # it took some time until the training began
        (END - 83, False),  # something else happened
        (END - 30, False),  # the settings were written during the training
        (END, False),  # both were written by a copy or a checkout
        (END + 5, False),
        (None, False),
    ],
)
def test_the_end_is_the_time_of_change_if_the_settings_confirm_it(
    tmp_path: Path, begun: float | None, is_original: bool
) -> None:
    run = one(training(tmp_path, ROWS, END, begun))
    assert [each.kind is MTIMES for each in run.evidence] == [False, *[True] * is_original]
    layout = laid_out(run)
    first = END - 40 if is_original else 946_684_800
    assert seconds(run) == [first + 10.5, first + 21.25, first + 40]
    assert layout.clock.origin == ("mtimes" if is_original else "synthetic")


def test_a_short_training_has_no_time_of_change(tmp_path: Path) -> None:
    """A copy may take as long as the training did."""
    run = one(training(tmp_path, ["1,1,2,0.1\n", "2,9,2,0.1\n"], END, END - 9))
    assert MTIMES not in [each.kind for each in run.evidence]


def test_a_resumed_training_has_no_time_of_change(tmp_path: Path) -> None:
    """The elapsed time begins again, so the time between the processes is unknown."""
    run = one(training(tmp_path, [*ROWS, "4,12,1,0.1\n", "5,25,1,0.1\n"], END, END - 65))
    assert MTIMES not in [each.kind for each in run.evidence]
    assert "table-time-restarts" in codes(run)


def test_only_the_last_training_of_a_table_ended_with_its_change(tmp_path: Path) -> None:
    first, second = runs(training(tmp_path, [*ROWS, *ROWS], END, END - 40))
    assert MTIMES not in [each.kind for each in first.evidence]
    assert seconds(second)[-1] == END


def test_the_first_settings_count(tmp_path: Path) -> None:
    path = training(tmp_path, ROWS, END, END - 40)
    os.utime(put(tmp_path / "hyp.yaml", "a: 1\n"), (END + 99, END + 99))
    assert seconds(one(path))[-1] == END


def test_a_table_in_a_web_store_has_no_time_of_change(tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe({"/times/results.csv": (HEADER + "".join(ROWS)).encode()})
    files.pipe({"/times/args.yaml": b"lr0: 0.1\n"})
    try:
        run = one("memory://times")
        assert [each.kind is MTIMES for each in run.evidence] == [False]
    finally:
        files.rm("/times", recursive=True)


def test_catboost_ends_with_the_change_of_its_times(tmp_path: Path) -> None:
    put(tmp_path / "learn_error.tsv", "iter\tRMSE\n0\t1.5\n1\t1.25\n")
    times = put(tmp_path / "time_left.tsv", "iter\tPassed\tRemaining\n0\t100\t1\n1\t20000\t0\n")
    settings = put(tmp_path / "catboost_training.json", '{"meta": {"iteration_count": 2}}')
    os.utime(times, (END, END))
    os.utime(settings, (END - 20, END - 20))
    assert seconds(one(tmp_path)) == [END - 19.9, END]


@pytest.mark.parametrize(
    ("unit", "cells", "expected"),
    [
        ("s", ("1700000000", "1700000060.5"), [END, END + 60.5]),
        ("ms", ("1700000000000", "1700000060500"), [END, END + 60.5]),
        ("us", ("1700000000000000", "1700000060500001"), [END, END + 60.500001]),
        ("iso", ("2023-11-14T22:13:20Z", "2023-11-15T00:14:20.5+02:00"), [END, END + 60.5]),
        ("iso", ("2023-11-14 22:13:20", "2023-11-14T22:14:20.500000"), [END, END + 60.5]),
    ],
)
def test_units_of_a_column_of_times(
    tmp_path: Path, unit: str, cells: tuple[str, str], expected: list[float]
) -> None:
    rows = "".join(f"{step},{cell},{step / 2}\n" for step, cell in enumerate(cells))
    run = one(put(tmp_path / "a.csv", "step,at,loss\n" + rows), time_column=f"at:{unit}")
    assert seconds(run) == expected
    assert {*run.stream.keys} == {"loss"}
    assert run.stream.time is not None


def test_seconds_since_the_start_by_an_option(tmp_path: Path) -> None:
    text = "step,t,loss\n1,2.5,1\n2,7.5,0.5\n"
    run = one(put(tmp_path / "a.csv", text), time_column="t:elapsed")
    assert seconds(run) == [946_684_802.5, 946_684_807.5]
    before = put(tmp_path / "b.csv", text.replace("2.5", "-2.5"))
    assert "times-out-of-range" in codes(one(before, time_column="t"))


def test_an_unknown_unit_is_told_from_an_unknown_column(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "step,at,loss\n1,1700000000,0.5\n")
    with pytest.raises(SourceError) as caught:
        one(path, time_column="at:h")
    assert caught.value.remedy == "If 'h' is a unit: s, ms, us, iso, elapsed are possible."
    with pytest.raises(SourceError) as caught:
        one(path, time_column="then:h")
    assert caught.value.remedy == "Give the name as the first line has it."
