"""Look-up of runs in the tables of an MLflow database, by key tag and by id.

The ids of directly written runs are digests of experiment and run key. A run of another MLflow
store keeps its id, which is looked for in all experiments. If another run has the id, its own is a
digest of the id and its content.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

from bridges.exporters.mlflow.database import Session, put_pairs
from bridges.exporters.mlflow.rivals import Settlement, Verdict
from bridges.exporters.mlflow.state import MlflowRun, of_layout
from bridges.formats.mlflow_store.records import DELETED, KEY_TAG, STATE_TAG, SUPERSEDED_TAG

FindRun = Callable[[str], MlflowRun | None]  # by its id, deleted or not
_TAG = "(select value from tags where tags.key = '{}' and tags.run_uuid = runs.run_uuid)"
COLUMNS = (
    "runs.run_uuid, runs.name, runs.lifecycle_stage, runs.status,"
    f" {_TAG.format(STATE_TAG)}, {_TAG.format(SUPERSEDED_TAG)}, runs.experiment_id"
)  # of a stored run
KEY = _TAG.format(KEY_TAG)
SET_END = "update runs set status = ?, end_time = ? where run_uuid = ?"
SET_STAGE = "update runs set lifecycle_stage = ?, deleted_time = ? where run_uuid = ?"


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
            tagged.setdefault(row[7] or "", []).append(row[0])
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
    return _found(find, made_ids(experiment, key), tagged.get(key, ()))


def _found(find: FindRun, ids: Iterable[str], tagged: Collection[str]) -> list[MlflowRun]:
    """The runs with the first of the ids, as far as these are in use, and the tagged ones."""
    runs: dict[str, MlflowRun | None] = {}
    for run_id in ids:
        if (run := find(run_id)) is None:
            break
        runs[run_id] = run
    runs |= {run_id: find(run_id) for run_id in tagged if run_id not in runs}
    return [run for run in runs.values() if run is not None and not run.superseded]


def made_id(experiment: int | str, key: str, number: int) -> str:
    """The id of a run, from experiment and run key; `number` counts runs with this key from 0."""
    return _digest(f"{experiment}\n{key}\n{number}")


def made_ids(experiment: int | str, key: str) -> Iterator[str]:
    """The ids of runs with this key in the order of their use."""
    return (made_id(experiment, key, number) for number in count())


def copied_ids(run_id: str, digest: str) -> Iterator[str]:
    """The ids of a run of another store in the order of their use; `digest` is of its history."""
    yield run_id
    yield from (_digest(f"{run_id}\n{digest}\n{number}") for number in count())


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class SqlRuns:
    """Finds the runs of a database, with an index of tags for each experiment."""

    _indexes: dict[int, TagIndex] = field(default_factory=dict)
    _unused: str = ""  # the id that the last look-up found unused

    def with_key(
        self, session: Session, experiment: int, key: str, find: FindRun | None = None
    ) -> list[MlflowRun]:
        """The runs of an experiment with a run key; `find`: by one query for several runs."""
        tagged = self._tagged(session, experiment)
        return runs_with_key(find or partial(self._find, session), experiment, key, tagged)

    def copies(
        self,
        session: Session,
        experiment: int | None,
        keys: Sequence[str],
        ids: Iterable[str],
        options: Mapping[str, str],
        find: FindRun | None = None,
    ) -> list[MlflowRun]:
        """The runs of all experiments with the first of these ids, and those with one of the run
        keys in an experiment (None: it does not exist), if they have these layout options.
        """
        tagged: list[str] = []
        if experiment is not None:
            for key in keys:
                tagged += self._tagged(session, experiment).get(key, ())
        return of_layout(_found(find or partial(self._find, session), ids, tagged), options)

    def _find(self, session: Session, run_id: str) -> MlflowRun | None:
        run = find_run(session, run_id)
        if run is None:
            self._unused = run_id
        return run

    def free_id(self, session: Session, ids: Iterator[str]) -> str:
        """The first unused id.

        The database refuses it if another writer has used it since the last look-up.
        """
        unused, self._unused = self._unused, ""  # it is used from now on
        return next(each for each in ids if each == unused or find_run(session, each) is None)

    def refresh(
        self, session: Session, keys: Iterable[tuple[int, str]], ids: Sequence[str] = ()
    ) -> FindRun:
        """Read the newest tags with these run keys (with their experiments), and the runs with
        these ids. Returns a look-up of these and other ids.
        """
        of_experiment: dict[int, list[str]] = {}
        for experiment, key in keys:
            of_experiment.setdefault(experiment, []).append(key)
        for experiment, of_runs in of_experiment.items():
            index = self._indexes.setdefault(experiment, TagIndex())
            index.update(session, experiment, of_runs)
        return _finder(session, ids)

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether a run has one of these keys; True if no tags were read yet."""
        return not self._indexes or any(one.may_hold(keys) for one in self._indexes.values())

    def _tagged(self, session: Session, experiment: int) -> dict[str, list[str]]:
        index = self._indexes.setdefault(experiment, TagIndex())
        index.load(session, experiment)
        return index.tagged


def counted(session: Session, run: MlflowRun) -> MlflowRun:
    """The run with the number of its points, unless it has a state."""
    if run.state:
        return run
    statement = "select count(*) from metrics where run_uuid = ?"
    (points,) = session.execute(statement, (run.run_id,)).fetchall()[0]
    return replace(run, points=points)


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
            self.update(session, experiment, [])

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether a run has one of these keys; True if no tags were read yet."""
        return self._position is None or not self.tagged.keys().isdisjoint(keys)

    def update(self, session: Session, experiment: int, keys: Sequence[str]) -> None:
        """Read the new tags with these run keys."""
        rows, self._position = session.tags_since(self._position, KEY_TAG, keys, experiment)
        for value, run_id in rows:
            known = self.tagged.setdefault(value, [])
            if run_id not in known:
                known.append(run_id)


def find_run(session: Session, run_id: str) -> MlflowRun | None:
    """The run with this id, deleted or not."""
    statement = f"select {COLUMNS} from runs where run_uuid = ?"
    row = session.execute(statement, (run_id,)).fetchone()
    return None if row is None else stored_run(row)


def _finder(session: Session, ids: Sequence[str]) -> FindRun:
    """A look-up of runs, those with these ids by one query."""
    found: dict[str, MlflowRun | None] = dict.fromkeys(ids)
    if ids:
        marks = ", ".join("?" * len(ids))
        statement = f"select {COLUMNS} from runs where run_uuid in ({marks})"
        found |= {row[0]: stored_run(row) for row in session.execute(statement, ids).fetchall()}

    def find(run_id: str) -> MlflowRun | None:
        return found[run_id] if run_id in found else find_run(session, run_id)

    return find


def stored_run(row: Sequence[Any]) -> MlflowRun:
    """The run in a database row; its first columns are COLUMNS."""
    superseded, experiment = row[5] is not None, str(row[6])
    return MlflowRun(
        row[0], row[1] or "", row[2], row[3], row[4] or "", superseded, experiment=experiment
    )


def delete_leftovers(session: Session, settlement: Settlement) -> int:
    """Delete the unfinished copies of a complete run. Returns their number."""
    losers = [run_id for run_id in settlement.seen if _is_leftover(session, run_id, settlement)]
    for run_id in losers:
        put_pairs(session, "tags", run_id, {SUPERSEDED_TAG: "true"})
        session.execute(SET_STAGE, (DELETED, time.time_ns() // 1_000_000, run_id))
    return len(losers)


def _is_leftover(session: Session, run_id: str, settlement: Settlement) -> bool:
    run, complete = find_run(session, run_id), settlement.existing
    if run is None or complete is None or not run.is_active or run_id == complete.id:
        return False
    return settlement.verdict(complete.id, run) is Verdict.OURS
