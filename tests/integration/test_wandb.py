"""Offline W&B runs: equal to what the live callback logged, and uploaded whole by `wandb sync`.

The judges are wandb's own protocol buffers, which read the file, and the official client, which
uploads it to a server that keeps what it is sent.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.exporters.wandb import WandbExporter
from bridges.exporters.wandb_log import LogError, read_log, write_log
from bridges.pipeline import ExportOptions, export_run
from bridges.stream.layout import LayoutOptions
from bridges.stream.model import Run
from tests.contract.suite import ROWS
from tests.integration.mlflow_support import long_history
from tests.integration.readers import until
from tests.servers import free_port
from tests.support import DATA, REPOSITORY, make_run, read_one

GROUNDTRUTH = DATA / "groundtruth"
TIMES = ("_timestamp", "_runtime")
# rows that the live run had and its last state has not: what a crash or a trial threw away, and
# predictions; in `odd_values` one row has a metric of the user's that is named `step`
LIVE_ONLY = {
    "crash_resume_new_run": 5,
    "crash_resume_same_run": 5,
    "hp_search_unnamed": 1,
    "steps_eval_predict": 2,
    "odd_values": 1,
}


def file_of(folder: Path) -> Path:
    (file,) = folder.rglob("run-*.wandb")
    return file


def parsed(file: Path) -> list[Any]:
    """The records, as wandb's protocol buffers read them."""
    from wandb.proto import wandb_internal_pb2

    return [wandb_internal_pb2.Record.FromString(data) for data in read_log(file.read_bytes())]


def rows_of(file: Path) -> list[dict[str, Any]]:
    found = []
    for record in parsed(file):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            found.append({item.key: json.loads(item.value_json) for item in items})
            assert found[-1]["_step"] == record.history.step.num
    return found


def items_of(record: Any) -> dict[str, Any]:
    return {item.key: json.loads(item.value_json) for item in record}


def export(run: Run, folder: Path, **options: Any) -> Any:
    return export_run(run, WandbExporter(wandb_dir=str(folder), **options), ExportOptions())


def without(row: dict[str, Any], *keys: str) -> str:
    return repr(sorted((k, _number(v)) for k, v in row.items() if k not in keys))


def _number(value: Any) -> Any:
    """Numbers by value: wandb's core writes 1.0 as 1."""
    if isinstance(value, dict):
        return {key: _number(item) for key, item in sorted(value.items())}
    return float(value) if type(value) in (int, float) else value


def live_rows(scenario: str) -> list[dict[str, Any]]:
    """The history rows of the live callback, nested keys joined again."""
    rows = []
    for line in (GROUNDTRUTH / scenario / "wandb.jsonl").read_text().splitlines():
        run, _, items = json.loads(line)
        if run == "summary":
            continue
        row: dict[str, Any] = {}
        for path, text in items:
            place = row
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = json.loads(text)
        rows.append(row)
    return rows


@pytest.mark.parametrize("scenario", sorted(path.name for path in GROUNDTRUTH.iterdir()))
def test_the_rows_are_those_of_the_live_callback(scenario: str, tmp_path: Path) -> None:
    ours: Counter[str] = Counter()
    for number, file in enumerate(sorted((GROUNDTRUTH / scenario).rglob("trainer_state.json"))):
        assert export(read_one(file), tmp_path / str(number)).verified
        rows = rows_of(file_of(tmp_path / str(number)))
        ours.update(without(row, "_step", *TIMES) for row in rows)
        assert [row["_step"] for row in rows] == list(range(len(rows)))
    live = Counter(without(row, "_step", *TIMES) for row in live_rows(scenario))
    assert sum((live - ours).values()) == LIVE_ONLY.get(scenario, 0)
    assert sum((ours - live).values()) == (1 if scenario == "odd_values" else 0)


def test_the_summary_is_that_of_the_live_callback(tmp_path: Path) -> None:
    scenario = "epoch_two_eval_sets"
    export(read_one(GROUNDTRUTH / scenario / "trainer_state.json"), tmp_path)
    (record,) = [r for r in parsed(file_of(tmp_path)) if r.WhichOneof("record_type") == "summary"]
    ours = items_of(record.summary.update)
    lines = (GROUNDTRUTH / scenario / "wandb.jsonl").read_text().splitlines()
    (live,) = [found for kind, _, found in map(json.loads, lines) if kind == "summary"]
    live = {key: json.loads(value) for key, value in live.items()}
    assert without(ours, "_wandb", *TIMES) == without(live)


def test_the_records_are_those_of_a_run(tmp_path: Path) -> None:
    run = make_run(
        ROWS,
        params={"lr": 1e-5, "inf": float("inf"), "nan": float("nan"), "deep": {"a": [1]}},
        tags={"team": "x", "old": ""},
        group="many",
        status="finished",
    )
    export(run, tmp_path, project="p", entity="e")
    found = parsed(file_of(tmp_path))
    kinds = [record.WhichOneof("record_type") for record in found]
    body = ["history"] * len(ROWS)
    assert kinds == ["header", "run", "metric", "metric", *body, "summary", "exit"]
    assert [record.num for record in found] == list(range(1, len(found) + 1))
    head = found[1].run
    assert (head.project, head.entity, head.display_name, head.run_group) == (
        "p",
        "e",
        "run",
        "many",
    )
    assert (list(head.tags), head.start_time.seconds) == (["team:x", "old"], 946_684_800)
    assert found[1].control.mailbox_slot  # `wandb sync` 0.28 waits for ever without
    config = items_of(head.config.update)
    assert config["lr"] == 1e-5
    assert (config["inf"], config["nan"], config["deep"]) == ("inf", None, {"a": [1]})
    assert (found[2].metric.name, found[3].metric.glob_name) == ("train/global_step", "*")
    assert found[3].metric.step_metric == "train/global_step"
    assert found[3].metric.options.step_sync
    assert (found[-1].exit.exit_code, found[-1].exit.runtime) == (0, 9)
    assert file_of(tmp_path).parent.name.startswith("offline-run-20000101_000000-")


def test_an_epoch_axis_is_a_defined_metric(tmp_path: Path) -> None:
    options = ExportOptions(LayoutOptions(x_axis="epoch"))
    assert export_run(make_run(ROWS), WandbExporter(wandb_dir=str(tmp_path)), options).verified
    metrics = [
        r.metric for r in parsed(file_of(tmp_path)) if r.WhichOneof("record_type") == "metric"
    ]
    assert [(m.name or m.glob_name, m.step_metric) for m in metrics] == [
        ("train/epoch", ""),
        ("*", "train/epoch"),
    ]
    assert [row["train/global_step"] for row in rows_of(file_of(tmp_path))] == [1, 2, 2, 3, 3, 3]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A W&B server of our own that keeps what it is sent; its URL."""
    port = free_port()
    command = [sys.executable, str(REPOSITORY / "tests" / "fake_wandb.py"), "--port", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [*command, "--capture", str(tmp_path / "captured")], stdout=quiet
    ) as child:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), 20)
        yield url
        child.terminate()


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/healthz").status == 200)
    except OSError:
        return False


def sync(url: str, place: Path, *folders: Path) -> None:
    """`wandb sync`, whose own logs go to the place."""
    environment = {
        **os.environ,
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
        "WANDB_ERROR_REPORTING": "false",
    }
    command = [sys.executable, "-m", "wandb", "sync", *map(str, folders)]
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def received(url: str) -> list[dict[str, Any]]:
    """The runs that the server holds."""
    with urllib.request.urlopen(f"{url}/_state") as answer:
        held: dict[str, Any] = json.load(answer)
    return list(held.get("runs", held).values())


@pytest.mark.slow
def test_the_official_client_uploads_every_row(server: str, tmp_path: Path) -> None:
    states = [folder / "trainer_state.json" for folder in sorted(GROUNDTRUTH.iterdir())]
    for file in states:
        assert not export(read_one(file), tmp_path, project="p").failed
    files = list(tmp_path.rglob("run-*.wandb"))
    (tmp_path / "place").mkdir()
    sync(server, tmp_path / "place", *(file.parent for file in files))
    runs = received(server)
    assert len(runs) == len(files) == len(states)
    there = Counter(without(row) for run in runs for row in run["history"])
    assert there == Counter(without(row) for file in files for row in rows_of(file))
    assert all(run["complete"] for run in runs)


def test_a_synced_run_is_not_written_again(tmp_path: Path) -> None:
    export(make_run(ROWS[:3]), tmp_path)
    Path(f"{file_of(tmp_path)}.synced").touch()
    assert export(make_run(ROWS[:3]), tmp_path).status == "unchanged"
    report = export(make_run(ROWS), tmp_path)
    assert report.status == "failed"
    assert "was synced already" in report.findings[-1].message


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    export(make_run(ROWS), tmp_path)
    file = file_of(tmp_path)
    data = file.read_bytes()
    for damaged, message in (
        (data[:5], "does not begin as a W&B transaction log"),
        (data[:40], "it ends within a chunk at byte"),
        (data[:20] + b"?" + data[21:], "is damaged"),
    ):
        file.write_bytes(damaged)
        report = export(make_run(ROWS), tmp_path)
        assert (report.status, message in report.findings[-1].message) == ("failed", True)
    file.write_bytes(data[:-20])  # its head is whole, its end is not
    report = export(make_run(ROWS), tmp_path)
    assert "cannot be read back: it ends within a chunk" in report.findings[-1].message
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in export(make_run(ROWS), tmp_path / "file").findings[-1].message


def test_names_that_wandb_has_of_its_own_are_told(tmp_path: Path) -> None:
    run = make_run([{"global_step": 7, "loss": 1.0, "step": 1}])
    report = export(run, tmp_path)
    assert report.verified
    assert [f.where for f in report.findings if f.code == "key-refused"] == [
        "key 'train/global_step'"
    ]
    assert rows_of(file_of(tmp_path))[0]["train/global_step"] == 1


def test_an_export_needs_no_wandb(tmp_path: Path) -> None:
    order = ["export", str(DATA / "seed.txt"), "--to", "wandb", "--wandb-dir", str(tmp_path)]
    code = (
        f"import sys\nfrom bridges.cli import run\nassert run({order!r}) == 0\n"
        "assert not {'wandb', 'google'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_to_see(tmp_path: Path) -> None:
    file = long_history(tmp_path, 30_000)
    order = [sys.executable, "-m", "bridges", "export", str(file), "--to", "wandb", "--wandb-dir"]
    started = time.perf_counter()
    subprocess.run([*order, str(tmp_path / "clean")], check=True, capture_output=True)
    seconds, chance = time.perf_counter() - started, random.Random(5)
    clean = file_of(tmp_path / "clean").read_bytes()
    for _ in range(50):
        child = subprocess.Popen([*order, str(tmp_path / "x")], stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, seconds))
        child.kill()
        child.wait()
        for seen in (tmp_path / "x").glob("wandb/offline-run-*"):
            assert file_of(seen).read_bytes() == clean
            shutil.rmtree(seen)
    subprocess.run([*order, str(tmp_path / "x")], check=True, capture_output=True)
    (whole,) = (tmp_path / "x").glob("wandb/offline-run-*")
    assert file_of(whole).read_bytes() == clean


@pytest.mark.slow
def test_exports_at_the_same_time_make_one_run(tmp_path: Path) -> None:
    file = long_history(tmp_path, 20_000)
    order = [sys.executable, "-m", "bridges", "export", str(file), "--to", "wandb", "--wandb-dir"]
    children = [subprocess.Popen([*order, str(tmp_path / "x")], stdout=-1) for _ in range(4)]
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0, 0], said
    assert len(rows_of(file_of(tmp_path / "x"))) == 20_000
    assert [path.name[:11] for path in (tmp_path / "x" / "wandb").iterdir()] == ["offline-run"]


@given(st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 100_000).map(bytes)), max_size=20))
def test_any_records_survive_the_log(records: list[bytes]) -> None:
    data = b"".join(write_log(records))
    assert list(read_log(data)) == records
    if records:
        with pytest.raises(LogError):
            list(read_log(data[:-1]))
