"""Bundles: a tree in parts that can be read one by one, each with all that its runs are made of.

States of one output directory are one bundle, with those of directories inside of it (the trials of
a search). Copies of a run in other directories are other bundles: a target knows them as the same,
but that one forks off another is not told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bridges.sources.discovery import Found, natural
from bridges.sources.event_times import EventFiles
from bridges.sources.places import folder_of, names_of, output_of


@dataclass(frozen=True)
class Bundle:
    """A part of the tree at `location`: what was found of it, how many names of its path each
    output directory needs to be told apart, the state of a neighbour (trials of a search have
    some), and the bytes of its largest state (0 where they are not known).
    """

    location: str
    found: Found
    depths: Mapping[str, int] = field(default_factory=dict)
    neighbour: str | None = None
    size: int = 0


def bundles(location: str, found: Found) -> list[Bundle]:
    """The parts of a tree, in the order of their paths."""
    outputs = _outputs(found)
    known = set(outputs)
    tops = {output: _top(output, known) for output in outputs}
    parts = {top: Found() for top in dict.fromkeys(tops.values())}
    inside: dict[str, list[str]] = {top: [] for top in parts}
    for output, top in tops.items():
        inside[top].append(output)
    _deal(found, parts, tops)
    events, depths = EventFiles(found.events, outputs), _depths(outputs)
    neighbours = _neighbours(found.states, tops)
    made = []
    for top, part in parts.items():
        for path in events.of(inside[top]):
            part.events.setdefault(folder_of(path), []).append(path)
        places = {*inside[top], *map(folder_of, inside[top])}
        own = {place: depths[place] for place in places if place in depths}
        size = max(map(_size, part.states), default=0)
        made.append(Bundle(location, part, own, neighbours.get(top), size))
    if made:
        made[0].found.others.update(found.others)  # told once
    return made


def whole(location: str, found: Found) -> Bundle:
    """The tree in one part."""
    return Bundle(location, found, _depths(_outputs(found)))


def _outputs(found: Found) -> list[str]:
    return sorted({*map(output_of, found.states), *found.logs}, key=natural)


def _top(output: str, outputs: set[str]) -> str:
    """The outermost output directory that one lies in, or itself."""
    parts = output.split("/")
    outer = ("/".join(parts[:count]) for count in range(len(parts) + 1))
    return next(place for place in outer if place in outputs)


def _deal(found: Found, parts: Mapping[str, Found], tops: Mapping[str, str]) -> None:
    """Give each part what belongs to its directories."""
    for path in found.states:
        parts[tops[output_of(path)]].states.append(path)
    for folder, logs in found.logs.items():
        parts[tops[folder]].logs[folder] = logs
    for folder, files in found.beside.items():
        top = next((tops[place] for place in (folder, folder_of(folder)) if place in tops), None)
        if top is not None:
            parts[top].beside[folder] = files
    for folder in found.checkpoints:
        if folder_of(folder) in tops:
            parts[tops[folder_of(folder)]].checkpoints.add(folder)


def _depths(outputs: Sequence[str]) -> dict[str, int]:
    """How many names of its path each directory, and each that holds such, needs."""
    depths: dict[str, int] = {}
    for places in ([*dict.fromkeys(map(folder_of, outputs))], outputs):
        names = names_of([f"{place}/x" for place in places])
        depths |= {place: name.count("/") + 1 for place, name in zip(places, names, strict=True)}
    return depths


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
