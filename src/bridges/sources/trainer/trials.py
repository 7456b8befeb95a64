"""Trials of a hyperparameter search: which directory is a trial's own, and which is the search's.

transformers writes `<search>/run-<id>/checkpoint-N`, or `<search>/<hp_name>/checkpoint-N` with any
name, and the state of the last trial as `<search>/trainer_state.json`. Ray Tune has directories of
its own: `<search>/<trial>_<params>_<date>/checkpoint_00000N/checkpoint-N`. A name alone proves
nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, output_of
from bridges.sources.trainer.folding import Folded, Save

DEFAULT_NAME = re.compile(r"run-[\w-]+\Z")  # of a trial without an `hp_name`


def trial_places(runs: Sequence[Folded]) -> dict[str, tuple[str, str]]:
    """Directory of the search and name of each run that is a trial, by its longest save.

    A directory is that of a search if several of its directories hold the checkpoints of trials, or
    one does and the state of a trial lies beside it; without that, a trial's own name must tell.
    The name is empty where only the root state is left, and that has none.
    """
    trials = [run for run in runs if run.longest.is_trial]
    roots = {_up(save.location)[0] for run in trials for save in run.saves if _is_root(save)}
    parents = Counter(_up(place)[0] for run in trials if (place := _own(run)))
    searches = {parent for parent, count in parents.items() if count > 1 or parent in roots}
    return {
        run.longest.location: found
        for run in trials
        if (found := _in_checkpoints(run, searches) or _in_root(run, searches))
    }


def _in_checkpoints(run: Folded, searches: set[str]) -> tuple[str, str] | None:
    """Search and name of a trial by the directory that holds its checkpoints."""
    place, name = _own(run), run.longest.trial_name
    if name and place.endswith(f"/{name}"):  # a name may go through several directories
        return place.removesuffix(f"/{name}"), name
    outer, own = _up(place)
    is_named = bool(DEFAULT_NAME.match(own) or (name and own.startswith(f"{name}_")))  # Ray Tune
    return (outer, own) if own and (outer in searches or is_named) else None


def _in_root(run: Folded, searches: set[str]) -> tuple[str, str] | None:
    """Search and name of a trial of which only a state outside of checkpoints is left."""
    folder, _ = _up(run.longest.location)
    if folder in searches:
        return folder, run.longest.trial_name or ""
    outer, name = _up(folder)
    return (outer, name) if DEFAULT_NAME.match(name) else None


def _own(run: Folded) -> str:
    """The directory that holds the checkpoints of a trial; empty where none is left."""
    folders = (_up(save.location)[0] for save in run.saves)
    return next((output_of(f"{path}/") for path in folders if CHECKPOINT.match(_up(path)[1])), "")


def _is_root(save: Save) -> bool:
    """Whether a save is the state that lies in an output directory itself."""
    return not CHECKPOINT.match(_up(_up(save.location)[0])[1])


def _up(path: str) -> tuple[str, str]:
    """The directory that a path lies in (empty: here), and its own name."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    return folder, name
