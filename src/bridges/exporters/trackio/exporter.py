"""Trackio: runs as the live callback logs them, with their own times, straight into its files.

A row of Trackio is a call of `log`. The state of a run is written in the transaction of its last
rows; until then it is incomplete, and the next export writes the run again. Rows that a training
adds to a run stay as they are.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from bridges import (
    BaseExporter,
    ConfigError,
    ConflictError,
    ExistingRun,
    ExportError,
    Finding,
    Identity,
    Layout,
    Recorded,
    Run,
    Severity,
    VerifyError,
    encodable,
    whole_state,
)
from bridges.exporters.atomic_files import put_files, system_errors
from bridges.exporters.base import Labels
from bridges.exporters.receipts import Receipt, RunReceipt
from bridges.exporters.trackio import stored
from bridges.exporters.trackio.adapt import adapt
from bridges.exporters.trackio.config import config_of, params_in, summary_in
from bridges.exporters.trackio.database import ProjectFile
from bridges.exporters.trackio.options import TrackioOptions
from bridges.exporters.trackio.projects import (
    DEFAULT_PROJECT,
    SUFFIX,
    canonical,
    directory,
    files_of_run,
    refusal,
)
from bridges.exporters.trackio.rows import recorded, rows_of
from bridges.exporters.trackio.stored import UNREADABLE, StoredRun


class TrackioExporter(BaseExporter):
    """Writes runs into the SQLite files of Trackio's projects.

    Without a project, a run goes to the project that its arguments name, else to that of its
    source, else to the live callback's.
    """

    name = "trackio"
    naming = "trackio"
    Options = TrackioOptions

    def __init__(self, options: TrackioOptions | None = None) -> None:
        options = options or TrackioOptions()
        if options.project and (why := refusal(options.project)):
            raise ConfigError(f"--project {options.project}: {why}. Choose another name.")
        self._given = options.project
        self._own_directory = options.trackio_dir
        self._directory = directory(options.trackio_dir)
        self.place = canonical(options.project or DEFAULT_PROJECT)
        by_step = options.trackio_step == "global_step"
        self.layout_options = {"trackio-step": "global_step"} if by_step else {}

    def adapt(self, layout: Layout) -> Layout:
        """The layout with Trackio's keys and values, and a finding for each change."""
        layout, project = adapt(layout), self._chosen(layout.run)
        if canonical(project) == project:
            return layout
        message = f"Trackio calls the project {canonical(project)!r}"
        found = Finding("name-changed", Severity.INFO, f"project {project!r}", message)
        return replace(layout, findings=(*layout.findings, found))

    def as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """The same numbers: integers and booleans keep their type."""
        return values

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys, in the run's projects and in the default one."""
        usual = canonical(self._given or identity.project or DEFAULT_PROJECT)
        projects = dict.fromkeys([self._project(identity), usual, self.place])
        found: list[ExistingRun] = []
        for file in map(self._file, projects):
            with file.reading() as database:
                found += self._found(database, file, identity) if database else []
        return found

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the missing rows of an existing one, some rows per transaction."""
        file = self._file(existing.place if existing else self._project(layout.run))
        is_kept = existing is not None and bool(existing.complete) and not layout.replaces
        start = existing.state.rows if existing and is_kept else 0
        name = existing.name if existing else encodable(layout.run.name)
        run = StoredRun(
            id=existing.id if existing else self._free_id(file, layout.key),
            key=layout.key,
            state=whole_state(layout, existing.state if existing else None),
            complete=False,
            writer=os.urandom(8).hex(),
        )
        rows = rows_of(layout, start)
        if not file.exists:
            with file.creating() as database:
                stored.put_config(database, run.id, name, config_of(layout))
                stored.insert(database, run.id, rows)
                replace(run, complete=True).put(database)
            return _existing(file, replace(run, complete=True), name)
        with file.writing() as database:
            self._refuse_changes(database, file, layout, seen, existing, run.id)
            if not is_kept:
                stored.delete_rows(database, run.id)
            config = config_of(layout, stored.config_in(database, run.id))
            stored.put_config(database, run.id, name, config)
            is_last = stored.insert_some(database, run.id, rows)
            replace(run, complete=is_last).put(database)
        while not is_last:
            with file.writing() as database:
                stored.require_own(database, run)
                is_last = stored.insert_some(database, run.id, rows)
                replace(run, complete=is_last).put(database)
        return _existing(file, replace(run, complete=True), name)

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """True: rows of bridges are deleted and written again."""
        return True

    def read_back(self, existing: ExistingRun) -> Recorded:
        """The rows that bridges wrote, and a finding for rows of others in the run."""
        file = self._file(existing.place)
        with file.reading() as database:
            if database is None or stored.name_of(database, existing.id) is None:
                raise VerifyError(f"{existing.location}: the run is missing")
            rows = stored.rows_in(database, existing.id)
            count, _ = stored.extent_of(database, existing.id)
            config = self._config(database, existing)
        try:
            found = recorded(rows, existing.state)
        except VerifyError as error:
            raise VerifyError(f"{existing.location}: {error}") from error
        others = count - sum(some.size for some in rows)
        findings = (_foreign(existing, others),) if others else ()
        params, summary = params_in(config), summary_in(config)
        return replace(found, summary=summary, params=params, findings=findings)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, object]:
        """The params of the run, from its config."""
        with self._file(existing.place).reading() as database:
            return params_in(self._config(database, existing)) if database else {}

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun:
        """Set name, group and tags of the run."""
        file = self._file(existing.place)
        with file.writing() as database:
            self._refuse_change(database, file, existing)
            before = self._config(database, existing)
            whole = config_of(layout, before)
            names = [*(["_Group"] if labels.group else []), *(f"tags/{tag}" for tag in labels.tags)]
            config = {**before, **{name: whole[name] for name in names}}
            if config != before:
                stored.put_config(database, existing.id, existing.name, config)
            name = encodable(labels.name or existing.name)
            if name != existing.name:
                stored.rename(database, existing.id, name)
        return replace(existing, name=name)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files among the project's files, in a folder of the run."""
        with system_errors(self._directory):
            put_files(files_of_run(self._directory, existing.place, existing.id), files)

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in the state of their runs; a write to a run removes its receipt."""
        for project in {run.place for run in runs}:
            with self._file(project).writing() as database:
                for run in (run for run in runs if run.place == project):
                    for one in stored.stored_runs(database, run.id):
                        if one.id == run.id and one.state.agrees_with(run.receipt):
                            extent, text = stored.extent_of(database, one.id), run.receipt.text()
                            replace(one, receipt=text, extent=extent).put(database)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of runs whose rows are as they were."""
        for project in [self.place] if self._given else self._projects():
            file = self._file(project)
            with suppress(ExportError), file.reading() as database:
                yield from _receipts(database, file) if database else ()

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The command that shows the projects of the runs."""
        files = {os.path.basename(path.rpartition("#")[0]) for path in locations}
        before = f"TRACKIO_DIR={shlex.quote(self._directory)} " if self._own_directory else ""
        if len(files) != 1:
            return f"{before}trackio show"
        return f"{before}trackio show --project {shlex.quote(files.pop()[: -len(SUFFIX)])}"

    def _chosen(self, run: Run | Identity) -> str:
        """The project of a new run."""
        return self._given or run.own_projects.get(self.name) or run.project or DEFAULT_PROJECT

    def _project(self, run: Run | Identity) -> str:
        """The name on disk of the project of a new run. Raises ExportError for a reserved one."""
        project = self._chosen(run)
        if why := refusal(project):
            raise ExportError(f"project {project!r}: {why}. Choose another one with --project.")
        return canonical(project)

    def _projects(self) -> list[str]:
        """All projects in the directory."""
        names = os.listdir(self._directory) if os.path.isdir(self._directory) else []
        return sorted(name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX))

    def _file(self, project: str) -> ProjectFile:
        return ProjectFile(self._directory, project)

    def _free_id(self, file: ProjectFile, key: str) -> str:
        with file.reading() as database:
            return stored.free_id(database, key)

    def _found(
        self, database: sqlite3.Connection, file: ProjectFile, identity: Identity
    ) -> list[ExistingRun]:
        """The runs of a project with one of the keys, without deleted ones."""
        try:
            found = [run for key in identity.keys for run in stored.stored_runs(database, key)]
        except UNREADABLE:
            raise ExportError(
                f"{file.path}: the state of a run with the key {identity.key} is damaged. Delete "
                "the run in Trackio, and its row in the table project_metadata."
            ) from None
        names = ((run, stored.name_of(database, run.id)) for run in found)
        return [_existing(file, run, name) for run, name in names if name is not None]

    def _refuse_changes(
        self,
        database: sqlite3.Connection,
        file: ProjectFile,
        layout: Layout,
        seen: Sequence[ExistingRun],
        existing: ExistingRun | None,
        id: str,
    ) -> None:
        """Raises ConflictError if another export changed a run of the key since `find`."""
        if any(run not in seen for run in self._found(database, file, layout.identity)):
            raise ConflictError
        if existing:
            self._refuse_change(database, file, existing)
        elif stored.name_of(database, id) is not None:
            raise ConflictError

    def _refuse_change(
        self, database: sqlite3.Connection, file: ProjectFile, existing: ExistingRun
    ) -> None:
        """Raises ConflictError if the run has changed since `find`."""
        runs = [run for run in stored.stored_runs(database, existing.id) if run.id == existing.id]
        name = stored.name_of(database, existing.id)
        if name is None or [_existing(file, run, name) for run in runs] != [existing]:
            raise ConflictError

    def _config(self, database: sqlite3.Connection, existing: ExistingRun) -> dict[str, Any]:
        """The config of a run. Raises VerifyError for a damaged one."""
        try:
            return stored.config_in(database, existing.id)
        except UNREADABLE as error:
            raise VerifyError(f"{existing.location}: its config is damaged: {error}") from error


def _existing(file: ProjectFile, run: StoredRun, name: str) -> ExistingRun:
    return ExistingRun(
        key=run.key,
        name=name,
        location=f"{file.path}#{run.id}",
        state=run.state,
        id=run.id,
        place=file.project,
        complete=run.complete,
    )


def _receipts(database: sqlite3.Connection, file: ProjectFile) -> Iterator[RunReceipt]:
    with suppress(*UNREADABLE):
        for run in stored.stored_runs(database):
            receipt, name = Receipt.parse(run.receipt), stored.name_of(database, run.id)
            is_same = run.complete and run.extent == stored.extent_of(database, run.id)
            if receipt and name is not None and is_same:
                existing = _existing(file, run, name)
                yield RunReceipt(run.key, name, existing.location, receipt, run.id, file.project)


def _foreign(existing: ExistingRun, count: int) -> Finding:
    message = "rows of this run were not written by bridges: they stay as they are"
    return Finding("foreign-rows", Severity.INFO, existing.location, message, count)
