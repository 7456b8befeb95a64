"""Databases of public repositories, against plain SQL: old schemas with real runs."""

from __future__ import annotations

import sqlite3
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridges.sources.mlflow.database import DatabaseStore
from bridges.sources.mlflow.sqlite import SqliteDatabase
from tests.support import CORPUS
from tests.unit.sources.mlflow.tables import fingerprint

STORES = CORPUS.parent / "corpus_trackers" / "mlflow"
REAL = {  # archive: schema, numbers of runs, points and params
    "1997mahadi__mlops-zoomcamp": ("867495a8f9d4", 3, 3, 12),
    "aya115__mlops": ("0584bdc529eb", 7, 2, 15),
}


def unpack(name: str, folder: Path) -> Path:
    """The database of an archive, in a folder of its own."""
    with tarfile.open(STORES / f"{name}.tar.gz") as archive:
        (member,) = (each for each in archive.getmembers() if each.name.endswith("mlflow.db"))
        member.name = "mlflow.db"
        archive.extract(member, folder)
    return folder / "mlflow.db"


def by_sql(path: Path) -> tuple[str, dict[str, Any]]:
    """The schema, and the runs by id: params, tags, points."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as database:
        (schema,) = database.execute("select version_num from alembic_version").fetchone()
        runs: dict[str, Any] = {
            run: (status, start, {}, {}, Counter())
            for run, status, start in database.execute(
                "select run_uuid, status, start_time from runs"
            )
        }
        for position, table in ((2, "params"), (3, "tags")):
            for run, key, value in database.execute(f"select run_uuid, key, value from {table}"):
                runs[run][position][key] = value
        columns = "run_uuid, key, value, timestamp, step"
        for run, *point in database.execute(f"select {columns} from metrics where not is_nan"):
            runs[run][4][tuple(point)] += 1
    return schema, runs


@pytest.mark.skipif(not STORES.is_dir(), reason="the stores of other people are not here")
@pytest.mark.parametrize("name", REAL)
def test_real_databases(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    before = fingerprint(tmp_path)
    store = DatabaseStore(SqliteDatabase(str(path)))
    found: dict[str, Any] = {}
    for experiment in store.experiments():
        for head in store.heads(experiment):
            record, metrics = store.read(head)
            points = Counter(
                (metric.key, *point)
                for metric in metrics
                for point in zip(
                    metric.value.tolist(), metric.time.tolist(), metric.step.tolist(), strict=True
                )
            )
            run = record.head
            found[run.run_id] = run.status, run.start, record.params, record.tags, points
    schema, expected = by_sql(path)
    assert found == expected
    assert fingerprint(tmp_path) == before
    params, totals = (sum(len(run[at]) for run in found.values()) for at in (2, 4))
    assert (schema, len(found), totals, params) == REAL[name]
