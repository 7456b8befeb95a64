"""Trees of servers and object stores, which are listed directory by directory."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterator

from bridges.exporters.mlflow.artifact_copy.trees import Content, Entry, FileError, check_path

MAX_DEPTH = 100  # of directories; deeper ones are the mistake of a server
Items = dict[str, tuple[bool, int]]  # by name: whether it is a directory, and the size


class ListedTree(ABC):
    """A tree of files that another program lists."""

    parallel = False  # it has one connection

    def __init__(self) -> None:
        self._listed: tuple[str, Items] | None = None  # the last listed directory

    @abstractmethod
    def items(self, folder: str) -> Items:
        """The items of a directory; none if it does not exist. Raises FileError, ExportError."""

    def entries(self) -> Iterator[Entry]:
        """All files by directory and name, and whatever cannot be listed.

        Raises ExportError, and FileError if the root cannot be listed.
        """
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                items = self.items(folder)
            except FileError as error:
                if not folder:
                    raise
                yield Entry(folder, problem=str(error))
                continue
            for name, (is_folder, size) in sorted(items.items()):
                path = f"{folder}/{name}" if folder else name
                if not is_folder:
                    yield Entry(path, size)
                elif problem := _problem_of_folder(path):
                    yield Entry(path, problem=problem)
                else:
                    waiting.append(path)

    def size(self, path: str) -> int | None:
        """The size of a file in bytes; None if it does not exist. Raises FileError, ExportError."""
        folder, name = posixpath.split(path)
        if self._listed is None or self._listed[0] != folder:
            self._listed = folder, self.items(folder)
        is_folder, size = self._listed[1].get(name, (True, 0))
        return None if is_folder else size

    def has_written(self, path: str, content: Content) -> None:
        """Record a new file in the last listing."""
        folder, name = posixpath.split(path)
        if self._listed is not None and self._listed[0] == folder:
            self._listed[1][name] = False, content.size


def _problem_of_folder(path: str) -> str:
    """The reason why a directory is not listed; empty if it is."""
    try:
        check_path(path)
    except FileError as error:
        return str(error)
    return "it is too deep" if path.count("/") >= MAX_DEPTH else ""
