"""Real servers for the tests: PostgreSQL, and `mlflow server` with any store.

Each server runs under `guard.py`, which stops it at any end of the tests. `proxy.py` injects faults
between a client and a server.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy

from tests import guard
from tests.bounds import HANGS
from tests.proxy import FaultyProxy as FaultyProxy

HOST = "127.0.0.1"
SUPERUSER = "bridges"
GUARDED = "guarded"  # role of the accounts with a password
HBA = f"""\
host all +{GUARDED} {HOST}/32 scram-sha-256
host all all {HOST}/32 trust
"""
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
TRIES = 3  # a free port may be taken before the server binds it

Started = TypeVar("Started")


class ServerError(Exception):
    """A server that did not start, with its log."""


def missing(name: str, remedy: str) -> NoReturn:
    """Fail (in CI) or skip a test without its server, with the remedy in the message."""
    message = f"NOT TESTED, {name} is missing: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def free_port() -> int:
    """An unused port."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


# --- processes --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Owner:
    """The account of a server; by default our own."""

    user: int | None = None
    group: int | None = None

    @property
    def extra_groups(self) -> list[int] | None:
        """No groups for another account, instead of root's."""
        return None if self.user is None else []


@contextlib.contextmanager
def folder_of(owner: Owner, name: str) -> Iterator[Path]:
    """A temporary folder of an account. Its path is short, as sockets allow 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix=f"bridges-{name}-"))
    try:
        if owner.user is not None and owner.group is not None:
            os.chown(folder, owner.user, owner.group)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def guarded(
    command: Sequence[str],
    folder: Path,
    *,
    owner: Owner,
    stop: signal.Signals,
    environment: Mapping[str, str],
) -> Iterator[None]:
    """Run a command under `guard.py` until the end of the block or of this process."""
    task = {
        "command": list(command),
        "folder": str(folder),
        "user": owner.user,
        "group": owner.group,
        "stop": int(stop),
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, json.dumps(task)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(HANGS)


def wait_for(answers: Callable[[], bool], folder: Path) -> None:
    """Wait until a server answers. Raises ServerError if it ends or hangs."""
    end = time.monotonic() + HANGS
    while not answers():
        has_ended = (folder / guard.EXITED).exists()
        if has_ended or time.monotonic() > end:
            log = (folder / guard.LOG).read_text(errors="replace") if folder.exists() else ""
            problem = "ended" if has_ended else f"did not answer in {HANGS:g} s"
            raise ServerError(f"the server {problem}; its log:\n{log[-8000:]}")
        time.sleep(0.05)


@contextlib.contextmanager
def on_a_free_port(
    start: Callable[[int, contextlib.ExitStack], Started], port: int | None = None
) -> Iterator[Started]:
    """The result of `start` for a port: `port`, or a free one.

    If another process takes the port first, `start` is called again with another free port.
    """
    for attempt in range(1, TRIES + 1):
        with contextlib.ExitStack() as stack:
            try:
                started = start(port or free_port(), stack)
            except ServerError as error:
                if attempt == TRIES or "address already in use" not in str(error).lower():
                    raise
                continue
            yield started
            return


def without(prefix: str) -> dict[str, str]:
    """Our environment without variables of this prefix."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefix)}


# --- PostgreSQL -------------------------------------------------------------------------------


@dataclass(frozen=True)
class PostgreSQL:
    """A running server; `folder` contains its socket and log, and usually its data."""

    port: int
    folder: Path

    def uri(self, database: str, user: str = SUPERUSER, password: str | None = None) -> str:
        """The URI of a database."""
        login = quote(user, "") + ("" if password is None else f":{quote(password, '')}")
        return f"postgresql://{login}@{HOST}:{self.port}/{quote(database, '')}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database, empty or a copy of an unused one. Returns its URI."""
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.uri(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and close its connections."""
        self.execute("DROP DATABASE {} WITH (FORCE)", name)

    def create_login(self, user: str, password: str, database: str) -> str:
        """Create an account with a password, the owner of a database. Returns the URI for it."""
        self.execute("CREATE ROLE {} LOGIN IN ROLE " + GUARDED, user)
        self.execute("ALTER ROLE {} PASSWORD " + psycopg.sql.quote(password), user)
        self.execute("ALTER DATABASE {} OWNER TO {}", database, user)
        return self.uri(database, user, password)

    def execute(self, statement: str, *names: str) -> None:
        """Run a statement outside of a transaction; its braces are filled with quoted names."""
        filled = psycopg.sql.SQL(statement).format(*map(psycopg.sql.Identifier, names))
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(filled)

    def answers(self) -> bool:
        """Whether the server accepts a connection."""
        try:
            psycopg.connect(self.uri("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def programs_of_postgresql() -> Path:
    """The folder of `initdb` and `postgres`: Debian's newest, or the one of `pg_config`."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(debian, key=lambda path: [int(n) for n in path.parts[4].split(".")])
    folders = [path.parent for path in reversed(newest)]
    if config := shutil.which("pg_config"):
        named = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        folders.append(Path(named.stdout.strip()))
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    missing("a PostgreSQL server", "apt-get install postgresql")


def owner_of_postgresql() -> Owner:
    """An account other than root, which PostgreSQL rejects."""
    if os.geteuid() != 0:
        return Owner()
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return Owner(account.pw_uid, account.pw_gid)
    missing("an account for PostgreSQL", "it does not run as root: add a user `postgres`")


def make_cluster(programs: Path, data: Path, owner: Owner) -> None:
    """Create an empty cluster with default settings; only members of GUARDED need a password."""
    command = [str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, "--no-sync",
               "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=data.parent,
        check=False,
        user=owner.user,
        group=owner.group,
        extra_groups=owner.extra_groups,
    )
    if done.returncode:
        raise ServerError(f"initdb failed:\n{done.stdout}{done.stderr}")
    (data / "pg_hba.conf").write_text(HBA)


def start_postgresql(port: int, stack: contextlib.ExitStack) -> PostgreSQL:
    """Create a cluster and start its server on this port."""
    owner = owner_of_postgresql()
    folder = stack.enter_context(folder_of(owner, "pg"))
    make_cluster(programs_of_postgresql(), folder / "data", owner)
    server = serve_postgresql(folder, folder / "data", port, stack)
    server.execute("CREATE ROLE {}", GUARDED)
    return server


def serve_postgresql(
    folder: Path, data: Path, port: int, stack: contextlib.ExitStack
) -> PostgreSQL:
    """Start the server of a cluster; `folder` is removed with the server."""
    programs, owner = programs_of_postgresql(), owner_of_postgresql()
    command = [str(programs / "postgres"), "-D", str(data), "-k", str(folder),
               "-p", str(port), "-c", f"listen_addresses={HOST}"]  # fmt: skip
    environment = without("PG")
    stack.enter_context(
        guarded(command, folder, owner=owner, stop=signal.SIGINT, environment=environment)
    )
    server = PostgreSQL(port, folder)
    wait_for(server.answers, folder)
    return server


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server with default settings (with fsync) on a free port, for the block."""
    with on_a_free_port(start_postgresql) as server:
        yield server


# --- MariaDB ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MariaDB:
    """A running server, in place of MySQL; `folder` contains its data, its socket and its log."""

    port: int
    folder: Path

    def create_database(self, name: str, *, reader: str = "") -> str:
        """Create an empty database, and a login that may only read it. Returns its URI."""
        self.execute(f"create database {name} character set utf8mb4")
        if reader:
            self.execute(f"create user {reader}@'{HOST}' identified by 'p@ss/word'")
            self.execute(f"grant select on {name}.* to {reader}@'{HOST}'")
        return f"mysql+pymysql://root@{HOST}:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Run a statement as root."""
        engine = sqlalchemy.create_engine(f"mysql+pymysql://root@{HOST}:{self.port}")
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    def answers(self) -> bool:
        """Whether the server accepts a connection."""
        try:
            self.execute("select 1")
        except sqlalchemy.exc.OperationalError:
            return False
        return True


def start_mariadb(port: int, stack: contextlib.ExitStack) -> MariaDB:
    """Create a data directory and start a server on this port."""
    remedy = "apt-get install mariadb-server"
    install = shutil.which("mariadb-install-db") or missing("MariaDB", remedy)
    program = shutil.which("mariadbd", path=f"/usr/sbin:{os.environ.get('PATH', '')}")
    if find_spec("pymysql") is None:
        missing("the driver of MySQL", "pip install pymysql")
    owner = owner_of_postgresql()
    folder = stack.enter_context(folder_of(owner, "maria"))
    options = ["--no-defaults", f"--datadir={folder / 'data'}", f"--tmpdir={folder}"]
    done = subprocess.run(
        [install, *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        user=owner.user,
        group=owner.group,
        extra_groups=owner.extra_groups,
    )
    if done.returncode:
        raise ServerError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")
    command = [program or missing("MariaDB", remedy), *options, f"--port={port}",
               f"--bind-address={HOST}", f"--socket={folder / 'socket'}",
               f"--pid-file={folder / 'pid'}", "--skip-name-resolve"]  # fmt: skip
    environment = without("MYSQL")
    stack.enter_context(
        guarded(command, folder, owner=owner, stop=signal.SIGTERM, environment=environment)
    )
    server = MariaDB(port, folder)
    wait_for(server.answers, folder)
    return server


@contextlib.contextmanager
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB server on a free port, for the block."""
    with on_a_free_port(start_mariadb) as server:
        yield server


# --- mlflow server ----------------------------------------------------------------------------

DEFAULT_WORKERS = 4  # of `mlflow server`


def is_up(url: str, log: Path, workers: int) -> bool:
    """Whether the server answers and all of its workers have started.

    Workers that still import would disturb measured times.
    """
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            text = log.read_text(errors="replace")
            started = text.count("Application startup complete")
            return response.status == 200 and (started >= workers or "Uvicorn" not in text)
    except OSError:
        return False


@contextlib.contextmanager
def mlflow_server(
    backend_uri: str,
    *,
    workers: int | None = None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
    stop: signal.Signals = signal.SIGTERM,
    python: str = sys.executable,
) -> Iterator[str]:
    """Run the `mlflow server` of an interpreter with a store, for the block. Yields its URL.

    Settings are the defaults, but without jobs and telemetry. `port` is a free one by default;
    `options` go to the command line, and `environment` is added to ours.
    """

    def start(port: int, stack: contextlib.ExitStack) -> str:
        folder = stack.enter_context(folder_of(Owner(), "mlflow"))
        store = backend_uri.replace("postgresql://", "postgresql+psycopg://", 1)
        command = [python, "-m", "mlflow", "server", "--host", HOST, "--port", str(port),
                   "--backend-store-uri", store, "--artifacts-destination",
                   str(folder / "artifacts"), *options]  # fmt: skip
        if workers is not None:
            command += ["--workers", str(workers)]
        stack.enter_context(
            guarded(
                command,
                folder,
                owner=Owner(),
                stop=stop,
                environment={**without("MLFLOW_"), **QUIET, **(environment or {})},
            )
        )
        url = f"http://{HOST}:{port}"
        log = folder / guard.LOG
        wait_for(lambda: is_up(url, log, workers or DEFAULT_WORKERS), folder)
        return url

    with on_a_free_port(start, port) as url:
        yield url
