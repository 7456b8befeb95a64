"""Runs in the projects of their libraries: the live callback's choice without a given project.

sentence-transformers and SetFit set a project of their own. The first version of bridges ignored
it, so a run may also be in the usual project, and stays in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Lock
from typing import Protocol

from bridges.exporters.base import ExistingRun, Labels, Recorded
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.wandb.limits import legal_project
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout

LIBRARIES = ("sentence-transformers", "setfit")


class Runs(Protocol):
    """The runs of a project, in a folder of offline runs or on a server."""

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys."""
        ...

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the target may have a run with one of these keys."""
        ...

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the missing rows of an existing one."""
        ...

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        ...

    def stored_params(self, existing: ExistingRun) -> Mapping[str, object]:
        """The run's config."""
        ...

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files with the run, once."""
        ...

    def preload(self) -> None:
        """List the runs of the project once; later `find` calls use that listing."""
        ...

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """Set the labels of a run; None if they cannot change."""
        ...

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        ...

    def receipts(self) -> Iterator[RunReceipt]:
        """All valid receipts."""
        ...


class Projects:
    """The runs of several projects, each opened by `open_project` at first use.

    `usual` is the default project. `libraries` are other projects with receipts; empty for a
    folder, as one listing has the runs of all projects.
    """

    def __init__(
        self,
        open_project: Callable[[str], Runs],
        usual: str,
        libraries: Sequence[str] = (),
    ) -> None:
        self._open_project = open_project
        self._usual = usual
        self._libraries = libraries
        self._opened: dict[str, Runs] = {}
        self._is_preloaded = False
        self._lock = Lock()

    def _runs(self, project: str | None) -> Runs:
        """The runs of a project (None: the usual one)."""
        name = legal_project(project) if project else self._usual
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._open_project(name)
                if self._is_preloaded:
                    self._opened[name].preload()
            return self._opened[name]

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys, in the library's project and in the usual one."""
        found = []
        for runs in dict.fromkeys([self._runs(identity.project), self._runs(None)]):
            found += runs.find(identity)
        return found

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether one of the projects that were looked into may have a run with such a key."""
        return any(runs.may_hold(keys) for runs in [*self._opened.values()])

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the missing rows of an existing one, in its project."""
        runs = self._runs(existing.place if existing else layout.run.project)
        return runs.write(layout, seen, existing)

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        return self._runs(existing.place).read_back(existing)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, object]:
        """The run's config."""
        return self._runs(existing.place).stored_params(existing)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files with the run, once."""
        self._runs(existing.place).attach(existing, files)

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """Set the labels of a run; None if they cannot change."""
        return self._runs(existing.place).relabel(layout, existing, labels)

    def preload(self) -> None:
        """List the runs of each project once; later `find` calls use that listing."""
        self._is_preloaded = True
        self._runs(None).preload()

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        by_project: dict[Runs, list[RunReceipt]] = {}
        for run in runs:
            by_project.setdefault(self._runs(run.place), []).append(run)
        for project, some in by_project.items():
            project.save_receipts(some)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of a folder, or of the server's default project and library projects."""
        for project in dict.fromkeys([self._usual, *self._libraries]):
            yield from self._runs(project).receipts()
