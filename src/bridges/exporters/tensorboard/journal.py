"""The journal of a log directory: key and directory of each published run, one line each.

An exporter walks the log directory once and then reads new lines of other exporters. A line is a
hint: the run may not be published yet, or may have been deleted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import BinaryIO

JOURNAL = ".bridges.journal"  # in the log directory; readers ignore it


class Journal:
    """Lines `KEY PATH`, with the path of a run's directory below the log directory.

    Both methods return key and path of each line once.
    """

    def __init__(self, logdir: str) -> None:
        self._path = os.path.join(logdir, JOURNAL)
        self._read = 0  # bytes

    def news(self) -> list[tuple[str, str]]:
        """The new lines of other exporters."""
        with suppress(FileNotFoundError, NotADirectoryError):
            if os.stat(self._path).st_size != self._read:
                with open(self._path, "rb") as file:
                    return self._lines(file)
        return []

    def add(self, key: str, path: str) -> list[tuple[str, str]]:
        """Append a line. Called before the run gets its name, so every published run has a line."""
        with open(self._path, "r+b", opener=_append) as file:
            file.write(b"\n%s %s\n" % (key.encode(), os.fsencode(path)))  # a torn line ends here
            return self._lines(file)

    def _lines(self, file: BinaryIO) -> list[tuple[str, str]]:
        if file.seek(0, os.SEEK_END) < self._read:  # the journal was deleted and created again
            self._read = 0
        file.seek(self._read)
        text = file.read()
        text = text[: text.rfind(b"\n") + 1]  # the last line may still be written
        self._read += len(text)
        parts = (line.partition(b" ") for line in text.split(b"\n"))
        return [(key.decode(errors="replace"), os.fsdecode(path)) for key, _, path in parts if path]


def _append(path: str, flags: int) -> int:
    """Open the journal with the write permissions of the log directory."""
    with suppress(FileNotFoundError):
        return os.open(path, flags | os.O_APPEND)
    descriptor = os.open(path, flags | os.O_APPEND | os.O_CREAT, 0o666)
    with suppress(OSError):
        os.chmod(path, os.stat(os.path.dirname(path) or os.curdir).st_mode & 0o666)
    return descriptor
