"""The text of `bridge --version`."""

from __future__ import annotations

from bridges import __version__
from bridges.installed import releases

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")


def version_text() -> str:
    """The versions of bridges and of the installed trackers."""
    found = releases(TRACKERS)
    trackers = ", ".join(f"{name} {found[name]}" for name in TRACKERS if name in found)
    return f"bridge {__version__}\ntrackers: {trackers or 'none installed'}"
