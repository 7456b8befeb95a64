"""MLflow's runs in the neutral model: rows, repeats, nested runs, secrets."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from bridges.formats.mlflow_store.records import (
    Dataset,
    Experiment,
    Input,
    LoggedModel,
    Metric,
    RunHead,
    RunRecord,
)
from bridges.sources.mlflow.families import families
from bridges.sources.mlflow.runs import plain_number, run_of, stream_of
from bridges.stream.model import MetricStream

Point = tuple[int, float, int]  # time (ms), value, step
EXPERIMENT = Experiment("7", "vision")


def metric(key: str, *points: Point) -> Metric:
    time, value, step = zip(*points, strict=True) if points else ((), (), ())
    return Metric(
        key, np.array(value, np.float64), np.array(time, np.int64), np.array(step, np.int64)
    )


def points_of(stream: MetricStream) -> Counter[tuple[str, int, str, int]]:
    """The points of a stream: key, time (ms), value as text and step."""
    assert stream.time is not None
    return Counter(
        (part.key, int(stream.time[row]) // 1000, repr(value), int(stream.step[row]))
        for part in stream.series
        for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True)
    )


def test_a_row_has_the_points_of_one_step_and_time() -> None:
    stream, _ = stream_of([metric("a", (5, 1.0, 0), (6, 2.0, 1)), metric("b", (5, 3.0, 0))])
    assert [*stream] == [{"a": 1.0, "b": 3.0, "step": 0}, {"a": 2.0, "step": 1}]


def test_equal_steps_and_times_of_a_key_are_rows_of_their_own() -> None:
    stream, repeats = stream_of([metric("a", (5, 2.0, 0), (5, 1.0, 0), (5, 1.0, 0))])
    assert repeats == 1
    assert [row["a"] for row in stream] == [1.0, 2.0]


def test_nan_repeats_nan_and_zeros_of_either_sign_are_two_points() -> None:
    nan = float("nan")
    stream, repeats = stream_of([metric("a", (5, nan, 0), (5, nan, 0), (5, 0.0, 0), (5, -0.0, 0))])
    assert repeats == 1
    assert points_of(stream) == Counter([("a", 5, v, 0) for v in ("nan", "0.0", "-0.0")])


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_logging_and_of_keys_does_not_change_the_stream(seed: int) -> None:
    chance = random.Random(seed)
    made = [
        [
            (chance.randrange(4), chance.choice([0.5, 1.0, float("nan")]), chance.randrange(3))
            for _ in range(chance.randrange(12))
        ]
        for _ in range(4)
    ]
    first, repeats = stream_of([metric(f"k{i}", *each) for i, each in enumerate(made)])
    for each in made:
        chance.shuffle(each)
    other, _ = stream_of([metric(f"k{i}", *each) for i, each in reversed([*enumerate(made)])])
    assert repr([*first]) == repr([*other])
    distinct = {
        (f"k{i}", time, repr(value), step) for i, p in enumerate(made) for time, value, step in p
    }
    assert points_of(first) == Counter(distinct)
    assert repeats == sum(map(len, made)) - len(distinct)


def test_secrets_are_masked_in_params_and_tags_of_the_run_and_its_record() -> None:
    secret = "sk-abcdefghijklmnopqrstuvwx12345678"
    tags = {"api_key": secret, "mlflow.user": "u", "team": "a"}
    head = RunHead("ab", EXPERIMENT, "x", status="FINISHED", tags=tags)
    run = run_of(RunRecord(head, {"token": secret, "lr": "0.1"}), [], "mlruns")
    assert secret not in repr((run.params, run.facts, run.record))
    assert [finding.code for finding in run.findings] == ["secret-masked", "secret-masked"]
    assert run.params == {"token": "<TOKEN>", "lr": 0.1}
    assert run.facts["mlflow.tags.api_key"] == "<API_KEY>"
    assert run.facts["mlflow.tags.team"] == "a"
    assert run.facts["mlflow.user"] == "u"


def test_other_targets_get_the_names_of_datasets_and_logged_models() -> None:
    head = RunHead("ab", EXPERIMENT, "x", status="FINISHED")
    inputs = (Input(Dataset("train", "d1")), Input(Dataset("eval", "d2")))
    models = (LoggedModel("m-1", "net", "READY"),)
    run = run_of(RunRecord(head, inputs=inputs, models=models), [], "mlruns")
    assert run.facts["mlflow.datasets"] == "train (d1), eval (d2)"
    assert run.facts["mlflow.models"] == "net (m-1)"
    assert "mlflow.models" not in run_of(RunRecord(head), [], "mlruns").facts


def test_users_and_home_directories_are_masked_on_request() -> None:
    head = RunHead("ab", EXPERIMENT, "x", tags={"mlflow.user": "ada", "data": "/home/ada/set"})
    record = RunRecord(
        head,
        {"out": "/home/ada/out"},
        user="ada",
        source_name="/home/ada/train.py",
        artifact_uri="file:///home/ada/mlruns/7/ab/artifacts",
    )
    run = run_of(record, [], "mlruns", redact_home=True)
    assert "ada" not in repr((run.params, run.facts, run.record))
    assert "ada" in repr(run_of(record, [], "mlruns").record)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("3", 3), ("0.001", 0.001), ("1e-05", 1e-05), ("-0.0", -0.0), ("nan", float("nan"))],
        *[(text, text) for text in ("", "1e-5", "0.10", "03", "1_0", " 3", "True", "None", "x")],
    ],
)
def test_params_are_numbers_only_if_python_writes_them_so(text: str, value: object) -> None:
    assert repr(plain_number(text)) == repr(value)


def test_a_run_without_an_end_is_told() -> None:
    run = run_of(RunRecord(RunHead("ab", EXPERIMENT, "x", status="RUNNING")), [], "mlruns")
    assert [finding.code for finding in run.findings] == ["never-ended"]
    assert run.status == "running"


def head(run_id: str, parent: str | None = None) -> RunHead:
    tags = {"mlflow.parentRunId": parent} if parent else {}
    return RunHead(run_id, EXPERIMENT, run_id, name=run_id.upper(), tags=tags)


def test_parents_come_before_their_children_whatever_the_order() -> None:
    heads = [head("c", "b"), head("x"), head("b", "a"), head("a"), head("o", "gone")]
    found = [
        ["/".join(each.name for each in (*nested.around, nested.head)) for nested in family]
        for family in families(heads)
    ]
    assert found == [["X"], ["A", "A/B", "A/B/C"], ["O"]]


def test_runs_that_are_their_own_ancestors_are_read_alone() -> None:
    found = [*families([head("a", "b"), head("b", "a"), head("c", "c")])]
    assert [[nested.head.run_id for nested in family] for family in found] == [["a"], ["b"], ["c"]]
