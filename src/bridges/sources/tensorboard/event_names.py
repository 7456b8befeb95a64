"""Names of event files, with their process, and of directories inside a run."""

from __future__ import annotations

import re

from bridges.sources.file_names import EVENT_FILE_NAME

_NAME = re.compile(r"tfevents\.\d+\.(?P<writer>.+?)(\.v2|\.part)?(\.gz)?\Z", re.DOTALL)
_NUMBER = re.compile(r"\.\d+\Z")
_TF2 = re.compile(r"\.v2(\.gz)?\Z")
_TIME = re.compile(r"\d{9,10}(\.\d+)?\Z")
# directories beside each other, each with a part of the metrics of a training
SPLITS = frozenset({"train", "validation", "val", "eval", "test", "learn"})
EXPORTED = "bridges."  # begins the process in the names of exported files
_EXPORT = re.compile(r"bridges\.[0-9a-f]{32}")


def is_event_name(name: str) -> bool:
    """Whether TensorBoard reads a file of this name, apart from marks and notes of other tools."""
    return EVENT_FILE_NAME.search(name) is not None


def name_of(path: str) -> str:
    """The last name of a path or URL."""
    return path.replace("\\", "/").rpartition("/")[2]


def process_of(name: str) -> str:
    """The host and process in the name of an event file: `HOST.PID`, or `HOST` in old names.

    The last number counts the files of a process. Empty for a fixed name, as CatBoost's.
    """
    match = _NAME.search(name)
    if match is None:
        return ""
    export = _EXPORT.match(match["writer"])
    return export[0] if export else _NUMBER.sub("", match["writer"])


def has_process_id(process: str) -> bool:
    """Whether a process is known by host and id, or is an export by bridges."""
    return process.startswith(EXPORTED) or _NUMBER.search(process) is not None


def is_tf2(name: str) -> bool:
    """Whether TensorFlow 2 wrote a file, judged by its name."""
    return _TF2.search(name) is not None


def is_exported(name: str, *, part: bool) -> bool:
    """Whether bridges wrote a file: a part of a run in another directory, or another file."""
    return process_of(name).startswith(EXPORTED) and name.endswith(".part") == part


def is_session_name(name: str) -> bool:
    """Whether a directory is named after a time, as `add_hparams` names those of its sessions."""
    return _TIME.match(name) is not None
