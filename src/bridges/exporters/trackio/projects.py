"""Names of projects, and the directory with their files, as Trackio defines them."""

from __future__ import annotations

import os

SUFFIX = ".db"
DEFAULT_PROJECT = "huggingface"  # the live callback's
RESERVED_PREFIX = "registry-"
RESERVED_ENDS = (  # names of tables in files that Trackio derives from a project
    *("_system", "_configs", "_traces", "_artifacts", "_artifact_versions", "_artifact_aliases"),
    *("_run_artifact_links", "_external_run_artifact_links"),
)


def directory(given: str | None) -> str:
    """The directory of the projects: the given one, else Trackio's own."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    chosen = given or os.environ.get("TRACKIO_DIR") or os.path.join(home, "trackio")
    return os.path.expandvars(os.path.expanduser(chosen))


def canonical(project: str) -> str:
    """The name of a project on disk: letters, digits, `-` and `_`; `default` without any."""
    return "".join(c for c in project if c.isalnum() or c in "-_") or "default"


def files_of_run(directory: str, project: str, run_id: str) -> str:
    """The folder of a run below that of the project's files, which the dashboard lists."""
    return os.path.join(directory, "media", project, "files", run_id)


def refusal(project: str) -> str:
    """Why Trackio refuses a name; empty for a legal one."""
    name = canonical(project)
    if name.startswith(RESERVED_PREFIX):
        return f"Trackio keeps names that begin with {RESERVED_PREFIX!r} for registries"
    for end in RESERVED_ENDS:
        if name.endswith(end) and name != end:
            return f"Trackio keeps names that end with {end!r} for its own files"
    return ""
