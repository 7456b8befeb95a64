"""Remote files: their file systems and metadata.

fsspec caches directory listings. Clear them with `forget_listings` before a location is read again
in one process.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

# parts of the metadata keys that change with the content, across file systems
_VERSION_KEYS = (
    *("etag", "mtime", "modified", "updated", "created", "creation", "generation"),
    *("md5", "crc", "hash", "checksum", "commit", "blob"),
)
MISSING = "missing"


def opened(location: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. Raises any exception of that file system."""
    import fsspec  # here only: most runs are local files

    files, path = fsspec.core.url_to_fs(location)
    return files, str(path)


def forget_listings(locations: Iterable[str]) -> None:
    """Clear the listing caches of the file systems of all URLs among the locations."""
    for location in locations:
        with suppress(Exception):  # deliberately broad: reading the location reports the error
            if "://" in location:
                opened(location)[0].invalidate_cache()


def described(location: str) -> str | None:
    """The metadata of a file that change with its content, as text; None if it has none.

    An etag suffices alone. Unlike other metadata, it is equal in a listing and for a single file.
    """
    files, path = opened(location)
    try:
        known = files.info(path)
    except FileNotFoundError:
        return MISSING
    keys = [key for key in known if any(word in key.lower() for word in _VERSION_KEYS)]
    keys = [key for key in keys if "etag" in key.lower()] or keys
    return repr([(key, known.get(key)) for key in sorted([*keys, "size"])]) if keys else None
