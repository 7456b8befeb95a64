"""The config of a migration: what it refuses and in which words, and what it does to runs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bridges.cli.main import run as bridge
from bridges.errors import ConfigError, ConfigFileError
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.migration.config.config import EngineSpec, MigrationConfig, SourceSpec
from bridges.migration.config.file import load
from bridges.migration.config.schema import config_schema, schema_text
from bridges.migration.config.targets import TargetSpec
from bridges.migration.selection import renamed
from bridges.plugins import BUILT_IN
from bridges.sources.times.clocks import EVENTS
from bridges.stream.model import Evidence, Run
from tests.support import REPOSITORY, make_run

CONFIGS = REPOSITORY / "configs"
EXAMPLES = sorted(CONFIGS.glob("*.yaml"))
ROWS: list[dict[str, Any]] = [
    {"step": 1, "epoch": 0.1, "loss": 3.0, "grad_norm": 1.0},
    {"step": 2, "epoch": 0.2, "loss": 2.0},
    {"step": 2, "epoch": 0.2, "eval_loss": 2.5, "eval_runtime": 1.0},
    {"step": 3, "epoch": 0.3, "loss": 1.0},
]


def spec(**said: Any) -> SourceSpec:
    return SourceSpec.model_validate({"location": "x", **said})


def target(**said: Any) -> TargetSpec:
    return TargetSpec.model_validate(said)


def prepared(run: Run, **said: Any) -> Run:
    made = spec(**said).prepare(run)
    assert made is not None
    return made


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a config, without the name of its file."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        load(path, environ or {})
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.removeprefix(f"{path}:").strip() for problem in caught.value.problems]


def config_with(source: str = "", target: str = "") -> str:
    return f"sources:\n  - location: x\n    {source}\ntargets:\n  - to: mlflow\n    {target}\n"


RUN_KEYS = ", ".join(SourceSpec.model_fields)
MLFLOW_KEYS = (
    "to, label, limit, x_axis, naming, duplicates, callback_version, tracking_uri, experiment, "
    "mlflow_writer, copy_artifacts, force"
)
MLFLOW_ADVICE = (
    "mlflow reads MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, from the environment."
)
SECRET = "found a value that looks like a credential; expected none in this file."
SOURCES = ", ".join(sorted(BUILT_IN["sources"]))
BAD_SOURCES = {
    "nam: x": f"nam: found an unknown key; expected one of {RUN_KEYS}. Did you mean 'name'?",
    "x_axis: steps": "x_axis: found the text 'steps'; expected 'step' or 'epoch'. "
    "Did you mean 'step'?",
    "callback_version: 4.10": "callback_version: found the number 4.1; expected a text in quotes: "
    "as a number, 4.50 is 4.5.",
    "callback_version: new": "callback_version: found 'new'; expected a transformers release such "
    "as '5.24'.",
    'name: "{nam}"': "name: found the field {nam}; expected one of name, run_name, parent, group, "
    "trial, trial_name, status, writer, rows, params.<key>, facts.<key>, tags.<key>. "
    "Did you mean {name}?",
    'name: "{name"': "name: found '{name' (expected '}' before end of string); expected a template "
    "such as {name}.",
    'name: ""': "name: found the text ''; expected a non-empty text.",
    'rename: {"a*": b}': "rename: found 'a*': 'b'; expected as many * in the new name as in the "
    "pattern.",
    "filter: {min_rows: -1}": "filter.min_rows: found the number -1; expected no less than 0.",
    f"name: 0x{'F' * 5000}": "name: found a text of 5,002 characters; expected no more than 1,000.",
    f"group: {'g' * 1001}": "group: found a text of 1,001 characters; expected no more than 1,000.",
    "filter: {params: {a: {b: 1}}}": "filter.params.a: found a mapping; expected a value, or a "
    "list of values.",
    "filter: {steps: {first: 5, last: 2}}": "filter.steps: found first 5 and last 2; expected "
    "first to be no later.",
    "drop: loss": "drop: found the text 'loss'; expected a list.",
    "verify: 'yes'": "verify: found the text 'yes'; expected true or false.",
    "source: trainer_stat": "source: unknown source 'trainer_stat'. Did you mean "
    f"'trainer_state'? Installed: {SOURCES} (see `bridge sources`).",
    "group: ${HF_TOKEN}": "group: found ${HF_TOKEN}, by its name a credential; expected "
    "none in this file. Pass it in an environment variable to the program that needs it.",
    "group: ${NOT_SET}": "group: found ${NOT_SET}, which is not set; expected an environment "
    "variable. Set it: export NOT_SET=…",
    "group: '${A:-b}'": "group: found '${A:-b}'; expected ${NAME}, or $${ for ${.",
    "tags: {mlflow.user: eve}": "tags: found 'mlflow.user'; tags that begin with bridges. or "
    "mlflow. are set by bridges and MLflow themselves; expected another name.",
    "tags: {hub_token: abc}": f"tags.hub_token: {SECRET} Pass it in an environment "
    "variable to the program that needs it.",
}
BAD_TARGETS = {
    "logdir: x": "logdir: found the unknown key 'logdir' for the target mlflow; expected "
    f"one of {MLFLOW_KEYS}.",
    "trackin_uri: x": "trackin_uri: found the unknown key 'trackin_uri' for the target "
    f"mlflow; expected one of {MLFLOW_KEYS}. Did you mean 'tracking_uri'?",
    "tracking_uri: http://anna:geheim@host": f"tracking_uri: {SECRET} {MLFLOW_ADVICE}",
    "api_key: abc": f"api_key: {SECRET} {MLFLOW_ADVICE}",
    "tracking_uri: postgresql://anna:geheim@host/db": f"tracking_uri: {SECRET} PostgreSQL's client "
    "reads PGPASSWORD from the environment, or ~/.pgpass.",
    "tracking_uri: ${URI}": f"tracking_uri: {SECRET} {MLFLOW_ADVICE}",
    "limit: 0": "limit: found the number 0; expected no less than 1.",
}


@pytest.mark.parametrize("said", BAD_SOURCES)
def test_what_is_wrong_with_a_source_is_told(said: str, tmp_path: Path) -> None:
    assert problems(tmp_path, config_with(said)) == [f"3: sources[0].{BAD_SOURCES[said]}"]


@pytest.mark.parametrize("said", BAD_TARGETS)
def test_what_is_wrong_with_a_target_is_told(said: str, tmp_path: Path) -> None:
    told = problems(tmp_path, config_with(target=said), {"URI": "https://a:geheim@host"})
    assert told == [f"6: targets[0].{BAD_TARGETS[said]}"]
    assert "geheim" not in str(told)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = (
        "sources:\n  - drop: [a]\n  - '-'\n"
        "targets: []\n"
        "engine: {kind: dsk, workers: 0, retries: 1.5}\n"
        "enigne: 3\n"
    )
    assert problems(tmp_path, text) == [
        "2: sources[0].location: found no such key; it is required: A file, directory, pattern "
        "or URL; local ones relative to the config file.",
        "3: sources[1].location: found '-', standard input; expected a file, directory, pattern or "
        "URL: workers cannot read standard input.",
        "4: targets: found a list; expected at least one.",
        "5: engine.kind: found the text 'dsk'; expected 'local' or 'dask'. Did you mean 'dask'?",
        "5: engine.workers: found the number 0; expected no less than 1.",
        "5: engine.retries: found the number 1.5; expected a whole number.",
        "6: enigne: found an unknown key; expected one of defaults, tables, sources, targets, "
        "engine. Did you mean 'engine'?",
    ]


def test_keys_are_texts_and_there_once(tmp_path: Path) -> None:
    text = "sources: [x]\ntargets: [memory]\nsources: [y]\nyes: 1\n"
    assert problems(tmp_path, text) == [
        "3: sources: found this key on line 1 and on line 3; expected it once.",
        "4: yes: found a key of type bool in YAML; expected a text. Put it in quotes.",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", "{}", "found the suffix '.json'; expected a config file (.yaml, .yml, "
         ".toml). For histories and directories, use `bridge export`."),
        ("c.yaml", "- a", "found a list; expected a mapping of keys to values."),
        ("c.yaml", "a: [", "found no config: it is not YAML of plain values (expected the node "
         "content, but found '<stream end>', line 1)."),
        ("c.toml", "a = 1\na = 2", "found no config: it is not TOML (Cannot overwrite a value (at "
         "end of document))."),
        ("c.yaml", "a: !!python/name:os.system x", "found no config: it is not YAML of plain "
         "values (could not determine a constructor for the tag 'tag:yaml.org,2002:python/"
         "name:os.system', line 1)."),
        ("c.yaml", "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]"
            for a, b in zip("abcdef", "bcdefg", strict=True)),
         "found no config: its aliases expand to more than 50,000 values."),
    ],
)  # fmt: skip
def test_what_is_no_config(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {message}"


def test_no_such_file_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"c\.yaml: found nothing there; expected a config"):
        load(tmp_path / "c.yaml")


def test_yaml_and_toml_are_equal(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "sources:\n- a\n- location: b\n  filter: {steps: {first: 1}, params: {lr: [1, x]}}\n"
        "targets: [{to: mlflow, limit: 2}]\nengine: {workers: 3}\n"
    )
    (tmp_path / "c.toml").write_text(
        '[[sources]]\nlocation = "a"\n[[sources]]\nlocation = "b"\n[sources.filter]\n'
        'steps = {first = 1}\n[sources.filter.params]\nlr = [1, "x"]\n'
        '[[targets]]\nto = "mlflow"\nlimit = 2\n[engine]\nworkers = 3\n'
    )
    assert load(tmp_path / "c.yaml") == load(tmp_path / "c.toml")


@pytest.mark.parametrize("key", ["workers", "retries", "patience"])
@pytest.mark.parametrize("number", [3_000_000_000, 10**300])
def test_absurd_numbers_of_the_engine_are_refused(
    key: str, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"sources: [.]\ntargets: [memory]\nengine: {{{key}: {number}}}\n"
    (message,) = problems(tmp_path, text)
    assert message.startswith(f"3: engine.{key}: found the ")
    if key == "retries":  # which has no option
        return
    (tmp_path / "m.yaml").write_text("sources: [.]\ntargets: [memory]\n")
    assert bridge(["migrate", str(tmp_path / "m.yaml"), f"--{key}", str(number)]) == 2
    said = capsys.readouterr().err
    assert f"Invalid value for '--{key}': {number} is not in the range " in said


def test_toml_errors_have_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        'targets = ["memory"]\n[[sources]]\nlocation = "a"\n[[sources]]\nlocation = "b"\n'
        "[sources.filter]\nmin_rows = -1\n"
    )
    with pytest.raises(ConfigFileError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}:7: sources[1].filter.min_rows: found the number -1; expected no less than 0."
    )


TOML_KEYS = '''
targets = ["memory"]
[[sources]]
location = """a
[engine]
workers = 0
"""  # "]
[[sources]]
location = "b"  # [
"f\\u0069lter".min_rows = -1
[engine]
workers = -1
'''


def test_lines_of_toml_are_those_of_its_keys_not_of_text_that_looks_like_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(TOML_KEYS)
    with pytest.raises(ConfigFileError) as caught:
        load(path)
    assert [text.partition(": found")[0] for text in str(caught.value).splitlines()] == [
        f"{path}:10: sources[1].filter.min_rows",
        f"{path}:12: engine.workers",
    ]


def test_a_source_is_not_attached_where_homes_are_masked(tmp_path: Path) -> None:
    text = "defaults: {redact_home: true}\n" + config_with("attach_source: true")
    assert problems(tmp_path, text) == [
        "2: sources: found attach_source and redact_home for "
        f"{tmp_path / 'x'}; expected one of the two: an attached source is unchanged, home "
        "directories included."
    ]


def test_merged_anchors_keep_their_lines(tmp_path: Path) -> None:
    text = (
        "sources:\n- &a\n  location: x\n  clock: bad\n- <<: *a\n  location: y\ntargets: [memory]\n"
    )
    known = "'events', 'elapsed', 'log', 'mtimes', 'duration' or 'synthetic'"
    assert problems(tmp_path, text) == [
        f"4: sources[{i}].clock: found the text 'bad'; expected {known}." for i in (0, 1)
    ]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "odd[1]"
    folder.mkdir()
    (folder / "c.yaml").write_text(
        "sources: [runs, 'runs/*', /abs, s3://b/x, '${WHERE}', '$${x}', sqlite:///m.db,\n"
        "  {location: 'sqlite:///sub/../m.db#/experiments/1'}, sqlite:////abs.db]\n"
        "targets:\n- {to: tensorboard, logdir: tb}\n- {to: mlflow, tracking_uri: sqlite:///m.db}\n"
        "- {to: mlflow, tracking_uri: 'http://host'}\n- {to: wandb, wandb_dir: .}\n"
    )
    config = load(folder / "c.yaml", {"WHERE": "../up"})
    assert [source.location for source in config.sources] == [
        str(folder / "runs"),
        str(tmp_path / "odd[[]1]" / "runs" / "*"),
        "/abs",
        "s3://b/x",
        str(tmp_path / "up"),
        str(folder / "${x}"),
        f"sqlite:///{folder / 'm.db'}",
        f"sqlite:///{folder / 'm.db'}#/experiments/1",
        "sqlite:////abs.db",
    ]
    assert [target.options for target in config.targets] == [
        {"logdir": str(folder / "tb")},
        {"tracking_uri": f"sqlite:///{folder / 'm.db'}"},
        {"tracking_uri": "http://host"},
        {"wandb_dir": str(folder)},
    ]


def test_a_user_alone_and_metrics_are_no_credentials(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        config_with(
            "rename: {loss_per_token: token_loss}", "tracking_uri: postgresql://anna@host/db"
        )
    )
    assert load(path, {}).targets[0].options["tracking_uri"] == "postgresql://anna@host/db"


@given(st.lists(st.sampled_from(ROWS)))
def test_an_empty_config_changes_nothing(rows: list[dict[str, Any]]) -> None:
    run = make_run(rows)
    assert spec().prepare(run) is run


def test_templates() -> None:
    run = make_run(
        ROWS,
        name="seven",
        source="/data/search/seven/checkpoint-3/trainer_state.json",
        params={"lr": 0.5, "deep": {"er": 1}, "a.b": 2},
        trial_params={"lr": 0.25},
        tags={"old": "1"},
    )
    made = prepared(
        run,
        name="{parent}/{name}-{params.lr:.1e}-{params.deep.er}{params.a.b}-{rows}",
        group="{group|none}{{}}",
        tags={"state": "{status}"},
        experiment="{parent}",
    )
    assert (made.name, made.group) == ("search/seven-2.5e-01-12-4", "none{}")
    assert made.tags == {"old": "1", "state": "unknown"}
    assert spec(experiment="{parent}").experiment_of(run) == "search"


@pytest.mark.parametrize(
    ("source", "parent"),
    [("/a/b/trainer_state.json", "a"), ("s3://a/b/c.json", "b"), ("/c.json", "top")],
)
def test_the_parent_is_that_of_what_names_the_run(source: str, parent: str) -> None:
    assert prepared(make_run(ROWS, source=source), name="{parent|top}").name == parent


@pytest.mark.parametrize(("parents", "parent"), [((), "vision"), (("sweep", "fold 1"), "fold 1")])
def test_the_parent_of_a_stored_run_is_its_parent_run_or_experiment(
    parents: tuple[str, ...], parent: str
) -> None:
    source = "sqlite:///m.db#/experiments/1/runs/ab"
    run = make_run(ROWS, source=source, project="vision", parents=parents, record=object())
    assert prepared(run, name="{parent}").name == parent


def test_a_field_that_a_run_lacks_is_told_with_those_it_has() -> None:
    run = make_run(ROWS, source="/a/b/trainer_state.json", params={"learning_rate": 1})
    with pytest.raises(ConfigError) as caught:
        prepared(run, name="{params.learning_rat}")
    assert str(caught.value) == (
        "/a/b/trainer_state.json: the template '{params.learning_rat}' needs params.learning_rat, "
        "but this run lacks it; it has params.learning_rate, parent, name, status, rows. "
        "Write {params.learning_rat|TEXT} to use TEXT if it is missing."
    )


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"lr": 0.0001, "model": "llama-7b", "bf16": True}, ""),
        ({"lr": "1e-4"}, ""),  # as YAML reads 1e-4
        ({"model": "llama*"}, ""),
        ({"model": ["qwen", "llama*"]}, ""),
        ({"bf16": "true"}, ""),
        ({"bf16": 1}, "its param bf16 is True"),
        ({"model": "qwen*"}, "its param model is 'llama-7b'"),
        ({"seed": 1}, "it has no param seed"),
    ],
)
def test_params_choose_runs(params: dict[str, Any], why: str) -> None:
    run = make_run(ROWS, params={"lr": 0.0001, "model": "llama-7b", "bf16": True})
    chosen = spec(filter={"params": params})
    assert chosen.why_not(run) == why
    assert chosen.prepare(run) is (None if why else run)


def test_few_rows_and_no_rows_leave_a_run_out() -> None:
    run = make_run(ROWS)
    few, none = spec(filter={"min_rows": 5}), spec(filter={"steps": {"first": 9}})
    assert (few.prepare(run), few.why_not(run)) == (None, "it has 4 rows, fewer than min_rows 5")
    assert (none.prepare(run), none.why_not(run)) == (None, "the filters exclude all of its rows")


def test_steps_take_rows_with_all_that_points_at_them() -> None:
    times = Evidence(EVENTS, np.array([0, 2, 3]), np.array([10, 20, 30]), "x", 5)
    run = make_run(ROWS, evidence=(times,), forked=("other", 2))
    made = prepared(run, filter={"steps": {"first": 2, "last": 2}})
    assert list(made.stream) == ROWS[1:3]
    assert made.stream.kind.tolist() == run.stream.kind[1:3].tolist()
    (left,) = made.evidence
    assert (left.rows.tolist(), left.time.tolist(), left.start) == ([1], [20], 5)
    assert made.forked == ("other", 1)
    assert [each.as_dict() for each in made.findings] == [
        {
            "code": "filtered-by-config",
            "severity": "info",
            "where": "steps 2..2",
            "message": "rows outside these steps are omitted",
            "count": 2,
        }
    ]


def test_keys_take_metrics_and_the_rows_that_hold_some() -> None:
    made = prepared(make_run(ROWS), filter={"keys": {"include": ["eval_*"]}}, drop=["*_runtime"])
    assert list(made.stream) == [{"step": 2, "epoch": 0.2, "eval_loss": 2.5}]
    assert [(each.where, each.count) for each in made.findings] == [
        ("loss, grad_norm, eval_runtime", 5),
        ("rows", 3),
    ]


def test_only_its_own_name_drops_the_epoch() -> None:
    assert "epoch" in prepared(make_run(ROWS), drop=["e*"]).stream.keys
    assert "epoch" not in prepared(make_run(ROWS), drop=["epoch"]).stream.keys


def test_renames_are_told() -> None:
    made = prepared(make_run(ROWS), rename={"eval_*": "validation_*", "*": "x/*"})
    assert made.stream.keys == ("epoch", "x/loss", "x/grad_norm", "validation_loss",
                                "validation_runtime")  # fmt: skip
    (told,) = made.findings
    assert (told.code, told.count) == ("renamed-by-config", 6)


@pytest.mark.parametrize(
    ("key", "rules", "name"),
    [
        ("a_b_c", {"a_*_*": "*/*!"}, "b/c!"),
        ("a.b", {"a.*": "*"}, "b"),
        ("axb", {"a.b": "no"}, "axb"),
        ("loss", {"los*": "first*", "loss": "second"}, "firsts"),
    ],
)
def test_a_star_stays_what_it_was(key: str, rules: dict[str, str], name: str) -> None:
    assert renamed(key, rules) == name


def test_two_metrics_get_no_name_in_common() -> None:
    with pytest.raises(ConfigError) as caught:
        prepared(make_run(ROWS), rename={"eval_loss": "loss"})
    assert str(caught.value) == "test: `rename` gives 'loss' and 'eval_loss' the same name 'loss'"


def config(**said: Any) -> MigrationConfig:
    return MigrationConfig.model_validate({"sources": ["x"], "targets": ["memory"], **said})


def test_a_target_wins_over_a_source_and_that_over_the_defaults() -> None:
    made = config(
        defaults={"x_axis": "epoch", "naming": "raw", "tags": {"a": "1", "b": "1"}, "clock": "log"},
        sources=["x", {"location": "y", "x_axis": "step", "tags": {"b": "2"}}],
        targets=["memory", {"to": "tensorboard", "naming": "live", "callback_version": "4.57"}],
    )
    first, second = made.sources
    assert (dict(first.tags), dict(second.tags)) == ({"a": "1", "b": "1"}, {"a": "1", "b": "2"})
    layouts = [s.export_options(t).layout for s in made.sources for t in made.targets]
    assert [(each.x_axis, each.naming, each.callback_version) for each in layouts] == [
        ("epoch", "raw", None),
        ("epoch", "live", "4.57"),
        ("step", "raw", None),
        ("step", "live", "4.57"),
    ]
    assert {each.clock for each in layouts} == {"log"}


def test_reading_options_reach_the_pipeline() -> None:
    source = spec(salvage=True, redact_home=True, verify=False, source="trainer_log")
    options = source.export_options(TargetSpec(to="memory"))
    assert (options.read.salvage, options.read.redact_home) == (True, True)
    assert (options.verify, options.attach_source, options.source) == (False, False, "trainer_log")
    assert spec(attach_source=True).export_options(TargetSpec(to="memory")).attach_source


def test_labels_are_unique() -> None:
    others = [{"to": "mlflow", "experiment": name} for name in "ab"]
    targets = ["mlflow", {"to": "wandb", "label": "mlflow 2"}, *others]
    labels = [target.label for target in config(targets=targets).targets]
    assert labels == ["mlflow", "mlflow 2", "mlflow 3", "mlflow 4"]
    with pytest.raises(ValueError, match="found the label 'a' twice; expected different labels"):
        config(targets=[{"to": "memory", "label": "a"}] * 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({}, {"label": "b"}),
        ({"limit": 2}, {"label": "b"}),
        ({"tracking_uri": "sqlite:///m.db"}, {"tracking_uri": "sqlite:///m.db", "force": True}),
        ({"mlflow_writer": "client"}, {"mlflow_writer": "direct"}),
    ],
)
def test_the_same_target_twice_is_refused(first: dict[str, Any], second: dict[str, Any]) -> None:
    twins = [{"to": "mlflow", **first}, {"to": "mlflow", **second}]
    message = (
        f"found the targets 'mlflow' and '{second.get('label', 'mlflow 2')}', which write the "
        "same runs to the same location; expected targets that differ in more than label, limit, "
    )
    with pytest.raises(ValueError, match=message):
        config(targets=["memory", *twins])


@pytest.mark.parametrize(
    ("to", "key", "value"),
    [
        ("tensorboard", "x_axis", "epoch"),
        ("tensorboard", "naming", "raw"),
        ("tensorboard", "duplicates", "first"),
        ("tensorboard", "callback_version", "4.57"),
        ("tensorboard", "logdir", "tb"),
        ("mlflow", "experiment", "a"),
        ("mlflow", "tracking_uri", "sqlite:///m.db"),
        ("wandb", "project", "a"),
        ("wandb", "mode", "online"),
    ],
)
def test_targets_that_differ_in_a_place_or_layout_are_two(to: str, key: str, value: str) -> None:
    assert len(config(targets=[to, {"to": to, key: value}]).targets) == 2


def test_a_target_makes_its_exporter(tmp_path: Path) -> None:
    made = target(to="tensorboard", logdir=str(tmp_path)).exporter("ignored")
    assert isinstance(made, TensorBoardExporter)
    assert made.logdir == str(tmp_path)
    named: Any = TargetSpec(to="mlflow").exporter("from the source")
    own: Any = target(to="mlflow", experiment="own").exporter("from the source")
    assert (named.experiment, own.experiment) == ("from the source", "own")


def test_a_config_is_pickled_whole() -> None:
    for path in EXAMPLES:
        made = load(path, {"BUCKET": "b"})
        assert pickle.loads(pickle.dumps(made)) == made


def test_dask_needs_a_scheduler() -> None:
    engine = EngineSpec(kind="dask", workers=2)
    with pytest.raises(ConfigError) as caught:
        engine.chosen()
    assert str(caught.value) == (
        "the engine dask needs the address of its scheduler: `scheduler` under `engine`, or "
        "--scheduler tcp://HOST:8786"
    )
    assert engine.chosen(scheduler="tcp://h:1", workers=5).workers == 5
    assert engine.chosen(kind="local").kind == "local"
    assert EngineSpec(kind="dask", scheduler="tcp://h:1").chosen(kind="local").kind == "local"


def test_a_scheduler_needs_dask() -> None:
    with pytest.raises(ConfigError, match=r"^--scheduler is for --engine dask only$"):
        EngineSpec().chosen(scheduler="tcp://h:1")


def test_loading_imports_no_tracker() -> None:
    code = (
        "import sys\nfrom bridges.migration.config.file import load\n"
        f"load({str(CONFIGS / 'fan-out.yaml')!r})\n"
        "print(*(n for n in ('tensorboard', 'mlflow', 'wandb', 'fsspec') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_problem_is_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise ConfigFileError(["one", "two"])

    monkeypatch.setattr("bridges.migration.config.schema.schema_text", fail)
    assert bridge(["schema"]) == 2
    assert capsys.readouterr().err == "error: one\nerror: two\n"


def test_the_committed_schema_is_the_printed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    assert (CONFIGS / "migration.schema.json").read_text() == schema_text()


def test_the_examples_name_the_schema() -> None:
    assert len(EXAMPLES) == 4
    for path in EXAMPLES:
        first = path.read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=migration.schema.json"


TYPES: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool,
         "array": list, "object": dict, "null": type(None)}  # fmt: skip


def fits(value: Any, schema: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Whether a value fits a schema: as much of JSON Schema as ours has in it."""
    if "$ref" in schema:
        return fits(value, defs[schema["$ref"].rpartition("/")[2]], defs)
    inner = schema.get("properties", {})
    more = schema.get("additionalProperties", True)
    rules = [
        "type" not in schema or (isinstance(value, TYPES[schema["type"]])
        and not (isinstance(value, bool) and schema["type"] in ("integer", "number"))),
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        "not" not in schema or not fits(value, schema["not"], defs),
        "anyOf" not in schema or any(fits(value, each, defs) for each in schema["anyOf"]),
    ]  # fmt: skip
    if isinstance(value, (int, float)):
        rules.append(value >= schema.get("minimum", value))
    if isinstance(value, str):
        rules.append(len(value) >= schema.get("minLength", 0))
    if isinstance(value, list):
        rules.append(len(value) >= schema.get("minItems", 0))
        rules += [fits(item, schema.get("items", {}), defs) for item in value]
    if isinstance(value, dict):
        rules += [key in value for key in schema.get("required", ())]
        rules += [fits(part, inner[key], defs) for key, part in value.items() if key in inner]
        rest = [part for key, part in value.items() if key not in inner]
        rules += [more if isinstance(more, bool) else fits(part, more, defs) for part in rest]
    return all(rules)


def accepted(data: Any) -> bool:
    schema = config_schema()
    return fits(data, schema, schema["$defs"])


def test_the_schema_takes_the_examples_and_short_forms() -> None:
    for path in EXAMPLES:
        assert accepted(yaml.safe_load(path.read_text())), path
    assert accepted({"sources": ["x"], "targets": ["mlflow", {"to": "own", "depth": 3}]})


@pytest.mark.parametrize(
    "said",
    [
        {"sources": []},
        {"enigne": {}},
        {"sources": [{"name": "x"}]},
        {"sources": [{"location": "x", "clock": 1}]},
        {"sources": [{"location": "x", "filter": {"min_rows": -1}}]},
        {"targets": [{"to": "tensorboard", "tracking_uri": "x"}]},
        {"targets": [{"to": "wandb", "mode": "on-line"}]},
        {"engine": {"workers": 0}},
    ],
    ids=json.dumps,
)
def test_the_schema_refuses_what_the_config_does(said: dict[str, Any]) -> None:
    data = {"sources": ["x"], "targets": ["memory"]}
    assert accepted(data)
    assert not accepted({**data, **said})
    with pytest.raises(ValueError, match="validation error"):
        config(**said)


def test_templates_see_the_group_of_the_config(tmp_path: Path) -> None:
    """`{group}` is the group that the config gives; in `group` itself, that of the run."""
    text = """
sources:
  - {location: x.json, group: "{group|lone}-2", name: "{group}/{name}", tags: {of: "{group}"},
     experiment: "old {group}"}
targets: [{to: mlflow}]
"""
    (tmp_path / "c.yaml").write_text(text)
    (spec,) = load(str(tmp_path / "c.yaml")).sources
    run = make_run([{"loss": 1.0, "step": 1}])
    taken = spec.prepare(run)
    assert taken is not None
    assert (taken.group, taken.name, taken.tags) == ("lone-2", "lone-2/run", {"of": "lone-2"})
    assert spec.experiment_of(run) == "old lone-2"
