"""The layout keeps account: every value of a run is in it, or in a finding that counts it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.errors import ConfigError
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.stream.layout import Layout, Stored, lay_out
from bridges.stream.model import Run
from bridges.stream.naming import Place
from bridges.stream.options import Duplicates
from tests.property.histories import odd_rows
from tests.support import make_run

Rows = list[dict[str, Any]]
targets = st.sampled_from(["tensorboard", "mlflow", "wandb", "raw"])
versions = st.sampled_from(["3.4", "4.4", "4.11", "4.38", "4.46", "4.53", None])
options = st.builds(
    LayoutOptions,
    x_axis=st.sampled_from(["step", "epoch"]),
    naming=st.sampled_from(["live", "raw"]),
    duplicates=st.sampled_from(["all", "first", "last"]),
    callback_version=versions,
)


def counted(layout: Layout, code: str) -> int:
    return sum(finding.count for finding in layout.findings if finding.code == code)


def summarised(run: Run, target: str, chosen: LayoutOptions) -> int:
    """How many values go to the summary, where the last of a key stands for all."""
    naming = run.key_rules.naming(target, chosen.naming, chosen.release)
    return sum(
        naming.place(series.key, type(value)) is Place.SUMMARY
        for series in run.stream.series
        for value in series.values.tolist()
    )


@given(odd_rows(), targets, options.filter(lambda chosen: chosen.duplicates == "all"))
def test_every_value_is_accounted_for(rows: Rows, target: str, chosen: LayoutOptions) -> None:
    run = make_run(rows)
    layout = lay_out(run, target, chosen)
    values = sum(len(row.keys() - {"step"}) for row in rows)
    kept = layout.points_from(0) + summarised(run, target, chosen)
    assert kept + counted(layout, "value-not-kept") == values


@given(odd_rows(), targets, options)
def test_a_layout_grows_at_its_end_only(rows: Rows, target: str, chosen: LayoutOptions) -> None:
    if chosen.duplicates == "last":  # here the end decides what was kept before
        return
    for stop in range(len(rows) + 1):
        part = lay_out(make_run(rows[:stop]), target, chosen, stored=Stored(clock="synthetic"))
        whole = lay_out(make_run(rows), target, chosen, stored=Stored(clock="synthetic"))
        assert part.points_from(0) == whole.points_from(0) - whole.points_from(stop)
        assert part.stream.time is not None
        assert whole.stream.time is not None
        np.testing.assert_array_equal(part.stream.time, whole.stream.time[:stop])
        np.testing.assert_array_equal(part.stream.step, whole.stream.step[:stop])


@given(odd_rows(), targets, options)
def test_tags_are_of_one_key_and_encodable(rows: Rows, target: str, chosen: LayoutOptions) -> None:
    layout = lay_out(make_run(rows), target, chosen)
    tags = {series.key for series in (*layout.stream.series, *layout.texts)}
    for tag in tags:
        tag.encode()
    keys = {key for row in rows for key in row} - {"step"}
    assert len(tags) <= len(keys)


@given(odd_rows(), options)
def test_only_what_is_not_the_default_names_another_run(rows: Rows, chosen: LayoutOptions) -> None:
    usual = lay_out(make_run(rows), "tensorboard", LayoutOptions())
    other = lay_out(make_run(rows), "tensorboard", chosen)
    assert (other.key == usual.key) == (chosen == LayoutOptions())
    assert other.digest == usual.digest


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("x_axis", "time", "--x-axis 'time' is not one of step, epoch"),
        ("naming", "mine", "--naming 'mine' is not one of live, raw"),
        ("duplicates", "mean", "--duplicates 'mean' is not one of all, first, last, error"),
    ],
)
def test_unknown_choices_are_refused(field: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ExportOptions.of({field: value})
    assert str(caught.value) == message


def test_the_summary_holds_the_value_of_the_last_row() -> None:
    rows: Rows = [
        {"train_runtime": 2.5, "step": 1},
        {"train_runtime": 3, "step": 2},
        {"train_runtime": 4.5, "step": 3},
        {"train_runtime": 5, "step": 4},
    ]
    for stop, value in ((1, 2.5), (2, 3), (3, 4.5), (4, 5)):
        layout = lay_out(make_run(rows[:stop]), "wandb", LayoutOptions())
        assert layout.summary == {"train_runtime": value}


def test_a_series_whose_points_are_all_dropped_is_gone() -> None:
    rows: Rows = [{"train_runtime": 0.5, "step": 1}, {"train_runtime": 1, "step": 1}]
    policies: dict[Duplicates, float] = {"first": 0.5, "last": 1}
    for policy, value in policies.items():
        layout = lay_out(make_run(rows), "wandb", LayoutOptions(duplicates=policy))
        assert layout.summary == {"train_runtime": value}
