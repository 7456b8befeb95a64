"""Whatever happens to the bytes of a file in a run's directory, the run is read or named.

Files are those of a usual run with every kind beside it, each mutated in turn. Warnings of Python
count as failures, and what is read is exported into memory and looked at.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

import bridges
from bridges.cli.run_page import inspect
from bridges.errors import BridgeError
from bridges.exporters.memory import MemoryExporter
from bridges.formats.events import proto
from tests.property.test_fuzz_parser import mutated
from tests.support import DATA, packed

ROUNDS = 80  # for each file
ROWS = [
    {"loss": 2.0 / step, "learning_rate": 1e-5, "epoch": step / 4, "step": step}
    for step in range(1, 9)
]
SETTINGS = {
    "learning_rate": 1e-5,
    "seed": 42,
    "id2label": {"0": "a", "1": "b"},
    "text": "a: [b], {c}",
    "nested": {"list": [1, 2.5, None, True, "x"]},
}


def _archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("args/data.pkl", content)
    return file.getvalue()


def _events() -> bytes:
    records = [proto.file_version_event(1.7e9)]
    records += [
        proto.summary_event(
            1.7e9 + row["step"],
            int(row["step"]),
            [proto.scalar_value("train/loss", struct.pack("<f", row["loss"]))],
        )
        for row in ROWS
    ]
    return b"".join(map(proto.frame, records))


def _log() -> bytes:
    lines = (
        {
            "current_steps": row["step"],
            "total_steps": 8,
            "loss": row["loss"],
            "epoch": row["epoch"],
            "elapsed_time": f"0:00:{int(row['step']):02}",
        }
        for row in ROWS
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _card() -> bytes:
    lines = "".join(f"- {key}: {value}\n" for key, value in SETTINGS.items())
    return f"# Model\n\n### Training hyperparameters\n\n{lines}\n### Results\n".encode()


def _yaml() -> bytes:
    return (
        b"a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}, e: 2024-01-02}\n"
        b"rate: 1.0e-5\ntime: 1:30\nhex: 0xFF\ntext: 'x'\nflag: yes\n"
    )


SUMMARY = {"train_runtime": 9.0, "train_loss": 1.0, "total_flos": 1.0, "epoch": 2.0, "step": 8}
STATE = {"epoch": 2.0, "global_step": 8, "max_steps": 8, "log_history": [*ROWS, SUMMARY]}
FILES = {
    "trainer_state.json": json.dumps(STATE, indent=1).encode(),
    "README.md": _card(),
    "config.json": json.dumps(SETTINGS).encode(),
    "adapter_config.json": json.dumps({"r": 8, "target_modules": ["q", "v"]}).encode(),
    "args.json": json.dumps(SETTINGS).encode(),
    "training_args.yaml": _yaml(),
    "training_args.bin": _archive(pickle.dumps(SETTINGS, 2)),
    "all_results.json": json.dumps({"eval_loss": 0.5, "epoch": 2.0, "test_f1": 0.5}).encode(),
    "trainer_log.jsonl": _log(),
    "runs/Jan02_03-04-05_host/events.out.tfevents.1700000000.host.1.0": _events(),
}


def put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    for name, data in FILES.items():
        put(folder, name, data)
    return folder


def use(folder: Path) -> bool:
    """Whether every run of a directory can be read; each is also exported and shown."""
    try:
        runs = bridges.read(folder)
    except BridgeError as error:
        if str(folder) not in str(error):
            raise AssertionError(f"the message names no file: {error}") from error
        return False
    for run in runs:
        json.dumps(inspect(run))
    report = bridges.export(folder, to=MemoryExporter())
    codes = {finding.code for each in report.runs for finding in each.findings}
    assert "internal-error" not in codes, [each.findings for each in report.runs]
    return True


def variants(name: str, rng: random.Random) -> Iterator[bytes]:
    """Mutations of a file: of its bytes, and of the pickle or the records within them."""
    data = FILES[name]
    while True:
        if name == "training_args.bin" and rng.random() < 0.7:
            yield _archive(mutated(pickle.dumps(SETTINGS, rng.randrange(6)), rng))
        elif "tfevents" in name and rng.random() < 0.7:
            event = proto.summary_event(1.7e9, 1, [proto.scalar_value("train/loss", b"\0\0\0@")])
            framed = proto.frame(mutated(event, rng))
            yield data + framed * rng.choice((1, 40))
        else:
            yield mutated(data, rng)


@pytest.mark.parametrize("name", FILES)
def test_any_file_of_a_run_may_be_broken(name: str, output: Path) -> None:
    rng = random.Random(name)
    for data in islice(variants(name, rng), ROUNDS):
        put(output, name, data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                is_read = use(output)
        except BaseException:
            print(f"{name}={data!r}")
            raise
        assert is_read or name == "trainer_state.json", f"{name} stopped its run: {data!r}"


@pytest.mark.parametrize("name", ["trainer_log.jsonl", "logging.jsonl"])
def test_any_log_without_a_state_may_be_broken(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    line = b'{"loss": 1.5, "global_step/max_steps": "%d/9", "elapsed_time": "3s", "epoch": 0.5}\n'
    data = _log() if name.startswith("trainer") else b"".join(line % step for step in range(9))
    results: list[bool] = []
    for _ in range(ROUNDS):
        changed = mutated(data, rng)
        put(tmp_path, name, changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                results.append(use(tmp_path))
        except BaseException:
            print(f"{name}={changed!r}")
            raise
    assert True in results


def test_the_usual_run_is_read_whole(output: Path) -> None:
    assert use(output)
    (run,) = bridges.read(output)
    assert [f.code for f in run.findings if f.severity.value in ("warning", "error")] == []
    assert run.params["nested"] == SETTINGS["nested"]
    assert "events" in [one.source for one in run.evidence]


@pytest.mark.parametrize("fault", sorted(path.name for path in (DATA / "faults").iterdir()))
def test_the_faults_are_read_or_refused(fault: str) -> None:
    use(DATA / "faults" / fault)


def test_a_packed_state_may_be_broken(tmp_path: Path) -> None:
    rng = random.Random(1)
    data = packed(FILES["trainer_state.json"])
    for _ in range(60):
        put(tmp_path, "trainer_state.json.gz", mutated(data, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            use(tmp_path)
