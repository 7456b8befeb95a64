"""Marks: which files and settings a run was made of, kept beside it in the target.

A mark is set once every point of the run was read back. By it a migration that is done again knows
that nothing is to be done, without reading the source as a history or the run as points. It holds
for the run as it was then: who changes the run afterwards makes it void. To lose one costs time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic_core import from_json

SPARE = 1000  # lines of a file that may be void, beside as many as are not


@dataclass(frozen=True, slots=True)
class Mark:
    """What a run was made of.

    `made_of` is a digest of the files and of all that was chosen, `looks` another one for which the
    files need not be read (empty where there is none), `runs` how many runs of the target they gave
    and `left_out` how many more the config does not take, `source` the run's file below the place
    that was migrated. The run then had `rows` rows of that `digest`, and `points` points; `course`
    is its picture.
    """

    made_of: str
    runs: int
    left_out: int
    source: str
    digest: str
    rows: int
    points: int
    course: tuple[float, ...] = ()
    looks: str = ""

    def text(self) -> str:
        """The mark as text, well below the 5,000 characters that every target takes."""
        course = [float(f"{value:.4g}") for value in self.course]
        known = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({**known, "course": course})

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The mark of a text; None for any other text."""
        with suppress(ValueError, KeyError, TypeError):
            return cls.of(json.loads(text))
        return None

    @classmethod
    def of(cls, found: Any) -> Mark:
        """The mark in a JSON value. Raises ValueError, KeyError or TypeError where it is none."""
        return cls(
            made_of=str(found["made_of"]),
            runs=int(found["runs"]),
            left_out=int(found["left_out"]),
            source=str(found["source"]),
            digest=str(found["digest"]),
            rows=int(found["rows"]),
            points=int(found["points"]),
            course=tuple(map(float, found["course"])),
            looks=str(found["looks"]),
        )


@dataclass(frozen=True, slots=True)
class Marked:
    """A run of a target and its mark: its run key, its name there, and where it is."""

    key: str
    name: str
    location: str
    mark: Mark


@runtime_checkable
class Remembering(Protocol):
    """An exporter whose target keeps marks. `place` is where in it runs go that say nothing else
    (the experiment or project; empty where there is no such thing).
    """

    place: str

    def remember(self, runs: Sequence[Marked]) -> None:
        """Set the marks of these runs in place of older ones. Raises ExportError."""
        ...

    def remembered(self) -> Iterator[Marked]:
        """Every marked run that still is as it was marked, wherever in the target it is, by as few
        requests as that takes. Raises ExportError.
        """
        ...


@dataclass(frozen=True)
class MarkFile:
    """The marks of the runs below a directory, `root`, as lines of JSON in one file.

    Each tells size and time of change of what its run lies in: a run of which one is another has no
    mark. Whoever marks runs adds lines, of which the last one of a run and source counts. They are
    neither synced nor locked: half a line is none, and to lose one is no loss.
    """

    path: str
    root: str

    def put(self, runs: Iterable[tuple[Marked, Sequence[str]]]) -> None:
        """Mark some runs, each given with the paths that it lies in; not those that are gone, and
        none where nothing can be written.
        """
        lines = []
        for run, paths in runs:
            with suppress(OSError):
                lines.append(f"\n{self._line(run, paths)}".encode())  # what is cut before it ends
        with suppress(OSError), open(self.path, "ab", buffering=0) as file:
            file.write(b"".join(lines))  # at once, for others add theirs

    def _line(self, run: Marked, paths: Sequence[str]) -> str:
        place = os.path.relpath(run.location, self.root)
        then = [[os.path.relpath(path, self.root), *_signature(path)] for path in paths]
        own = json.dumps({"key": run.key, "name": run.name, "place": place, "then": then})
        return f'{own[:-1]}, "mark": {run.mark.text()}}}'

    def read(self) -> Iterator[Marked]:
        """The marked runs, whose locations are paths below the root."""
        lines = self._lines()
        seen: set[tuple[str, str, str]] = set()
        kept: list[bytes] = []
        for line in reversed(lines):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                found = _parsed(line)
                run = self._marked(found)
                known = run.key, run.location, run.mark.source
                is_last = known not in seen
                seen.add(known)
                if is_last and self._is_as_then(found["then"]):
                    kept.append(line)
                    yield run
        if len(lines) > 2 * len(kept) + SPARE:
            self._replace(kept[::-1])

    def _marked(self, found: Any) -> Marked:
        place = self._below(found["place"])
        return Marked(found["key"], found["name"], place, Mark.of(found["mark"]))

    def _is_as_then(self, then: Sequence[Sequence[Any]]) -> bool:
        """Whether all that a run lies in has the size and time of change that it had."""
        return all(_signature(self._below(at)) == looked for at, *looked in then)

    def _below(self, place: str) -> str:
        return self.root if place == os.curdir else os.path.join(self.root, place)

    def _lines(self) -> list[bytes]:
        with suppress(OSError), open(self.path, "rb") as file:
            return file.read().split(b"\n")
        return []

    def _replace(self, lines: Sequence[bytes]) -> None:
        """Leave out all other lines."""
        fresh = f"{self.path}-{os.urandom(4).hex()}"
        with suppress(OSError):
            with open(fresh, "xb") as file:
                file.writelines(b"\n" + line for line in lines)
            os.replace(fresh, self.path)


def _parsed(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:  # it takes no lone surrogates, which stand for bytes in a path
        return json.loads(line)


def _signature(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
