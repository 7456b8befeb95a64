"""Partitions: parts of a tree that can be read separately, each with all files of its runs.

The states of an output directory and of directories inside it (the trials of a search) are one
partition. A copy of a run in another directory is in another partition; a target recognises it as
the same run, but a fork across partitions is not reported.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bridges.sources.times.events import EventFiles
from bridges.sources.trainer.checkpoint_paths import folder_of, output_of
from bridges.sources.trainer.discovery import FoundFiles, natural
from bridges.sources.trainer.other_logs import other_logs
from bridges.sources.trainer.paths import names_of
from bridges.stream.finding import Finding


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of the tree at `location`.

    `files`: its files, states first. `checkpoints`: its checkpoint directories, with and without a
    state. `depths`: the number of path names that an output directory's run name needs, if more
    than one. `neighbour`: a state of another partition in the same directory (another trial).
    `size`: bytes of its largest state (0: unknown). `others`, `unlisted` and `notes`: the tree's
    other files, unreadable directories, and findings about other logs, set in the first partition
    only. `named_file`: read only the run of this file.

    A tree may have very many partitions, so file kinds are not stored but derived when it is read.
    """

    location: str
    files: tuple[str, ...]
    checkpoints: tuple[str, ...] = ()
    depths: tuple[tuple[str, int], ...] = ()
    neighbour: str | None = None
    size: int = 0
    others: tuple[tuple[str, int], ...] = ()
    unlisted: tuple[tuple[str, str], ...] = ()
    notes: tuple[Finding, ...] = ()
    named_file: str = ""

    @property
    def names(self) -> tuple[object, ...]:
        """All inputs of the run names except the files."""
        return (self.location, sorted(self.depths), self.checkpoints, self.neighbour)

    @property
    def found(self) -> FoundFiles:
        """The files by kind."""
        found = FoundFiles(
            checkpoints={*self.checkpoints},
            others=Counter(dict(self.others)),
            unlisted=dict(self.unlisted),
            notes=self.notes,
            pattern="*",  # every remaining file is a state
        )
        for path in self.files:
            found.add(path)
        return found


def partitions(location: str, found: FoundFiles) -> list[Partition]:
    """The partitions of a tree, in the order of their paths."""
    outputs = _outputs(found)
    known = set(outputs)
    tops = {output: _top(output, known) for output in outputs}
    inside: dict[str, list[str]] = {}
    for output, top in tops.items():
        inside.setdefault(top, []).append(output)
    files, checkpoints = _files(found, tops), _checkpoints(found, tops)
    events, depths = EventFiles(found.events, outputs), _depths(outputs, found.by_pattern)
    neighbours = _neighbours(found.states, tops)
    others = tuple(found.others.items())
    made: list[Partition] = []
    for top, own in inside.items():
        folders = dict.fromkeys([*own, *map(folder_of, own)])
        made.append(
            Partition(
                location,
                (*files.get(top, ()), *events.of(own)),
                tuple(checkpoints.get(top, ())),
                tuple((folder, depths[folder]) for folder in folders if folder in depths),
                neighbours.get(top),
                max(map(_size, files.get(top, ())), default=0),
                () if made else others,
                () if made else tuple(found.unlisted.items()),
                () if made else other_logs(found, outputs),
            )
        )
    return made


def single_partition(location: str, found: FoundFiles) -> Partition:
    """The tree as one partition."""
    groups = (found.sidecars, found.logs, found.events)
    files = (path for group in groups for paths in group.values() for path in paths)
    return Partition(
        location,
        (*found.states, *files),
        tuple(sorted(found.checkpoints)),
        tuple(_depths(_outputs(found), found.by_pattern).items()),
        others=tuple(found.others.items()),
        unlisted=tuple(found.unlisted.items()),
        notes=other_logs(found, _outputs(found)),
    )


def _outputs(found: FoundFiles) -> list[str]:
    return sorted({*map(output_of, found.states), *found.logs}, key=natural)


def _top(output: str, outputs: set[str]) -> str:
    """The outermost output directory around `output`, or `output` itself."""
    parts = output.split("/")
    outer = ("/".join(parts[:count]) for count in range(len(parts) + 1))
    return next(folder for folder in outer if folder in outputs)


def _files(found: FoundFiles, tops: Mapping[str, str]) -> dict[str, list[str]]:
    """The files of each partition, states first."""
    files: dict[str, list[str]] = {}
    for path in found.states:
        files.setdefault(tops[output_of(path)], []).append(path)
    for folder, logs in found.logs.items():
        files.setdefault(tops[folder], []).extend(logs)
    for folder, sidecars in found.sidecars.items():
        candidates = (folder, output_of(f"{folder}/"), folder_of(folder))
        top = next((tops[output] for output in candidates if output in tops), None)
        if top is not None:
            files.setdefault(top, []).extend(sidecars)
    return files


def _checkpoints(found: FoundFiles, tops: Mapping[str, str]) -> dict[str, list[str]]:
    """The checkpoint directories of each partition."""
    checkpoints: dict[str, list[str]] = {}
    for folder in sorted(found.checkpoints):
        if (output := output_of(f"{folder}/")) in tops:
            checkpoints.setdefault(tops[output], []).append(folder)
    return checkpoints


def _depths(outputs: Sequence[str], by_pattern: Collection[str]) -> dict[str, int]:
    """How many path names each output directory, and its parent, needs to be unique.

    A depth of one is left out, except for directories of `by_pattern` files in several directories.
    """
    depths: dict[str, int] = {}
    kept = {*map(output_of, by_pattern)}
    for folders in ([*dict.fromkeys(map(folder_of, outputs))], outputs):
        names = names_of([f"{folder}/x" for folder in folders])
        depths |= {path: name.count("/") + 1 for path, name in zip(folders, names, strict=True)}
    return {
        folder: depth
        for folder, depth in depths.items()
        if depth > 1 or (folder in kept and len(kept) > 1)
    }


def _neighbours(states: Sequence[str], tops: Mapping[str, str]) -> dict[str, str]:
    """For each partition, a state of another partition in the same directory, if any."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}  # by parent directory
    for path in states:
        top = tops[output_of(path)]
        other = first.setdefault(folder_of(top), path)
        if tops[output_of(other)] != top:
            found.setdefault(top, other)
            found.setdefault(tops[output_of(other)], path)
    return found


def _size(path: str) -> int:
    with suppress(OSError, ValueError):
        return 0 if "://" in path else os.stat(path).st_size
    return 0
