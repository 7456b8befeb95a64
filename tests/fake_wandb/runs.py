"""The runs on the fake server.

File streams are applied by offset, as the protocol defines: line i of a chunk replaces line
offset+i. So a repeated request does not duplicate rows, but a second sync does, as it starts behind
the stored rows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_TEXT_BYTES = 65_536  # larger uploads are stored as their size
ATTRIBUTES = {  # of a run, by the variable of UpsertBucket that sets it
    "config": "config",
    "displayName": "display_name",
    "display_name": "display_name",
    "notes": "notes",
    "groupName": "group",
    "jobType": "job_type",
    "commit": "commit",
    "sweep": "sweep",
    "state": "state",
    "tags": "tags",
}
Key = tuple[str, str, str]  # entity, project, and id of a run


class DeletedError(Exception):
    """The id belongs to a deleted run, so it cannot be used again."""


@dataclass
class FakeRun:
    """A run on the server; history and events are JSON lines by position."""

    entity: str
    project: str
    name: str  # the id
    display_name: str | None = None
    config: str | None = None
    tags: Sequence[str] = ()
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    commit: str | None = None
    sweep: str | None = None
    state: str = "running"
    history: list[str | None] = field(default_factory=list)
    events: list[str | None] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    output: dict[int, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    sums: dict[str, tuple[int, str]] = field(default_factory=dict)  # size and MD5 of each file
    uploads: Counter[str] = field(default_factory=Counter)
    complete: bool = False
    exitcode: int | None = None
    rows_received: int = 0
    rows_overwritten: int = 0

    @property
    def id(self) -> str:
        """The id in GraphQL."""
        return base64_text(f"Run:v1:{self.name}:{self.project}:{self.entity}")

    @property
    def rows(self) -> list[tuple[int, str]]:
        """`_step` and text of each history row."""
        lines = [line for line in self.history if line is not None]
        return [(int(json.loads(line).get("_step", -1)), line) for line in lines]

    def received(self) -> dict[str, Any]:
        """The run for the tests."""
        return {
            "project": self.project,
            "name": self.name,
            "displayName": self.display_name,
            "config": json.loads(self.config) if self.config else None,
            "tags": self.tags,
            "group": self.group,
            "state": self.state,
            "history": _parsed(self.history),
            "events": _parsed(self.events),
            "summary": self.summary,
            "output": [self.output[at] for at in sorted(self.output)],
            "files": self.files,
            "uploads": self.uploads,
            "complete": self.complete,
            "exitcode": self.exitcode,
            "rows_received": self.rows_received,
            "rows_overwritten": self.rows_overwritten,
        }

    def update(self, variables: Mapping[str, Any]) -> None:
        """Set the attributes in the variables of UpsertBucket."""
        for name, attribute in ATTRIBUTES.items():
            if variables.get(name) is not None:
                setattr(self, attribute, variables[name])
        if variables.get("summaryMetrics"):
            self.summary = json.loads(variables["summaryMetrics"])

    def apply(self, body: Mapping[str, Any]) -> None:
        """Apply a request of the file stream."""
        for name, chunk in (body.get("files") or {}).items():
            self._apply_chunk(name, chunk.get("offset", 0), chunk.get("content", []))
        if body.get("complete"):
            self.complete, self.exitcode = True, body.get("exitcode")
            self.state = "failed" if self.exitcode else "finished"

    def _apply_chunk(self, name: str, offset: int, lines: Sequence[str]) -> None:
        if name == "wandb-history.jsonl":
            self.rows_received += len(lines)
            self.rows_overwritten += _put(self.history, offset, lines)
        elif name == "wandb-events.jsonl":
            _put(self.events, offset, lines)
        elif name == "wandb-summary.json":
            self.summary = json.loads(lines[-1])
        elif name == "output.log":
            self.output.update(enumerate(lines, offset))

    def store(self, name: str, content: bytes) -> None:
        """Store an uploaded file."""
        is_small = len(content) <= MAX_TEXT_BYTES
        text = content.decode(errors="replace") if is_small else f"<{len(content)} bytes>"
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        self.files[name] = text
        self.sums[name] = len(content), base64.b64encode(digest).decode()
        self.uploads[name] += 1


def _put(stored: list[str | None], offset: int, lines: Sequence[str]) -> int:
    """Write lines from a position on. Returns the number of replaced lines."""
    stored += [None] * (offset + len(lines) - len(stored))
    replaced = sum(line is not None for line in stored[offset : offset + len(lines)])
    stored[offset : offset + len(lines)] = lines
    return replaced


def _parsed(lines: Iterable[str | None]) -> list[Any]:
    return [None if line is None else json.loads(line) for line in lines]


def base64_text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Store:
    """The runs of a server. The caller holds `lock`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: dict[Key, FakeRun] = {}
        self._deleted: set[Key] = set()

    def get(self, key: Key) -> FakeRun:
        """A run, created if it does not exist. Raises DeletedError."""
        if key in self._deleted:
            message = f"run {key[2]} was previously created and deleted; try a new run name"
            raise DeletedError(message)
        return self.runs.setdefault(key, FakeRun(*key))

    def delete(self, key: Key) -> None:
        """Delete a run."""
        del self.runs[key]
        self._deleted.add(key)

    def by_id(self, run_id: str) -> FakeRun | None:
        """The run with an id of GraphQL."""
        return next((run for run in self.runs.values() if run.id == run_id), None)
