"""Copies the missing and different files of a tree into another one, or compares the two."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from bridges.exporters.mlflow.artifact_copy.trees import (
    Content,
    Entry,
    FileError,
    Tree,
    WritableTree,
    check_path,
    digest_of,
)
from bridges.http import NoAnswerError
from bridges.report import ArtifactCounts
from bridges.stream.finding import Finding, Severity

Mode = Literal["copy", "compare", "plan"]
JOBS = 4  # threads for local files: most of the time of small ones is waiting for the disk
MAX_WAITING = 64  # files
ATTEMPTS = 3  # of a file whose transfer breaks off; each request has more of its own
INTERVAL = 0.5  # seconds between messages of the progress
MAX_NAMES = 5  # in a finding
DIFFERS = "the file in the target is missing or different"


@dataclass
class Copying:
    """The files of a run so far, and those with a problem by its reason.

    With the mode `plan`, only sizes are compared, and `copied_files` and `copied_bytes` are those
    to be copied.
    """

    mode: Mode
    on_progress: Callable[[str], None]
    files: int = 0
    total_bytes: int = 0
    copied_files: int = 0
    copied_bytes: int = 0
    _problems: Counter[str] = field(default_factory=Counter)
    _names: dict[str, list[str]] = field(default_factory=dict)
    _next: float = 0.0
    _read: int = 0

    def tree(self, source: Tree, target: WritableTree, label: str) -> None:
        """Copy or compare all files of a tree; `label` stands before their names in findings.

        Raises ExportError, and FileError if the source cannot be listed.
        """
        for entry, outcome in self._outcomes(source, target):
            self.files += 1
            self.total_bytes += entry.size
            if isinstance(outcome, FileError):
                self.problem(f"{label}{entry.path}", str(outcome))
            elif outcome is not None:
                self.copied_files += 1
                self.copied_bytes += outcome

    def _outcomes(
        self, source: Tree, target: WritableTree
    ) -> Iterator[tuple[Entry, int | FileError | None]]:
        """Each file with the copied bytes, None if it needs no copy, or its problem."""

        def outcome(entry: Entry) -> int | FileError | None:
            try:
                return self._repeated(source, target, entry)
            except FileError as error:
                return error

        if self.mode == "plan" or not (source.parallel and target.parallel):
            yield from ((entry, outcome(entry)) for entry in source.entries())
            return
        pool, waiting = ThreadPoolExecutor(JOBS), deque[tuple[Entry, Future[Any]]]()
        try:
            for entry in source.entries():
                waiting.append((entry, pool.submit(outcome, entry)))
                if len(waiting) > MAX_WAITING:
                    first, future = waiting.popleft()
                    yield first, future.result()
            yield from ((entry, future.result()) for entry, future in waiting)
        finally:
            pool.shutdown(cancel_futures=True)

    def _repeated(
        self, source: Tree, target: WritableTree, entry: Entry, attempts: int = ATTEMPTS
    ) -> int | None:
        """Begin a file again if its transfer breaks off. Raises FileError, ExportError.

        A server error (500) concerns this file alone: MLflow 3.12 cannot send names beyond ASCII.
        """
        try:
            return self._file(source, target, entry)
        except NoAnswerError as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                raise FileError(str(error)) from error
            if attempts == 1 or not error.answered:
                raise
        return self._repeated(source, target, entry, attempts - 1)

    def _file(self, source: Tree, target: WritableTree, entry: Entry) -> int | None:
        """Copy or compare a file. Returns the copied bytes, None without any. Raises FileError."""
        if entry.problem:
            raise FileError(entry.problem)
        check_path(entry.path)
        if self._is_there(source, target, entry):
            return None
        if self.mode == "compare":
            raise FileError(DIFFERS)
        if self.mode == "plan":
            return entry.size
        content = Content(source, entry, self._show)
        target.put(entry.path, content)
        return content.size

    def _is_there(self, source: Tree, target: Tree, entry: Entry) -> bool:
        """Whether the target has an equal file."""
        if target.size(entry.path) != entry.size:
            return False
        return self.mode == "plan" or self._digest(source, entry) == self._digest(target, entry)

    def _digest(self, tree: Tree, entry: Entry) -> str:
        return digest_of(self._shown(tree.chunks(entry.path)))

    def _shown(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._show(len(chunk))
            yield chunk

    def _show(self, size: int) -> None:
        """Report the progress from time to time; `size` more bytes were read."""
        self._read += size
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL
            done = "comparing" if self.mode == "compare" else "copying"
            self.on_progress(f"{done} artifacts ({self._read / 1e6:,.0f} MB) of")

    def problem(self, path: str, reason: str) -> None:
        """Count a file with a problem."""
        self._problems[reason] += 1
        names = self._names.setdefault(reason, [])
        if len(names) < MAX_NAMES:
            names.append(path)

    @property
    def counts(self) -> ArtifactCounts:
        """The numbers for the report."""
        return ArtifactCounts(self.files, self.total_bytes, self.copied_files, self.copied_bytes)

    @property
    def findings(self) -> list[Finding]:
        """A finding for each reason, with the number of files."""
        return [_finding(self._names[each], each, n) for each, n in self._problems.items()]


def _finding(names: list[str], reason: str, count: int) -> Finding:
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    where = f"{', '.join(names)}{more}"
    if reason == DIFFERS:
        return Finding("artifacts-differ", Severity.ERROR, where, reason, count)
    return Finding("artifacts-not-copied", Severity.LOSS, where, f"not copied: {reason}", count)
