"""Check by real runs that `bridge export --to mlflow` works with older and newer MLflow releases.

For each release a virtual environment with that mlflow and this project (a wheel of the sources as
they are) is made and thrown away. There the scenarios of tests/data go into each kind of store:

    sqlite    straight into a new database, whose tables that mlflow makes
    client    a new database, by that mlflow's own client
    server    `mlflow server` of that release, by our REST client; then histories that grow, and
              one with more points of a key than an answer holds
    files     a folder of files, where that mlflow still writes them
    postgres  straight into an empty PostgreSQL database, whose tables that mlflow makes

Each export must be verified, and change nothing the second time; that mlflow's client must read
what was reported, the same from all stores; and the tables of all databases must be equal, row by
row, but for ids and artifact locations. From the repository's root, with `uv` on the PATH:

    python -m tests.golden.check_mlflow_releases            # all releases
    python -m tests.golden.check_mlflow_releases 3.16.1     # or some

One line is printed for each release and store; the exit code is 1 if anything failed. When all
releases are checked, the results are written into mlflow_releases.md, which is committed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from tests import servers
from tests.golden.make_mlflow_schemas import OLD_PARTS, PYTHON, REPOSITORY

OLD = ("2.14.3", "2.16.2", "2.22.5", "3.0.1", "3.1.1", "3.4.0", "3.7.0")  # they need OLD_PARTS
RELEASES = (*OLD, "3.10.1", "3.13.0", "3.15.2")
DATA = REPOSITORY / "tests" / "data"
SOURCES = [*sorted(DATA.glob("groundtruth/*/trainer_state.json")), DATA / "seed.txt"]
LIVE = DATA / "groundtruth" / "token_counts" / "trainer_state.json"  # a whole history that grows
LONG = 30_000  # rows, of which an answer of a server holds 25,000
TABLES = ("runs", "params", "tags", "metrics", "latest_metrics")
VARIES = ("run_uuid", "artifact_uri")
TOLD = {  # warnings and losses of the scenarios, and of their times
    *("clock-source", "infinity-clamped", "integer-beyond-int64", "key-renamed"),
    "tail-not-logged",  # half of a history
}
RESULTS = Path(__file__).with_name("mlflow_releases.md")
Outcomes = dict[str, str]  # of the checks of a release: "ok", or what is wrong
LARGEST = sys.float_info.max
OURS = ("MLFLOW_", "PYTHON", "PG")  # settings that a release must not see


def expect(is_so: bool, what: str) -> None:
    """A failed check says what is wrong."""
    if not is_so:
        raise AssertionError(what)


@dataclass
class Release:
    """An environment with one release of mlflow, and a PostgreSQL server for it."""

    name: str
    folder: Path
    postgres: servers.PostgreSQL
    direct: dict[str, Any] = field(default_factory=dict)  # what its client read of direct.db

    def program(self, name: str) -> str:
        return str(self.folder / "venv" / "bin" / name)

    @property
    def client(self) -> list[str]:
        """The command of this script, in the environment."""
        return [self.program("python"), "-m", "tests.golden.check_mlflow_releases"]

    @property
    def place(self) -> dict[str, Any]:
        """Where its processes run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        more = {"XDG_CACHE_HOME": str(self.folder / "cache"), "PYTHONPATH": str(REPOSITORY)}
        return {"cwd": self.folder, "env": {**kept, **servers.QUIET, **more}, "text": True}

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output."""
        done = subprocess.run(command, capture_output=True, check=False, **self.place)
        expect(bool(done.stdout), f"{done.returncode}, no output: {done.stderr[-2000:]}")
        return done.returncode, done.stdout

    def export(
        self, status: str, uri: str, sources: Sequence[Path], *more: str, to: str = "bridges"
    ) -> dict[str, int]:
        """Export once, with that status of all runs; the points of each run."""
        target = ["--to", "mlflow", "--tracking-uri", uri, "--experiment", to, "--json", *more]
        code, output = self.run(self.program("bridge"), "export", *map(str, sources), *target)
        runs = json.loads(output)["runs"]
        found = [each for run in runs for each in run["findings"] if each["severity"] != "info"]
        odd = [each for each in found if each["code"] not in TOLD]
        expect(not odd, f"{len(odd)} findings when {status}, the first {odd[:1]}")
        for run in runs:
            outcome = (run["status"], run["verified"])
            expect(outcome == (status, True), f"{run['run']}: {outcome}, not {status}, verified")
        expect(code == 0, f"exit code {code}")
        return {run["run"]: run["points"] for run in runs}

    def export_twice(self, uri: str, *more: str) -> None:
        """Export the scenarios, again without a change, and read them as from `direct.db`."""
        points = self.export("exported", uri, SOURCES, *more)
        expect(len(points) == len(SOURCES), f"{len(points)} runs")
        expect(self.export("unchanged", uri, SOURCES, *more) == points, "other counts of points")
        there = self.read(uri, "bridges", points)
        self.direct = self.direct or there
        expect(there == self.direct, "the client reads something else than from direct.db")

    def read(self, uri: str, experiment: str, points: dict[str, int]) -> dict[str, Any]:
        """What the client reads of these runs, if it is as many points as these."""
        driver = "psycopg2" if self.name in OLD else "psycopg"  # old clients cannot use psycopg 3
        store = uri.replace("postgresql://", f"postgresql+{driver}://", 1)
        runs: dict[str, Any] = json.loads(self.run(*self.client, "--read", store, experiment)[1])
        there = {name: sum(map(len, run["metrics"].values())) for name, run in runs.items()}
        expect(there == points, f"the client reads {there}, not {points}")
        return runs

    def tables(self, store: str) -> dict[str, list[str]]:
        """The rows of the first experiment in an SQLite file or at a PostgreSQL URI."""
        is_file = store.endswith(".db")
        path = f"file:{self.folder / store}?mode=ro"
        database: Any = sqlite3.connect(path, uri=True) if is_file else psycopg.connect(store)
        own, found = "select run_uuid from runs where experiment_id = 1", {}
        with contextlib.closing(database):
            for table in TABLES:
                rows = database.execute(f"select * from {table} where run_uuid in ({own})")
                names = [column[0] for column in rows.description]
                cells = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
                found[table] = sorted(map(as_text, cells))
        return found

    def expect_same(self, store: str) -> None:
        """A store holds what `direct.db` holds, row by row."""
        one, other = self.tables("direct.db"), self.tables(store)
        for table in TABLES:
            for here, there in zip(one[table], other[table], strict=False):
                expect(here == there, f"{table}: {there}, but direct {here}")
            counts = (len(one[table]), len(other[table]))
            expect(counts[0] == counts[1] > 0, f"{table}: {counts} rows")


def as_text(cells: dict[str, Any]) -> str:
    """A row, but for what varies, with 0 and 1 for booleans."""
    kept = {name: cell for name, cell in sorted(cells.items()) if name not in VARIES}
    return repr({name: int(at) if isinstance(at, bool) else at for name, at in kept.items()})


# --- what runs in the environment of a release ------------------------------------------------


def read(uri: str, experiment: str) -> None:
    """Print all runs of the experiment as the mlflow that is installed here reads them."""
    from mlflow import MlflowClient

    client, runs = MlflowClient(uri), {}
    for run in client.search_runs([client.get_experiment_by_name(experiment).experiment_id]):
        metrics = {
            key: sorted((at.step, at.timestamp, as_kept(at.value)) for at in history)
            for key in run.data.metrics
            for history in [client.get_metric_history(run.info.run_id, key)]
        }
        about = {"status": run.info.status, "start": run.info.start_time, "end": run.info.end_time}
        pairs = {"params": run.data.params, "tags": run.data.tags}
        runs[run.info.run_name] = {**about, **pairs, "metrics": metrics}
    print(json.dumps(runs))


def as_kept(value: float) -> str:
    """A value as databases keep it; files keep infinities and negative zeros."""
    return repr(value if value != value else min(max(value, -LARGEST), LARGEST) + 0.0)


def serve(uri: str) -> None:
    """Run the `mlflow server` that is installed here until the input ends."""
    with servers.mlflow_server(uri) as url:
        print(url, flush=True)
        sys.stdin.read()


# --- the checks -------------------------------------------------------------------------------


def check_sqlite(release: Release) -> None:
    release.export_twice("sqlite:///direct.db")
    made = [path.name for path in (release.folder / "cache" / "bridges").glob("*.db")]
    expect(made == [f"mlflow-{release.name}.db"], f"templates {made}")


def check_client(release: Release) -> None:
    release.export_twice("sqlite:///client.db", "--mlflow-writer", "client")
    release.expect_same("client.db")


def check_server(release: Release) -> None:
    with server_of(release, "server.db") as url:
        release.export_twice(url)
        live = json.loads(LIVE.read_text())
        long = [{"loss": 1 / (at + 1), "step": at} for at in range(LONG)]
        check_growing(release, url, "live", live)
        check_growing(release, url, "long", {"global_step": LONG, "log_history": long})
    release.expect_same("server.db")


@contextlib.contextmanager
def server_of(release: Release, file: str) -> Iterator[str]:
    """The URL of a server of the release; see `serve`."""
    command = [*release.client, "--serve", f"sqlite:///{release.folder / file}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, **release.place) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            expect(url.startswith("http"), "the server did not start")
            yield url
        finally:
            if process.stdin:
                process.stdin.close()


def check_growing(release: Release, url: str, name: str, state: dict[str, Any]) -> None:
    """Half of a history, then all of it, must be as all at once."""
    log, source = state["log_history"], release.folder / f"{name}.json"
    for status, stop in (("exported", len(log) // 2), ("appended", len(log))):
        source.write_text(json.dumps({**state, "log_history": log[:stop]}))
        points = release.export(status, url, [source], to=name)
    expect(release.export("unchanged", url, [source], to=name) == points, "counts of points")
    release.export("exported", url, [source], to=f"{name} at once")
    grown, once = (release.read(url, to, points)[name] for to in (name, f"{name} at once"))
    expect(grown["metrics"] == once["metrics"], f"{name}: not as when exported at once")


def check_files(release: Release) -> None:
    release.export_twice("file:./mlruns")


def check_postgres(release: Release) -> None:
    uri = release.postgres.create_database(release.name)
    release.export_twice(uri)
    release.expect_same(uri)


CHECKS: dict[str, Callable[[Release], None]] = {
    "sqlite": check_sqlite,
    "client": check_client,
    "server": check_server,
    "postgres": check_postgres,
    "files": check_files,
}

# --- all releases -----------------------------------------------------------------------------


def install(release: Release, uv: str, wheel: Path) -> None:
    """Make its environment; `tests.servers` needs pytest."""
    old = OLD_PARTS if release.name in OLD else []
    drivers = ["psycopg[binary]", "psycopg2-binary"]
    wanted = [f"mlflow=={release.name}", *old, *drivers, "pytest", str(wheel)]
    venv, python = str(release.folder / "venv"), release.program("python")
    subprocess.run([uv, "venv", "--quiet", "--python", PYTHON, venv], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *wanted], check=True)


def outcome_of(release: str, name: str, check: Callable[[], None]) -> str:
    """Do one check and print its line; "ok", or what is wrong."""
    start, outcome = time.monotonic(), "ok"
    try:
        check()
    except Exception as error:  # deliberately broad: the other checks shall be done
        outcome = f"FAILED {type(error).__name__}: {error}"
    print(f"{release:8}{name:10}{time.monotonic() - start:6.1f} s  {outcome}", flush=True)
    return outcome


def check_all(release: Release, uv: str, wheel: Path) -> Outcomes:
    """Do all checks of a release; none without its environment."""
    done = {"install": outcome_of(release.name, "install", partial(install, release, uv, wheel))}
    if done["install"] != "ok":
        return done
    for name, check in CHECKS.items():
        if check is not check_files or release.name.startswith("2."):
            done[name] = outcome_of(release.name, name, partial(check, release))
    return done


PAGE = """\
# MLflow releases

Written by `make slow` on {date}, sources of commit {commit}, with Python {python}.
What each check does is in `check_mlflow_releases.py`; `-` is a check that was not made.

{table}
"""


def page(found: dict[str, Outcomes], commit: str) -> str:
    """The results: a table of releases and checks, and what failed."""
    columns = ["install", *CHECKS]
    rows = [["MLflow", *columns], ["---"] * (len(columns) + 1)]
    for release, done in found.items():
        rows.append([release, *(done.get(name, "-").partition(" ")[0] for name in columns)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    for release, done in found.items():
        failed = (f"{name}: {said}" for name, said in done.items() if said != "ok")
        lines += [f"\n{release}, {text.splitlines()[0]}" for text in failed]
    date = datetime.now(timezone.utc).date()
    return PAGE.format(date=date, commit=commit, python=PYTHON, table="\n".join(lines))


def commit_of_sources() -> str:
    """The last commit that changed the sources, and whether they were changed since."""
    git = ["git", "-C", str(REPOSITORY)]
    about = (
        [*git, "log", "-1", "--format=%h", "--", "src"],
        [*git, "status", "--short", "--", "src"],
    )
    commit, changes = (subprocess.check_output(each, text=True).strip() for each in about)
    return f"{commit}, changed" if changes else commit


def main(arguments: list[str]) -> int:
    """Check the given releases."""
    if arguments[:1] == ["--read"]:
        read(*arguments[1:])
        return 0
    if arguments[:1] == ["--serve"]:
        serve(*arguments[1:])
        return 0
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is needed: pip install uv")
    found, commit = {}, commit_of_sources()
    with tempfile.TemporaryDirectory() as made, servers.postgresql() as postgres:
        build = [uv, "build", "--quiet", "--wheel", "--out-dir", made, str(REPOSITORY)]
        subprocess.run(build, check=True)
        (wheel,) = Path(made).glob("*.whl")
        for name in arguments or RELEASES:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = check_all(Release(name, Path(folder), postgres), uv, wheel)
    if not arguments:
        RESULTS.write_text(page(found, commit))
    return 0 if all(at == "ok" for done in found.values() for at in done.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
