"""The records of an offline W&B run, and the part of them that tells what it holds.

What is written is the least that every `wandb sync` since 0.15 takes: header, run (with its
config), metric definitions, history, one summary, exit. No environment record: old releases fail
on it. The run record carries a mailbox slot: `wandb sync` 0.28 waits for its answer forever else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridges.exporters.base import Recorded
from bridges.exporters.state import State
from bridges.exporters.wandb_history import (
    GLOBAL_STEP,
    OWN,
    history_records,
    last_values,
    read_rows,
)
from bridges.exporters.wandb_log import LogError, fields, integer, message, text
from bridges.stream.layout import Layout
from bridges.stream.redact import redact_text

HISTORY, SUMMARY, METRIC, CONTROL, RUN, EXIT, RECORD_HEADER = 2, 3, 12, 16, 17, 18, 21
PRODUCER = "0.31.0"  # the release whose records these are
STATE_KEY = "bridges"  # in the config
EXIT_CODES = {"finished": 0, "unfinished": 1, "unknown": 0}


@dataclass(frozen=True)
class Target:
    """Where a run goes: its id, project and entity."""

    run_id: str
    project: str
    entity: str | None


def records(layout: Layout, target: Target, state: State) -> Iterator[bytes]:
    """All records of a run, numbered."""
    for number, content in enumerate(_contents(layout, target, state), 1):
        yield integer(1, number) + content


def _contents(layout: Layout, target: Target, state: State) -> Iterator[bytes]:
    clock = layout.clock
    seconds = (clock.end - clock.start) / 1000.0
    yield message(RECORD_HEADER, message(1, text(1, PRODUCER) + text(2, "0.70.0")))
    yield message(CONTROL, text(4, "bridges")) + message(RUN, _run(layout, target, state))
    axis = "train/epoch" if layout.identity.get("x-axis") == "epoch" else GLOBAL_STEP
    yield message(METRIC, text(1, axis) + message(6, integer(3, 1)))
    synced = message(6, integer(1, 1))
    yield message(METRIC, text(2, "*") + text(4, axis) + synced)
    for row in history_records(layout):
        yield message(HISTORY, row)
    yield message(SUMMARY, _summary(layout, seconds))
    code = EXIT_CODES[layout.run.status]
    yield message(EXIT, integer(1, code) + integer(2, int(seconds)))


def _run(layout: Layout, target: Target, state: State) -> bytes:
    run, start = layout.run, layout.clock.start
    config = {**run.params, STATE_KEY: {**json.loads(state.text(1 << 20)), "key": layout.key}}
    updates = (text(1, key) + text(16, config_json(value)) for key, value in config.items())
    parts = [text(1, target.run_id)]
    if target.entity:
        parts.append(text(2, target.entity))
    parts += [text(3, target.project), message(4, b"".join(message(1, u) for u in updates))]
    if run.group:
        parts.append(text(6, run.group))
    parts += [text(8, run.name), text(9, _notes(layout))]
    parts += [text(10, key if not value else f"{key}:{value}") for key, value in run.tags.items()]
    stamp = integer(1, start // 1000) + integer(2, start % 1000 * 1_000_000)
    return b"".join([*parts, message(17, stamp)])


def _notes(layout: Layout) -> str:
    run, clock = layout.run, layout.clock
    lines = [f"Written by bridges from {redact_text(run.source, home=True)}."]
    if clock.is_synthetic:
        lines.append(f"Times are synthetic (clock: {clock.source}); none is real.")
    return " ".join(lines)


def _summary(layout: Layout, seconds: float) -> bytes:
    rows, end = layout.rows, layout.clock.end / 1000.0
    own: dict[str, Any] = {"_wandb": {"runtime": int(seconds)}, "_runtime": seconds}
    if rows:
        step = int(layout.stream.step[-1])
        own |= {GLOBAL_STEP: step, "_step": rows - 1, "_timestamp": end}
    values = {**last_values(layout), **own}
    items = (text(1, key) + text(16, json.dumps(value)) for key, value in values.items())
    return b"".join(message(1, item) for item in items)


def config_json(value: Any) -> str:
    """A config value as JSON that every server takes: infinities as texts, NaN as null."""
    return json.dumps(_plain(value), default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


@dataclass(frozen=True)
class RunHead:
    """What the run record says: the shown name, and the state (None for other programs' runs)."""

    name: str
    key: str
    state: State | None


def read_head(log: Iterable[bytes]) -> RunHead:
    """The head of a log. Raises LogError where it has none."""
    for record in log:
        found = dict(fields(record))
        if RUN in found:
            return _head(found[RUN])
    raise LogError("it holds no run")


def _head(run: int | bytes) -> RunHead:
    assert isinstance(run, bytes)
    found = dict(fields(run))
    name, config = found.get(8, b""), found.get(4, b"")
    assert isinstance(name, bytes)
    assert isinstance(config, bytes)
    own = dict(_pair(update) for number, update in fields(config) if number == 1).get(STATE_KEY)
    try:
        state, key = State.parse(own or ""), str(json.loads(own or "")["key"])
    except (ValueError, KeyError, TypeError):
        return RunHead(name.decode(), "", None)
    return RunHead(name.decode(), key, state)


def _pair(update: int | bytes) -> tuple[str, str]:
    assert isinstance(update, bytes)
    found = dict(fields(update))
    key, value = found.get(1, b""), found.get(16, b"")
    assert isinstance(key, bytes)
    assert isinstance(value, bytes)
    return key.decode(), value.decode()


def read_run(log: Iterable[bytes]) -> Recorded:
    """All points of a log, and the summary values that no row holds.

    Raises LogError where it is not whole.
    """
    history, summary, ended = [], {}, False
    for record in log:
        for number, content in fields(record):
            if number == HISTORY and isinstance(content, bytes):
                history.append(content)
            elif number == SUMMARY and isinstance(content, bytes):
                summary = dict(_pair(item) for field, item in fields(content) if field == 1)
            ended = ended or number == EXIT
    if not ended:
        raise LogError("it has no end")
    found = read_rows(history)
    of_rows = {*found.points, *(key for key, _, _ in found.others), GLOBAL_STEP, *OWN}
    own = {key: json.loads(value) for key, value in summary.items() if key not in of_rows}
    return Recorded(found.points, found.others, own)
