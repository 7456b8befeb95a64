"""Trials of a hyperparameter search: find the directory of the search and the name of each trial.

transformers writes `<search>/run-<id>/checkpoint-N`, or `<search>/<hp_name>/checkpoint-N` with any
name, and the state of the last trial as `<search>/trainer_state.json`. Ray Tune adds its own
directories: `<search>/<trial>_<params>_<date>/checkpoint_00000N/checkpoint-N`. A directory name
alone does not prove a trial.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, output_of
from bridges.sources.trainer.folding import FoldedRun, Save

DEFAULT_NAME = re.compile(r"run-[\w-]+\Z")  # a trial without an `hp_name`


def trial_directories(runs: Sequence[FoldedRun]) -> dict[str, tuple[str, str]]:
    """Search directory and name of each trial, by the location of its longest save.

    A directory is a search if several of its sub-directories contain checkpoints of trials, or if
    one does and the state of a trial lies beside it. Otherwise the name of the trial's directory
    decides. A trial is unnamed (empty) if only its state in the search directory is left.
    """
    trials = [run for run in runs if run.longest.is_trial]
    roots = {_up(save.location)[0] for run in trials for save in run.saves if _is_root(save)}
    parents = Counter(_up(folder)[0] for run in trials if (folder := _own(run)))
    searches = {parent for parent, count in parents.items() if count > 1 or parent in roots}
    return {
        run.longest.location: found
        for run in trials
        if (found := _in_checkpoints(run, searches) or _in_root(run, searches))
    }


def _in_checkpoints(run: FoldedRun, searches: set[str]) -> tuple[str, str] | None:
    """Search directory and name of a trial, by the directory of its checkpoints."""
    folder, name = _own(run), run.longest.trial_name
    if name and folder.endswith(f"/{name}"):  # a name may contain slashes
        return folder.removesuffix(f"/{name}"), name
    outer, own = _up(folder)
    is_named = bool(DEFAULT_NAME.match(own) or (name and own.startswith(f"{name}_")))  # Ray Tune
    return (outer, own) if own and (outer in searches or is_named) else None


def _in_root(run: FoldedRun, searches: set[str]) -> tuple[str, str] | None:
    """Search directory and name of a trial without checkpoints."""
    folder, _ = _up(run.longest.location)
    if folder in searches:
        return folder, run.longest.trial_name or ""
    outer, name = _up(folder)
    return (outer, name) if DEFAULT_NAME.match(name) else None


def _own(run: FoldedRun) -> str:
    """The directory of a trial's checkpoints; empty if it has none."""
    folders = (_up(save.location)[0] for save in run.saves)
    return next((output_of(f"{path}/") for path in folders if CHECKPOINT.match(_up(path)[1])), "")


def _is_root(save: Save) -> bool:
    """Whether a save lies in an output directory, outside a checkpoint."""
    return not CHECKPOINT.match(_up(_up(save.location)[0])[1])


def _up(path: str) -> tuple[str, str]:
    """Parent directory (empty: the current one) and last name of a path."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return folder, name
