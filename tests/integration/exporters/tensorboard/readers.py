"""Independent readers of event files, each giving the same shape: run, tag, points; and texts."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.bounds import until
from tests.integration.exporters.tensorboard.support import Point, show

TEXT_SUFFIX = "/text_summary"


@dataclass
class Shown:
    """What a reader shows of one run."""

    scalars: dict[str, list[Point]] = field(default_factory=dict)
    texts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


Runs = dict[str, Shown]


def by_legacy_accumulator(logdir: Path) -> Runs:
    """`event_accumulator.EventAccumulator`, everything kept, one directory at a time."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs: Runs = {}
    for directory in sorted({path.parent for path in logdir.rglob("*tfevents*")}):
        accumulator = EventAccumulator(
            str(directory), size_guidance={"scalars": 0, "tensors": 0}
        ).Reload()
        shown = runs[directory.relative_to(logdir).as_posix()] = Shown()
        for tag in accumulator.Tags()["scalars"]:
            shown.scalars[tag] = [(e.step, show(e.value)) for e in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["tensors"]:
            texts = [(e.step, _text(e.tensor_proto)) for e in accumulator.Tensors(tag)]
            if tag.endswith(TEXT_SUFFIX):
                shown.texts[tag] = texts
    return runs


def _text(tensor: Any) -> str:
    return "".join(part.decode() for part in tensor.string_val)


def python_provider(logdir: Path) -> Any:
    """The data provider of TensorBoard's Python loader, everything kept."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    multiplexer = EventMultiplexer(
        tensor_size_guidance={"scalars": 0, "text": 0, "hparams": 0},
        size_guidance={"tensors": 0},
    )
    multiplexer.AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    return MultiplexerDataProvider(multiplexer, str(logdir))


@contextlib.contextmanager
def rust_provider(logdir: Path) -> Iterator[Any]:
    """The data provider over the data server binary, which checks every CRC here."""
    import grpc
    from tensorboard.data import grpc_provider

    with tempfile.TemporaryDirectory() as scratch:
        port_file = Path(scratch) / "port"
        server = subprocess.Popen(
            [
                import_module("tensorboard_data_server").server_binary(),
                f"--logdir={logdir}",
                "--port=0",
                f"--port-file={port_file}",
                "--reload=once",
                "--checksum",
                "--samples-per-plugin=scalars=all,text=all",
                "--die-after-stdin",
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            until(lambda: port_file.exists() and port_file.read_text().endswith("\n"), server)
            address = f"localhost:{int(port_file.read_text())}"
            with grpc.insecure_channel(address) as channel:
                yield grpc_provider.GrpcDataProvider(address, grpc_provider.make_stub(channel))
        finally:
            server.kill()
            _, errors = server.communicate()
        assert b"WARN" not in errors, errors


def by_provider(provider: Any) -> Runs:
    """All scalars and texts of a data provider."""
    from tensorboard import context

    arguments = {"ctx": context.RequestContext(), "experiment_id": ""}
    runs: Runs = {}
    scalars = provider.read_scalars(plugin_name="scalars", downsample=10**6, **arguments)
    for run, tags in scalars.items():
        for tag, data in tags.items():
            points = [(datum.step, show(datum.value)) for datum in data]
            runs.setdefault(run, Shown()).scalars[tag] = points
    texts = provider.read_tensors(plugin_name="text", downsample=10**6, **arguments)
    for run, tags in texts.items():
        for tag, data in tags.items():
            lines = [(datum.step, "".join(b.decode() for b in datum.numpy)) for datum in data]
            runs.setdefault(run, Shown()).texts[tag] = lines
    return runs


def by_rust_server(logdir: Path, wanted: int) -> Runs:
    """`by_provider` over the data server, once it has read `wanted` runs."""
    with rust_provider(logdir) as provider:
        shown: Runs = {}
        before = shown

        def loaded() -> bool:
            nonlocal shown, before
            before, shown = shown, by_provider(provider)
            return len(shown) == wanted and shown == before

        until(loaded)
        return shown


def by_tbparse(logdir: Path) -> Runs:
    """tbparse, in its long format."""
    from tbparse import SummaryReader

    reader = SummaryReader(str(logdir), pivot=False, extra_columns={"dir_name"})
    runs: Runs = {}
    for row in reader.scalars.itertuples():
        tags = runs.setdefault(row.dir_name, Shown()).scalars
        tags.setdefault(row.tag, []).append((row.step, show(row.value)))
    for row in reader.text.itertuples():
        lines = runs.setdefault(row.dir_name, Shown()).texts
        lines.setdefault(row.tag + TEXT_SUFFIX, []).append((row.step, row.value))
    return runs


def session_groups(provider: Any) -> list[dict[str, Any]]:
    """What the HParams plug-in lists over HTTP from a data provider."""
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
    from werkzeug.test import Client

    apps = HParamsPlugin(TBContext(data_provider=provider, logdir="")).get_plugin_apps()

    def post(route: str, body: dict[str, Any]) -> Any:
        response = Client(apps[route]).post("/", data=json.dumps(body), method="POST")
        assert response.status_code == 200, response.get_data(as_text=True)
        return json.loads(response.get_data(as_text=True))

    experiment = post("/experiment", {"experimentName": ""})
    columns = [{"metric": info["name"]} for info in experiment["metricInfos"]]
    columns += [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": columns,
        "startIndex": 0,
        "sliceSize": 1000,
    }
    return list(post("/session_groups", request)["sessionGroups"])


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a run's file: LevelDB's framing, wandb's protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        size, kind = struct.unpack_from("<HB", data, at + 4)
        if left < 7 or not kind:  # the rest of a block
            at += left
            continue
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""
