"""The installed release of wandb, without importing it, and the tested releases."""

from __future__ import annotations

from bridges.errors import ExportError
from bridges.installed import releases

TESTED = ((0, 19), (0, 31))  # oldest and newest tested release
APPENDING = (0, 28)  # first tested release that appends to a run; older ones overwrite its rows


def installed_release() -> tuple[int, int] | None:
    """The release of the installed wandb, found without importing it."""
    major, minor = (*releases(["wandb"]).get("wandb", "").split("."), "")[:2]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def check_appends() -> None:
    """Raises ExportError if the installed wandb overwrites the first rows of a run."""
    release = installed_release()
    if release is not None and release < APPENDING:
        raise ExportError(
            f"wandb {release[0]}.{release[1]} is installed; its sync would overwrite the first "
            "rows of an existing run with the new ones. Run: pip install --upgrade wandb"
        )


def untested() -> str | None:
    """The release of the installed wandb if it is untested; else None."""
    release = installed_release()
    if release is None or TESTED[0] <= release <= TESTED[1]:
        return None
    return ".".join(map(str, release))
