"""Runs on a W&B server: written like offline runs, uploaded by the official client, read back.

W&B appends all uploaded rows, even duplicates. The server is queried before each upload, and only
missing rows are sent.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count

import numpy as np

from bridges.errors import ExportError, VerifyError
from bridges.exporters.atomic_files import only_one, write_file
from bridges.exporters.base import ConflictError, ExistingRun, Labels, Recorded
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.state import whole_state
from bridges.exporters.wandb.history import OWN, STEP_KEYS, wandb_steps
from bridges.exporters.wandb.limits import merged_tags, short
from bridges.exporters.wandb.offline import (
    DIGEST_DIGITS,
    SOURCE_FOLDER,
    MakeFile,
    OfflineRuns,
    check_mergeable,
    fill,
    run_id_of,
)
from bridges.exporters.wandb.reader import state_of
from bridges.exporters.wandb.receipts import receipts_in, save_receipts
from bridges.exporters.wandb.rows import columns_of, recorded
from bridges.exporters.wandb.run import KEY, Part, Target
from bridges.exporters.wandb.server import DeletedError, Server, ServerRun
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Run

SETTLE_SECONDS = 30.0  # until a server shows all uploaded rows
SPECIAL_NUMBERS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}  # in answers


class OnlineRuns:
    """The runs of a project; `local` are the offline runs, marked as synced after an upload."""

    def __init__(self, target: Target, make: MakeFile, local: OfflineRuns) -> None:
        self._target, self._make, self._local = target, make, local
        self._server = Server(target.project, target.entity)
        self._listed: dict[str, list[ServerRun]] | None = None  # by run key

    def preload(self) -> None:
        """List the runs of the project once; later `find` calls use that listing."""
        listed: dict[str, list[ServerRun]] = {}
        for remote in self._server.having(KEY):
            listed.setdefault(str(remote.config[KEY]), []).append(remote)
        self._listed = listed

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys, even if some of their rows are missing."""
        found = []
        for key in identity.keys:
            if self._listed is not None:
                remotes = self._listed.get(key, [])
            else:
                remotes = self._server.find(key, run_id_of(replace(identity, key=key)))
            found += [_run(remote, key, self._target.project) for remote in remotes]
        return [run for run in found if run]

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the project has a run with one of these keys."""
        if self._listed is not None:
            return not self._listed.keys().isdisjoint(keys)
        return self._server.holds(KEY, keys)

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Upload a new run, or the missing rows of an existing one."""
        with only_one(f"wandb-{layout.key}") as lock:
            remotes = self._server.find(layout.key, run_id_of(layout))
            found = [(_run(remote, layout.key, self._target.project), remote) for remote in remotes]
            if existing is None:
                if any(run and run not in seen and _is_same(run, layout) for run, _ in found):
                    raise ConflictError
                part = None
            else:
                same = [remote for run, remote in found if run == existing]
                if not same:
                    raise ConflictError
                part = self._continued(layout, existing, same[0])
            if part is None:
                part = Part(self._new_id(layout, found), whole_state(layout))
            has_all = 0 < part.first == len(layout.stream)
            errors = "" if has_all else self._upload(layout, part, lock)
            written = self._arrived(layout, part, errors)
            self._mark_local(layout)
            return written

    def _continued(self, layout: Layout, existing: ExistingRun, remote: ServerRun) -> Part | None:
        """The part with the missing rows; None if the stored rows are not the first ones."""
        first = layout.position(existing.state.rows)
        if existing.complete:
            check_mergeable(layout, existing.state.rows)
        else:
            _, rows, _ = self._server.content(remote.run_id)
            steps = [int(row["_step"]) for row in rows]
            is_doubled = remote.lines > max(first, len(steps))
            if is_doubled or steps != wandb_steps(layout)[: len(steps)].tolist():
                return None
            first = len(steps)
        state = whole_state(layout, existing.state)
        return Part(remote.run_id, state, first, (), existing.name, remote.group, remote.tags)

    def _new_id(self, layout: Layout, found: list[tuple[ExistingRun | None, ServerRun]]) -> str:
        """An unused id; W&B never accepts the id of a deleted run again."""
        taken = {remote.run_id for run, remote in found if run or remote.lines}
        base, settings = run_id_of(layout), layout.run.settings.digest
        if base in taken and settings:
            base += f"-{settings[:DIGEST_DIGITS]}"  # as offline
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
        """Upload a part. Returns the client's error messages."""
        with tempfile.TemporaryDirectory(prefix="bridges-") as parent:
            folder = os.path.join(parent, f"offline-run-20000101_000000-{part.run_id}")
            os.mkdir(folder)
            fill(folder, layout, self._target, part, self._make)
            return self._server.upload(folder, len(layout.stream) - part.first, lock)

    def _arrived(self, layout: Layout, part: Part, errors: str) -> ExistingRun:
        """Wait until the server shows all rows of the run. Returns the run.

        Raises ExportError if the run is missing or has rows twice.
        """
        until = time.monotonic() + (0.0 if errors else SETTLE_SECONDS)
        while True:
            remote = self._server.get(part.run_id)
            run = _run(remote, layout.key, self._target.project) if remote else None
            if run and is_complete(layout.run, run):
                return replace(run, complete=True)
            if time.monotonic() > until:
                break
            time.sleep(0.5)
        if remote and remote.lines > len(layout.stream):
            message = f"{remote.url} has rows twice: another export uploaded it at the same time"
            raise ExportError(message, transient=True)  # the next attempt creates another run
        if run is None:
            why = f": {errors}" if errors else ""
            raise ExportError(f"W&B did not accept the run {part.run_id}{why}")
        return run  # the comparison reports missing rows

    def _mark_local(self, layout: Layout) -> None:
        """Mark offline runs with this history as synced, so `wandb sync` skips them."""
        with suppress(ExportError):  # an unreadable run is another one
            for run in self._local.find(layout.identity):
                if run.state.digest == layout.digest:
                    write_file(f"{run.location}.synced", [])

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run, by `scan_history`."""
        try:
            remote, rows, summary = self._server.content(existing.id)
            found = _recorded(rows)
        except (ValueError, ExportError) as error:
            raise VerifyError(f"{existing.location} cannot be read back: {error}") from error
        of_rows = {*found.points, *(key for key, _, _ in found.others), *STEP_KEYS, *OWN}
        own = {key: value for key, value in summary.items() if key not in of_rows}
        return Recorded(found.points, found.others, own, remote.config)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, object]:
        """The run's config."""
        remote = self._server.get(existing.id)
        return remote.config if remote else {}

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun:
        """Set the labels of the run."""
        remote = self._server.get(existing.id)
        if remote is None:
            raise ConflictError
        name, group = short(labels.name or remote.name), short(labels.group or remote.group)
        tags = merged_tags(remote.tags, labels.tags)
        if (name, group, sorted(tags)) != (remote.name, remote.group, sorted(remote.tags)):
            self._server.relabel(remote.run_id, name, group, tags)
        return replace(existing, name=name)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Upload the files, once."""
        named = {f"{SOURCE_FOLDER}/{name}": content for name, content in files.items()}
        self._server.attach(existing.id, named)

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        save_receipts(self._server, runs)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of the project."""
        return receipts_in(self._server)


def _run(remote: ServerRun, key: str, project: str) -> ExistingRun | None:
    """The run for `find`; None if it was not written by bridges, or has another key."""
    found, state = state_of(remote.config_json)
    if state is None or found != key:
        return None
    return ExistingRun(
        key=key,
        name=remote.name or remote.run_id,
        location=remote.url,
        state=state,
        id=remote.run_id,
        place=project,
        complete=None,
        counted=(remote.lines, remote.last_step),
    )


def _is_same(run: ExistingRun, layout: Layout) -> bool:
    """Whether a run is complete, and its history and settings agree with the layout."""
    return (
        run.state.digest == layout.digest
        and not run.state.settings.contradict(layout.run.settings)
        and is_complete(layout.run, run)
    )


def is_complete(run: Run, existing: ExistingRun) -> bool:
    """Whether the server's row count and last step agree with the state."""
    rows, is_merged = existing.state.rows, "wandb-step" in existing.state.layout
    if rows > len(run.stream) and is_merged:
        return True  # the steps of merged rows beyond this history are unknown
    if not is_merged or not rows:
        return existing.counted == (rows, rows - 1)
    steps = np.unique(run.stream.step)
    count = int(np.searchsorted(steps, run.stream.step[:rows].max(), side="right"))
    return existing.counted == (count, int(steps[count - 1]))


def _as_sent(value: object) -> object:
    """The sent value of a value in an answer; -0.0 is 0.0, as some releases drop its sign."""
    if isinstance(value, str):
        return SPECIAL_NUMBERS.get(value, value)
    return value + 0.0 if isinstance(value, float) else value


def _recorded(rows: list[dict[str, object]]) -> Recorded:
    sent = [{key: _as_sent(value) for key, value in row.items()} for row in rows]
    return recorded(columns_of(sent), len(rows))
