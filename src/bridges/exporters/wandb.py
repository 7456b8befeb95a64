"""Weights & Biases: offline runs, written without wandb, that the official `wandb sync` uploads.

State lives in the run's config. A run is one file that appears whole or not at all; when its
history grows the file is replaced by the whole run. What was synced already is not written again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from glob import escape, glob
from typing import Any

from numpy.typing import NDArray

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import ConflictError, Held, Recorded
from bridges.exporters.files import publish_once, sync_directory, unlink, write_file
from bridges.exporters.state import whole_state
from bridges.exporters.wandb_history import GLOBAL_STEP, OWN, stored
from bridges.exporters.wandb_log import LogError, read_log, write_log
from bridges.exporters.wandb_run import RunHead, Target, read_head, read_run, records
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout

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

    def fit(self, layout: Layout) -> Layout:
        """Without the keys that wandb drops or gives itself, with a finding for each."""
        refused = {series.key for series in layout.stream.series if _is_refused(series.key)}
        kept = tuple(part for part in layout.stream.series if part.key not in refused)
        findings = [_refused(key, layout) for key in sorted(refused)]
        stream = replace(layout.stream, series=kept)
        return replace(layout, stream=stream, findings=(*layout.findings, *findings))

    def find(self, layout: Layout) -> list[Held]:
        """The runs with the layout's key."""
        return [self._held(path, layout) for path in self._paths(layout.key)]

    def _paths(self, key: str) -> list[str]:
        """The files of the runs with that key: forks are counted."""
        paths: list[str] = []
        while True:
            run_id = _run_id(key, len(paths))
            place = f"offline-run-*-{run_id}"
            found = glob(os.path.join(escape(self.folder), place, f"run-{run_id}.wandb"))
            if not found:
                return paths
            paths.append(min(found))

    def _held(self, path: str, layout: Layout) -> Held:
        head = _read_head(path)
        if head.state is None or head.key != layout.key:
            raise ExportError(
                f"{path} is not a run that bridges wrote, but stands where this one belongs. "
                "Move it away, or give another --wandb-dir."
            )
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
        return self._held(path, layout)

    def _create(self, layout: Layout) -> str:
        run_id = _run_id(layout.key, len(self._paths(layout.key)))
        start = datetime.fromtimestamp(layout.clock.start / 1000.0, timezone.utc)
        name = f"offline-run-{start:%Y%m%d_%H%M%S}-{run_id}"
        path = os.path.join(self.folder, name, f"run-{run_id}.wandb")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with self._written(path, layout, run_id, ()) as partial:
            try:
                publish_once(partial, path)
            except FileExistsError:
                raise ConflictError from None
        return path

    def _replace(self, layout: Layout, held: Held) -> str:
        path = held.location
        if os.path.exists(f"{path}.synced"):
            raise ExportError(
                f"{path} was synced already, and would be uploaded a second time. "
                "Its new rows cannot be added yet."
            )
        run_id = os.path.basename(path)[4:-6]
        with self._written(path, layout, run_id, held.cuts) as partial, _locked(path):
            if self._held(path, layout) != held:
                raise ConflictError
            os.replace(partial, path)
        return path

    @contextmanager
    def _written(
        self, path: str, layout: Layout, run_id: str, earlier: tuple[int, ...]
    ) -> Iterator[str]:
        """The whole run under a name that `wandb sync` does not see."""
        partial = f"{path}.{os.urandom(4).hex()}.partial"
        target = Target(run_id, self.project, self.entity)
        try:
            write_file(partial, write_log(records(layout, target, whole_state(layout, earlier))))
            yield partial
            sync_directory(os.path.dirname(path))
        finally:
            unlink(partial)

    def read_back(self, held: Held) -> Recorded:
        """All points of the run."""
        try:
            with open(held.location, "rb") as file:
                found = read_run(read_log(file.read()))
        except (OSError, LogError) as error:
            raise VerifyError(f"{held.location} cannot be read back: {error}") from error
        return found

    def attach(self, held: Held, files: Mapping[str, bytes]) -> bool:
        """Files are not attached yet."""
        return False

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


def _run_id(key: str, number: int) -> str:
    """The id of a run: made of its key; `number` counts forks from 0."""
    return hashlib.blake2b(f"{key}\n{number}".encode(), digest_size=8).hexdigest()


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
def _locked(path: str) -> Iterator[None]:
    """Only one process at a time replaces a file of this directory."""
    if os.name != "posix":
        yield
        return
    import fcntl

    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
