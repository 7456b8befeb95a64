"""Marks of runs in a database: digests that change with each change that MLflow makes of a run.

A mark covers the experiment of a run, its rows in all tables that are read, and the number of its
points: MLflow adds points, and never changes or removes one. It does not see a point whose time,
step or value somebody changed by SQL, nor changes of the files of artifacts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from bridges.formats.mlflow_store.records import RunHead
from bridges.sources.mlflow.database import Row, Schema, Session, text

DIGEST_BYTES = 16
# a table (as `t`), its rows, the column with the id of a run, and a condition for the index
ROWS = (
    ("runs", "runs t", "t.run_uuid", ""),
    ("tags", "tags t", "t.run_uuid", ""),
    ("params", "params t", "t.run_uuid", ""),
    ("latest_metrics", "latest_metrics t", "t.run_uuid", ""),
    ("inputs", "inputs t", "t.destination_id", "t.destination_type = 'RUN' and "),
    ("inputs", "inputs t", "t.source_id", "t.source_type in ('RUN_INPUT', 'RUN_OUTPUT') and "),
    (
        *("datasets", "inputs i join datasets t on t.dataset_uuid = i.source_id"),
        *("i.destination_id", "i.destination_type = 'RUN' and "),
    ),
    (
        *("input_tags", "inputs i join input_tags t on t.input_uuid = i.input_uuid"),
        *("i.destination_id", "i.destination_type = 'RUN' and "),
    ),
    ("logged_models", "logged_models t", "t.source_run_id", ""),
    *(
        (table, f"logged_models m join {table} t on t.model_id = m.model_id", "m.source_run_id", "")
        for table in ("logged_model_params", "logged_model_tags", "logged_model_metrics")
    ),
)


def marks_of(heads: Sequence[RunHead], schema: Schema, session: Session) -> list[str]:
    """The mark of each run; empty for a run that is gone."""
    ids = [head.run_id for head in heads]
    found: dict[str, list[str]] = {each: [] for each in ids}
    for table, run_id, row in _rows(ids, schema, session):
        found[run_id].append(repr((table, row)))
    return [_mark(head, found[head.run_id]) for head in heads]


def _rows(ids: Sequence[str], schema: Schema, session: Session) -> Iterator[tuple[str, str, Row]]:
    """The rows of the runs in all tables, and the numbers of their points."""
    places = f"in ({', '.join('?' * len(ids))})"
    for table, source, column, condition in ROWS:
        if table not in schema:
            continue
        columns = ", ".join(f't."{name}"' for name in sorted(schema[table]))
        where = f"{condition}{column} {places}"
        statement = f"select {column}, {columns} from {source} where {where}"
        for run_id, *row in session.rows(statement, ids):
            yield table, text(run_id), tuple(row)
    points = f"select run_uuid, count(*) from metrics where run_uuid {places} group by run_uuid"
    for run_id, count in session.rows(points, ids):
        yield "metrics", text(run_id), (count,)


def _mark(head: RunHead, rows: list[str]) -> str:
    if not any(row.startswith("('runs'") for row in rows):
        return ""
    known = "\n".join([repr(head.experiment), *sorted(rows)])
    return hashlib.blake2b(known.encode(errors="replace"), digest_size=DIGEST_BYTES).hexdigest()
