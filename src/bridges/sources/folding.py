"""Folding: which states are earlier saves of one run, by their rows alone.

A state belongs to a longer one exactly if its rows are the first rows of that one. Digests of
prefixes tell; no two histories are compared row by row, and none has to stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bridges.stream.identity import prefix_digest
from bridges.stream.model import MetricStream, Run


@dataclass(frozen=True)
class Save:
    """A state that was read: where it lies, how many rows it has, and digests of them.

    `first` is the digest of its first row and its trial, equal for all saves of one run; `digest`
    that of all rows; both are empty where it is the only one. `max_steps` is where the run was to
    end; None where that is not known.
    """

    location: str
    rows: int
    first: str
    digest: str
    max_steps: int | None = None
    is_trial: bool = False
    trial_name: str | None = None

    @classmethod
    def of(cls, run: Run, *, is_alone: bool = False) -> Save:
        """The save that a run was read from; one that is alone is compared with no other."""
        rows, first, digest, end = len(run.stream), "", "", run.params.get("max_steps")
        if not is_alone:
            first = f"{prefix_digest(run.stream, min(rows, 1))} {run.trial or ''}"
            digest = prefix_digest(run.stream, rows)
        end = end if isinstance(end, int) and end > 0 else None
        return cls(run.source, rows, first, digest, end, run.trial is not None, run.trial_name)


@dataclass
class Folded:
    """A run: its longest save, and the earlier ones of it; `forked` is the longest other run that
    begins with the same rows, and how many these are.
    """

    longest: Save
    earlier: list[Save] = field(default_factory=list)
    forked: tuple[str, int] | None = None

    @property
    def saves(self) -> list[Save]:
        """All saves, the longest first."""
        return [self.longest, *self.earlier]

    @property
    def locations(self) -> list[str]:
        """Where the saves lie, that of the longest first."""
        return [save.location for save in self.saves]

    @property
    def other_ends(self) -> list[Save]:
        """Earlier saves that were to end at another step than the longest one, the latest first."""
        end = self.longest.max_steps
        return [save for save in self.earlier if end and save.max_steps not in (None, end)]


def fold(saves: Iterable[Save], stream_of: Callable[[str], MetricStream]) -> list[Folded]:
    """The runs that the saves are of, in the order of the saves.

    `stream_of` reads a save again; that is needed where several begin with the same row only.
    """
    alike: dict[str, list[Save]] = {}
    for save in saves:
        alike.setdefault(save.first, []).append(save)
    return [run for group in alike.values() for run in _fold_alike(group, stream_of)]


def _fold_alike(group: Sequence[Save], stream_of: Callable[[str], MetricStream]) -> list[Folded]:
    """The runs of saves that begin with the same row."""
    left = sorted(group, key=lambda save: -save.rows)  # the first of equals stays first
    runs: list[Folded] = []
    while left:
        run = Folded(left.pop(0))
        if left or runs:
            stream = stream_of(run.longest.location)
            run.forked = _fork(stream, runs, stream_of)
            digests = {rows: prefix_digest(stream, rows) for rows in {save.rows for save in left}}
            run.earlier = [save for save in left if digests[save.rows] == save.digest]
            left = [save for save in left if digests[save.rows] != save.digest]
        runs.append(run)
    return runs


def _fork(
    stream: MetricStream, runs: Sequence[Folded], stream_of: Callable[[str], MetricStream]
) -> tuple[str, int] | None:
    """The first of these runs that shares the most rows with a stream."""
    shared = [(_common(stream, stream_of(run.longest.location)), run) for run in runs]
    if not shared:
        return None
    rows, run = max(shared, key=lambda pair: pair[0])
    return run.longest.location, rows


def _common(one: MetricStream, other: MetricStream) -> int:
    """How many first rows are equal: at least one, by halving."""
    low, high = 1, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if prefix_digest(one, middle) == prefix_digest(other, middle):
            low = middle
        else:
            high = middle - 1
    return low
