"""What was worked out from local files, kept as long as none of them changes.

A shell expands `checkpoint-*/trainer_state.json` to many files, and each is read together with all
others of its directory.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from bridges.sources.options import ReadOptions

MAX_KEPT = 16
_SETTLED = 50_000_000  # ns: two changes within a tick of the file system's clock look as one

T = TypeVar("T")
Key = tuple[Sequence[str], str | None, ReadOptions]  # files, one more file, options


class UnchangedFiles(Generic[T]):
    """A few values in this process, each by the files that it was made from."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, T] = OrderedDict()

    def of(self, key: Key, make: Callable[[], T]) -> T:
        """The value of a key: kept, if its files look as they did; else made now."""
        files, other, options = key
        looks = None if options.growing else _looks([*files, *([other] if other else [])])
        if looks is None:
            return make()
        known = (looks, options)
        if known in self._kept:
            self._kept.move_to_end(known)
        else:
            self._kept[known] = make()
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return self._kept[known]


def _looks(files: Sequence[str]) -> tuple[object, ...] | None:
    """How files look; None where one has just changed, or cannot be looked at."""
    looks: list[object] = [os.getcwd()]
    newest = time.time_ns() - _SETTLED
    for file in files:
        try:
            found = os.stat(file)
        except (OSError, ValueError):
            return None
        if found.st_ctime_ns > newest:
            return None
        looks.append((file, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return tuple(looks)
