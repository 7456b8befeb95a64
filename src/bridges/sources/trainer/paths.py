"""Run names from paths, and runs without rows."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from sys import intern

from bridges.errors import BridgeError, SourceError, TreeError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.file_names import STATE_NAME, TOOL_LOG_NAME
from bridges.sources.trainer.checkpoint_paths import folder_of, output_of
from bridges.stream.model import Run

_USUAL_NAME = re.compile(rf"(?:{STATE_NAME.pattern})|(?:{TOOL_LOG_NAME.pattern})|[^.]*\Z")


def names_of(locations: Sequence[str], depths: Mapping[str, int] | None = None) -> list[str]:
    """A unique name for each run: the name of its directory, with parent directories as needed.

    A file with an unusual name contributes its own name. `depths`: the minimum number of path names
    per output directory.
    """
    # interned, because the paths of a large tree share most of their names
    outputs = [tuple(map(intern, parts_of(output_of(location)))) for location in locations]
    count = Counter(outputs)
    owns = [not _USUAL_NAME.match(location.rpartition("/")[2]) for location in locations]
    paths = [
        (*parts, label_of(location))
        if own or (count[parts] > 1 and not is_root(location))
        else parts
        for parts, own, location in zip(outputs, owns, locations, strict=True)
    ]
    known = depths or {}
    sizes = [
        known.get(output, 0) + 1 if own else known.get(output, 1) + len(path) - len(parts)
        for output, own, path, parts in zip(
            map(output_of, locations), owns, paths, outputs, strict=True
        )
    ]
    while True:
        names = ["/".join(path[-size:]) for path, size in zip(paths, sizes, strict=True)]
        twice = Counter(names)
        longer = [
            size + (twice[name] > 1 and size < len(path))
            for name, size, path in zip(names, sizes, paths, strict=True)
        ]
        if longer == sizes:
            return names
        sizes = longer


def has_nothing(error: BridgeError, read: Collection[str]) -> bool:
    """Whether an error means that a directory has no history at all.

    `read`: the output directories of the runs that were read.
    """
    return isinstance(error, MissingSourceError) and output_of(error.source) not in read


def with_rows(location: str, runs: Iterator[Run]) -> Iterator[Run]:
    """The runs with log rows, and those of trackers, which may have params and tags only.

    After the last run, raises TreeError for the runs without rows.
    """
    errors: list[SourceError] = []
    try:
        for run in runs:
            if len(run.stream) or run.record is not None:
                yield run
            else:
                errors.append(_no_rows(run.source))
            del run  # it may be large, and the next one is read now
    except TreeError as error:
        errors += error.errors
    except SourceError as error:
        errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else TreeError(location, errors)


def _no_rows(location: str) -> MissingSourceError:
    return MissingSourceError(
        location,
        found="a state without log rows",
        expected="a log history with rows",
        remedy="It was saved before anything was logged: use a later one.",
    )


def is_root(location: str) -> bool:
    """Whether a location is a `trainer_state` directly in its output directory."""
    return folder_of(location) == output_of(location) and (
        _stem(location.replace("\\", "/").rpartition("/")[2]) == "trainer_state"
    )


def label_of(location: str) -> str:
    """The label of a state: its stem, or the directory of a file named `trainer_state`."""
    parts = parts_of(location)
    stem = _stem(parts[-1])
    return parts[-2] if stem == "trainer_state" and len(parts) > 1 else stem


def _stem(name: str) -> str:
    return re.sub(r"\.(jsonl?|ndjson|txt)?(\.gz)?\Z", "", name)


def parts_of(path: str) -> list[str]:
    """The names in a path; for an empty path, the name of the current directory."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return parts or [os.path.basename(os.getcwd()) or "run"]


def name_of(path: str) -> str:
    """The last name of a path."""
    return parts_of(path)[-1]
