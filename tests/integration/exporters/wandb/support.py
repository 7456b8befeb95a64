"""What the tests of W&B share: the records of a file, a server, and the official client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.formats.wandb_log.reader import read_log
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.stream.model import Run
from tests.bounds import HANGS, until
from tests.servers import free_port
from tests.support import DATA, REPOSITORY

GROUNDTRUTH = DATA / "groundtruth"
SCENARIOS = sorted(path.name for path in GROUNDTRUTH.iterdir())
KEY = "0123456789abcdef0123456789abcdef01234567"
TIMES = ("_timestamp", "_runtime")


def files_of(folder: Path) -> list[Path]:
    """The files of all runs, in the order of their names."""
    return sorted(folder.rglob("run-*.wandb"))


def file_of(folder: Path) -> Path:
    """The file of the one run."""
    (file,) = files_of(folder)
    return file


def parsed(file: Path) -> list[Any]:
    """The records, as wandb's protocol buffers read them."""
    from wandb.proto import wandb_internal_pb2

    return [wandb_internal_pb2.Record.FromString(data) for data in read_log(file.read_bytes())]


def of_kind(file: Path, kind: str) -> list[Any]:
    """The records of one kind."""
    return [getattr(r, kind) for r in parsed(file) if r.WhichOneof("record_type") == kind]


def items_of(items: Any) -> dict[str, Any]:
    """Items of a config, summary or row; values of several names nested."""
    found: dict[str, Any] = {}
    for item in items:
        place, names = found, [*item.nested_key] or [item.key]
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = json.loads(item.value_json)
    return found


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The history rows of a file."""
    rows = [(items_of(row.item), row.step.num) for row in of_kind(file, "history")]
    assert all(row["_step"] == step for row, step in rows)
    return [row for row, _ in rows]


def export(run: Run, folder: Path, **options: Any) -> Any:
    """The report of one export."""
    return export_run(
        run, WandbExporter(WandbOptions(wandb_dir=str(folder), **options)), ExportOptions()
    )


def without(row: dict[str, Any], *keys: str) -> str:
    """A row in one text, to be compared: numbers by value, wandb's core writes 1.0 as 1 and
    -0.0 as -0, which JSON reads without its sign.
    """
    return repr(sorted((k, _number(v)) for k, v in row.items() if k not in keys))


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _number(item) for key, item in sorted(value.items())}
    return float(value) + 0.0 if type(value) in (int, float) else value  # -0.0 is 0.0


@contextmanager
def wandb_server(*faults: str) -> Iterator[str]:
    """A fake W&B server with these options, for the block. Yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "tests.fake_wandb", "--port", str(port), *faults]
    with subprocess.Popen(command, cwd=REPOSITORY) as child:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(url), child)
        try:
            yield url
        finally:
            child.terminate()


def _answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/healthz").status == 200)
    except OSError:
        return False


def environment(url: str) -> dict[str, str]:
    """The environment variables of the official client for a server."""
    own = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    # a wandb in this process tells its children to use its service, which other releases cannot
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return {**inherited, **own}


def sync(url: str, place: Path, *folders: Path, python: str = sys.executable) -> str:
    """The output of `wandb sync`; its own logs go to `place`."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        [python, "-m", "wandb", "sync", *map(str, folders)],
        cwd=place,
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def received(url: str) -> list[dict[str, Any]]:
    """The runs on the server."""
    with urllib.request.urlopen(f"{url}/_state") as answer:
        return list(json.load(answer).values())


def post(url: str, path: str, **body: Any) -> None:
    """Send a request of the tests themselves."""
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request):
        pass
