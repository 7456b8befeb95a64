"""Files that are not on this machine: where they are, and what their store says of them.

File systems remember what they listed. A process that lives longer than one export must not take
that for how things are: whoever begins to read a place lets them forget it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

# what of a remote file's description tells one content from another, however it is called there
_TELLING = (
    *("etag", "mtime", "modified", "updated", "created", "creation", "generation"),
    *("md5", "crc", "hash", "checksum", "commit", "blob"),
)
MISSING = "missing"


def opened(location: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there. Raises what that file system raises."""
    import fsspec  # only here: most runs are local files

    files, path = fsspec.core.url_to_fs(location)
    return files, str(path)


def forget_listings(locations: Iterable[str]) -> None:
    """Let the file systems of those that are URLs list anew."""
    for location in locations:
        with suppress(Exception):  # deliberately broad: reading the location tells what is wrong
            if "://" in location:
                opened(location)[0].invalidate_cache()


def described(location: str) -> str | None:
    """What a file system says of a file; None where that cannot tell one content from another.

    An etag says all, and is the same in a listing and of the file alone, which other facts are not.
    """
    files, path = opened(location)
    try:
        known = files.info(path)
    except FileNotFoundError:
        return MISSING
    told = [key for key in known if any(word in key.lower() for word in _TELLING)]
    told = [key for key in told if "etag" in key.lower()] or told
    return repr([(key, known.get(key)) for key in sorted([*told, "size"])]) if told else None
