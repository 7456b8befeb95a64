"""The runs of bridges in a project: their state in `project_metadata`, config and rows.

Functions on an open database; those that write need a transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from bridges import ConflictError, State
from bridges.exporters.trackio.rows import Row, RowTexts, prefix

BEGIN = "bridges:"  # of the keys in project_metadata, before the id of the run
AFTER = ";"  # the character after the last one of a prefix
END = "~"  # after every character of an id
ROWS_AT_ONCE = 50_000  # in a transaction: Trackio waits 10 seconds for its lock
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError)
ROWS_READ_AT_ONCE = 100_000
SELECT = f"""
    SELECT count(*), group_concat(step), group_concat(time), group_concat(metrics),
        group_concat(row), max(id)
    FROM (
        SELECT id, step, substr(timestamp, 1, 26) AS time, metrics, substr(log_id, ?) AS row
        FROM metrics NOT INDEXED
        WHERE id > ? AND id <= ? AND run_id = ? AND log_id >= ? AND log_id < ?
        ORDER BY id LIMIT {ROWS_READ_AT_ONCE}
    )"""  # a run's rows lie together: an index would only mean to sort them


@dataclass(frozen=True)
class StoredRun:
    """The state of a run in a project.

    `complete` is False during a write of several transactions, whose `writer` is a random text.
    `receipt` is the text of a receipt, valid while `extent` is the extent of its rows.
    """

    id: str
    key: str
    state: State
    complete: bool
    writer: str = ""
    receipt: str = ""
    extent: tuple[int, int] = (0, 0)

    def put(self, database: sqlite3.Connection) -> None:
        """Store it in place of an earlier one."""
        value = {
            "key": self.key,
            "state": self.state.fields(),
            "complete": self.complete,
            "writer": self.writer,
            **({"receipt": self.receipt, "extent": self.extent} if self.receipt else {}),
        }
        statement = "INSERT OR REPLACE INTO project_metadata (key, value) VALUES (?, ?)"
        database.execute(statement, (BEGIN + self.id, json.dumps(value)))

    @classmethod
    def parse(cls, id: str, text: str) -> StoredRun:
        """The run of a text. Raises one of UNREADABLE for another text."""
        found = json.loads(text)
        count, last = found.get("extent", (0, 0))
        return cls(
            id=id,
            key=str(found["key"]),
            state=State.of(found["state"]),
            complete=bool(found["complete"]),
            writer=str(found["writer"]),
            receipt=str(found.get("receipt", "")),
            extent=(int(count), int(last)),
        )


def stored_runs(database: sqlite3.Connection, begin: str = "") -> Iterator[StoredRun]:
    """The runs whose ids begin with a text. Raises one of UNREADABLE for a damaged state."""
    query = "SELECT key, value FROM project_metadata WHERE key >= ? AND key < ? ORDER BY rowid"
    for key, value in database.execute(query, (BEGIN + begin, BEGIN + begin + END)).fetchall():
        yield StoredRun.parse(key.removeprefix(BEGIN), value)


def name_of(database: sqlite3.Connection, id: str) -> str | None:
    """The name of a run; None if it was deleted."""
    for table in ("configs", "metrics"):
        query = f"SELECT run_name FROM {table} WHERE run_id = ? LIMIT 1"
        for (name,) in database.execute(query, (id,)):
            return str(name)
    return None


def free_id(database: sqlite3.Connection | None, key: str) -> str:
    """The first id for a run key that no run has."""
    free, number = key, 2
    while database is not None and name_of(database, free) is not None:
        free, number = f"{key}-{number}", number + 1
    return free


def config_in(database: sqlite3.Connection, id: str) -> dict[str, Any]:
    """The config of a run; empty without one. Raises one of UNREADABLE for a damaged one."""
    for (text,) in database.execute("SELECT config FROM configs WHERE run_id = ?", (id,)):
        return dict(json.loads(text))
    return {}


def put_config(
    database: sqlite3.Connection, id: str, name: str, config: Mapping[str, object]
) -> None:
    """Store the config of a run."""
    text = json.dumps(config, ensure_ascii=False, allow_nan=False)
    database.execute(
        "INSERT INTO configs (run_id, run_name, config, created_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT(run_id) DO UPDATE SET config = excluded.config",
        (id, name, text, config["_Created"]),
    )


def rename(database: sqlite3.Connection, id: str, name: str) -> None:
    """Give a run another name."""
    for table in ("configs", "metrics"):
        database.execute(f"UPDATE {table} SET run_name = ? WHERE run_id = ?", (name, id))


def insert_some(database: sqlite3.Connection, id: str, rows: Iterator[Row]) -> bool:
    """Insert the next rows. Returns whether these were the last ones."""
    some = [*islice(rows, ROWS_AT_ONCE)]
    insert(database, id, some)
    return len(some) < ROWS_AT_ONCE


def insert(database: sqlite3.Connection, id: str, rows: Iterable[Row]) -> None:
    """Insert rows of a run, which has a config. All times have one length: Trackio sorts texts."""
    name = _literal(str(name_of(database, id)))
    statement = f"""
        INSERT INTO metrics (run_id, run_name, timestamp, step, metrics, log_id)
        VALUES ('{id}', {name}, ? || '+00:00', ?, ?, '{prefix(id)}' || ?)"""
    database.executemany(statement, rows)


def _literal(text: str) -> str:
    """A text as a literal of SQL, which is faster than to bind it for each row."""
    return "'" + text.replace("'", "''").replace("\0", "'||char(0)||'") + "'"


def delete_rows(database: sqlite3.Connection, id: str) -> None:
    """Delete the rows of a run that bridges wrote."""
    begin = prefix(id)
    query = "DELETE FROM metrics WHERE run_id = ? AND log_id >= ? AND log_id < ?"
    database.execute(query, (id, begin, begin[:-1] + AFTER))


def rows_in(database: sqlite3.Connection, id: str) -> list[RowTexts]:
    """The rows of a run that bridges wrote, in their order, some at once."""
    found: list[RowTexts] = []
    begin, query = prefix(id), "SELECT min(id) - 1, max(id) FROM metrics WHERE run_id = ?"
    before, last = database.execute(query, (id,)).fetchone()
    while before is not None:
        values = (len(begin) + 1, before, last, id, begin, begin[:-1] + AFTER)
        *texts, before = database.execute(SELECT, values).fetchone()
        found += [RowTexts(*texts)] if before is not None else []
    return found


def extent_of(database: sqlite3.Connection, id: str) -> tuple[int, int]:
    """The number of rows of a run, and the id of the last one."""
    query = "SELECT count(*), coalesce(max(id), 0) FROM metrics WHERE run_id = ?"
    count, last = database.execute(query, (id,)).fetchone()
    return int(count), int(last)


def require_own(database: sqlite3.Connection, run: StoredRun) -> None:
    """Raises ConflictError if another export writes the run, or if it was deleted."""
    found = [one for one in stored_runs(database, run.id) if one.id == run.id]
    if not found or replace(found[0], complete=run.complete) != run:
        raise ConflictError
