"""The records of a W&B run's log, except its history: run, config, summary, metrics, exit, others.

The field numbers are those of wandb's `wandb_internal.proto`.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from bridges.formats.wandb_log.items import Path, item_json
from bridges.formats.wandb_log.log import LogError, fields

# fields of a record
HISTORY, SUMMARY, CONFIG, FILES, STATS, ARTIFACT, TENSORBOARD, ALERT = 2, 3, 5, 6, 7, 8, 9, 10
TELEMETRY, METRIC, CONTROL, RUN, EXIT, FINAL, HEADER, USED_ARTIFACT = 11, 12, 16, 17, 18, 20, 21, 25
TELEMETRY_RELEASE, TELEMETRY_TRANSFORMERS, TELEMETRY_LABEL, LABEL_CODE = 5, 6, 9, 1
TELEMETRY_FEATURES, TENSORBOARD_SYNC, SHARED_MODE = 3, 35, 67
TRAINER_LABEL = "transformers_trainer"
OTHERS = {ALERT: "alerts", ARTIFACT: "artifacts", USED_ARTIFACT: "used artifacts"}
_double = struct.Struct("<d")
MICROSECONDS = 1_000_000
MAX_SECONDS = 1e11  # the year 5138


@dataclass(frozen=True)
class RunRecord:
    """The content of a run record. Texts may be empty.

    start: microseconds since 1970 UTC; 0: unknown
    config: JSON by path
    fork: id of the run from which it branched, if any
    rewound_to: the last step that a rewind kept of the rows before; None without a rewind
    is_resumed: resumes an existing run of its id (since wandb 0.30)
    """

    run_id: str = ""
    entity: str = ""
    project: str = ""
    config: Mapping[Path, bytes] = field(default_factory=dict)
    group: str = ""
    job_type: str = ""
    name: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    sweep: str = ""
    start: int = 0
    fork: str = ""
    rewound_to: int | None = None
    is_resumed: bool = False

    @classmethod
    def of(cls, content: bytes) -> RunRecord:
        """The record from its bytes. Raises LogError."""
        found = dict(fields(content))
        tags = tuple(_text(tag) for number, tag in fields(content) if number == 10)
        texts = {
            name: _text(found.get(number, b""))
            for number, name in (
                *((1, "run_id"), (2, "entity"), (3, "project"), (6, "group"), (7, "job_type")),
                *((8, "name"), (9, "notes"), (12, "sweep")),
            )
        }
        config = dict(items(_message(found.get(4, b""))))
        fork, step = _branch(_message(found.get(23, b"")))
        is_rewind = bool(fork) and fork == texts["run_id"]
        return cls(
            config=config,
            tags=tags,
            start=_time(found.get(17, b"")),
            fork="" if is_rewind else fork,
            rewound_to=step if is_rewind else None,
            is_resumed=bool(found.get(24)),
            **texts,
        )


@dataclass(frozen=True)
class MetricDefinition:
    """A definition by `define_metric`: `name` is the metric, or a glob ending with `*`.

    step_metric: the metric of its x-axis; empty: none
    is_expanded: made by wandb from a glob
    """

    name: str
    is_glob: bool
    step_metric: str
    is_expanded: bool = False


@dataclass(frozen=True)
class Stats:
    """System metrics of a moment: time (microseconds since 1970 UTC), and values by name."""

    time: int
    values: Mapping[str, object]


@dataclass
class RunLog:
    """The records of a log, except its history.

    run: the first run record, None without one
    config: values by path, after all updates
    summary: values by path, after all updates
    exit_code: None without an exit record
    writer: the release of wandb; empty: unknown
    is_trainer: written by the callback of transformers
    transformers: its release; empty: unknown
    is_tensorboard: synced from event files
    is_shared: written by several programs at once
    others: numbers of other records by kind
    """

    run: RunRecord | None = None
    config: dict[Path, object] = field(default_factory=dict)
    summary: dict[Path, object] = field(default_factory=dict)
    metrics: list[MetricDefinition] = field(default_factory=list)
    stats: list[Stats] = field(default_factory=list)
    exit_code: int | None = None
    writer: str = ""
    is_trainer: bool = False
    transformers: str = ""
    is_tensorboard: bool = False
    is_shared: bool = False
    others: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0

    def add(self, records: Iterable[bytes]) -> None:
        """Apply records in their order; unreadable ones are counted."""
        for record in records:
            with self._counting():
                for number, content in fields(record):
                    if isinstance(content, bytes):
                        self._apply(number, content)

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count an unreadable record."""
        try:
            yield
        except (ValueError, RecursionError):  # also LogError, and those of texts and JSON
            self.unreadable += 1

    def _apply(self, number: int, content: bytes) -> None:
        if number == RUN and self.run is None:
            self.run = RunRecord.of(content)
            self._configure(self.run.config)
        elif number == CONFIG:
            self._configure(dict(items(content)))
            for path in removed(content):
                self.config.pop(path, None)
        elif number == SUMMARY:
            self.summary |= {path: json.loads(value) for path, value in items(content)}
            for path in removed(content):
                self.summary.pop(path, None)
        elif number == METRIC:
            self.metrics.append(_metric(content))
        elif number == STATS:
            self.stats.append(_stats(content))
        elif number == EXIT:
            code = dict(fields(content)).get(1, 0)
            self.exit_code = code if isinstance(code, int) else 0
        elif number == TELEMETRY:
            self._note_writer(content)
        elif number == HEADER and not self.writer:
            version = dict(fields(_message(dict(fields(content)).get(1, b""))))
            self.writer = _text(version.get(1, b""))
        elif number == TENSORBOARD:
            self.is_tensorboard = True
        elif number in OTHERS:
            self.others[OTHERS[number]] += 1

    def _configure(self, updates: Mapping[Path, bytes]) -> None:
        self.config |= {path: json.loads(value) for path, value in updates.items()}

    def _note_writer(self, content: bytes) -> None:
        """Take the release of wandb, its mode, and the label of its caller from telemetry."""
        found = dict(fields(content))
        self.writer = _text(found.get(TELEMETRY_RELEASE, b"")) or self.writer
        label = dict(fields(_message(found.get(TELEMETRY_LABEL, b""))))
        self.is_trainer |= _text(label.get(LABEL_CODE, b"")) == TRAINER_LABEL
        features = dict(fields(_message(found.get(TELEMETRY_FEATURES, b""))))
        self.is_shared |= bool(features.get(SHARED_MODE))
        self.transformers = _text(found.get(TELEMETRY_TRANSFORMERS, b"")) or self.transformers


def run_record(records: Iterable[bytes]) -> bytes:
    """The content of the first run record. Raises LogError without one."""
    for record in records:
        found = dict(fields(record)).get(RUN)
        if isinstance(found, bytes):
            return found
    raise LogError("it has no run record")


def items(content: int | bytes) -> Iterator[tuple[Path, bytes]]:
    """The updates of a config or a summary: JSON by path. Raises LogError."""
    for number, item in fields(_message(content)):
        if number == 1:
            yield item_json(_message(item))


def removed(content: bytes) -> Iterator[tuple[str, ...]]:
    """The paths removed from a config or a summary. Raises LogError."""
    for number, item in fields(content):
        if number == 2:
            yield item_json(_message(item))[0]


def _branch(content: bytes) -> tuple[str, int]:
    """The run and the step of a branch point."""
    found = dict(fields(content))
    value = found.get(2, bytes(8))
    step: float = _double.unpack(value)[0] if isinstance(value, bytes) and len(value) == 8 else 0.0
    return _text(found.get(1, b"")), int(step) if abs(step) < 2.0**63 else 0


def _metric(content: bytes) -> MetricDefinition:
    found = dict(fields(content))
    name, glob, step = (_text(found.get(number, b"")) for number in (1, 2, 4))
    return MetricDefinition(name or glob, not name, step, bool(found.get(10, 0)))


def _stats(content: bytes) -> Stats:
    found = dict(fields(content))
    values: dict[str, object] = {}
    for number, item in fields(content):
        if number == 3:
            (*_, name), value = item_json(_message(item))
            with suppress(ValueError):  # some releases write versions such as 12.4.1
                if not name.startswith("_"):
                    values[name] = json.loads(value)
    time = _time(found.get(2, b""))
    if not time:
        raise LogError("system metrics have no time")
    return Stats(time, values)


def _time(content: int | bytes) -> int:
    """A protobuf timestamp in microseconds; 0 for none, and for one after the year 5138."""
    found = dict(fields(_message(content)))
    seconds, nanoseconds = found.get(1, 0), found.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanoseconds, int):
        raise LogError("a time is not a number")
    return seconds * MICROSECONDS + nanoseconds // 1000 if seconds < MAX_SECONDS else 0


def _message(content: int | bytes) -> bytes:
    if not isinstance(content, bytes):
        raise LogError("a message is a number")
    return content


def _text(content: int | bytes) -> str:
    return _message(content).decode(errors="replace")
