"""Weights & Biases: runs as the live callback logs them, with their own times.

State lives in the run's config. Offline runs are written without the wandb package (`offline.py`);
for online runs, wandb uploads such files (`online.py`).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock

from bridges.exporters.base import BaseExporter, ExistingRun, Labels, Recorded
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.wandb.adapt import adapt
from bridges.exporters.wandb.history import as_float64
from bridges.exporters.wandb.limits import check_project
from bridges.exporters.wandb.offline import MakeFile, OfflineRuns, make_file
from bridges.exporters.wandb.options import WandbOptions
from bridges.exporters.wandb.projects import LIBRARIES, Projects, Runs
from bridges.exporters.wandb.release import untested
from bridges.exporters.wandb.run import KEY, STATE, Target
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Run, Values

DEFAULT_PROJECT = "huggingface"  # the live callback's


class WandbExporter(BaseExporter):
    """Writes runs as files for `wandb sync`, or uploads them to the configured server.

    Without a project, a run goes to the project of its library, else to `huggingface`, as with the
    live callback.
    """

    name = "wandb"
    naming = "wandb"
    Options = WandbOptions

    def __init__(self, options: WandbOptions | None = None) -> None:
        options = options or WandbOptions()
        given = options.project or os.environ.get("WANDB_PROJECT")
        entity = options.entity or os.environ.get("WANDB_ENTITY")
        usual = check_project(given or DEFAULT_PROJECT)
        self._has_one_project = given is not None
        self.place = f"{entity or ''}/{usual}"
        self._is_merged = options.wandb_step == "global_step"
        self.layout_options = {"wandb-step": "global_step"} if self._is_merged else {}
        self._folder = os.path.join(options.wandb_dir, "wandb")
        self._untested: str | None = None
        self._target = Target(usual, entity, options.job_type)
        self._make = self._maker(options.wandb_writer)
        self._local = OfflineRuns(self._folder, self._target, self._make)
        self._is_online = options.mode == "online"
        self.view_label = "View" if self._is_online else "Upload"
        self.parallel = self._is_online
        self._lock = Lock()

    @cached_property
    def _runs(self) -> Runs:
        """The runs of the target, opened on first use by one thread."""
        with self._lock:
            return self.__dict__.get("_runs") or self._open()

    def _open(self) -> Runs:
        usual = self._target.project
        if self._has_one_project:
            return self._open_project(usual)
        return Projects(self._open_project, usual, LIBRARIES if self._is_online else ())

    def _open_project(self, project: str) -> Runs:
        target, local = self._target, self._local
        if project != target.project:
            target = replace(target, project=project)
            local = OfflineRuns(self._folder, target, self._make)
        if not self._is_online:
            return local
        from bridges.exporters.wandb.online import OnlineRuns

        return OnlineRuns(target, self._make, local)

    def _maker(self, writer: str) -> MakeFile:
        """The function that writes run files: our encoder, or the wandb package."""
        if writer == "auto":
            self._untested = untested()
        self._is_direct = writer != "sdk" and self._untested is None
        if self._is_direct:
            return make_file
        from bridges.exporters.wandb import sdk as wandb_sdk

        return wandb_sdk.make_file

    def adapt(self, layout: Layout) -> Layout:
        """The layout with the values that W&B stores, and a finding for each change."""
        layout = adapt(layout, self._is_merged)
        if not self._untested:
            return layout
        message = (
            f"wandb {self._untested} is not a tested release, so its own API writes the run; this "
            "is slower, and the duration is that of the export"
        )
        found = Finding("written-by-client", Severity.INFO, "wandb", message)
        return replace(layout, findings=(*layout.findings, found))

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys."""
        return self._runs.find(identity)

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the target may have a run with one of these keys, by one request."""
        return not self._is_online or self._runs.may_hold(keys)

    def is_complete(self, run: Run, existing: ExistingRun) -> bool:
        """Whether the server holds all rows of a run."""
        from bridges.exporters.wandb.online import is_complete

        return is_complete(run, existing)

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the missing rows of an existing one."""
        return self._runs.write(layout, seen, existing)

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """True offline, before any part of the run is synced."""
        return not self._is_online and self._local.can_replace(existing)

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """Set the labels of a run; None if it is offline and synced."""
        return self._runs.relabel(layout, existing, labels)

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        found = self._runs.read_back(existing)
        return found if found.params is None else replace(found, params=_params_in(found.params))

    def stored_params(self, existing: ExistingRun) -> Mapping[str, object]:
        """The run's config without the keys of bridges and of wandb itself."""
        return _params_in(self._runs.stored_params(existing))

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files with the run, once."""
        self._runs.attach(existing, files)

    def preload(self) -> None:
        """List the runs of the project once; later `find` calls use that listing."""
        self._runs.preload()

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        self._runs.save_receipts(runs)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of the folder, or of the default project on the server."""
        return self._runs.receipts()

    def as_stored(self, values: Values) -> Values:
        """Float64; the wandb client reads -0.0 as 0.0."""
        is_exact = self._is_direct and not self._is_online
        return as_float64(values) if is_exact else as_float64(values) + 0.0

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The `wandb sync` command; online the URL of the last run."""
        if self._is_online:
            return locations[-1]
        folders = list(dict.fromkeys(os.path.dirname(path) for path in locations))
        one, every = shlex.quote(folders[0]), f"{shlex.quote(self._folder)}/offline-run-*"
        command = f"wandb sync {one if len(folders) == 1 else every}"
        appends = any(self._local.is_part(path) for path in locations)
        return f"{command}  # requires wandb 0.28 or later" if appends else command


def _params_in(config: Mapping[str, object]) -> dict[str, object]:
    """The params in a run's config."""
    return {key: value for key, value in config.items() if key not in (KEY, STATE, "_wandb")}
