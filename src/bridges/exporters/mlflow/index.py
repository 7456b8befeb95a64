"""Listings by MLflow's public API, page by page: runs of an experiment, receipts of a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from bridges.exporters.mlflow.api import Api, ApiRun, Batch
from bridges.exporters.mlflow.rivals import keys_to_settle
from bridges.exporters.mlflow.state import RECEIPT_TAG, MlflowRun, receipt_in
from bridges.exporters.receipts import RunReceipt
from bridges.formats.mlflow_store.records import KEY_TAG, STATE_TAG, SUPERSEDED_TAG

EXPERIMENTS_PER_SEARCH = 200


@dataclass(frozen=True)
class ApiRunIndex:
    """The runs of an experiment (None if it does not exist) by run key, including deleted ones."""

    experiment: str | None
    runs: dict[str, list[MlflowRun]]

    @classmethod
    def load(cls, api: Api, experiment: str | None) -> ApiRunIndex:
        """Load all runs by one search."""
        runs: dict[str, list[MlflowRun]] = {}
        for run in api.search([experiment], KEY_TAG) if experiment is not None else ():
            runs.setdefault(run.tags[KEY_TAG], []).append(stored(run))
        return cls(experiment, runs)

    def with_key(self, key: str) -> list[MlflowRun]:
        """The runs with a run key, without superseded ones."""
        return [run for run in self.runs.get(key, ()) if not run.superseded]


def save_receipts(api: Api, runs: Sequence[RunReceipt]) -> None:
    """Save receipts by one request each; a receipt too long for a tag is skipped."""
    for run in runs:
        text = run.receipt.text()
        if api.limits.takes_tag(RECEIPT_TAG, text):
            api.log_batch(run.id, Batch(tags={RECEIPT_TAG: text}))


def receipts_in(api: Api, uri: str) -> Iterator[RunReceipt]:
    """The valid receipts of all experiments; locations begin with `uri`.

    That of a run with an unfinished copy is not, so that the next export removes the copy.
    """
    experiments = api.experiments()
    while part := [*islice(experiments, EXPERIMENTS_PER_SEARCH)]:
        found, runs = [], []
        for run in api.search(part, KEY_TAG):
            key, text = run.tags[KEY_TAG], run.tags.get(RECEIPT_TAG, "")
            runs.append((key, stored(run)))
            found.append(receipt_in(stored(run), key, text, uri, run.experiment))
        young = keys_to_settle(runs)
        yield from (one for one in found if one and not young.get(one.key, set()) - {one.id})


def stored(run: ApiRun) -> MlflowRun:
    """The run with the state in its tags."""
    superseded, state = SUPERSEDED_TAG in run.tags, run.tags.get(STATE_TAG, "")
    return MlflowRun(
        *(run.run_id, run.name, run.stage, run.status, state, superseded),
        experiment=run.experiment,
    )
