"""Runs in the projects of their libraries, where the live callback puts them if none is given.

sentence-transformers and SetFit set a project of their own. The first version of bridges did not
know that, so a run may also be in the usual project, and stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Protocol

from bridges.exporters.base import ExistingRun, Labels, Recorded
from bridges.exporters.receipts import RunReceipt
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout

LIBRARIES = ("sentence-transformers", "setfit")


class Runs(Protocol):
    """A place for runs: a folder of offline runs, or a server."""

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys."""
        ...

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or append the rows that an existing one lacks."""
        ...

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        ...

    def stored_params(self, existing: ExistingRun) -> Mapping[str, Any]:
        """The run's config."""
        ...

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Keep the files among those of the run, unless they are there."""
        ...

    def preload(self) -> None:
        """Ask once for all runs of the project, for `find`."""
        ...

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """The run with these labels; None where they cannot change."""
        ...

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        ...

    def receipts(self) -> Iterator[RunReceipt]:
        """All valid receipts."""
        ...


class Projects:
    """The runs of several projects, each opened by `open_project` when it is first needed.

    `usual` is the project of runs whose library sets none. `libraries` are the other projects whose
    marked runs are listed: none for a folder, which lists all runs at once.
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
        name = project or self._usual
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

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or append to an existing one in its own project."""
        runs = self._runs(existing.place if existing else layout.run.project)
        return runs.write(layout, seen, existing)

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        return self._runs(existing.place).read_back(existing)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, Any]:
        """The run's config."""
        return self._runs(existing.place).stored_params(existing)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Keep the files among those of the run, unless they are there."""
        self._runs(existing.place).attach(existing, files)

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """The run with these labels; None where they cannot change."""
        return self._runs(existing.place).relabel(layout, existing, labels)

    def preload(self) -> None:
        """Ask once for all runs of each project, for `find`."""
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
