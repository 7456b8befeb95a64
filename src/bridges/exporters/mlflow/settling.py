"""Settles which run of a key stays in a store without transactions.

A run that loses gets a tag, so that no export takes it for one that a person deleted, and is then
deleted. The next export of the run completes a deletion that was interrupted between the two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

from bridges.errors import ExportError
from bridges.exporters.base import ConflictError
from bridges.exporters.mlflow.api import Api, ApiRun, Batch
from bridges.exporters.mlflow.details import record_of
from bridges.exporters.mlflow.index import stored
from bridges.exporters.mlflow.rivals import Settlement, Verdict
from bridges.formats.mlflow_store.records import ACTIVE, DELETED, KEY_TAG, SUPERSEDED_TAG


class Settling:
    """The runs of a store by their key, each once; `log` writes a batch exactly once."""

    def __init__(self, api: Api, log: Callable[[str, Batch], None]) -> None:
        self._api = api
        self._log = log
        self._half_deleted = defaultdict[str, list[ApiRun]](list)  # as found last, by key

    def search(self, experiment: str, key: str) -> list[ApiRun]:
        """The runs of an experiment with a key, without superseded ones."""
        found = [*self._api.search([experiment], KEY_TAG, key)]
        lost = [run for run in found if SUPERSEDED_TAG in run.tags]
        self._half_deleted[key] = [run for run in lost if run.stage == ACTIVE]
        return [run for run in found if SUPERSEDED_TAG not in run.tags]

    def settle(self, mine: ApiRun, settlement: Settlement) -> None:
        """Keep one of the runs of a key, once ours has all of its points.

        Raises ConflictError if another one stays.
        """
        losers, is_ours_lost = self._losers(mine.run_id, mine.experiment, settlement)
        if is_ours_lost:
            self.supersede(mine)
            raise ConflictError
        for run in losers:
            self.supersede(run)

    def remove_leftovers(self, settlement: Settlement) -> int:
        """Delete the young runs beside a complete one. Returns their number."""
        losers, complete = self._half_deleted[settlement.layout.key], settlement.existing
        if complete is not None and len(settlement.seen) > 1:
            losers, _ = self._losers(complete.id, complete.place, settlement)
        for run in losers:
            self.supersede(run)
        return len(losers)

    def _losers(
        self, ours: str, experiment: str, settlement: Settlement
    ) -> tuple[list[ApiRun], bool]:
        """The other runs of the key that do not stay, and whether ours does not."""
        layout, record = settlement.layout, record_of(settlement.layout)
        may_be_deleted = record is not None and record.head.stage == DELETED
        rivals = [
            run
            for run in self.search(experiment, layout.key)
            if run.run_id != ours and (run.stage == ACTIVE or may_be_deleted)
        ]
        verdicts = [settlement.verdict(ours, stored(run)) for run in rivals]
        losers = [run for run, v in zip(rivals, verdicts, strict=True) if v is Verdict.OURS]
        return [*losers, *self._half_deleted[layout.key]], Verdict.THEIRS in verdicts

    def complete_deletions(self, key: str) -> None:
        """Delete the runs that the last search found tagged, but not deleted."""
        for run in self._half_deleted.pop(key, ()):
            self.supersede(run)

    def supersede(self, run: ApiRun) -> None:
        """Delete a run that lost."""
        try:
            self._log(run.run_id, Batch(tags={SUPERSEDED_TAG: "true"}))
            self._api.delete_run(run.run_id)
        except ExportError:
            if not self.is_deleted(run.run_id):  # if it is, another export was faster
                raise

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run is deleted."""
        with suppress(ExportError):
            return self._api.get_run(run_id).stage != ACTIVE
        return False
