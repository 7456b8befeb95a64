"""Look-up of runs in the tables of an MLflow database, by key tag and by id.

The ids of directly written runs are digests of experiment and run key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bridges.exporters.mlflow.database import Session
from bridges.exporters.mlflow.state import KEY_TAG, STATE_TAG, SUPERSEDED_TAG, MlflowRun

FindRun = Callable[[str], MlflowRun | None]  # by its id, deleted or not
_TAG = "(select value from tags where tags.key = '{}' and tags.run_uuid = runs.run_uuid)"
COLUMNS = (
    "runs.run_uuid, runs.name, runs.lifecycle_stage, runs.status,"
    f" {_TAG.format(STATE_TAG)}, {_TAG.format(SUPERSEDED_TAG)}"
)  # of a stored run
KEY = _TAG.format(KEY_TAG)


@dataclass(frozen=True)
class SqlRunIndex:
    """The runs of an experiment (None if it does not exist) by id, and their ids by run key."""

    experiment: int | None
    runs: dict[str, MlflowRun]
    tagged: dict[str, list[str]]

    @classmethod
    def load(cls, session: Session, experiment: int | None) -> SqlRunIndex:
        """Load all runs by one query."""
        if experiment is None:
            return cls(None, {}, {})
        statement = f"select {COLUMNS}, {KEY} from runs where experiment_id = ? order by run_uuid"
        rows = session.execute(statement, (experiment,)).fetchall()
        tagged: dict[str, list[str]] = {}
        for row in rows:
            tagged.setdefault(row[6] or "", []).append(row[0])
        return cls(experiment, {row[0]: stored_run(row) for row in rows}, tagged)

    def with_key(self, key: str) -> list[MlflowRun]:
        """The runs with a run key, without a query."""
        if self.experiment is None:
            return []
        return runs_with_key(self.runs.get, self.experiment, key, self.tagged)


def runs_with_key(
    find: FindRun, experiment: int, key: str, tagged: dict[str, list[str]]
) -> list[MlflowRun]:
    """The runs with a run key, including deleted ones; `tagged` maps run keys to ids."""
    own = _own_runs(find, experiment, key)
    ids = {run.run_id for run in own}
    found = [*own, *(find(run_id) for run_id in tagged.get(key, ()) if run_id not in ids)]
    return [run for run in found if run is not None and not run.superseded]


def made_id(experiment: int | str, key: str, number: int) -> str:
    """The id of a run, from experiment and run key; `number` counts runs with this key from 0."""
    identity = f"{experiment}\n{key}\n{number}"
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


def _own_runs(find: FindRun, experiment: int, key: str) -> list[MlflowRun]:
    """The directly written runs with a run key, by primary-key look-ups."""
    runs: list[MlflowRun] = []
    while run := find(made_id(experiment, key, len(runs))):
        runs.append(run)
    return runs


def next_id(session: Session, experiment: int, key: str) -> str:
    """The first unused id for a run with this key."""
    own = _own_runs(partial(find_run, session), experiment, key)
    return made_id(experiment, key, len(own))


@dataclass
class TagIndex:
    """The ids of an experiment's runs by the run key in their tag.

    The first read loads all tags, later ones only the tags added by other writers.
    """

    tagged: dict[str, list[str]] = field(default_factory=dict)
    _position: int | None = None

    def load(self, session: Session, experiment: int) -> None:
        """Read all tags, unless they were read before."""
        if self._position is None:
            self.update(session, experiment, "")

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether a run has one of these keys; True if no tags were read yet."""
        return self._position is None or not self.tagged.keys().isdisjoint(keys)

    def update(self, session: Session, experiment: int, key: str) -> None:
        """Read the new tags with this run key."""
        rows, self._position = session.tags_since(self._position, KEY_TAG, key, experiment)
        for value, run_id in rows:
            known = self.tagged.setdefault(value, [])
            if run_id not in known:
                known.append(run_id)


def find_run(session: Session, run_id: str) -> MlflowRun | None:
    """The run with this id, deleted or not."""
    statement = f"select {COLUMNS} from runs where run_uuid = ?"
    row = session.execute(statement, (run_id,)).fetchone()
    return None if row is None else stored_run(row)


def stored_run(row: Sequence[Any]) -> MlflowRun:
    """The run in a database row; its first columns are COLUMNS."""
    return MlflowRun(row[0], row[1] or "", row[2], row[3], row[4] or "", row[5] is not None)
