"""The records of an offline W&B run, and the part of them that tells what it holds.

What is written is the least that every `wandb sync` since 0.15 takes: header, run (with its
config), metric definitions, history, files, one summary, exit, end. No environment record: old
releases fail on it. The run record carries a mailbox slot: `wandb sync` 0.28 waits for its answer
forever else. A run may lie in several parts (files): later ones hold what came after an upload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from bridges.exporters.state import State
from bridges.exporters.wandb_batch import Batch
from bridges.exporters.wandb_history import (
    history_records,
    last_values,
    wandb_steps,
)
from bridges.exporters.wandb_limits import merged_tags, short
from bridges.exporters.wandb_log import integer, message, text
from bridges.stream.clock import SECOND
from bridges.stream.layout import Layout
from bridges.stream.redact import redact_text

HISTORY, SUMMARY, FILES, METRIC = 2, 3, 6, 12
CONTROL, RUN, EXIT, FINAL, RECORD_HEADER = 16, 17, 18, 20, 21
PRODUCER = "0.31.0"  # the release whose records these are
KEY, STATE = "bridges_key", "bridges"  # in the config
METADATA = "wandb-metadata.json"
EXIT_CODES = {"finished": 0, "unfinished": 1, "unknown": 0}
AT_END = 1  # upload a file when the run ends


@dataclass(frozen=True)
class Target:
    """Where runs go, and what kind of job they are."""

    project: str
    entity: str | None = None
    job_type: str | None = None


@dataclass(frozen=True)
class Part:
    """What one file is to hold: the rows of the stream from `first` on, and the run's state.

    `files` are the attached files, which lie below `files/` beside it. A run that is there already
    keeps its `name`, `group` and `tags` (as texts).
    """

    run_id: str
    state: State
    first: int = 0
    files: Collection[str] = ()
    name: str | None = None
    group: str | None = None
    tags: Sequence[str] = ()

    def group_of(self, layout: Layout) -> str | None:
        """The group of the run."""
        group = self.group or layout.run.group
        return short(group) if group else None

    def tags_of(self, layout: Layout) -> list[str]:
        """The tags of the run as texts."""
        return merged_tags(self.tags, layout.run.tags)

    def name_of(self, layout: Layout) -> str:
        """The name of the run."""
        return short(self.name or layout.run.name)


def records(layout: Layout, target: Target, part: Part) -> Iterator[bytes | Batch]:
    """All records of a part, numbered."""
    head = [*_head(layout, target, part)]
    yield from numbered(head)
    rows = history_records(layout, part.first, len(head) + 1)
    yield rows
    yield from numbered(_tail(layout, part), len(head) + len(rows) + 1)


def numbered(contents: Iterable[bytes], first: int = 1) -> Iterator[bytes]:
    """Records with the numbers that they have in their file."""
    return (integer(1, number) + content for number, content in enumerate(contents, first))


def _head(layout: Layout, target: Target, part: Part) -> Iterator[bytes]:
    yield message(RECORD_HEADER, message(1, text(1, PRODUCER) + text(2, "0.70.0")))
    yield message(CONTROL, text(4, "bridges")) + message(RUN, _run(layout, target, part))
    yield from _definitions(layout)


def _tail(layout: Layout, part: Part) -> Iterator[bytes]:
    yield attaching([METADATA, *part.files])
    yield message(SUMMARY, _summary(layout))
    code = EXIT_CODES[layout.run.status]
    yield message(EXIT, integer(1, code) + integer(2, int(_seconds(layout))))
    yield message(FINAL, b"")  # up to 0.27 the exit is sent when this is seen


def axis_of(layout: Layout) -> str:
    """The metric on the x-axis."""
    naming = layout.naming
    return naming.epoch_key if layout.identity.options.get("x-axis") == "epoch" else naming.step_key


def attaching(files: Iterable[str]) -> bytes:
    """The record that has files uploaded, which lie below `files/`."""
    return message(FILES, b"".join(map(_file, files)))


def _file(path: str) -> bytes:
    return message(1, text(1, path) + integer(2, AT_END))


def _run(layout: Layout, target: Target, part: Part) -> bytes:
    stamp = start_of(layout, part.first)
    # up to 0.29 the client adds what it knows of a run to `_wandb` only where that is there
    items = {**config(layout, part.state), "_wandb": {}}.items()
    updates = (text(1, key) + text(16, config_json(value)) for key, value in items)
    parts = [text(1, part.run_id)]
    if target.entity:
        parts.append(text(2, target.entity))
    parts += [text(3, target.project), message(4, b"".join(message(1, u) for u in updates))]
    if group := part.group_of(layout):
        parts.append(text(6, group))
    if target.job_type:
        parts.append(text(7, short(target.job_type)))
    parts += [text(8, part.name_of(layout)), text(9, notes(layout))]
    parts += [text(10, tag) for tag in part.tags_of(layout)]
    stamps = integer(1, stamp // SECOND) + integer(2, stamp % SECOND * 1000)
    return b"".join([*parts, message(17, stamps)])


def config(layout: Layout, state: State) -> dict[str, Any]:
    """The run's config: its params, and what the next export needs to know, as one text: W&B drops
    what is empty in an object.
    """
    clock = layout.clock
    own = {"state": state.text(1 << 20), "started": iso(clock.start), "ended": iso(clock.end)}
    return {**layout.params, KEY: layout.key, STATE: own}


def _definitions(layout: Layout) -> Iterator[bytes]:
    """The x-axis, and that every other metric has it: by a pattern, as live, and one by one for
    `wandb sync` up to 0.30, which knows no patterns.
    """
    axis, synced = axis_of(layout), message(6, integer(1, 1))
    yield message(METRIC, text(1, axis) + message(6, integer(3, 1)))
    yield message(METRIC, text(2, "*") + text(4, axis) + synced)
    for key in layout.stream.keys:
        if key != axis:
            yield message(METRIC, text(1, key) + text(4, axis) + synced)


def iso(microseconds: int) -> str:
    """A time as text, in UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).isoformat()


def start_of(layout: Layout, first: int) -> int:
    """When a part begins, in microseconds: `wandb sync` uploads parts of a run in this order."""
    time = layout.stream.time
    assert time is not None
    if first == 0:
        return layout.clock.start
    return int(time[: first + 1].max()) if first < len(time) else layout.clock.end


def metadata(layout: Layout) -> bytes:
    """The file that tells W&B when the run was really started."""
    return json.dumps({"startedAt": iso(layout.clock.start)}).encode()


def notes(layout: Layout) -> str:
    """Where the run comes from, and what its times are worth."""
    run, clock = layout.run, layout.clock
    lines = [f"Written by bridges from {redact_text(run.source, home=True)}."]
    lines += [f"- `{file.sha256}` sha256 of {file.size} bytes" for file in run.provenance]
    if clock.is_synthetic:
        lines.append(f"- Times are synthetic (clock: {clock.source}); none is real.")
    if run.writer:
        lines.append(f"- Logged by transformers {run.writer}.")
    return "\n".join(lines)


def _seconds(layout: Layout) -> float:
    return (layout.clock.end - layout.clock.start) / 1e6


def _summary(layout: Layout) -> bytes:
    seconds, end = _seconds(layout), layout.clock.end / 1e6
    own: dict[str, Any] = {"_wandb": {"runtime": int(seconds)}, "_runtime": seconds}
    if len(layout.stream):
        own |= {layout.naming.step_key: int(layout.run.stream.step[-1]), "_timestamp": end}
        own["_step"] = int(wandb_steps(layout)[-1])
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
