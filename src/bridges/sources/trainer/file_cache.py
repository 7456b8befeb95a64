"""A cache of values computed from local files, valid until one of the files changes.

A shell expands `checkpoint-*/trainer_state.json` to many files, and each of them is read together
with all other states of its directory.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from bridges.sources.options import ReadOptions

MAX_KEPT = 16
_SETTLED = 50_000_000  # ns: changes within one tick of the file system's clock look alike

T = TypeVar("T")
Key = tuple[Sequence[str], str | None, ReadOptions]  # files, one more file, options


class UnchangedFiles(Generic[T]):
    """The last `MAX_KEPT` values, by the files that each was computed from."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, T] = OrderedDict()

    def of(self, key: Key, make: Callable[[], T]) -> T:
        """The cached value if the files are unchanged; otherwise `make()`, which is cached."""
        files, other, options = key
        fingerprint = (
            None if options.growing else _stat_fingerprint([*files, *([other] if other else [])])
        )
        if fingerprint is None:
            return make()
        known = (fingerprint, options)
        if known in self._kept:
            self._kept.move_to_end(known)
        else:
            self._kept[known] = make()
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return self._kept[known]


def _stat_fingerprint(files: Sequence[str]) -> tuple[object, ...] | None:
    """The stat results of files; None if a file has just changed or cannot be accessed."""
    fingerprint: list[object] = [os.getcwd()]
    newest = time.time_ns() - _SETTLED
    for file in files:
        try:
            found = os.stat(file)
        except (OSError, ValueError):
            return None
        if found.st_ctime_ns > newest:
            return None
        fingerprint.append(
            (file, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        )
    return tuple(fingerprint)
