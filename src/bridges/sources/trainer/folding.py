"""Folding: group the states that are earlier saves of one run, by their rows and settings.

A state is an earlier save of a longer one if its rows are the first rows of the longer one, and if
both lie in the same output directory or have no conflicting setting. Prefix digests are compared
instead of rows, so no history has to stay in memory. A state without rows is a run of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, folder_of, output_of
from bridges.sources.trainer.paths import label_of
from bridges.stream.identity import prefix_digest
from bridges.stream.model import MetricStream, Run
from bridges.stream.settings import Settings


@dataclass(frozen=True)
class Save:
    """A state that was read: its location, number of rows, and digests of the rows.

    `first` is the digest of the first row and the trial, equal for all saves of one run; `digest`
    covers all rows. Both are empty if there is only one save. `max_steps` is the planned last step,
    `step` the `global_step` of the state; None if unknown.
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
        """The save that a run was read from; `is_alone` skips the digests."""
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
        """Sort key, later saves first: rows, step, outside a checkpoint, checkpoint number."""
        folder = folder_of(self.location)
        number = CHECKPOINT.match(label_of(folder) if folder else "")
        return (
            -self.rows,
            -(self.step or 0),
            number is not None,
            [-int(number[1])] if number else [],
        )


@dataclass
class FoldedRun:
    """A run: its longest save and its earlier saves.

    `forked`: the longest other run with the same first rows, and the number of shared rows.
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
        """The locations of the saves, the longest first."""
        return [save.location for save in self.saves]

    @property
    def other_ends(self) -> list[Save]:
        """Earlier saves with another `max_steps` than the longest one, the latest first."""
        end = self.longest.max_steps
        return [save for save in self.earlier if end and save.max_steps not in (None, end)]


def fold(
    saves: Iterable[Save],
    stream_of: Callable[[str], MetricStream],
    settings_of: Callable[[str], Settings],
) -> list[FoldedRun]:
    """Group saves into runs, in the order of the saves.

    `stream_of` reads a save again, for saves that share their first row. `settings_of` reads the
    settings beside a save, for saves in different directories.
    """
    groups: dict[str, list[Save]] = {}
    for save in saves:
        # a state without rows is a run of its own
        groups.setdefault(save.first if save.rows else save.location, []).append(save)
    return [run for group in groups.values() for run in _fold_group(group, stream_of, settings_of)]


def _fold_group(
    group: Sequence[Save],
    stream_of: Callable[[str], MetricStream],
    settings_of: Callable[[str], Settings],
) -> list[FoldedRun]:
    """The runs of saves with the same first row."""
    left = sorted(group, key=lambda save: save.order)
    runs: list[FoldedRun] = []
    while left:
        run = FoldedRun(left.pop(0))
        if left or runs:
            stream = stream_of(run.longest.location)
            run.forked = _fork(stream, runs, stream_of)
            digests = {rows: prefix_digest(stream, rows) for rows in {save.rows for save in left}}
            others: list[Save] = []
            for save in left:
                begins = digests[save.rows] == save.digest
                is_same = begins and _is_same_run(save, run.longest, settings_of)
                (run.earlier if is_same else others).append(save)
            left = others
        runs.append(run)
    return runs


def _is_same_run(save: Save, longest: Save, settings_of: Callable[[str], Settings]) -> bool:
    """Whether two saves with equal first rows belong to one run.

    In one directory, different settings mean a resume; in different directories, another run, such
    as a smoke test.
    """
    if output_of(save.location) == output_of(longest.location):
        return True
    return not settings_of(save.location).contradict(settings_of(longest.location))


def _fork(
    stream: MetricStream, runs: Sequence[FoldedRun], stream_of: Callable[[str], MetricStream]
) -> tuple[str, int] | None:
    """The run that shares the most first rows with a stream, and their number."""
    shared = [(_common(stream, stream_of(run.longest.location)), run) for run in runs]
    if not shared:
        return None
    rows, run = max(shared, key=lambda pair: pair[0])
    return run.longest.location, rows


def _common(one: MetricStream, other: MetricStream) -> int:
    """The number of equal first rows (at least one), by bisection."""
    low, high = 1, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if prefix_digest(one, middle) == prefix_digest(other, middle):
            low = middle
        else:
            high = middle - 1
    return low
