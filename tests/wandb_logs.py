"""Logs of W&B runs made with wandb's own protocol buffers, and a small decoder of them: the oracle
for readers of logs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

from bridges.formats.wandb_log.log import write_log
from bridges.formats.wandb_log.reader import read_log

Names = tuple[str, ...]


class Raw(str):
    """A value that is written as it is."""


def row_record(
    row: Mapping[Any, object], *, is_core: bool = True, step: int | None = None
) -> bytes:
    """A history record as wandb-core writes it, or as the releases up to 0.17.

    A key of several names is a value in an object.
    """
    record = pb.Record(num=1)
    for key, value in row.items():
        item = record.history.item.add(value_json=dump(value))
        if is_core or isinstance(key, tuple):
            item.nested_key.extend(key if isinstance(key, tuple) else [key])
        else:
            item.key = key
    if step is not None:
        record.history.step.num = step
    return bytes(record.SerializeToString())


def dump(value: object) -> str:
    """A value as JSON."""
    return value if isinstance(value, Raw) else json.dumps(value)


def summary_record(values: Mapping[str, object], *, is_user: bool = False) -> bytes:
    """A summary record: of a row, or of `run.summary`."""
    record = pb.Record(num=2)
    for key, value in values.items():
        record.summary.update.add(nested_key=[key], value_json=dump(value))
    if is_user:
        record._info.stream_id = "x"
    return bytes(record.SerializeToString())


def run_record(
    run_id: str = "abc",
    config: Mapping[str, object] | None = None,
    start: int = 1_700_000_000,
    **fields: Any,
) -> bytes:
    """A run record with these fields of the message."""
    record = pb.Record(num=1)
    record.run.run_id = run_id
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(record.run, name).extend(value)
        else:
            setattr(record.run, name, value)
    for key, value in (config or {}).items():
        record.run.config.update.add(key=key, value_json=dump(value))
    record.run.start_time.seconds = start
    return bytes(record.SerializeToString())


def metric_record(name: str, step_metric: str = "", **fields: Any) -> bytes:
    """The definition of a metric, or of a glob."""
    record = pb.Record(num=1)
    setattr(record.metric, "glob_name" if name.endswith("*") else "name", name)
    record.metric.step_metric = step_metric
    for key, value in fields.items():
        setattr(record.metric, key, value)
    return bytes(record.SerializeToString())


def stats_record(seconds: int, values: Mapping[str, object]) -> bytes:
    """System metrics of a moment."""
    record = pb.Record(num=1)
    record.stats.timestamp.seconds = seconds
    for key, value in values.items():
        record.stats.item.add(key=key, value_json=dump(value))
    return bytes(record.SerializeToString())


def exit_record(code: int = 0) -> bytes:
    """The end of a run."""
    record = pb.Record(num=1)
    record.exit.exit_code = code
    return bytes(record.SerializeToString())


def log_of(records: Iterable[bytes]) -> bytes:
    """The log of these records."""
    return b"".join(map(bytes, write_log(records)))


def rows_of(data: bytes) -> list[dict[Names, object]]:
    """The rows of a log, each value by its names, decoded by wandb's protocol buffers."""
    rows = []
    for content in read_log(data):
        record = pb.Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            rows.append({_names(item): json.loads(item.value_json) for item in record.history.item})
    return rows


def _names(item: Any) -> Names:
    return tuple(item.nested_key) or (item.key,)


def write_run(folder: Path, records: Sequence[bytes], run_id: str = "abc", stamp: int = 0) -> Path:
    """Write the directory of an offline run below `folder`; its log."""
    path = folder / "wandb" / f"offline-run-20240101_{stamp:06}-{run_id}" / f"run-{run_id}.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(log_of(records))
    return path
