"""The params of many runs: those that differ, and those that tell runs apart."""

from __future__ import annotations

from bridges.views.params import ABSENT, ParamTable, changes


def table(*runs: dict[str, object]) -> ParamTable:
    made = ParamTable()
    for params in runs:
        made.add(params)
    return made


def test_only_params_that_differ_are_listed() -> None:
    nan = float("nan")
    params = table(
        {"lr": 1, "seed": 7, "nan": nan, "list": [1]},
        {"lr": 2, "seed": 7, "nan": float("nan"), "list": [1], "late": 3},
        {"lr": 1, "nan": nan, "list": [1]},
    )
    assert params.names() == ["lr", "seed", "nan", "list", "late"]
    assert params.differing() == ["lr", "seed", "late"]
    assert [params.get(run, "lr") for run in range(3)] == [1, 2, 1]
    assert [params.get(run, "seed") for run in range(3)] == [7, 7, ABSENT]
    assert [params.get(run, "late") for run in range(3)] == [ABSENT, 3, ABSENT]
    assert params.get(0, "never") is ABSENT


def test_paths_and_names_of_a_run_do_not_tell_it_apart() -> None:
    params = table(
        {"rare": 1, "output_dir": "a", "run_name": "a", "lr": 1},
        {"output_dir": "b", "run_name": "b", "lr": 2, "late": 1},
        {"output_dir": "c", "run_name": "c", "lr": 3, "late": 1},
    )
    assert params.differing() == ["rare", "output_dir", "run_name", "lr", "late"]
    assert params.telling() == ["lr", "late", "rare"]  # those that more runs have come first


def test_changes() -> None:
    assert changes({"a": 1, "b": 2}, {"b": 2, "c": 3}) == {"c": 3, "a": ABSENT}
    assert table().differing() == []
