"""Marks in the tables of an MLflow database: a tag of the run, set and asked for many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridges.exporters.marks import Marked
from bridges.exporters.mlflow_database import Database
from bridges.exporters.mlflow_limits import Limits
from bridges.exporters.mlflow_lookup import COLUMNS, KEY, stored_run
from bridges.exporters.mlflow_state import MARK_TAG, location_of, marked_in, run_id_of

PAGE = 10_000  # runs of one query: what they are must fit in memory
_MARKED = (
    f"select {COLUMNS}, {KEY}, mark.value, runs.experiment_id from tags mark"
    " join runs on runs.run_uuid = mark.run_uuid"
    " join experiments on experiments.experiment_id = runs.experiment_id"
    " where mark.key = ? and mark.run_uuid > ? and runs.lifecycle_stage = 'active'"
    " and experiments.lifecycle_stage = 'active'{} order by mark.run_uuid limit ?"
)
_MARK = (  # a run that is gone for good gets none
    "insert into tags (key, value, run_uuid) select ?, ?, run_uuid from runs where run_uuid = ?"
    " on conflict (key, run_uuid) do update set value = excluded.value"
)


def put_marks(database: Database, runs: Sequence[Marked], limits: Limits) -> None:
    """Set the marks of these runs, those that a tag can hold, in one transaction."""
    texts = {run_id_of(run.location): run.mark.text() for run in runs}
    rows = [
        (MARK_TAG, text, run_id)
        for run_id, text in sorted(texts.items())  # in one order: two writers wait for each other
        if limits.takes_tag(MARK_TAG, text)
    ]
    with database.transaction(write=True) as session:
        session.executemany(_MARK, rows)


def marked_runs(database: Database, uri: str) -> Iterator[Marked]:
    """The marked runs of all experiments; `uri` is how the database is shown."""
    last, is_more = "", database.exists()
    while is_more:
        with database.transaction() as session:
            # the client without a workspace sees the default one
            own = " and experiments.workspace = 'default'" if database.has_workspaces else ""
            rows = session.execute(_MARKED.format(own), (MARK_TAG, last, PAGE)).fetchall()
        for *run, key, text, experiment in rows:
            location = location_of(uri, experiment, run[0])
            found = marked_in(stored_run(run), key or "", text, location)
            if found:
                yield found
        is_more = len(rows) == PAGE
        last = rows[-1][0] if rows else ""
