"""Servers that answer slowly, without end, or with something else: an error, soon and in bounds."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bridges import http
from bridges.errors import ConfigError, ExportError
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.mlflow.rest import RestApi
from bridges.formats.mlflow_store import rest as mlflow_rest
from bridges.formats.mlflow_store.rest import needs_mlflow
from bridges.http import FIRST_ATTEMPTS, Connection, NoAnswerError
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.short_retries import short_retries
from tests.bounds import until
from tests.servers import free_port
from tests.support import make_run
from tests.tls import server_context

Script = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def server(
    *scripts: Script, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[bytes]]]:
    """A server that carries out one of the scripts for each connection, the last one again and
    again; its URL, and the first bytes of each request.
    """
    requests: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # it ends when the test does
            while True:
                connection, _ = listening.accept()
                if tls:
                    connection = tls.wrap_socket(connection, server_side=True)
                script = scripts[min(len(requests), len(scripts) - 1)]
                requests.append(connection.recv(65_536))
                threading.Thread(target=carry_out, args=(script, connection), daemon=True).start()

    def carry_out(script: Script, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            script(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        start = "https://localhost" if tls else "http://127.0.0.1"
        yield f"{start}:{listening.getsockname()[1]}", requests
    finally:
        listening.close()


def answer(body: bytes, head: bytes = HEAD) -> Script:
    """A whole answer, after which the connection is closed."""
    length = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    return lambda connection: connection.sendall(head + length + body)


def endless(start: bytes, piece: bytes, pause: float = 0.0) -> Script:
    """Pieces until the other side has had enough."""

    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return send


def connect(url: str, timeout: float = 60.0) -> Connection:
    return Connection(url, {}, timeout=timeout, pause=lambda seconds: None)


@pytest.mark.parametrize(
    "script",
    [
        endless(HEAD + b"Content-Length: 100000\r\n\r\n", b" ", 0.02),
        endless(HEAD + b"\r\n", b" ", 0.02),
        endless(HEAD + CHUNKED, b"1\r\n \r\n", 0.02),
    ],
    ids=["length", "until closed", "chunked"],
)
def test_a_body_that_trickles_is_given_up(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_TIMEOUT", 0.2)
    with server(script) as (url, requests):
        with pytest.raises(NoAnswerError, match=r"takes too long|timed out"):
            connect(url).request("GET", "/")
        until(lambda: len(requests) == FIRST_ATTEMPTS)  # the server may be slower than the client


@pytest.mark.parametrize(
    "script",
    [
        endless(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.02),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
        endless(HEAD, b"X: y\r\n", 0.03),
    ],
    ids=["one header", "continue", "headers"],
)
def test_headers_that_trickle_are_given_up(script: Script) -> None:
    with server(script) as (url, requests):
        with pytest.raises(NoAnswerError):
            connect(url, 0.3).request("GET", "/")
        until(lambda: len(requests) == FIRST_ATTEMPTS)  # the server may be slower than the client


@pytest.mark.parametrize(
    "script",
    [
        endless(HEAD + b"\r\n", b" " * 65_536),
        endless(HEAD + b"Content-Length: 99999999999999\r\n\r\n", b" " * 65_536),
        endless(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b" " * 32_768 + b"\r\n"
        ),
    ],
    ids=["until closed", "length", "chunked"],
)
def test_a_body_without_end_is_an_error(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 1 << 20)
    with server(script) as (url, requests):
        with pytest.raises(ExportError, match="the answer has more than 1,048,576 bytes") as caught:
            connect(url).request("GET", "/")
        assert not caught.value.transient
        assert len(requests) == 1


def test_a_body_that_ends_too_early_is_asked_for_again() -> None:
    cut = HEAD + b"Content-Length: 99\r\n\r\n{}"
    with server(lambda connection: connection.sendall(cut), answer(b"{}")) as (url, requests):
        assert connect(url).request("GET", "/").body == b"{}"
        assert len(requests) == 2


def test_a_large_body_is_read_whole() -> None:
    body = json.dumps({"x": "y" * 3_000_000}).encode()
    with server(answer(body)) as (url, _):
        assert connect(url).request("GET", "/").body == body


def test_each_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def once(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    with caplog.at_level(logging.DEBUG, "bridges.http"), server(once) as (url, _):
        connect(url).request("GET", "/x")
    (record,) = caplog.records
    assert record.getMessage().startswith("GET /x: 200, 2 bytes, ")
    assert record.name == "bridges.http"


def test_a_connection_is_kept_for_the_next_request() -> None:
    def twice(connection: socket.socket) -> None:
        for _ in range(2):
            connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
            connection.recv(65_536)

    with server(twice) as (url, requests):
        kept = connect(url)
        assert [kept.request("GET", "/").body for _ in range(2)] == [b"{}", b"{}"]
        assert len(requests) == 1


def wait_for_the_end(connection: Connection) -> None:
    """Wait until a connection has ended for its client: the kernel may deliver that late."""
    until(lambda: not connection._connection.is_connected)


def test_a_connection_that_the_server_closed_is_opened_again(tls: ssl.SSLContext) -> None:
    """With TLS too; the request has surely not been carried out, so it need not be repeatable."""

    def answer_and_close(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    for context in (None, tls):
        with server(answer_and_close, answer(b"[]"), tls=context) as (url, requests):
            connection = RestApi(url).server
            assert connection.request("GET", "/").body == b"{}"
            wait_for_the_end(connection)
            assert connection.request("POST", "/", b"1", repeatable=False).body == b"[]"
            assert len(requests) == 2


# --- TLS and proxies ---------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server that `RestApi` trusts."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "trusted.pem"))
    return server_context(tmp_path / "trusted.pem")


def test_a_certificate_that_nobody_vouches_for_is_told(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(answer(b"{}"), tls=tls) as (url, _):
        assert find(url) is None
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    with server(answer(b"{}"), tls=tls) as (url, requests):
        with pytest.raises(ExportError, match="self-signed certificate") as caught:
            find(url)
        assert not caught.value.transient
        assert requests == []


def test_insecure_tls_is_no_cause_for_warnings(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    with server(answer(b"{}"), tls=tls) as (url, _):
        assert find(url) is None
    assert not recwarn.list


def use_proxy(monkeypatch: pytest.MonkeyPatch, scheme: str, url: str) -> None:
    for name in ("no_proxy", "NO_PROXY", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{scheme}_proxy", url)


def tunnel(connection: socket.socket, to: str) -> None:
    """Connect a client, whose CONNECT was read, with the server; until both have closed."""
    host, _, port = to.partition(":")
    with socket.create_connection((host, int(port))) as server_side:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def copy(from_: socket.socket, to_: socket.socket) -> None:
            with suppress(OSError):
                while piece := from_.recv(65_536):
                    to_.sendall(piece)
                to_.shutdown(socket.SHUT_WR)

        up = threading.Thread(target=copy, args=(connection, server_side), daemon=True)
        up.start()
        copy(server_side, connection)
        up.join()


LOGIN = b"Basic " + b64encode(b"me:a@b")


def test_a_proxy_is_asked_for_the_whole_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(answer(b"{}")) as (proxy, requests):
        use_proxy(monkeypatch, "http", proxy.replace("//", "//me:a%40b@"))
        assert needs_mlflow("http://mlflow.example:5000/x") is None
        assert find("http://mlflow.example:5000/x") is None
    line, *headers = requests[0].lower().split(b"\r\n")
    assert line.startswith(b"get http://mlflow.example:5000/x/api/2.0/mlflow/")
    assert b"host: mlflow.example:5000" in headers
    assert b"proxy-authorization: " + LOGIN.lower() in headers


def test_a_proxy_is_a_tunnel_to_a_server_of_tls(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "unseen")
    with server(answer(b"{}"), tls=tls) as (url, requests):
        to = url.removeprefix("https://")
        with server(lambda connection: tunnel(connection, to)) as (proxy, asked):
            use_proxy(monkeypatch, "https", proxy.replace("//", "//me:a%40b@"))
            api = RestApi(url)
            for _ in range(2):  # a new tunnel each, for the server closes its connections
                assert api.find_experiment("e") is None
    assert [ask.split(b" HTTP/")[0] for ask in asked] == [b"CONNECT " + to.encode()] * 2
    assert all(LOGIN in ask and b"unseen" not in ask for ask in asked)
    assert all(b"unseen" in ask and LOGIN not in ask for ask in requests)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_login_is_told(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = answer(b"", b"HTTP/1.1 407 Proxy Authentication Required\r\n")
    with server(refusal) as (proxy, _):
        use_proxy(monkeypatch, scheme, proxy.replace("//", "//me:secret@"))
        api = RestApi(f"{scheme}://mlflow.example")
        api.server._pause = lambda seconds: None
        with pytest.raises(ExportError, match="407") as caught:
            api.find_experiment("e")
    assert "secret" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    use_proxy(monkeypatch, "http", f"http://127.0.0.1:{free_port()}")
    connection = Connection("http://mlflow.example", {}, pause=lambda seconds: None)
    with pytest.raises(NoAnswerError, match=r"through the proxy 127\.0\.0\.1:.*refused") as caught:
        connection.request("POST", "/", b"", repeatable=False)
    assert caught.value.done is False


def test_hosts_without_proxy_are_asked_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    use_proxy(monkeypatch, "http", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with server(answer(b"{}")) as (url, _):
        assert find(url) is None


def test_other_proxies_need_the_client_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    use_proxy(monkeypatch, "http", "socks5://127.0.0.1:9")
    assert needs_mlflow("http://mlflow.example") == "the proxy uses socks5"
    use_proxy(monkeypatch, "http", "http://host:port")
    with pytest.raises(ConfigError, match="is not the URL of a proxy"):
        needs_mlflow("http://mlflow.example")


# --- what MLflow does not say ------------------------------------------------------------------


def find(url: str) -> object:
    return RestApi(url).find_experiment("e")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000,
        b'{"experiment":' * 50_000,
        b"[]",
        b"3",
        b"null",
        b'"text"',
        b"<html>\x9b31m</html>",
        b"\xff\xfe",
        b'{"experiment": []} trailing',
        b'{"experiment": [1]}',
        b'{"experiment": {"experiment_id": "1"}}',
        b'{"experiment": {"experiment_id": [1], "lifecycle_stage": "active"}}',
    ],
)
def test_an_answer_that_is_not_one_of_mlflow_is_told(body: bytes) -> None:
    with server(answer(body)) as (url, _), pytest.raises(ExportError) as caught:
        find(url)
    assert str(caught.value).endswith("Is this the URL of the server itself?")
    assert "\x9b" not in str(caught.value)


@pytest.mark.parametrize("body", [b"[" * 50_000, b"[]", b'{"error_code": [{}]}', b"<html>", b""])
def test_a_refusal_in_other_words_is_told(body: bytes) -> None:
    head = b"HTTP/1.1 400 Bad Request\r\n"
    with (
        server(answer(body, head)) as (url, _),
        pytest.raises(ExportError, match=r"rejects the request"),
    ):
        find(url)


def test_a_redirect_to_itself_is_told_and_not_followed() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n"
    with server(answer(b"", head)) as (url, requests):
        with pytest.raises(ExportError, match=r"the server redirects to http://127\.0\.0\.1/"):
            find(url)
        assert len(requests) == 1


RUN = {"info": {"run_id": "r", "lifecycle_stage": "active", "status": "x", "experiment_id": "1"}}


@pytest.mark.parametrize(
    "runs",
    [
        [3],
        ["x"],
        [{"info": {}}],
        [{"info": {**RUN["info"], "run_id": 3}}],
        [{**RUN, "data": []}],
        [{**RUN, "data": {"tags": [{"value": "x"}]}}],
        [{**RUN, "data": {"tags": [{"key": "k", "value": {}}]}}],
        [{**RUN, "data": {"metrics": [{"key": "k"}]}}],
        [{"info": {**RUN["info"], "end_time": "soon"}}],
        3,
    ],
)
def test_runs_of_another_shape_are_told(runs: Any) -> None:
    body = json.dumps({"runs": runs}).encode()
    with (
        server(answer(body)) as (url, _),
        pytest.raises(ExportError, match="this is not an answer of MLflow"),
    ):
        list(RestApi(url).search(["1"], "tag"))


@pytest.mark.parametrize(
    "point",
    [
        {},
        {"value": 1, "timestamp": "now"},
        {"value": {}, "timestamp": 1},
        {"value": 1, "timestamp": 10**400},
        {"value": 1, "timestamp": 1, "step": 2**70},
        7,
    ],
)
def test_points_of_another_shape_are_told(point: Any) -> None:
    body = json.dumps({"metrics": [point]}).encode()
    with (
        server(answer(body)) as (url, _),
        pytest.raises(ExportError, match="this is not an answer of MLflow"),
    ):
        RestApi(url).histories("r", ["loss"])


def test_a_list_without_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    same = answer(b'{"next_page_token": "x", "runs": [], "metrics": []}')
    with server(same) as (url, requests):
        for ask in (
            lambda: list(RestApi(url).search(["1"], "tag")),
            lambda: RestApi(url).histories("r", ["loss"]),
        ):
            with pytest.raises(ExportError, match="listing does not end"):
                ask()
        assert len(requests) == 4
    monkeypatch.setattr(mlflow_rest, "MAX_PAGES", 5)
    others = [answer(b'{"next_page_token": "%d"}' % number) for number in range(9)]
    with server(*others) as (url, requests):
        with pytest.raises(ExportError, match="listing does not end"):
            list(RestApi(url).search(["1"], "tag"))
        assert len(requests) == 5


# --- silence after an answer ---------------------------------------------------------------------


def test_an_error_says_whether_the_server_had_answered_before() -> None:
    with server(answer(b"{}"), lambda connection: None) as (url, _):
        connection = connect(url)
        connection.request("GET", "/")
        for _ in range(2):
            with pytest.raises(NoAnswerError) as caught:
                connection.request("GET", "/")
            assert caught.value.answered
    with server(lambda connection: None) as (url, _), pytest.raises(NoAnswerError) as caught:
        connect(url).request("GET", "/")
    assert not caught.value.answered


def test_a_run_in_hand_counts_as_an_answer() -> None:
    """The experiment is there; while the run is looked for, the server falls silent."""
    there = b'{"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}}'
    with server(answer(b"3.1.0"), answer(there), lambda connection: None) as (url, _):
        exporter = MlflowExporter(MlflowOptions(url))
        with short_retries():
            report = export_run(make_run([{"loss": 1.0, "step": 1}]), exporter, ExportOptions())
    assert (report.transient, report.answered) == (True, True)


# --- what the user said ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://host:99999", "http://host:port", "http://[::1", "http://", "http://:80/x"]
)
def test_urls_of_no_server_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the URL of a server"):
        RestApi(url)


def test_a_host_name_that_cannot_be_is_told() -> None:
    with pytest.raises(ExportError):
        find(f"http://{'a' * 70}.example")


@pytest.mark.parametrize("token", ["a\nb", "a\r\nX-Other: b", "é", "a\x9bb"])
def test_tokens_that_no_header_takes_are_refused_unseen(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    with pytest.raises(ConfigError) as caught:
        RestApi("http://127.0.0.1:9")
    assert token not in str(caught.value)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "-1", "-9" * 3000, "ten", ""])
def test_absurd_numbers_of_the_environment_are_as_if_unset(
    number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", number)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", number)
    with server(answer(b"{}")) as (url, _):
        assert find(url) is None


@pytest.mark.parametrize("seconds", [b"\xb2", b"9" * 5000, b"-1", b"soon"])
def test_absurd_pauses_that_a_server_asks_for_are_bounded(seconds: bytes) -> None:
    busy = answer(b"", b"HTTP/1.1 503 Busy\r\nRetry-After: %s\r\n" % seconds)
    waits: list[float] = []
    with server(busy, answer(b"{}")) as (url, _):
        Connection(url, {}, pause=waits.append).request("GET", "/")
    assert len(waits) == 1
    assert 0 <= waits[0] <= 60


# --- files ---------------------------------------------------------------------------------------


class Pieces:
    """The body of an upload that can be read several times."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.readings = pieces, 0

    def __iter__(self) -> Iterator[bytes]:
        self.readings += 1
        return iter(self.pieces)


def no_error(answer: http.Answer) -> None:
    raise AssertionError(answer.status)


def test_a_file_may_have_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 1000)
    body = bytes(range(256)) * 10_000
    with server(answer(body)) as (url, _):
        connection = Connection(url, {})
        chunks = [*connection.download("/file", no_error)]
        assert b"".join(chunks) == body
        assert len(chunks) > 1
        with pytest.raises(ExportError, match="more than"):
            connection.request("GET", "/file")


def test_a_file_that_breaks_off_is_an_error() -> None:
    length = b"Content-Length: 10\r\n\r\n"
    with server(lambda connection: connection.sendall(HEAD + length + b"half")) as (url, _):
        found = Connection(url, {}).download("/file", no_error)
        with pytest.raises(NoAnswerError):
            b"".join(found)


def test_a_busy_server_is_asked_for_a_file_again() -> None:
    busy = answer(b"", b"HTTP/1.1 503 Busy\r\n")
    with server(busy, busy, answer(b"file")) as (url, requests):
        connection = Connection(url, {}, pause=lambda seconds: None)
        assert b"".join(connection.download("/file", no_error)) == b"file"
        assert len(requests) == 3


def test_the_error_of_a_file_is_checked() -> None:
    answers: list[http.Answer] = []
    with server(answer(b"gone", b"HTTP/1.1 404 Not Found\r\n"), answer(b"file")) as (url, _):
        connection = Connection(url, {})
        assert [*connection.download("/file", answers.append)] == []
        assert [(each.status, each.body) for each in answers] == [(404, b"gone")]
        assert b"".join(connection.download("/file", no_error)) == b"file"


def test_a_file_that_is_not_read_to_its_end_leaves_no_rest() -> None:
    with server(answer(b"x" * (4 << 20)), answer(b"next")) as (url, _):
        connection = Connection(url, {})
        for _ in connection.download("/file", no_error):
            break
        assert connection.request("GET", "/other").body == b"next"


def test_an_upload_is_read_anew_for_each_attempt() -> None:
    body = Pieces(b"one ", b"two")
    busy = answer(b"", b"HTTP/1.1 503 Busy\r\n")

    def after_the_body(script: Script) -> Script:
        def read(connection: socket.socket) -> None:
            while not requests[-1].endswith(b"two"):
                requests[-1] += connection.recv(65_536)
            script(connection)

        return read

    with server(after_the_body(busy), after_the_body(answer(b"{}"))) as (url, requests):
        connection = Connection(url, {}, pause=lambda seconds: None)
        connection.request("PUT", "/file", http.FileBody(body, 7))
    assert body.readings == 2
    head, _, sent = requests[1].partition(b"\r\n\r\n")
    assert sent == b"one two"
    assert b"content-length: 7" in head.lower()
    assert b"chunked" not in head.lower()


def test_an_upload_whose_file_is_gone_leaves_a_usable_connection() -> None:
    class GoneError(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise GoneError

    def until_closed(connection: socket.socket) -> None:
        while connection.recv(65_536):
            pass

    with server(until_closed, answer(b"{}")) as (url, _):
        connection = Connection(url, {})
        with pytest.raises(GoneError):
            connection.request("PUT", "/file", http.FileBody(broken(), 8))
        assert connection.request("GET", "/other").status == 200
