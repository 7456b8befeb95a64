"""Bundles: a tree in parts that can be read one by one, each with all that its runs are made of.

States of one output directory are one bundle, with those of directories inside of it (the trials of
a search). Copies of a run in other directories are other bundles: a target knows them as the same,
but that one forks off another is not told.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bridges.sources.times.events import EventFiles
from bridges.sources.trainer.checkpoint_paths import folder_of, output_of
from bridges.sources.trainer.discovery import Found, natural
from bridges.sources.trainer.paths import names_of


@dataclass(frozen=True, slots=True)
class Bundle:
    """A part of the tree at `location`: its files, the states first, and its checkpoints, which may
    have no state; how many names of its path each output directory needs to be told apart, where
    that is more than one; the state of a neighbour (trials of a search have some); the bytes of its
    largest state (0 where they are not known); and, told with one of them, the other files of the
    tree and its directories that cannot be listed. Of a file that was `named`, it is what that file
    belongs to, and only the run of the file is read.

    There may be very many, so it is kept small: what its files are is worked out when it is read.
    """

    location: str
    files: tuple[str, ...]
    checkpoints: tuple[str, ...] = ()
    depths: tuple[tuple[str, int], ...] = ()
    neighbour: str | None = None
    size: int = 0
    others: tuple[tuple[str, int], ...] = ()
    unlisted: tuple[tuple[str, str], ...] = ()
    named: str = ""

    @property
    def names(self) -> tuple[Any, ...]:
        """Everything but the files that decides how its runs are called."""
        return (self.location, sorted(self.depths), self.checkpoints, self.neighbour)

    @property
    def found(self) -> Found:
        """The files sorted, as discovery found them."""
        found = Found(
            checkpoints={*self.checkpoints},
            others=Counter(dict(self.others)),
            unlisted=dict(self.unlisted),
            pattern="*",  # all of its files are to be read
        )
        for path in self.files:
            found.add(path)
        return found


def bundles(location: str, found: Found) -> list[Bundle]:
    """The parts of a tree, in the order of their paths."""
    outputs = _outputs(found)
    known = set(outputs)
    tops = {output: _top(output, known) for output in outputs}
    inside: dict[str, list[str]] = {}
    for output, top in tops.items():
        inside.setdefault(top, []).append(output)
    files, checkpoints = _dealt(found, tops), _checkpoints(found, tops)
    events, depths = EventFiles(found.events, outputs), _depths(outputs, found.named)
    neighbours = _neighbours(found.states, tops)
    others = tuple(found.others.items())
    made: list[Bundle] = []
    for top, own in inside.items():
        places = dict.fromkeys([*own, *map(folder_of, own)])
        made.append(
            Bundle(
                location,
                (*files.get(top, ()), *events.of(own)),
                tuple(checkpoints.get(top, ())),
                tuple((place, depths[place]) for place in places if place in depths),
                neighbours.get(top),
                max(map(_size, files.get(top, ())), default=0),
                () if made else others,
                () if made else tuple(found.unlisted.items()),
            )
        )
    return made


def whole(location: str, found: Found) -> Bundle:
    """The tree in one part."""
    groups = (found.beside, found.logs, found.events)
    files = (path for group in groups for paths in group.values() for path in paths)
    return Bundle(
        location,
        (*found.states, *files),
        tuple(sorted(found.checkpoints)),
        tuple(_depths(_outputs(found), found.named).items()),
        others=tuple(found.others.items()),
        unlisted=tuple(found.unlisted.items()),
    )


def _outputs(found: Found) -> list[str]:
    return sorted({*map(output_of, found.states), *found.logs}, key=natural)


def _top(output: str, outputs: set[str]) -> str:
    """The outermost output directory that one lies in, or itself."""
    parts = output.split("/")
    outer = ("/".join(parts[:count]) for count in range(len(parts) + 1))
    return next(place for place in outer if place in outputs)


def _dealt(found: Found, tops: Mapping[str, str]) -> dict[str, list[str]]:
    """The files of each part, states first."""
    files: dict[str, list[str]] = {}
    for path in found.states:
        files.setdefault(tops[output_of(path)], []).append(path)
    for folder, logs in found.logs.items():
        files.setdefault(tops[folder], []).extend(logs)
    for folder, beside in found.beside.items():
        top = next(
            (
                tops[place]
                for place in (folder, output_of(f"{folder}/"), folder_of(folder))
                if place in tops
            ),
            None,
        )
        if top is not None:
            files.setdefault(top, []).extend(beside)
    return files


def _checkpoints(found: Found, tops: Mapping[str, str]) -> dict[str, list[str]]:
    """The checkpoints of each part."""
    checkpoints: dict[str, list[str]] = {}
    for folder in sorted(found.checkpoints):
        if (output := output_of(f"{folder}/")) in tops:
            checkpoints.setdefault(tops[output], []).append(folder)
    return checkpoints


def _depths(outputs: Sequence[str], named: Collection[str]) -> dict[str, int]:
    """How many names of its path each directory, and each that holds such, needs: left out are
    those that need one, unless they tell `named` files of several directories apart.
    """
    depths: dict[str, int] = {}
    telling = {*map(output_of, named)} if len({*map(output_of, named)}) > 1 else set()
    for places in ([*dict.fromkeys(map(folder_of, outputs))], outputs):
        names = names_of([f"{place}/x" for place in places])
        depths |= {place: name.count("/") + 1 for place, name in zip(places, names, strict=True)}
    return {place: depth for place, depth in depths.items() if depth > 1 or place in telling}


def _neighbours(states: Sequence[str], tops: Mapping[str, str]) -> dict[str, str]:
    """For each part a state of another one in the same directory, where there is one."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}  # by the directory that holds the parts
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
