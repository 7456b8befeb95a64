"""The installed releases of distributions, without importing them."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import suppress


def releases(names: Collection[str]) -> dict[str, str]:
    """The releases of installed distributions, by name.

    The names of directories such as `mlflow-3.1.0.dist-info` contain them. Listing these takes
    1 ms, but importing `importlib.metadata` takes 25 ms.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):
            for entry in os.listdir(folder or os.curdir):
                name, _, rest = entry.removesuffix(".dist-info").partition("-")
                if name in names and entry.endswith(".dist-info"):
                    found.setdefault(name, rest)
    return found
