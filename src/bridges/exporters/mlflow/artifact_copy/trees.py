"""Sources and targets of copies: file trees. Paths have `/` and are relative to the root."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 1 << 20


class FileError(Exception):
    """The reason why a file cannot be copied, without its path."""


@dataclass(frozen=True)
class Entry:
    """A file of a tree and its size in bytes. `problem`: the reason why it cannot be read."""

    path: str
    size: int = 0
    problem: str = ""


class Tree(Protocol):
    """A readable tree. `parallel`: by several threads at the same time."""

    parallel: bool

    def entries(self) -> Iterator[Entry]:
        """All files, and the directories that cannot be listed.

        Raises ExportError, and FileError if the root cannot be listed.
        """
        ...

    def size(self, path: str) -> int | None:
        """The size of a file in bytes; None if it does not exist."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file. Raises FileError, ExportError."""
        ...


class WritableTree(Tree, Protocol):
    """A writable tree."""

    def put(self, path: str, content: Content) -> None:
        """Write a file in place of an older one, and compare the stored bytes with the content.

        Raises FileError, ExportError.
        """
        ...


class NoFiles:
    """An empty tree."""

    parallel = False

    def entries(self) -> Iterator[Entry]:
        """No files."""
        return iter(())

    def size(self, path: str) -> int | None:
        """None."""
        return None

    def chunks(self, path: str) -> Iterator[bytes]:
        """Raise FileError."""
        raise FileError("the file does not exist")

    def put(self, path: str, content: Content) -> None:
        """Raise FileError."""
        raise FileError("the target does not take files")


class Content:
    """The bytes of a file as chunks; each iteration reads the file anew.

    `expected` is its size in the listing of the tree. `digest` (SHA-256) and `size` are those of
    the last iteration. `on_chunk` gets the size of each chunk.
    """

    def __init__(self, tree: Tree, file: Entry, on_chunk: Callable[[int], object]) -> None:
        self._tree, self._path, self._on_chunk = tree, file.path, on_chunk
        self.expected = file.size
        self.digest, self.size = "", 0

    def __iter__(self) -> Iterator[bytes]:
        total, self.size, self.digest = hashlib.sha256(), 0, ""
        for chunk in self._tree.chunks(self._path):
            total.update(chunk)
            self.size += len(chunk)
            self._on_chunk(len(chunk))
            yield chunk
        self.digest = total.hexdigest()


def digest_of(chunks: Iterable[bytes]) -> str:
    """The SHA-256 of chunks."""
    total = hashlib.sha256()
    for chunk in chunks:
        total.update(chunk)
    return total.hexdigest()


def check_path(path: str) -> None:
    """Raise FileError for a path leading out of its tree."""
    if "\0" in path or {"", ".", ".."}.intersection(path.replace("\\", "/").split("/")):
        raise FileError("its name leads out of the directory of the artifacts")
