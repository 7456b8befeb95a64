"""Runs on a W&B server: written as offline runs are, uploaded by the official client, read back.

A run is looked for before anything is sent, and only rows that are not there are sent: W&B appends
whatever comes, so a row that is sent twice is there twice.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import ConflictError, Held, Labels, Recorded
from bridges.exporters.files import only_one, write_file
from bridges.exporters.marks import Marked
from bridges.exporters.state import whole_state
from bridges.exporters.wandb_history import GLOBAL_STEP, OWN, wandb_steps
from bridges.exporters.wandb_limits import merged_tags, short
from bridges.exporters.wandb_marks import marked_runs, put_marks
from bridges.exporters.wandb_offline import (
    SOURCE_FOLDER,
    MakeFile,
    OfflineRuns,
    check_mergeable,
    fill,
    run_id_of,
)
from bridges.exporters.wandb_reader import state_of
from bridges.exporters.wandb_rows import as_values, recorded
from bridges.exporters.wandb_run import KEY, Part, Target
from bridges.exporters.wandb_server import DeletedError, Remote, Server
from bridges.stream.layout import Layout

SETTLING = 30.0  # seconds that a server may take to show what it was sent
SPECIAL = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}  # as servers tell them


class OnlineRuns:
    """The runs of a project; `local` are offline runs that are not to be uploaded once more."""

    def __init__(self, target: Target, make: MakeFile, local: OfflineRuns) -> None:
        self._target, self._make, self._local = target, make, local
        self._server = Server(target.project, target.entity)
        self._listed: dict[str, list[Remote]] | None = None  # by run key

    def preload(self) -> None:
        """Ask once for all runs of the project; `find` answers from that."""
        listed: dict[str, list[Remote]] = {}
        for remote in self._server.having(KEY):
            listed.setdefault(str(remote.config[KEY]), []).append(remote)
        self._listed = listed

    def find(self, layout: Layout) -> list[Held]:
        """The runs with the layout's key."""
        if self._listed is None:
            found = [held for held, _ in self._found(layout)]
        else:
            found = [_held(remote, layout) for remote in self._listed.get(layout.key, ())]
        return [held for held in found if held]

    def _found(self, layout: Layout) -> list[tuple[Held | None, Remote]]:
        remotes = self._server.find(layout.key, run_id_of(layout))
        return [(_held(remote, layout), remote) for remote in remotes]

    def write(self, layout: Layout, held: Held | None) -> Held:
        """Send what the server lacks. Raises ConflictError, ExportError."""
        with only_one(f"wandb-{layout.key}") as lock:
            found = self._found(layout)
            same = [remote for other, remote in found if other and other == held]
            is_there = any(
                other.whole
                and other.digest == layout.digest
                and not other.settings.contradict(layout.run.settings)
                for other, _ in found
                if other
            )
            if is_there if held is None else not same:
                raise ConflictError
            part = self._continued(layout, held, same[0]) if held else None
            if part is None:
                part = Part(self._new_id(layout, found), whole_state(layout))
            is_all = 0 < part.first == len(layout.stream)
            said = "" if is_all else self._upload(layout, part, lock)
            written = self._arrived(layout, part, said)
            self._mark_local(layout)
            return written

    def _continued(self, layout: Layout, held: Held, remote: Remote) -> Part | None:
        """What comes after the rows that are there; None where those are not the first ones."""
        first = layout.position(held.rows)
        if held.whole:
            check_mergeable(layout, held.rows)
        else:
            there = [int(row["_step"]) for row in self._server.rows(remote.run_id)]
            is_doubled = remote.lines > max(first, len(there))
            if is_doubled or there != wandb_steps(layout)[: len(there)].tolist():
                return None
            first = len(there)
        state, labels = whole_state(layout, held), (held.name, remote.group, remote.tags)
        return Part(remote.run_id, state, first, (), *labels)

    def _new_id(self, layout: Layout, found: list[tuple[Held | None, Remote]]) -> str:
        """An id that no run has, nor had: W&B never takes that of a deleted run again."""
        taken = {remote.run_id for held, remote in found if held or remote.lines}
        base = run_id_of(layout)
        for number in count(1):
            run_id = base if number == 1 else f"{base}-{number}"
            if run_id not in taken:
                try:
                    self._server.claim(run_id)
                    return run_id
                except DeletedError:
                    continue
        raise AssertionError

    def _upload(self, layout: Layout, part: Part, lock: list[int]) -> str:
        """What the client says of errors."""
        with tempfile.TemporaryDirectory(prefix="bridges-") as place:
            folder = os.path.join(place, f"offline-run-20000101_000000-{part.run_id}")
            os.mkdir(folder)
            fill(folder, layout, self._target, part, self._make)
            return self._server.upload(folder, len(layout.stream) - part.first, lock)

    def _arrived(self, layout: Layout, part: Part, said: str) -> Held:
        """The run as the server has it, once it shows all of it."""
        until = time.monotonic() + (0.0 if said else SETTLING)
        while True:
            remote = self._server.get(part.run_id)
            held = _held(remote, layout) if remote else None
            if held and held.whole:
                return held
            if time.monotonic() > until:
                break
            time.sleep(0.5)
        if remote and remote.lines > len(layout.stream):
            message = f"{remote.url} has rows twice: another export uploaded it at the same time"
            raise ExportError(message, transient=True)  # the next attempt makes a run of its own
        if held is None:
            why = f": {said}" if said else ""
            raise ExportError(f"W&B did not take the run {part.run_id}{why}")
        return held  # what is missing is told by the comparison

    def _mark_local(self, layout: Layout) -> None:
        """Offline runs of this history are uploaded now: `wandb sync` is to leave them alone."""
        with suppress(ExportError):  # one that cannot be read is none of these
            for held in self._local.find(layout):
                if held.digest == layout.digest:
                    write_file(f"{held.location}.synced", [])

    def read_back(self, held: Held) -> Recorded:
        """All points of the run, by `scan_history`."""
        run_id = _id_of(held)
        try:
            rows = self._server.rows(run_id)
            found = _recorded(rows)
        except (ValueError, ExportError) as error:
            raise VerifyError(f"{held.location} cannot be read back: {error}") from error
        of_rows = {*found.points, *(key for key, _, _ in found.others), GLOBAL_STEP, *OWN}
        summary = self._server.summary(run_id)
        own = {key: value for key, value in summary.items() if key not in of_rows}
        return Recorded(found.points, found.others, own)

    def relabel(self, layout: Layout, held: Held, labels: Labels) -> Held | None:
        """The run with these labels."""
        remote = self._server.get(_id_of(held))
        if remote is None:
            raise ConflictError
        name, group = short(labels.name or remote.name), short(labels.group or remote.group)
        tags = merged_tags(remote.tags, labels.tags)
        if (name, group, sorted(tags)) != (remote.name, remote.group, sorted(remote.tags)):
            self._server.relabel(remote.run_id, name, group, tags)
        return replace(held, name=name)

    def attach(self, held: Held, files: Mapping[str, bytes]) -> None:
        """Upload the files, unless they are there."""
        named = {f"{SOURCE_FOLDER}/{name}": content for name, content in files.items()}
        self._server.attach(_id_of(held), named)

    def remember(self, runs: Sequence[Marked]) -> None:
        """Set the marks of these runs."""
        put_marks(self._server, runs)

    def remembered(self) -> Iterator[Marked]:
        """The marked runs of the project."""
        return marked_runs(self._server)


def _id_of(held: Held) -> str:
    return held.location.rstrip("/").rsplit("/", 1)[-1]


def _held(remote: Remote, layout: Layout) -> Held | None:
    """A run that bridges wrote, with the layout's key."""
    key, state = state_of(remote.config_json)
    if state is None or key != layout.key:
        return None
    whole = _is_whole(remote, state.rows, layout)
    return state.held(remote.name or layout.run.name, remote.url, layout, whole=whole)


def _is_whole(remote: Remote, rows: int, layout: Layout) -> bool:
    """Whether the server says that it has as many rows as the state, and the last one."""
    if rows > layout.rows and len(layout.stream) != layout.rows:
        return True  # of merged rows that this history does not reach, nothing is known
    lines = rows if rows > layout.rows else layout.position(rows)
    last = lines - 1 if rows > layout.rows or not lines else int(wandb_steps(layout)[lines - 1])
    return remote.lines == lines and remote.last_step == last


def _as_sent(value: Any) -> Any:
    """A value as it was sent; some releases keep the sign of a zero, others do not."""
    if isinstance(value, str):
        return SPECIAL.get(value, value)
    return value + 0.0 if isinstance(value, float) else value


def _recorded(rows: list[dict[str, Any]]) -> Recorded:
    columns: dict[str, tuple[list[int], list[Any]]] = {}
    for index, row in enumerate(rows):
        for key, value in row.items():
            at, values = columns.setdefault(key, ([], []))
            at.append(index)
            values.append(_as_sent(value))
    arrays = {key: (np.array(at), as_values(values)) for key, (at, values) in columns.items()}
    return recorded(arrays, len(rows))
