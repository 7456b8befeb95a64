"""What lies beside a history: settings, their files and order, and files that are traps."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.exporters.memory import MemoryExporter
from bridges.sources.file_names import SETTINGS_NAMES
from bridges.sources.options import ReadOptions
from bridges.sources.sidecars.settings_files import READERS, read_settings
from bridges.sources.sidecars.training_args import ArgsError, read_training_args
from bridges.sources.sidecars.yaml_settings import MAX_VALUES, read_yaml
from bridges.sources.trainer.run_directory import RunDirectorySource
from tests.support import GROUNDTRUTH, needs_groundtruth, state

# defaults of the model's class, which its file leaves out, and what its loading sets to None
ONLY_LIVE = {
    *("_name_or_path", "chunk_size_feed_forward", "id2label", "is_encoder_decoder", "label2id"),
    *("output_attentions", "output_hidden_states", "return_dict"),
}
CHANGED_ON_SAVING = {"architectures", "dtype", "problem_type"}


def packed(content: bytes, name: str = "args/data.pkl") -> bytes:
    """A zip as torch writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


@needs_groundtruth
@pytest.mark.parametrize("scenario", ["token_counts", "steps_eval_predict", "odd_values"])
def test_the_params_are_those_of_the_live_run(scenario: str) -> None:
    live = {}
    for line in (GROUNDTRUTH / scenario / "received.jsonl").read_text().splitlines():
        found = json.loads(line)
        if (found["tracker"], found["kind"]) == ("mlflow", "param"):
            live[found["tag"]] = found["value"]
    (run,) = RunDirectorySource().read(str(GROUNDTRUTH / scenario / "out"), ReadOptions())
    ours = {key: str(value) for key, value in run.params.items()}
    assert live.keys() - ours.keys() == ONLY_LIVE
    assert ours.keys() - live.keys() <= {"train_batch_size", "transformers_version"}
    different = {key for key in live.keys() & ours.keys() if live[key] != ours[key]}
    assert different == CHANGED_ON_SAVING
    assert run.param_files["learning_rate"].endswith("training_args.bin")
    assert run.param_files["hidden_size"].endswith("config.json")
    assert "secret-masked" not in [finding.code for finding in run.findings]


def put(folder: Path, name: str, content: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.write_bytes(data)
    return str(file)


CARD = b"""---
library_name: peft
---
# My model

### Training hyperparameters

The following hyperparameters were used during training:
- learning_rate: 2e-05
- seed: 42
- optimizer: adamw
- unknown: yes

### Training results

- loss: 1.0
"""


def test_later_files_win(tmp_path: Path) -> None:
    files = [
        put(tmp_path, "README.md", CARD),
        put(tmp_path, "config.json", {"seed": 1, "hidden_size": 8, "api_key": "abc"}),
        put(tmp_path, "adapter_config.json", {"r": 16}),
        put(tmp_path, "args.json", {"hidden_size": 9, "model": "x"}),
    ]
    settings = read_settings({"seed": 0, "max_steps": 7}, "the state", [[], files])
    assert settings.params == {
        "seed": 1,
        "max_steps": 7,
        "learning_rate": 2e-05,
        "optimizer": "adamw",
        "unknown": "yes",
        "hidden_size": 9,
        "api_key": "<API_KEY>",
        "peft_config": {"default": {"r": 16}},
        "model": "x",
    }
    named = {key: os.path.basename(file) for key, file in settings.files.items()}
    assert named["max_steps"] == "the state"
    assert (named["seed"], named["hidden_size"]) == ("config.json", "args.json")
    codes = [finding.code for finding in settings.findings]
    assert codes == ["secret-masked-beside", "params-beside"]


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    files = [
        put(tmp_path, "config.json", b"[" * 200_000),
        put(tmp_path, "args.json", [1]),
        put(tmp_path, "training_args.bin", b"x"),
        put(tmp_path, "adapter_config.json", b" " * 6_000_000),
    ]
    settings = read_settings({}, "state", [files])
    told = [f for f in settings.findings if f.code == "beside-unreadable"]
    assert [os.path.basename(f.where) for f in told] == [
        *("config.json", "adapter_config.json", "args.json", "training_args.bin")
    ]
    assert settings.params == {}


def test_the_directory_of_the_longest_save_is_read_first(tmp_path: Path) -> None:
    rows = [{"loss": 1.0 / step, "step": step} for step in range(1, 5)]
    for steps in (2, 4):
        folder = tmp_path / f"checkpoint-{steps}"
        put(folder, "trainer_state.json", state(rows[:steps]))
        put(folder, "config.json", {"from": steps})
    put(tmp_path, "config.json", {"from": "outside"})
    put(tmp_path, "args.json", {"only": "outside"})
    (run,) = RunDirectorySource().read(str(tmp_path), ReadOptions())
    assert (run.params["from"], run.params["only"]) == (4, "outside")


HOME = "/home/anna/model"


@pytest.mark.parametrize("redact_home", [False, True])
def test_home_directories_in_params_are_masked_on_request(
    redact_home: bool, tmp_path: Path
) -> None:
    put(tmp_path, "trainer_state.json", state([{"loss": 1.0, "step": 1}], trial_params={"a": HOME}))
    put(tmp_path, "args.json", {"b": [HOME]})
    put(tmp_path, "training_args.yaml", f"c: {HOME}".encode())
    put(tmp_path, "training_args.bin", packed(pickle.dumps({"d": HOME})))
    put(tmp_path, "adapter_config.json", {"e": HOME})
    shown = "~/model" if redact_home else HOME
    (run,) = bridges.read(tmp_path, redact_home=redact_home)
    peft = {"default": {"e": shown}}
    assert run.params == {"a": shown, "b": [shown], "c": shown, "d": shown, "peft_config": peft}
    (alone,) = bridges.read(tmp_path / "trainer_state.json", redact_home=redact_home)
    assert alone.params == run.params
    assert alone.trial == run.trial  # which run it is does not depend on it


@pytest.mark.parametrize("option", [[], ["--redact-home"]])
def test_the_commands_mask_home_directories_on_request(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "out", "trainer_log.jsonl", b'{"current_steps": 1, "loss": 1.0}\n')
    put(tmp_path / "out", "args.json", {"model": HOME})
    assert bridge(["inspect", str(tmp_path / "out"), "--json", *option]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["runs"]
    assert shown["params"]["model"] == ("~/model" if option else HOME)
    target = ["--to", "tensorboard", "--logdir", str(tmp_path / "tb"), *option]
    for command in ("export", "verify"):
        assert bridge([command, str(tmp_path / "out"), *target]) == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "tb").rglob("*events*"))
    assert (b"anna" in written) == (not option)
    memory = MemoryExporter()
    for action in (bridges.export, bridges.verify):
        report = action(tmp_path / "out", to=memory, redact_home=bool(option))
        assert report.exit_code == 0


class Hostile:
    """Runs a command where it is unpickled by the usual means."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = pickle.dumps({"learning_rate": 1.0, "x": Hostile(f"touch {mark}")})
    pickle.loads(content)
    assert mark.exists()  # it does what it says
    mark.unlink()
    assert read_training_args(packed(content))["learning_rate"] == 1.0
    assert not mark.exists()


def test_nothing_takes_the_place_of_what_is_kept() -> None:
    content = (
        b"\x80\x04}\x8c\x01a\x8c\x01m\x8c\x01n\x93)\x81}(\x8c\x05_argsK\x05\x8c\x05_nameK\x07ubs."
    )
    assert read_training_args(packed(content)) == {"a": "n"}


def bomb() -> bytes:
    """A few bytes that are a billion values."""
    value: list[Any] = [0] * 10
    for _ in range(9):
        value = [value] * 10
    return pickle.dumps({"a": value})


def deep() -> bytes:
    """Lists in lists, deeper than Python follows."""
    return b"\x80\x04" + b"]" * 3000 + b"a" * 2999 + b"."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a zip archive"),
        (b"PK\x03\x04broken", "archive is broken"),
        (packed(b"x", "other.txt"), "contains no data.pkl"),
        (packed(b"\x80\x04garbage"), "pickle is broken"),
        (packed(pickle.dumps([1, 2])), "no object with settings"),
        (packed(bomb()), "nested too deeply"),
        (packed(b"0" * 5_000_001), "larger than 1,000,000 bytes"),
        (packed(b"\x80\x04\x8e" + b"\xff" * 8), "pickle is broken"),
        (packed(deep()), "no object with settings"),
    ],
)
def test_files_that_are_traps_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ArgsError, match=message):
        read_training_args(data)


def test_yaml_arguments_win_over_json_ones(tmp_path: Path) -> None:
    yaml = b"""
lora_rank: 16
learning_rate: 5.0e-05
dataset: &id001 [one, two]
eval_dataset: *id001
bf16: true
resume_from_checkpoint: null
hub_token: abc
started: 2024-05-06
1: one
"""
    files = [
        put(tmp_path, "training_args.bin", packed(pickle.dumps({"bf16": False}))),
        put(tmp_path, "training_args.yaml", yaml),
        put(tmp_path, "args.json", {"lora_rank": 8, "seed": 1}),
    ]
    settings = read_settings({}, "state", [files])
    assert settings.params == {
        "lora_rank": 16,
        "seed": 1,
        "learning_rate": 5e-05,
        "dataset": ["one", "two"],
        "eval_dataset": ["one", "two"],
        "bf16": False,
        "resume_from_checkpoint": None,
        "hub_token": "<HUB_TOKEN>",
        "started": "2024-05-06",
        "1": "one",
    }
    assert os.path.basename(settings.files["lora_rank"]) == "training_args.yaml"


def laughs(levels: int, merge: bytes = b"") -> bytes:
    """A few bytes whose aliases unfold to 10 ** levels values."""
    first = b"a0: &a0 {x0: 1}\n" if merge else b"a0: &a0 [1]\n"
    lines = [
        b"a%d: &a%d " % (level, level)
        + (b"{<<: [%s]}" if merge else b"[%s]") % b", ".join([b"*a%d" % (level - 1)] * 10)
        for level in range(1, levels + 1)
    ]
    return first + b"\n".join(lines)


YAML_TRAPS = {
    "a call": (b"a: !!python/object/apply:os.system ['touch MARK']", "could not determine"),
    "a class": (b"a: !!python/name:os.system ''", "could not determine"),
    "aliases of aliases": (laughs(9), f"expand to more than {MAX_VALUES:,} values"),
    "merges of merges": (laughs(9, b"<<"), f"expand to more than {MAX_VALUES:,} values"),
    "an alias of itself": (b"a: &a [1, *a]", f"expand to more than {MAX_VALUES:,} values"),
    "too large": (b"a: 1\n" * 60_000, "it has 300,000 bytes"),
    "too deep": (b"[" * 100_000, "it is nested too deeply"),
    "a list": (b"- 1\n- 2\n", "a YAML list, not a mapping"),
    "two documents": (b"a: 1\n---\nb: 2\n", "found another document, line 2"),
    "no YAML": (b"a: [1\nb: 2", r"not YAML of plain values \(.*, line 2\)"),
    "no UTF-8": (b"a: \xff", "can't decode"),
    "a byte that is no text": (b"a: \0", "1 zero byte"),
    "a day that is none": (b"a: 2024-13-45", "month must be"),
    "a wrong tag": (b"a: !!bool maybe", "not YAML of plain values"),
    "another wrong tag": (b"a: !!timestamp maybe", "not YAML of plain values"),
}


@pytest.mark.parametrize("trap", YAML_TRAPS)
def test_yaml_that_is_a_trap_is_told(
    trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, message = YAML_TRAPS[trap]
    settings = read_settings({}, "state", [[put(tmp_path, "training_args.yaml", data)]])
    (told,) = settings.findings
    assert told.code == "beside-unreadable"
    assert re.search(message, told.message)
    assert "\n" not in told.message
    assert settings.params == {}
    assert not (tmp_path / "MARK").exists()


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"{}"])
def test_yaml_without_settings(data: bytes) -> None:
    assert read_yaml(data) == {}


def test_a_bomb_of_yaml_takes_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="expand to more than"):
        read_yaml(laughs(40))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


@needs_groundtruth
def test_live_predictions_are_there_again() -> None:
    (run,) = RunDirectorySource().read(
        str(GROUNDTRUTH / "steps_eval_predict" / "out"), ReadOptions()
    )
    rows = [*run.stream][-2:]
    assert [sorted(row)[0] for row in rows] == ["step", "predict_accuracy"]
    assert rows[0]["test_loss"] == rows[1]["predict_loss"] == 0.7257198095321655


def test_a_source_with_home_directories_is_not_attached(tmp_path: Path) -> None:
    with pytest.raises(bridges.ConfigError, match="leave out one of the two"):
        bridges.export(tmp_path, to="tensorboard", attach_source=True, redact_home=True)


def test_every_settings_file_has_a_reader() -> None:
    assert (*READERS,) == SETTINGS_NAMES


@pytest.mark.parametrize(("text", "where"), [("a: 1\n", "1 param"), ("a: 1\nb: 2\n", "2 params")])
def test_the_params_of_files_are_counted(tmp_path: Path, text: str, where: str) -> None:
    settings = read_settings({}, "state", [[put(tmp_path, "training_args.yaml", text.encode())]])
    assert [note.where for note in settings.findings] == [where]
