"""Make tests/data/mlflow_schemas: what each release of mlflow writes into an SQLite store.

For each release a virtual environment is made and thrown away, in which mlflow's own client writes
the run of `mlflow_run.py` into a fresh database. The tables that hold runs are then stored as an
SQL script for an empty database. From the repository's root, with `uv` on the PATH:

    python -m tests.golden.make_mlflow_schemas            # all releases
    python -m tests.golden.make_mlflow_schemas 3.16.1     # or some

What varies is replaced: the run's id, artifact locations, when an experiment was made (0), and
the order of a table's named checks.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.golden import mlflow_run as golden

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMAS = REPOSITORY / "tests" / "data" / "mlflow_schemas"
# one release for each alembic revision: the newest that has it, and all that have it
RELEASES = {
    "2.14.3": "2.14",
    "2.16.2": "2.15, 2.16",
    "2.17.2": "2.17",
    "2.22.5": "2.18 to 2.22",
    "3.1.0": "3.0.0, 3.1.0",
    "3.1.4": "3.0.1, 3.1.1 to 3.1.4",
    "3.2.0": "3.2",
    "3.3.2": "3.3",
    "3.4.0": "3.4",
    "3.7.0": "3.5 to 3.7",
    "3.8.1": "3.8",
    "3.9.0": "3.9",
    "3.10.1": "3.10",
    "3.11.1": "3.11",
    "3.12.0": "3.12",
    "3.13.0": "3.13",
    "3.14.0": "3.14",
    "3.15.2": "3.15",
    "3.16.1": "3.16",
    "3.17.2": "3.17",
}
NO_COLON = {"2.14.3"}  # COLON_METRICS came with 2.16
TABLES = [
    "alembic_version",
    "experiments",
    "experiment_tags",
    "runs",
    "params",
    "tags",
    "metrics",
    "latest_metrics",
]
PYTHON = "3.11"
OLD_PARTS = ["setuptools<81", "sqlalchemy<2.1"]  # mlflow 2.14 cannot be imported with newer ones
Cell = None | int | float | str


def main(arguments: list[str]) -> None:
    """Make the files of the given releases."""
    if arguments[:1] == ["--client"]:
        write_run(arguments[1])
        return
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for release in arguments or RELEASES:
        with tempfile.TemporaryDirectory() as folder:
            path = run_client(release, Path(folder))
            script = dump(path, release)
            check(script, path)
        target = SCHEMAS / f"{release}.sql"
        target.write_text(script, encoding="utf-8", newline="\n")
        print(f"{target.relative_to(REPOSITORY)}: {len(script)} characters")


def run_client(release: str, folder: Path) -> Path:
    """The database that the release made: its client part runs in its own environment."""
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is needed: pip install uv")
    venv, path = folder / "venv", folder / "mlflow.db"
    python = str(venv / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", PYTHON, str(venv)], check=True)
    wanted = [f"mlflow=={release}", *OLD_PARTS]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *wanted], check=True)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(REPOSITORY),
    }
    client = ["-m", "tests.golden.make_mlflow_schemas", "--client", str(path)]
    subprocess.run([python, *client], check=True, cwd=folder, env=environment)
    return path


def write_run(path: str) -> None:
    """The client part: write the run with the mlflow that is installed here."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient(f"sqlite:///{path}")
    experiment = client.create_experiment(
        golden.EXPERIMENT, artifact_location=golden.ARTIFACTS, tags=golden.EXPERIMENT_TAGS
    )
    run = client.create_run(
        experiment, start_time=golden.START, tags=golden.TAGS, run_name=golden.RUN_NAME
    )
    run_id = run.info.run_id
    metrics = [*golden.METRICS, *([] if mlflow.__version__ in NO_COLON else golden.COLON_METRICS)]
    params = [Param(key, value) for key, value in golden.PARAMS.items()]
    tags = [RunTag(key, value) for key, value in golden.BATCH_TAGS.items()]
    client.log_batch(run_id, [Metric(*point) for point in metrics], params, tags)
    client.log_batch(run_id, [Metric(*point) for point in golden.LATER_METRICS])
    client.set_terminated(run_id, golden.STATUS, golden.END)


def dump(path: Path, release: str) -> str:
    """The script that makes the tables of the database, and those that they refer to."""
    database = sqlite3.connect(path)
    blank_times(database)
    run_id, revision = database.execute(
        "select run_uuid, version_num from runs, alembic_version"
    ).fetchone()
    lines = [
        f"-- mlflow {RELEASES[release]}: alembic revision {revision}",
        f"-- written by mlflow {release} with tests/golden/make_mlflow_schemas.py",
    ]
    for table in with_parents(database, TABLES):
        lines += [f"{statement};" for statement in statements(database, table)]
        lines += [insert(table, row, run_id) for row in rows(database, table)]
    database.close()
    return "\n".join([*lines, ""])


def blank_times(database: sqlite3.Connection) -> None:
    """Take what varies out of the experiments."""
    database.execute(
        "update experiments set creation_time = 0, last_update_time = 0,"
        " artifact_location = '/artifacts/' || experiment_id"
    )
    database.commit()


def with_parents(database: sqlite3.Connection, tables: list[str]) -> list[str]:
    """The tables, and before each those that its foreign keys refer to."""
    found: list[str] = []
    for table in tables:
        parents = {row[2] for row in database.execute(f"pragma foreign_key_list({table})")}
        for name in [*with_parents(database, sorted(parents - {table})), table]:
            if name not in found:
                found.append(name)
    return found


def statements(database: sqlite3.Connection, table: str) -> list[str]:
    """What made the table and its indexes."""
    found = database.execute(
        "select sql from sqlite_master where tbl_name = ? and sql is not null"
        " order by type = 'table' desc, name",
        (table,),
    )
    return [settled(statement) for (statement,) in found]


def settled(statement: str) -> str:
    """The statement with its named checks in order: alembic copies those of `runs` in any order."""
    lines = statement.split("\n")
    places = [at for at, line in enumerate(lines) if re.match(r"\tCONSTRAINT \w+ CHECK", line)]
    for at, line in zip(places, sorted(lines[at] for at in places), strict=True):
        lines[at] = line
    return "\n".join(lines)


def rows(database: sqlite3.Connection, table: str) -> list[tuple[Cell, ...]]:
    """The rows of the table in the order in which they were written."""
    return database.execute(f"select * from {table} order by rowid").fetchall()


def insert(table: str, row: tuple[Cell, ...], run_id: str) -> str:
    """The statement that writes the row."""
    cells = ", ".join(literal(cell).replace(run_id, golden.RUN_ID) for cell in row)
    return f"INSERT INTO {table} VALUES ({cells});"


def literal(cell: Cell) -> str:
    """The cell in SQL; SQLite's own quote() would cut a number to 15 digits."""
    if cell is None:
        return "NULL"
    return repr(cell) if isinstance(cell, int | float) else "'" + cell.replace("'", "''") + "'"


def check(script: str, path: Path) -> None:
    """Load the script and compare all that it makes, to the last bit, with the database."""
    made, original = sqlite3.connect(":memory:"), sqlite3.connect(path)
    made.executescript(script)
    assert made.execute("pragma foreign_key_check").fetchall() == []
    (run_id,) = original.execute("select run_uuid from runs").fetchone()
    tables = with_parents(original, TABLES)
    (count,) = made.execute("select count(*) from sqlite_master where type = 'table'").fetchone()
    assert count == len(tables)
    for table in tables:
        assert statements(made, table) == statements(original, table)
        # repr tells all floats apart, 0 from 0.0 and -0.0 too
        expected = repr(rows(original, table)).replace(run_id, golden.RUN_ID)
        assert repr(rows(made, table)) == expected, table


if __name__ == "__main__":
    main(sys.argv[1:])
