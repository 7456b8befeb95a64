"""The servers and the proxy of the tests do what the tests that use them rely on."""

from __future__ import annotations

import http.client
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.bounds import HANGS, until
from tests.proxy import Cut, Delay, Drop, Fault, LoseAnswer, Refuse, Replace, Script
from tests.servers import FaultyProxy, PostgreSQL, ServerError, free_port, missing, mlflow_server
from tests.support import REPOSITORY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

# --- the proxy --------------------------------------------------------------------------------


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers what it was asked, and remembers it."""

    protocol_version = "HTTP/1.1"
    received: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(body)
        answer = json.dumps([self.path, self.headers["X-Test"], body.decode()]).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Answer", "yes")
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[tuple[str, list[bytes]]]:
    """A server's URL, and the bodies it has received."""
    received: list[bytes] = []
    handler = type("BoundEcho", (Echo,), {"received": received})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def connect(proxy: FaultyProxy) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=HANGS)


def post(connection: http.client.HTTPConnection, body: bytes = b"body") -> tuple[int, bytes]:
    connection.request("POST", "/path?q=1", body, {"X-Test": "kept"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def always(fault: Fault) -> Script:
    return lambda method, path, n: fault


Upstream = tuple[str, list[bytes]]
ECHOED = (201, json.dumps(["/path?q=1", "kept", "body"]).encode())


def test_the_proxy_forwards_over_one_connection(upstream: Upstream) -> None:
    with FaultyProxy(upstream[0]) as proxy:
        connection = connect(proxy)
        assert post(connection) == ECHOED
        first = connection.sock
        assert post(connection, b"") == (201, ECHOED[1].replace(b"body", b""))
        connection.request("GET", "/empty")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (204, b"")
        assert connection.sock is first
        assert first is not None
        assert (proxy.requests, proxy.faults) == (3, {})
        assert proxy.log[0] == ("POST", "/path?q=1", None)


def test_the_proxy_joins_a_body_in_chunks(upstream: Upstream) -> None:
    with FaultyProxy(upstream[0]) as proxy:
        connection = connect(proxy)
        connection.request("POST", "/", iter([b"one ", b"two"]), encode_chunked=True)
        assert connection.getresponse().getheader("X-Answer") == "yes"
    assert upstream[1] == [b"one two"]


@pytest.mark.parametrize(
    ("fault", "forwarded"),
    [(Refuse(429, "7"), 0), (Refuse(500), 0), (Replace(503), 1), (Replace(429, "7"), 1)],
)
def test_a_scripted_status(fault: Refuse | Replace, forwarded: int, upstream: Upstream) -> None:
    with FaultyProxy(upstream[0], always(fault)) as proxy:
        connection = connect(proxy)
        connection.request("POST", "/", b"x")
        answer = connection.getresponse()
        assert answer.status == fault.status
        assert answer.getheader("Retry-After") == fault.retry_after
        assert json.load(answer)["error_code"] == "SCRIPTED_FAULT"
        assert len(upstream[1]) == forwarded
        proxy.script = None
        assert post(connection) == ECHOED  # the connection is as good as before
        assert proxy.faults == {type(fault).__name__: 1}


@pytest.mark.parametrize(
    ("fault", "forwarded", "error"),
    [
        (Drop(), 0, http.client.RemoteDisconnected),
        (Drop(reset=True), 0, ConnectionResetError),
        (LoseAnswer(), 1, http.client.RemoteDisconnected),
        (LoseAnswer(reset=True), 1, ConnectionResetError),
        (Cut(), 1, http.client.IncompleteRead),
    ],
)
def test_a_lost_connection(
    fault: Fault, forwarded: int, error: type[Exception], upstream: Upstream
) -> None:
    with FaultyProxy(upstream[0], always(fault)) as proxy:
        with pytest.raises(error) as caught:
            post(connect(proxy))
        assert caught.type is error  # RemoteDisconnected is a ConnectionResetError
        assert len(upstream[1]) == forwarded
        assert proxy.log == [("POST", "/path?q=1", fault)]
        proxy.script = None
        assert post(connect(proxy)) == ECHOED
        if isinstance(caught.value, http.client.IncompleteRead):
            assert caught.value.partial == ECHOED[1][: len(ECHOED[1]) // 2]


def test_a_delay(upstream: Upstream) -> None:
    with FaultyProxy(upstream[0], always(Delay(0.3))) as proxy:
        start = time.monotonic()
        assert post(connect(proxy)) == ECHOED
        assert time.monotonic() - start >= 0.3


def test_the_script_counts_by_method_and_path(upstream: Upstream) -> None:
    calls = []

    def script(method: str, path: str, n: int) -> Fault | None:
        calls.append((method, path, n))
        return Refuse(503) if n == 2 else None

    with FaultyProxy(upstream[0], script) as proxy:
        connection = connect(proxy)
        assert [post(connection)[0] for _ in range(3)] == [201, 503, 201]
        connection.request("GET", "/path")
        assert connection.getresponse().status == 204
        assert proxy.faults == {"Refuse": 1}
        assert proxy.requests == 4
    assert calls == [*(("POST", "/path?q=1", n) for n in (1, 2, 3)), ("GET", "/path", 1)]


def test_a_server_that_is_gone() -> None:
    with FaultyProxy(f"http://127.0.0.1:{free_port()}") as proxy:
        connection = connect(proxy)
        assert post(connection)[0] == 502
        assert proxy.faults == {"BadGateway": 1}
    with pytest.raises((OSError, http.client.HTTPException)):  # no connection outlives the proxy
        post(connection)
    connection.close()


# --- PostgreSQL -------------------------------------------------------------------------------


def ask(uri: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(uri, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.mark.slow
def test_databases_of_their_own_on_one_postgresql(postgres: PostgreSQL) -> None:
    first = postgres.create_database("first database")
    assert ask(first, "show fsync") == [("on",)]
    assert ask(first, "show synchronous_commit") == [("on",)]
    ask(first, "create table t as select 1 as a")
    copy = postgres.create_database("copy", template="first database")
    ask(copy, "insert into t values (2)")
    assert ask(first, "select a from t") == [(1,)]
    assert ask(copy, "select a from t order by a") == [(1,), (2,)]
    postgres.drop_database("copy")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


@pytest.mark.slow
def test_a_login_with_a_password(postgres: PostgreSQL) -> None:
    postgres.create_database("of alice")
    uri = postgres.create_login("alice@home", "p'w:@/ä", "of alice")
    ask(uri, "create table t (a int)")
    assert ask(uri, "select current_user") == [("alice@home",)]
    for password in (None, "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(postgres.uri("of alice", "alice@home", password))


# a shell that runs the tests in the background lets them, and so this, ignore Ctrl-C
STARTS_POSTGRESQL = """
import signal, time
from tests.bounds import HANGS
from tests.servers import postgresql
signal.signal(signal.SIGINT, signal.default_int_handler)
with postgresql() as server:
    print(server.port, server.folder, flush=True)
    time.sleep(HANGS)
    print("not stopped")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("postgres")  # where it cannot be had, that is said there
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_its_tests(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_POSTGRESQL],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
        text=True,
    ) as process:
        assert process.stdout is not None
        port, folder = process.stdout.readline().split()
        assert accepts(int(port))
        process.send_signal(number)
        assert process.stdout.read() == ""
    until(lambda: not accepts(int(port)) and not Path(folder).exists())


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# --- mlflow server ----------------------------------------------------------------------------


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("store", ["mlflow_url", "mlflow_pg_url"])
def test_mlflow_server_answers(store: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(store)
    with urllib.request.urlopen(f"{url}/health", timeout=HANGS) as response:
        assert (response.status, response.read()) == (200, b"OK")
    with FaultyProxy(url, lambda method, path, n: Drop() if n == 1 else None) as proxy:
        client = MlflowClient(proxy.url)
        experiment = client.create_experiment("test_servers")
        run = client.create_run(experiment, run_name="a run")
        client.log_metric(run.info.run_id, "loss", 0.1, step=7)
        (found,) = client.search_runs([experiment], "metrics.loss < 1")
        assert (found.info.run_name, found.data.metrics) == ("a run", {"loss": 0.1})
        client.log_artifact(run.info.run_id, __file__)
        (artifact,) = client.list_artifacts(run.info.run_id)
        assert artifact.file_size == Path(__file__).stat().st_size


@pytest.mark.slow
def test_mlflow_server_stores_where_it_is_told(mlflow_pg_url: str, postgres: PostgreSQL) -> None:
    rows = ask(postgres.uri("mlflow_server"), "select version_num from alembic_version")
    assert len(rows) == 1


@pytest.mark.slow
def test_a_server_that_does_not_start_shows_its_log() -> None:
    with (
        pytest.raises(ServerError, match="No such option"),
        mlflow_server("sqlite:///unused.db", options=["--no-such-option"]),
    ):
        pass


# --- what is missing --------------------------------------------------------------------------


def test_what_is_missing_fails_in_ci_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install this"):
        missing("this", "apt-get install this")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="NOT TESTED, this is missing"):
        missing("this", "apt-get install this")
