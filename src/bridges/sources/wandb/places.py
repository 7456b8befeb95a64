"""The logs of runs at a location, grouped by run: a run may have several directories."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bridges.sources.folders import Folder, folders
from bridges.sources.trainer.locations import is_tree
from bridges.sources.wandb.claims import HISTORY_NAME, LOG_NAME, METADATA_NAME

CONFIG_NAME, SUMMARY_NAME, EVENTS_NAME = "config.yaml", "wandb-summary.json", "wandb-events.jsonl"
EARLY_FILES = (HISTORY_NAME, METADATA_NAME, CONFIG_NAME, SUMMARY_NAME, EVENTS_NAME)
LATEST = "latest-run"  # a link to the newest run, or its copy


@dataclass(frozen=True)
class LogPlace:
    """The log of a run, or of a part of it: a `.wandb` file, or the directory of an early run.

    run_id: as in its name
    files: paths or URLs of its files
    """

    path: str
    run_id: str
    files: tuple[str, ...]
    is_early: bool = False


def logs_at(location: str, unlisted: dict[str, str]) -> list[LogPlace]:
    """The logs at a location: a file, a directory, a glob or a URL of one.

    Unreadable directories are added to `unlisted` with the reason.
    """
    if not is_tree(location):
        return [_file(location)]
    claimed = (folder for folder in folders(location, unlisted) if folder.source == "wandb")
    return [log for folder in claimed for log in _logs_in(folder)]


def _file(path: str) -> LogPlace:
    name = path.replace(os.sep, "/").rpartition("/")[2]
    if name == HISTORY_NAME:
        return _early(os.path.dirname(path), os.listdir(os.path.dirname(path) or os.curdir))
    known = LOG_NAME.fullmatch(name)
    return LogPlace(path, known[1] if known else name.removesuffix(".wandb"), (path,))


def _logs_in(folder: Folder) -> Iterator[LogPlace]:
    target = _real(folder)
    found = [known for name in folder.files if (known := LOG_NAME.fullmatch(name))]
    for known in found:
        path = target.join(known[0])
        yield LogPlace(path, known[1], (path,))
    if not found:
        yield _early(target.path, folder.files)


def _early(folder: str, names: Sequence[str]) -> LogPlace:
    """The directory of an early run; its name ends with the run's id, which may have dashes."""
    name = folder.rstrip("/").replace(os.sep, "/").rpartition("/")[2]
    place = Folder(folder, (), ())
    files = tuple(place.join(each) for each in EARLY_FILES if each in names)
    run_id = name if name == LATEST else name.split("-", 2)[-1]
    return LogPlace(folder, run_id, files, is_early=True)


def _real(folder: Folder) -> Folder:
    """The directory itself in place of the link to the latest run."""
    if os.path.basename(folder.path) != LATEST or not os.path.islink(folder.path):
        return folder
    target = os.path.join(os.path.dirname(folder.path), os.readlink(folder.path))
    return Folder(os.path.normpath(target), folder.files, folder.folders)
