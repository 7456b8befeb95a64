"""The records of an offline W&B run.

Every `wandb sync` since 0.15 accepts these records: header, run (with its config), metric
definitions, history, files, one summary, exit, end. An environment record is not written, as old
releases fail on it. The run record has a mailbox slot; without one, `wandb sync` 0.28 hangs. A run
may have several parts (files); later parts contain the rows after an upload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from bridges.exporters.description import description
from bridges.exporters.state import State
from bridges.exporters.wandb.history import (
    history_records,
    last_values,
    wandb_steps,
)
from bridges.exporters.wandb.limits import group_of, job_type_of, merged_tags, short
from bridges.formats.protobuf import integer, sized
from bridges.formats.wandb_log.batch import Batch
from bridges.formats.wandb_log.log import text
from bridges.formats.wandb_log.records import (
    CONTROL,
    EXIT,
    FILES,
    FINAL,
    METRIC,
    RUN,
    SUMMARY,
)
from bridges.formats.wandb_log.records import HEADER as RECORD_HEADER
from bridges.stream.clock import SECOND
from bridges.stream.layout import Layout

PRODUCER = "0.31.0"  # the wandb release of these records
KEY, STATE = "bridges_key", "bridges"  # in the config
METADATA = "wandb-metadata.json"
EXIT_CODES = {
    "finished": 0,
    "unknown": 0,
    "failed": 1,
    "killed": 255,
    "running": 1,
    "unfinished": 1,
}
AT_END = 1  # upload a file when the run ends


@dataclass(frozen=True)
class Target:
    """Project, entity and job type of runs."""

    project: str
    entity: str | None = None
    job_type: str | None = None


@dataclass(frozen=True)
class Part:
    """The content of one file: the rows of the stream from `first` on, and the run's state.

    `files` are the attached files, stored below `files/` in its directory. An existing run keeps
    its `name`, `group` and `tags` (texts).
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
        group = self.group or group_of(layout.run)
        return short(group) if group else None

    def tags_of(self, layout: Layout) -> list[str]:
        """The tags of the run as texts."""
        return merged_tags(self.tags, layout.run.tags)

    def name_of(self, layout: Layout) -> str:
        """The name of the run."""
        return short(self.name or layout.run.name)


def records(layout: Layout, target: Target, part: Part) -> Iterator[bytes | Batch]:
    """All records of a part with their numbers."""
    head = [*_head(layout, target, part)]
    yield from numbered(head)
    rows = history_records(layout, part.first, len(head) + 1)
    yield rows
    yield from numbered(_tail(layout, part), len(head) + len(rows) + 1)


def numbered(contents: Iterable[bytes], first: int = 1) -> Iterator[bytes]:
    """Records with their numbers in the file."""
    return (integer(1, number) + content for number, content in enumerate(contents, first))


def _head(layout: Layout, target: Target, part: Part) -> Iterator[bytes]:
    yield sized(RECORD_HEADER, sized(1, text(1, PRODUCER) + text(2, "0.70.0")))
    yield sized(CONTROL, text(4, "bridges")) + sized(RUN, _run(layout, target, part))
    yield from _definitions(layout)


def _tail(layout: Layout, part: Part) -> Iterator[bytes]:
    yield attaching([METADATA, *part.files])
    yield sized(SUMMARY, _summary(layout))
    code = EXIT_CODES[layout.run.status]
    yield sized(EXIT, integer(1, code) + integer(2, int(_seconds(layout))))
    yield sized(FINAL, b"")  # releases up to 0.27 send the exit at this record


def axis_of(layout: Layout) -> str:
    """The metric on the x-axis."""
    naming, key = layout.naming, layout.run.epoch_key
    if layout.identity.options.get("x-axis") != "epoch" or key is None:
        return naming.step_key
    return naming.epoch_key if key == "epoch" else key


def attaching(files: Iterable[str]) -> bytes:
    """The record that lists files below `files/` for upload."""
    return sized(FILES, b"".join(map(_file, files)))


def _file(path: str) -> bytes:
    return sized(1, text(1, path) + integer(2, AT_END))


def _run(layout: Layout, target: Target, part: Part) -> bytes:
    stamp = start_of(layout, part.first)
    # the client up to 0.29 fills `_wandb` only if it exists
    items = {**config(layout, part.state), "_wandb": {}}.items()
    updates = (text(1, key) + text(16, config_json(value)) for key, value in items)
    parts = [text(1, part.run_id)]
    if target.entity:
        parts.append(text(2, target.entity))
    parts += [text(3, target.project), sized(4, b"".join(sized(1, u) for u in updates))]
    if group := part.group_of(layout):
        parts.append(text(6, group))
    if job_type := target.job_type or job_type_of(layout.run):
        parts.append(text(7, short(job_type)))
    parts += [text(8, part.name_of(layout)), text(9, description(layout))]
    parts += [text(10, tag) for tag in part.tags_of(layout)]
    stamps = integer(1, stamp // SECOND) + integer(2, stamp % SECOND * 1000)
    return b"".join([*parts, sized(17, stamps)])


def config(layout: Layout, state: State) -> dict[str, object]:
    """The run's config: its params, its key, and its state as one text.

    The state is a text because W&B drops empty values in objects. The config of a tracker's run
    also has its facts, such as its tags there.
    """
    clock, facts = layout.clock, layout.run.facts if layout.run.key_style == "tags" else {}
    own = {"state": state.text(1 << 20), "started": iso(clock.start), "ended": iso(clock.end)}
    return {**facts, **layout.params, KEY: layout.key, STATE: own}


def _definitions(layout: Layout) -> Iterator[bytes]:
    """The records of the x-axis: one for the pattern `*`, and one for each metric.

    The live callback sets the pattern only, but `wandb sync` up to 0.30 ignores patterns.
    """
    axis, synced = axis_of(layout), sized(6, integer(1, 1))
    yield sized(METRIC, text(1, axis) + sized(6, integer(3, 1)))
    yield sized(METRIC, text(2, "*") + text(4, axis) + synced)
    for key in layout.stream.keys:
        if key != axis:
            yield sized(METRIC, text(1, key) + text(4, axis) + synced)


def iso(microseconds: int) -> str:
    """A time (microseconds since 1970 UTC) as ISO 8601 text."""
    return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).isoformat()


def start_of(layout: Layout, first: int) -> int:
    """The start of a part in microseconds; `wandb sync` uploads parts in this order."""
    time = layout.stream.time
    assert time is not None
    if first == 0:
        return layout.clock.start
    return int(time[: first + 1].max()) if first < len(time) else layout.clock.end


def metadata(layout: Layout) -> bytes:
    """The metadata file with the real start of the run."""
    return json.dumps({"startedAt": iso(layout.clock.start)}).encode()


def _seconds(layout: Layout) -> float:
    return (layout.clock.end - layout.clock.start) / 1e6


def _summary(layout: Layout) -> bytes:
    seconds, end = _seconds(layout), layout.clock.end / 1e6
    own: dict[str, object] = {"_wandb": {"runtime": int(seconds)}, "_runtime": seconds}
    if len(layout.stream):
        own |= {layout.naming.step_key: int(layout.run.stream.step[-1]), "_timestamp": end}
        own["_step"] = int(wandb_steps(layout)[-1])
    values = {**last_values(layout), **own}
    items = (text(1, key) + text(16, json.dumps(value)) for key, value in values.items())
    return b"".join(sized(1, item) for item in items)


def config_json(value: object) -> str:
    """A config value as JSON for all servers: infinities as texts, NaN as null."""
    return json.dumps(_plain(value), default=str)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
