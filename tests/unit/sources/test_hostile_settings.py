"""Files beside a history that are made to take all memory or time, or to break a later stage.

Each is read within 64 MiB and a few seconds, and what is read of it can be exported everywhere.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.cli.main import run as bridge
from bridges.migration.config.file import load
from bridges.sources.sidecars.plain_values import plain
from bridges.sources.sidecars.settings_files import read_settings
from tests.bounds import bounded
from tests.support import codes, read_bytes, state

BIG = "9" * 310
HUGE = "F" * 5000
LONG = "8" * 4301


def zipped(content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("args/data.pkl", content)
    return file.getvalue()


def many_entries() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}", b"")
    return file.getvalue()


def shared_text(size: int, count: int) -> bytes:
    text = "A" * size
    return pickle.dumps({f"k{number}": text for number in range(count)}, 2)


def nested_key() -> bytes:
    """A dict whose key is a tuple of 2 ** 60 parts."""
    return b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s."


def colliding_keys() -> bytes:
    keys = b"".join(
        b"\x8a\x0a" + (number * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N"
        for number in range(1, 18_000)
    )
    return b"\x80\x02}(" + keys + b"u."


def built_often() -> bytes:
    fields = b"".join(b"X\x02\0\0\0" + struct.pack("<H", 0x3030 + n) + b"N" for n in range(9_000))
    return b"\x80\x02ca\nb\n)\x81}q\x01(" + fields + b"u" + b"bh\x01" * 40_000 + b"b."


BOMBS: dict[str, Callable[[], bytes]] = {
    "index of a memo": lambda: zipped(b"\x80\x02Nr" + struct.pack("<I", 0x7FFFFF00) + b"."),
    "put of a memo": lambda: zipped(b"Np2147483647\n."),
    "byte array": lambda: zipped(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"."),
    "one text very often": lambda: zipped(shared_text(4_000_000, 1500)),
    "one shorter text very often": lambda: zipped(shared_text(200_000, 1500)),
    "a key that is hashed for ever": lambda: zipped(nested_key()),
    "keys of one hash": lambda: zipped(colliding_keys()),
    "very many classes": lambda: zipped(b"\x80\x02](" + b"ca\nb\n" * 40_000 + b"e."),
    "very many empty lists": lambda: zipped(b"\x80\x02](" + b"]" * 249_000 + b"e."),
    "fields that are set again and again": lambda: zipped(built_often()),
    "a pickle that unpacks to a gigabyte": lambda: zipped(b"0" * (1 << 30)),
    "very many entries": many_entries,
}
YAML_BOMBS = {
    "aliases of one long text": lambda: (
        b"a: &a " + b"x" * 200_000 + b"\n" + b"".join(b"k%d: *a\n" % n for n in range(4000))
    ),
    "a number of base 60": lambda: b"x: " + b"1:" * 120_000 + b"1\n",
    "a fraction of base 60": lambda: b"x: " + b"1:" * 120_000 + b"1.5\n",
    "hexadecimal digits": lambda: b"x: 0x" + b"F" * 240_000,
    "decimal digits": lambda: b"x: " + b"9" * 240_000,
    "a number by its tag": lambda: b"x: !!int '" + b"9" * 240_000 + b"'",
    "lists in lists": lambda: b"[" * 249_000,
    "keys in keys": lambda: b"? " * 120_000,
    "very many keys": lambda: b"".join(b"%d: 1\n" % n for n in range(24_000)),
    "comments": lambda: b"#\n" * 120_000 + b"a: 1",
    "anchors": lambda: b"a: [" + b"&a 1," * 45_000 + b"]",
    "indented more and more": lambda: b"".join(b" " * n + b"- a:\n" for n in range(600)),
}
JSON_BOMBS = {
    "empty lists": lambda: b'{"a":[' + b"[]," * 1_600_000 + b"1]}",
    "objects": lambda: b'{"a":[' + b",".join([b'{"a":1}'] * 600_000) + b"]}",
    "lists in lists": lambda: b'{"a":' + b"[" * 4_900_000,
    "digits": lambda: b'{"a":' + b"9" * 4_900_000 + b"}",
    "numbers of many digits": lambda: b'{"a":[' + b",".join([b"9" * 4200] * 1100) + b"]}",
    "one text": lambda: b'{"a":"' + b"x" * 4_900_000 + b'"}',
    "white space": lambda: b" " * 4_900_000,
}
CARD_BOMBS = {
    "digits": lambda: b"### Training hyperparameters\n" + (b"- a: " + b"9" * 4200 + b"\n") * 1000,
    "signs": lambda: b"#" * 2_000_000 + b"\n" + b"- " * 1_000_000,
    "names": lambda: b"### Training hyperparameters\n- " + b"a " * 2_000_000,
}
FILES = {
    "training_args.bin": BOMBS,
    "training_args.yaml": YAML_BOMBS,
    "config.json": JSON_BOMBS,
    "adapter_config.json": JSON_BOMBS,
    "all_results.json": JSON_BOMBS,
    "README.md": CARD_BOMBS,
}
READ = """
for place in args:
    print("reading", place, file=sys.stderr)
    (run,) = bridges.api.read(place)
    json.dumps(dict(run.params))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize("name", FILES)
def test_nothing_beside_a_history_takes_much_memory_or_time(name: str, tmp_path: Path) -> None:
    for bomb, make in FILES[name].items():
        folder = tmp_path / bomb
        folder.mkdir()
        (folder / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
        (folder / name).write_bytes(make())
    bounded(READ, *(str(tmp_path / bomb) for bomb in FILES[name]))


NUMBERS = {
    "config.json": (
        f'{{"x": {BIG}, "y": [{LONG}], "id": {{"1": {BIG}}}, "z": 18446744073709551616}}'
    ),
    "args.json": f'{{"x": {BIG}, "y": [{LONG}], "z": 18446744073709551616}}',
    "training_args.yaml": f"x: {BIG}\ny: [{LONG}]\nz: 18446744073709551616\nh: 0x{HUGE}\n",
    "README.md": f"## Training hyperparameters\n\n- x: {BIG}\n- z: 18446744073709551616\n",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_large_integers_in_settings_are_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(NUMBERS[name])
    settings = read_settings({}, "state", [[str(tmp_path / name)]])
    assert settings.params["x"] == BIG
    assert settings.params["z"] == 2**64
    assert settings.params.get("y", [LONG]) == [LONG]
    assert settings.params.get("h", f"0x{HUGE}") == f"0x{HUGE}"
    assert [finding.code for finding in settings.findings] == ["params-beside"]


def test_large_integers_in_a_pickle_are_text(tmp_path: Path) -> None:
    values = {"x": int(BIG), "y": [int(HUGE, 16)], "z": 2**64, "n": -int(BIG)}
    (tmp_path / "training_args.bin").write_bytes(zipped(pickle.dumps(values)))
    settings = read_settings({}, "state", [[str(tmp_path / "training_args.bin")]])
    assert settings.params == {"x": BIG, "y": [f"0x{HUGE.lower()}"], "z": 2**64, "n": f"-{BIG}"}


FIELDS = (
    *("train_batch_size", "num_train_epochs", "total_flos", "num_input_tokens_seen"),
    *("best_metric", "logging_steps", "eval_steps", "save_steps", "epoch"),
)


@pytest.mark.parametrize("target", ["tensorboard", "mlflow", "wandb"])
def test_large_integers_anywhere_can_be_exported(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    large = int(BIG)
    row = {"loss": large, "step": 1, "epoch": large, "x": [large], "n": 10**30}
    trial = {"lr": large, "a": {"b": [large]}}
    data = state([row], **dict.fromkeys(FIELDS, large), trial_name="t", trial_params=trial)
    Path("out").mkdir()
    Path("out/trainer_state.json").write_bytes(data)
    for name, text in NUMBERS.items():
        Path("out", name).write_text(text)
    Path("out/adapter_config.json").write_text(f'{{"r": {BIG}, "s": {LONG}, "\\ud800": "\\udfff"}}')
    Path("out/training_args.bin").write_bytes(zipped(pickle.dumps({"a": large, "b": "\ud800"})))
    Path("out/all_results.json").write_text(f'{{"test_loss": {BIG}, "test_n": {LONG}}}')
    Path("out/trainer_log.jsonl").write_text(
        f'{{"current_steps": 1, "loss": {BIG}, "elapsed_time": {BIG}}}\n'
    )
    places: dict[str, dict[str, Any]] = {
        "tensorboard": {"logdir": "there"},
        "mlflow": {"tracking_uri": "sqlite:///m.db"},
        "wandb": {"wandb_dir": "there"},
    }
    report = bridges.export("out", to=target, **places[target])
    (run,) = report.runs
    assert [f.message for f in run.findings if f.severity.value in ("error", "loss")] == []
    assert (report.exit_code, run.verified) == (0, True)


@pytest.mark.parametrize("options", [[], ["-v"], ["--json"]])
def test_large_integers_can_be_shown(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    (tmp_path / "training_args.yaml").write_text(f"x: 0x{HUGE}\n")
    (tmp_path / "training_args.bin").write_bytes(zipped(pickle.dumps({"y": int(HUGE, 16)})))
    assert bridge(["inspect", str(tmp_path), *options]) == 0
    out, err = capsys.readouterr()
    shown = HUGE if options else HUGE[:190] + "…"
    assert (shown in "".join(out.split()), err) == (True, "")


@pytest.mark.parametrize("suffix", ["yaml", "toml"])
def test_large_integers_in_a_config_are_one_message(suffix: str, tmp_path: Path) -> None:
    for digits in (f"0x{HUGE}", LONG, BIG):
        file = tmp_path / f"m.{suffix}"
        text = {
            "yaml": f"sources: [s]\ntargets: [tensorboard]\nengine: {{workers: {digits}}}\n",
            "toml": f'sources = ["s"]\ntargets = ["tensorboard"]\n[engine]\nworkers = {digits}\n',
        }
        file.write_text(text[suffix])
        with pytest.raises(bridges.ConfigError) as caught:
            load(file)
        assert "set_int_max_str_digits" not in str(caught.value)


def test_numbers_of_a_usual_size_stay_numbers() -> None:
    for value in (0, -1, 2**63, 2**1022, True, 1.5, None, "é", "a"):
        assert plain(value) is value
    assert plain("\ud83d\ude00") == "😀"
    assert plain({"\ud800": ["\udc00", 2**1024]}) == {"�": ["�", str(2**1024)]}


def test_deep_settings_of_a_trial_can_be_read(tmp_path: Path) -> None:
    deep = json.loads("[" * 190 + "]" * 190)
    run = read_bytes(tmp_path, state([{"loss": 1.0, "step": 1}], trial_params={"a": deep}))
    assert run.params["a"] == deep
    assert "secret-masked" not in codes(run)
