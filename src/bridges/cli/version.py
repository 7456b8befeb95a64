"""The text of `bridge --version`."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import suppress

from bridges import __version__

TRACKERS = ("tensorboard", "mlflow", "wandb")


def version_text() -> str:
    """The versions of bridges and of the installed trackers."""
    found = installed(TRACKERS)
    trackers = ", ".join(f"{name} {found[name]}" for name in TRACKERS if name in found)
    return f"bridge {__version__}\ntrackers: {trackers or 'none installed'}"


def installed(names: Collection[str]) -> dict[str, str]:
    """The versions of installed distributions.

    The names of directories such as `mlflow-3.1.0.dist-info` contain them. Listing these takes
    1 ms, but importing `importlib.metadata` takes 25 ms.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):
            for entry in os.listdir(folder or os.curdir):
                name, _, rest = entry.removesuffix(".dist-info").partition("-")
                if name in names and entry.endswith(".dist-info"):
                    versions.setdefault(name, rest)
    return versions
