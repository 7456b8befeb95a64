"""Experiments of one name get distinct names."""

from __future__ import annotations

from bridges.formats.mlflow_store.records import DELETED, Experiment
from bridges.sources.mlflow.experiment_names import with_distinct_names


def test_the_first_active_experiment_keeps_the_name() -> None:
    found = [
        Experiment("1", "a", DELETED),
        Experiment("2", "a"),
        Experiment("3", "b"),
        Experiment("4", "a"),
        Experiment("1", "a", DELETED),
    ]
    names = [each.name for each in with_distinct_names(found)]
    assert names == ["a (1)", "a", "b", "a (4)", "a (1) (1)"]
    assert [each.id for each in with_distinct_names(found)] == ["1", "2", "3", "4", "1"]
