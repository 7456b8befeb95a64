"""Settings as the live callbacks log them: keys, order, choice; and the names of runs."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.params import ParamRules, params_of
from bridges.pipeline.options import LayoutOptions
from bridges.sources.sidecars.live_params import own_projects, project_of, run_name_of
from bridges.stream.identity import run_key
from bridges.stream.layout import lay_out
from tests.support import DATA, make_run, state

LIVE = DATA / "live"
ROWS = [{"loss": 1.0 / step, "step": step} for step in range(1, 4)]
# defaults of the model's class, which its file leaves out, and what its loading sets to None
ONLY_LIVE = {
    *("_name_or_path", "chunk_size_feed_forward", "id2label", "is_encoder_decoder", "label2id"),
    *("output_attentions", "output_hidden_states", "return_dict"),
}
CHANGED_ON_SAVING = {"architectures", "dtype", "problem_type"}


class Arguments:
    """What a training_args.bin of a test holds."""


def put(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(data)


def arguments(**settings: Any) -> bytes:
    """A training_args.bin."""
    made = Arguments()
    made.__dict__.update(settings)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("args/data.pkl", pickle.dumps(made))
    return file.getvalue()


def run_with(folder: Path, **files: Any) -> Path:
    put(folder, "trainer_state.json", state(ROWS))
    for name, content in files.items():
        put(folder, name.replace("__", "."), content)
    return folder


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_FLATTEN_PARAMS", "MLFLOW_MAX_LOG_PARAMS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "mlflow.db"


def export(source: Path, path: Path, **options: Any) -> Any:
    uri = f"sqlite:///{path}"
    (run,) = bridges.export(source, to="mlflow", tracking_uri=uri, **options).runs
    assert run.verified
    return run


def stored(path: Path, table: str = "params") -> dict[str, str]:
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute(f"select key, value from {table}").fetchall())


def live_params(scenario: str, nth: int) -> dict[str, str]:
    """The params of the nth MLflow run of a live scenario."""
    runs: dict[str, dict[str, str]] = {}
    for line in gzip.decompress((LIVE / scenario / "received.jsonl.gz").read_bytes()).splitlines():
        found = json.loads(line)
        if (found["tracker"], found["kind"]) == ("mlflow", "param"):
            runs.setdefault(found["run"], {})[found["tag"]] = found["value"]
    return [*runs.values()][nth]


@pytest.mark.parametrize(("scenario", "nth"), [("oom_smaller_batch", 0), ("nested_named_env", -1)])
def test_params_are_those_of_the_live_run(
    scenario: str, nth: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scenario == "nested_named_env":  # as it was when that ran
        monkeypatch.setenv("MLFLOW_FLATTEN_PARAMS", "TRUE")
    export(LIVE / scenario / "out", path)
    live, ours = live_params(scenario, nth), stored(path)
    assert {key.partition(".")[0] for key in live.keys() - ours.keys()} == ONLY_LIVE
    assert ours.keys() - live.keys() == {"train_batch_size"}
    assert {key for key in live.keys() & ours.keys() if live[key] != ours[key]} == CHANGED_ON_SAVING


CONFIG = {
    "id2label": {"10": "k", "2": "c"},
    "label2id": {"k": 10, "c": 2},
    "text_config": {"id2label": {"0": "a"}, "other": {"0": "b"}},
}


def test_integer_keys_are_written_as_live(path: Path) -> None:
    args = arguments(kwargs={1: [{2: "x"}], 3: "y"}, mixed={1: 2, "a": 3})
    export(run_with(path.parent / "out", config__json=CONFIG, training_args__bin=args), path)
    assert stored(path) == {
        "id2label": "{10: 'k', 2: 'c'}",
        "label2id": "{'k': 10, 'c': 2}",
        "text_config": "{'id2label': {0: 'a'}, 'other': {'0': 'b'}}",
        "kwargs": "{1: [{2: 'x'}], 3: 'y'}",
        "mixed": "{'1': 2, 'a': 3}",
    }


def test_the_key_of_a_run_without_rows_stays() -> None:
    """Runs that the first version stored are found by it; there all keys of settings were text."""
    numbered = make_run([], params={"id2label": {10: "k", 2: "c"}, "list": [{1: 2}]})
    text = make_run([], params={"id2label": {"10": "k", "2": "c"}, "list": [{"1": 2}]})
    assert run_key(numbered) == run_key(text) == "6608b53372079166aa3312c22ae356b2"


def test_the_adapter_is_no_param_of_mlflow(path: Path) -> None:
    folder = run_with(path.parent / "out", adapter_config__json={"r": 16}, config__json={"a": 1})
    report = export(folder, path)
    assert stored(path) == {"a": "1"}
    (finding,) = [finding for finding in report.findings if finding.code == "param-not-live"]
    assert finding.where == "param 'peft_config'"
    put(folder, "args.json", {"peft_config": "own"})  # which has nothing to do with the adapter
    export(folder, path.parent / "other.db")
    assert stored(path.parent / "other.db") == {"a": "1", "peft_config": "own"}


def test_the_environment_bounds_the_params(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(seed=1, output_dir="x", args={"a": 1})
    card = b"### Training hyperparameters\n- optimizer: adam\n"
    files = {"config__json": {"b": 2, "a": "y" * 7000, "c": {"d": {}, "e": [1]}}}
    folder = run_with(path.parent / "out", README__md=card, training_args__bin=args, **files)
    monkeypatch.setenv("MLFLOW_MAX_LOG_PARAMS", "3")
    report = export(folder, path)
    # the model first, without what is too long, then the arguments
    assert stored(path) == {"b": "2", "c": "{'d': {}, 'e': [1]}", "seed": "1"}
    counts = {finding.code: finding.count for finding in report.findings}
    assert (counts["param-refused"], counts["params-left-out"]) == (1, 2)
    monkeypatch.setenv("MLFLOW_FLATTEN_PARAMS", "yes")
    export(folder, path.parent / "flat.db")
    assert stored(path.parent / "flat.db") == {"b": "2", "c.d": "{}", "c.e": "[1]"}


@pytest.mark.parametrize(
    ("most", "flat", "rules"),
    [
        ("", "", ParamRules()),
        ("0", "0", ParamRules(most=0)),
        ("12", "on", ParamRules(is_flat=True, most=12)),
        ("-1", "no", ParamRules()),
        ("²", "True", ParamRules(is_flat=True)),
        ("9" * 5000, "", ParamRules(most=999_999_999)),
    ],
)
def test_the_environment_is_read_as_live(
    most: str, flat: str, rules: ParamRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_MAX_LOG_PARAMS", most)
    monkeypatch.setenv("MLFLOW_FLATTEN_PARAMS", flat)
    assert ParamRules.of_environment() == rules


def test_params_are_chosen_by_patterns(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"lora_r": 8, "lora_alpha": 16, "seed": 1, "hidden_size": 4}
    folder = run_with(path.parent / "out", config__json=config)
    words = ["export", str(folder), "--to", "mlflow", "--to", "tensorboard", "--to", "wandb"]
    code = bridge([*words, "--params", "lora_*", "--params", "seed", "--json"])
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert (code, [run["status"] for run in runs]) == (0, ["exported"] * 3)
    assert stored(path) == {"lora_r": "8", "lora_alpha": "16", "seed": "1"}
    for run in runs:
        (finding,) = [each for each in run["findings"] if each["code"] == "params-left-out"]
        assert (finding["where"], finding["count"]) == ("key 'hidden_size'", 1)
    (event_file,) = path.parent.glob("runs/*/*")
    (wandb_file,) = path.parent.glob("wandb/*/*.wandb")
    for file in (event_file, wandb_file):
        assert b"lora_alpha" in file.read_bytes()
        assert b"hidden_size" not in file.read_bytes()
    assert bridge([*words, "--quiet"]) == 0  # the choice is no other run
    assert stored(path) == {"lora_r": "8", "lora_alpha": "16", "seed": "1"}


def test_params_are_chosen_in_a_config(path: Path) -> None:
    folder = run_with(path.parent / "out", config__json={"seed": 1, "hidden_size": 4})
    config = f"""
defaults: {{params: [hidden_*], name: "{{name}}-{{params.seed}}"}}
sources: [{folder}]
targets: [{{to: mlflow, tracking_uri: "sqlite:///{path}"}}]
"""
    put(path.parent, "c.yaml", config.encode())
    assert bridge(["migrate", "c.yaml", "--quiet"]) == 0
    assert stored(path) == {"hidden_size": "4"}
    assert stored(path, "tags")["mlflow.runName"] == "out-1"


def test_a_single_pattern_may_be_a_text() -> None:
    run = make_run(ROWS, params={"seed": 1, "s": 2})
    layout = lay_out(run, "mlflow", LayoutOptions(params=("seed",)))
    assert layout.params == {"seed": 1}
    assert params_of(layout, Limits(), ParamRules())[0] == {"seed": "1"}


# names of runs


@pytest.mark.parametrize(
    ("name", "output", "expected"),
    [
        ("baseline", "out", "baseline"),
        ("out", "out", None),
        ("./out/", "out", None),
        (None, "out", None),
        ("", "out", None),
        (5, "out", None),
        ("a\0b\n\x1b[31m ", "out", "a b  [31m"),
        (" \n", "out", None),
        ("x" * 251, "out", None),
        ("baseline", None, "baseline"),
    ],
)
def test_the_name_of_a_run(name: Any, output: Any, expected: str | None) -> None:
    params = {"run_name": name, "output_dir": output}
    assert run_name_of(params, {"run_name": "/x/training_args.bin"}) == expected
    assert run_name_of(params, {"run_name": "/x/args.json"}) is None


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [name for (name,) in database.execute("select name from runs")]


def test_the_name_of_the_arguments_is_the_live_one(path: Path) -> None:
    export(LIVE / "nested_named_env" / "out", path)
    assert names(path) == ["a/b: c é"]
    folder = run_with(path.parent / "out", training_args__bin=arguments(run_name="baseline"))
    export(folder, path.parent / "own.db", run_name="mine")
    assert names(path.parent / "own.db") == ["mine"]
    export(folder, path.parent / "own.db")  # the name is not identity
    assert names(path.parent / "own.db") == ["mine"]


@pytest.mark.parametrize(
    ("target", "name"), [("tensorboard", "a/b_ c é"), ("mlflow", "a/b: c é"), ("wandb", "a/b: c é")]
)
def test_every_target_has_the_name_of_the_arguments(target: str, name: str, path: Path) -> None:
    (run,) = bridges.export(LIVE / "nested_named_env" / "out", to=target).runs
    assert (run.run, run.verified) == (name, True)
    assert target != "tensorboard" or (path.parent / "runs" / name).is_dir()


def test_a_stored_run_keeps_its_name(path: Path) -> None:
    """As one that was written before the arguments named runs."""
    folder = run_with(path.parent / "out")
    targets = ("mlflow", "wandb", "tensorboard")
    for target in targets:
        bridges.export(folder, to=target)
    run_with(folder, training_args__bin=arguments(run_name="baseline"))
    put(folder, "trainer_state.json", state([*ROWS, {"loss": 0.1, "step": 4}]))
    for target in targets:
        (run,) = bridges.export(folder, to=target).runs
        assert (run.status, run.run, run.verified) == ("appended", "out", True)
        (run,) = bridges.export(folder, to=target).runs
        assert (run.status, run.run) == ("unchanged", "out")
    assert names(path) == ["out"]
    assert stored(path, "tags")["mlflow.runName"] == "out"


def test_a_synced_run_keeps_its_name_in_a_later_part(path: Path) -> None:
    folder = run_with(path.parent / "out")
    bridges.export(folder, to="wandb")
    (file,) = path.parent.glob("wandb/*/*.wandb")
    Path(f"{file}.synced").touch()
    run_with(folder, training_args__bin=arguments(run_name="baseline"))
    put(folder, "trainer_state.json", state([*ROWS, {"loss": 0.1, "step": 4}]))
    (run,) = bridges.export(folder, to="wandb").runs
    assert (run.status, run.run, run.verified) == ("appended", "out", True)


def test_runs_of_one_directory_have_the_names_of_their_own_arguments(path: Path) -> None:
    for number, args in ((1, arguments(run_name="one")), (2, None)):
        folder = path.parent / "out" / f"checkpoint-{number}"
        rows = [{"loss": number + 1.0 / step, "step": step} for step in range(1, 4)]
        put(folder, "trainer_state.json", state(rows))
        if args:
            put(folder, "training_args.bin", args)
    put(path.parent / "out", "training_args.bin", arguments(run_name="two"))
    found = [run.name for run in bridges.read(path.parent / "out")]
    assert found[0] == "one"
    assert found[1] not in ("one", "two")  # it may be the name of either


def test_the_name_of_the_arguments_in_templates(path: Path) -> None:
    folder = run_with(path.parent / "out", training_args__bin=arguments(run_name="baseline"))
    config = """
sources: [{location: %s, name: "{name}+{run_name}"}]
targets: [{to: mlflow, tracking_uri: "sqlite:///%s"}]
"""
    put(path.parent, "c.yaml", (config % (folder, path)).encode())
    assert bridge(["migrate", "c.yaml", "--quiet"]) == 0
    assert names(path) == ["out+baseline"]
    plain = config.replace(', name: "{name}+{run_name}"', "") % (folder, path.parent / "b.db")
    put(path.parent, "d.yaml", plain.encode())
    assert bridge(["migrate", "d.yaml", "--quiet"]) == 0
    assert names(path.parent / "b.db") == ["baseline"]


@pytest.mark.parametrize(
    ("file", "keys", "project"),
    [
        ("training_args.bin", ("loss",), "sentence-transformers"),
        ("training_args.bin", ("embedding_loss",), "setfit"),
        ("", ("embedding_loss",), "setfit"),
        ("", ("loss", "embedding_loss"), None),
        ("", ("loss",), None),
    ],
)
def test_the_project_of_a_library(file: str, keys: tuple[str, ...], project: str | None) -> None:
    files = {"multi_dataset_batch_sampler": f"/x/{file}"} if file else {}
    assert project_of(files, keys) == project


@pytest.mark.parametrize(
    ("given", "file", "expected"),
    [
        ("mine", "training_args.bin", {"trackio": "mine"}),
        ("huggingface", "training_args.bin", {}),  # the default
        ("", "training_args.bin", {}),
        (7, "training_args.bin", {}),
        ("mine", "config.json", {}),  # a setting of the model
    ],
)
def test_the_project_in_the_arguments_is_that_of_trackio(
    given: object, file: str, expected: dict[str, str]
) -> None:
    assert own_projects({"project": given}, {"project": f"/x/{file}"}) == expected


def test_a_run_goes_to_the_trackio_project_of_its_arguments(path: Path) -> None:
    """A run that an earlier release wrote into the usual project stays there."""
    plain = run_with(path.parent / "plain", training_args__bin=arguments(project="my.x", seed=1))
    folder = path.parent / "trackio"
    bridges.export(plain, to="trackio", trackio_dir=folder, project="huggingface")
    other = run_with(path.parent / "other", training_args__bin=arguments(project="p", seed=2))
    for status in ("exported", "unchanged"):
        first, second = (
            bridges.export(run, to="trackio", trackio_dir=folder).runs[0] for run in (plain, other)
        )
        assert (first.status, first.verified) == ("unchanged", True)
        assert first.place == "huggingface"
        assert (second.status, second.verified) == (status, True)
        assert second.place == "p"
    (given,) = bridges.export(other, to="trackio", trackio_dir=folder, project="q").runs
    assert given.place == "q"
    (run,) = bridges.read(plain)
    assert (run.project, run.own_projects) == (None, {"trackio": "my.x"})
