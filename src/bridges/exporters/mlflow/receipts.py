"""Receipts in the tables of an MLflow database: a tag of each run, read and written in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridges.exporters.mlflow.database import Database
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.lookup import COLUMNS, KEY, stored_run
from bridges.exporters.mlflow.rivals import keys_to_settle
from bridges.exporters.mlflow.state import RECEIPT_TAG, receipt_in
from bridges.exporters.receipts import RunReceipt

RUNS_PER_QUERY = 10_000  # bounds memory
_SELECT_RECEIPTS = (
    f"select {COLUMNS}, {KEY}, receipt.value, runs.experiment_id from tags receipt"
    " join runs on runs.run_uuid = receipt.run_uuid"
    " join experiments on experiments.experiment_id = runs.experiment_id"
    " where receipt.key = ? and receipt.run_uuid > ? and runs.lifecycle_stage = 'active'"
    " and experiments.lifecycle_stage = 'active'{} order by receipt.run_uuid limit ?"
)
_SELECT_RUNNING = (
    f"select {COLUMNS}, {KEY} from runs where status = 'RUNNING' and lifecycle_stage = 'active'"
)
_UPSERT_RECEIPT = (  # skips purged runs
    "insert into tags (key, value, run_uuid) select ?, ?, run_uuid from runs where run_uuid = ?"
    " on conflict (key, run_uuid) do update set value = excluded.value"
)


def save_receipts(database: Database, runs: Sequence[RunReceipt], limits: Limits) -> None:
    """Save receipts in one transaction; a receipt too long for a tag is skipped."""
    texts = {run.id: run.receipt.text() for run in runs}
    rows = [
        (RECEIPT_TAG, text, run_id)
        for run_id, text in sorted(texts.items())  # one order for all writers prevents deadlocks
        if limits.takes_tag(RECEIPT_TAG, text)
    ]
    with database.transaction(write=True) as session:
        session.executemany(_UPSERT_RECEIPT, rows)


def receipts_in(database: Database, uri: str) -> Iterator[RunReceipt]:
    """The valid receipts of all experiments; locations begin with `uri`.

    That of a run with an unfinished copy is not, so that the next export removes the copy.
    """
    last, is_more = "", database.exists()
    if is_more:
        with database.transaction() as session:
            running = session.execute(_SELECT_RUNNING).fetchall()
        young = keys_to_settle((key or "", stored_run(run)) for *run, key in running)
    while is_more:
        with database.transaction() as session:
            # the default workspace, as for a client without a workspace
            own = " and experiments.workspace = 'default'" if database.has_workspaces else ""
            query = _SELECT_RECEIPTS.format(own)
            rows = session.execute(query, (RECEIPT_TAG, last, RUNS_PER_QUERY)).fetchall()
        for *run, key, text, experiment in rows:
            found = receipt_in(stored_run(run), key or "", text, uri, experiment)
            if found and not young.get(found.key, set()) - {found.id}:
                yield found
        is_more = len(rows) == RUNS_PER_QUERY
        last = rows[-1][0] if rows else ""
