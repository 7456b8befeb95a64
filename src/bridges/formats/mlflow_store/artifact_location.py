"""Artifact locations of MLflow stores: local paths, `file:` URIs, and URIs of other places."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

_REMOTE = re.compile(r"(?!file:)[a-zA-Z][\w+.-]+:")  # a scheme; one letter is a drive of Windows


def local_path(location: str) -> str | None:
    """The path of a local location, which may be relative; None for a remote one."""
    if _REMOTE.match(location):
        return None
    return _path_of(urlsplit(location).path) if location.startswith("file:") else location


def _path_of(path: str) -> str:
    """The path in the URL of a file."""
    if os.name != "nt":
        return unquote(path)
    from urllib.request import url2pathname  # slow to import

    return url2pathname(path)
