"""Folding: which states are earlier saves of one run, by their rows and their settings.

A state belongs to a longer one if its rows are the first rows of that one, and if it lies in the
same output directory or no setting of the two contradicts. Digests of prefixes tell; no two
histories are compared row by row, and none has to stay in memory. A state without rows belongs to
no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, folder_of, output_of
from bridges.sources.trainer.paths import last_of
from bridges.stream.identity import prefix_digest
from bridges.stream.model import MetricStream, Run
from bridges.stream.settings import Settings


@dataclass(frozen=True)
class Save:
    """A state that was read: where it lies, how many rows it has, and digests of them.

    `first` is the digest of its first row and its trial, equal for all saves of one run; `digest`
    that of all rows; both are empty where it is the only one. `max_steps` is where the run was to
    end, `step` how far the state is; None where that is not known.
    """

    location: str
    rows: int
    first: str
    digest: str
    max_steps: int | None = None
    step: int | None = None
    is_trial: bool = False
    trial_name: str | None = None

    @classmethod
    def of(cls, run: Run, *, is_alone: bool = False) -> Save:
        """The save that a run was read from; one that is alone is compared with no other."""
        rows, first, digest, own = len(run.stream), "", "", run.settings
        if not is_alone:
            first = f"{prefix_digest(run.stream, min(rows, 1))} {run.trial or ''}"
            digest = prefix_digest(run.stream, rows)
        is_trial = run.trial is not None
        return cls(
            run.source, rows, first, digest, own.max_steps, own.step, is_trial, run.trial_name
        )

    @property
    def order(self) -> tuple[int, int, bool, list[int]]:
        """Sorts later saves first: by rows, step, the state outside of a checkpoint, number."""
        folder = folder_of(self.location)
        number = CHECKPOINT.match(last_of(folder) if folder else "")
        return (
            -self.rows,
            -(self.step or 0),
            number is not None,
            [-int(number[1])] if number else [],
        )


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


def fold(
    saves: Iterable[Save],
    stream_of: Callable[[str], MetricStream],
    settings_of: Callable[[str], Settings],
) -> list[Folded]:
    """The runs that the saves are of, in the order of the saves.

    `stream_of` reads a save again, which is needed where several begin with the same row only, and
    `settings_of` the settings beside it, where saves of several directories do.
    """
    alike: dict[str, list[Save]] = {}
    for save in saves:
        # a state without rows is a run of its own
        alike.setdefault(save.first if save.rows else save.location, []).append(save)
    return [run for group in alike.values() for run in _fold_alike(group, stream_of, settings_of)]


def _fold_alike(
    group: Sequence[Save],
    stream_of: Callable[[str], MetricStream],
    settings_of: Callable[[str], Settings],
) -> list[Folded]:
    """The runs of saves that begin with the same row."""
    left = sorted(group, key=lambda save: save.order)
    runs: list[Folded] = []
    while left:
        run = Folded(left.pop(0))
        if left or runs:
            stream = stream_of(run.longest.location)
            run.forked = _fork(stream, runs, stream_of)
            digests = {rows: prefix_digest(stream, rows) for rows in {save.rows for save in left}}
            others: list[Save] = []
            for save in left:
                begins = digests[save.rows] == save.digest
                is_one = begins and _is_one(save, run.longest, settings_of)
                (run.earlier if is_one else others).append(save)
            left = others
        runs.append(run)
    return runs


def _is_one(save: Save, longest: Save, settings_of: Callable[[str], Settings]) -> bool:
    """Whether nothing speaks against two saves with the same rows being of one run.

    In one directory a run may have been resumed with other settings; in another one the same
    beginning with other settings is another run, such as a smoke test.
    """
    if output_of(save.location) == output_of(longest.location):
        return True
    return not settings_of(save.location).contradict(settings_of(longest.location))


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
