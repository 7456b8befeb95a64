"""Names in a drafted config: those that clash, and the template that tells them apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from bridges.errors import ConfigError
from bridges.stream.model import Run
from bridges.views.config_draft import Found, draft
from tests.support import make_run


def made(name: str, source: str, group: str | None = None, **params: Any) -> Run:
    run = make_run([{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}])
    return Run(**{**vars(run), "name": name, "source": source, "group": group, "params": params})


def found(*runs: Run, location: str = "out") -> Found:
    one = Found(location)
    for run in runs:
        one.add(run)
    return one


def source_of(text: str) -> dict[str, Any]:
    (source,) = yaml.safe_load(text)["sources"]
    return dict(source)


def test_names_that_differ_need_no_template() -> None:
    one = found(made("a", "x/a/trainer_state.json"), made("b", "x/b/trainer_state.json"))
    assert source_of(draft([one], ["tensorboard"], "m.yaml")) == {"location": "out"}


def test_equal_names_of_two_groups_do_not_clash() -> None:
    one = found(made("a", "x/1", "g"), made("a", "x/2", "h"))
    assert one.clashes(one.names) == []
    text = draft([one], ["tensorboard"], "m.yaml")
    assert "  # group g, 1 run: a\n" in text


@pytest.mark.parametrize(
    ("sources", "rates", "template"),
    [
        (("p/run", "q/run"), (1, 1), "{parent|}/{name}"),
        (("p/run", "p/run"), (1, 2), "{name}-{params.rate|}"),
    ],
)
def test_clashing_names(sources: tuple[str, str], rates: tuple[int, int], template: str) -> None:
    runs = [
        made("same", f"{source}/trainer_state.json", rate=rate)
        for source, rate in zip(sources, rates, strict=True)
    ]
    text = draft([found(*runs)], ["tensorboard"], "m.yaml")
    assert source_of(text)["name"] == template
    assert "    # several runs are called same\n" in text


def test_names_of_two_sources_that_clash() -> None:
    one = found(made("same", "p/run/trainer_state.json"), location="p")
    other = found(made("same", "q/run/trainer_state.json"), location="q")
    first, second = yaml.safe_load(draft([one, other], ["tensorboard"], "m.yaml"))["sources"]
    assert first["name"] == second["name"] == "{parent|}/{name}"


def test_names_that_nothing_tells_apart() -> None:
    runs = [made("same", "p/run/trainer_state.json") for _ in range(2)]
    text = draft([found(*runs)], ["tensorboard"], "m.yaml")
    assert "name" not in source_of(text)
    assert "each stays a run of its own" in text


def test_many_groups_and_runs_are_counted() -> None:
    runs = [made(f"run-{at}", f"x/{at}", f"group-{at % 7}") for at in range(70)]
    text = draft([found(*runs)], ["tensorboard"], "m.yaml")
    assert "  # group group-0, 10 runs: run-0, run-7, run-14, run-21, run-28 and 5 more\n" in text
    assert "  # and 2 more groups\n" in text


def test_a_credential_is_refused() -> None:
    with pytest.raises(ConfigError, match="which a config must not hold") as error:
        draft([found(made("a", "x"), location="s3://me:pass@host/b")], ["tensorboard"], "m.yaml")
    assert "pass" not in str(error.value)


def test_a_plug_in_is_a_target() -> None:
    targets = yaml.safe_load(draft([found(made("a", "x"))], ["memory"], "m.yaml"))["targets"]
    assert targets == [{"to": "memory"}]


def test_experiments_of_a_store_are_not_put_into_one() -> None:
    stored = replace(made("a", "mlruns/1/x"), project="vision", record=object())
    library = replace(made("b", "x/b"), project="set by the logging library")
    for runs, is_named in (([stored], False), ([library], True)):
        text = draft([found(*runs)], ["mlflow", "wandb"], "m.yaml")
        mlflow, wandb = yaml.safe_load(text)["targets"]
        assert ("experiment" in mlflow, "project" in wandb) == (is_named, is_named)
