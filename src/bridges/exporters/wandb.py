"""Weights & Biases: offline runs, written without wandb, that the official `wandb sync` uploads.

State lives in the run's config. A run is one file that appears whole or not at all; when its
history grows the file is replaced by the whole run. What was synced already is not written again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from glob import escape, glob
from typing import Any

from numpy.typing import NDArray

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import ConflictError, Held, Recorded
from bridges.exporters.files import sync_directory, unlink, write_file
from bridges.exporters.state import whole_state
from bridges.exporters.wandb_history import GLOBAL_STEP, OWN, stored
from bridges.exporters.wandb_log import LogError, read_log, write_log
from bridges.exporters.wandb_run import RunHead, Target, read_head, read_run, records
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout

KEY_DIGITS, DIGEST_DIGITS = 10, 6  # of a run's id
DEFAULT_PROJECT = "huggingface"  # the live callback's


class WandbExporter:
    """Writes offline runs below `wandb_dir`/wandb, for `project` of `entity`."""

    name = "wandb"
    rules = "wandb"

    def __init__(
        self, project: str | None = None, entity: str | None = None, wandb_dir: str = "."
    ) -> None:
        self.project = project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
        self.entity = entity or os.environ.get("WANDB_ENTITY")
        self.folder = os.path.join(wandb_dir, "wandb")
        self._seen: set[str] = set()

    def fit(self, layout: Layout) -> Layout:
        """Without the keys that wandb drops or gives itself, with a finding for each."""
        refused = {series.key for series in layout.stream.series if _is_refused(series.key)}
        kept = tuple(part for part in layout.stream.series if part.key not in refused)
        findings = [_refused(key, layout) for key in sorted(refused)]
        stream = replace(layout.stream, series=kept)
        return replace(layout, stream=stream, findings=(*layout.findings, *findings))

    def find(self, layout: Layout) -> list[Held]:
        """The runs with the layout's key."""
        found = [self._held(path, layout) for path in self._paths(layout.key)]
        held = [run for run in found if run]
        self._seen = {run.location for run in held}
        return held

    def _paths(self, key: str) -> list[str]:
        """The files of the runs whose ids are made of that key."""
        run = f"{key[:KEY_DIGITS]}{'?' * DIGEST_DIGITS}"
        return sorted(
            glob(os.path.join(escape(self.folder), f"offline-run-*-{run}", "run-*.wandb"))
        )

    def _held(self, path: str, layout: Layout) -> Held | None:
        head = _read_head(path)
        if head.state is None:
            raise ExportError(
                f"{path} is not a run that bridges wrote, but stands where this one belongs. "
                "Move it away, or give another --wandb-dir."
            )
        if head.key != layout.key:
            return None
        return Held(
            name=head.name,
            location=path,
            key=layout.key,
            rows=head.state.rows,
            digest=head.state.digest,
            clock=head.state.clock,
            cuts=head.state.cuts,
        )

    def write(self, layout: Layout, held: Held | None) -> Held:
        """Write the run; one that is there is replaced by its longer history."""
        try:
            path = self._create(layout) if held is None else self._replace(layout, held)
        except OSError as error:
            message = f"{self.folder}: cannot be written: {error.strerror or error}"
            raise ExportError(message) from error
        held = self._held(path, layout)
        assert held is not None
        return held

    def _create(self, layout: Layout) -> str:
        """The run's directory appears with its file in it: an empty one would confuse wandb."""
        run_id = _run_id(layout)
        start = datetime.fromtimestamp(layout.clock.start / 1000.0, timezone.utc)
        folder = os.path.join(self.folder, f"offline-run-{start:%Y%m%d_%H%M%S}-{run_id}")
        partial = os.path.join(self.folder, f".{os.path.basename(folder)}.{os.urandom(4).hex()}")
        os.makedirs(partial)
        try:
            self._write_file(os.path.join(partial, f"run-{run_id}.wandb"), layout, run_id, ())
            sync_directory(partial)
            with _locked(self.folder):
                if set(self._paths(layout.key)) - self._seen:
                    raise ConflictError
                os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync_directory(self.folder)
        return os.path.join(folder, f"run-{run_id}.wandb")

    def _replace(self, layout: Layout, held: Held) -> str:
        path = held.location
        if os.path.exists(f"{path}.synced"):
            raise ExportError(
                f"{path} was synced already, and would be uploaded a second time. "
                "Its new rows cannot be added yet."
            )
        folder, name = os.path.split(path)
        partial = f"{path}.{os.urandom(4).hex()}.partial"
        try:
            self._write_file(partial, layout, name[4:-6], held.cuts)
            with _locked(folder):
                if self._held(path, layout) != held:
                    raise ConflictError
                os.replace(partial, path)
        finally:
            unlink(partial)
        sync_directory(folder)
        return path

    def _write_file(self, path: str, layout: Layout, run_id: str, earlier: tuple[int, ...]) -> None:
        target, state = Target(run_id, self.project, self.entity), whole_state(layout, earlier)
        write_file(path, write_log(records(layout, target, state)))

    def read_back(self, held: Held) -> Recorded:
        """All points of the run."""
        try:
            with open(held.location, "rb") as file:
                found = read_run(read_log(file.read()))
        except (OSError, LogError) as error:
            raise VerifyError(f"{held.location} cannot be read back: {error}") from error
        return found

    def attach(self, held: Held, files: Mapping[str, bytes]) -> bool:
        """Files are not attached yet. Raises ExportError."""
        raise ExportError("bridges puts no files into runs of Weights & Biases yet")

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Float64, exactly."""
        return stored(values)

    def notes(self, layout: Layout) -> list[Finding]:
        """Everything is held as it is."""
        return []

    def hint(self, locations: list[str], longest: int) -> str | None:
        """The command that uploads the runs."""
        places = list(dict.fromkeys(os.path.dirname(path) for path in locations))
        return "wandb sync " + (places[0] if len(places) == 1 else f"{self.folder}/offline-run-*")


def _run_id(layout: Layout) -> str:
    """The id of a new run: made of its key, which finds it again, and of its history, so that two
    runs with one beginning stay apart in W&B even where they are exported in different places.
    """
    return layout.key[:KEY_DIGITS] + layout.digest[:DIGEST_DIGITS]


def _is_refused(key: str) -> bool:
    return key in OWN or key in ("", GLOBAL_STEP)


def _refused(key: str, layout: Layout) -> Finding:
    count = sum(len(part.rows) for part in layout.stream.series if part.key == key)
    own = f"wandb has {key!r} of its own, which takes the place of this one, as live"
    message = own if key else "wandb drops values without a name, as live"
    return Finding("key-refused", Severity.WARNING, f"key {key!r}", message, count)


def _read_head(path: str) -> RunHead:
    try:
        with open(path, "rb") as file:
            return read_head(read_log(file.read()))
    except (OSError, LogError) as error:
        message = f"{path} cannot be read: {error}. Move it away and export again."
        raise ExportError(message) from error


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Only one process at a time gives names in this folder."""
    if os.name != "posix":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
