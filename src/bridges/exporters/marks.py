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

_PREFIX, _ENDING = ".bridges.", ".json"  # of a file beside those of a run; no tracker reads it
_LONGEST = 100_000  # bytes of a mark


@dataclass(frozen=True, slots=True)
class Mark:
    """What a run was made of.

    `made_of` is a digest of the files and of all that was chosen, `runs` how many runs of the
    target they gave and `left_out` how many more the config does not take, `source` the run's file
    below the place that was migrated. The run then had `rows` rows of that `digest`, and `points`
    points; `course` is its picture.
    """

    made_of: str
    runs: int
    left_out: int
    source: str
    digest: str
    rows: int
    points: int
    course: tuple[float, ...] = ()

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


def put_mark(folder: str, run: Marked, files: Iterable[str]) -> None:
    """Keep a mark in a run's directory, with size and time of change of the run's files there; in
    one that cannot be written, or is not there any more, none.
    """
    with suppress(OSError):
        stats = {name: _signature(os.path.join(folder, name)) for name in files}
        own = json.dumps({"key": run.key, "name": run.name, "files": stats})
        # neither synced nor renamed: half a mark is none, and to lose one is no loss
        with open(os.path.join(folder, f"{_PREFIX}{run.key}{_ENDING}"), "w") as file:
            file.write(f'{own[:-1]}, "mark": {run.mark.text()}}}')


def marks_in(folder: str, names: Iterable[str]) -> Iterator[tuple[Marked, list[str]]]:
    """The marks among the files of a run's directory whose runs' files, which are given too, still
    are as they were. The location of each is the directory.
    """
    for name in filter(_is_mark, names):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                found = from_json(file.read(_LONGEST))
            files = found["files"].items()
            if all(_signature(os.path.join(folder, file)) == then for file, then in files):
                mark = Mark.of(found["mark"])
                yield Marked(found["key"], found["name"], folder, mark), [*found["files"]]


def is_empty(folder: str) -> bool:
    """Whether a directory holds nothing but marks of runs that are gone; these are removed."""
    names = os.listdir(folder)
    if not all(map(_is_mark, names)):
        return False
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    return True


def _is_mark(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(_ENDING)


def _signature(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
