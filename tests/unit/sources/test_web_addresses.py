"""Histories at web addresses: size and time of what a server sends have bounds."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from bridges.errors import SourceError
from bridges.sources import fetch
from bridges.sources.fetch import MissingSourceError

HISTORY = json.dumps([{"loss": 1.5, "step": 1}]).encode()
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that sends a head and a body (for ever if `endless`); gives its address."""
    servers: list[socket.socket] = []

    def start(
        head: bytes = b"", body: bytes = HISTORY, *, endless: bool = False, status: int = 200
    ) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        first = b"HTTP/1.1 %d -\r\nConnection: close\r\n" % status + head
        threading.Thread(target=_answer, args=(server, first, body, endless), daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/trainer_state.json"

    yield start
    for server in servers:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a connection
        server.close()


def _answer(server: socket.socket, head: bytes, body: bytes, endless: bool) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            one = (connection, head, body, endless)
            threading.Thread(target=_send, args=one, daemon=True).start()


def _send(connection: socket.socket, head: bytes, body: bytes, endless: bool) -> None:
    with connection, suppress(OSError):
        method = connection.recv(1 << 16).split()[0]
        connection.sendall(head + b"\r\n")
        while method != b"HEAD":
            connection.sendall(body)
            if not endless:
                return


def length(size: int) -> bytes:
    return b"Content-Length: %d\r\n" % size


@pytest.mark.parametrize("head", [b"", length(len(HISTORY))])
def test_a_body_is_read_whole(serve: Serve, head: bytes) -> None:
    body = HISTORY + b" " * (3 << 20)
    head = head and length(len(body))
    assert fetch.fetch(serve(head, body)) == body
    assert fetch.fetch(serve(head, body), len(body)) == body


@pytest.mark.parametrize("head", [b"", length(len(HISTORY))])
def test_a_body_may_be_refused_as_too_large(serve: Serve, head: bytes) -> None:
    with pytest.raises(SourceError, match=f"more than {len(HISTORY) - 1} bytes"):
        fetch.fetch(serve(head), len(HISTORY) - 1)


def test_an_announced_size_may_be_larger_than_that_of_a_stream(serve: Serve) -> None:
    assert fetch.fetch(serve(length(len(HISTORY))), most_of_stream=1) == HISTORY
    with pytest.raises(SourceError, match="more than 1 bytes from a stream of unknown length"):
        fetch.fetch(serve(), most_of_stream=1)


def test_an_endless_body_is_refused(serve: Serve) -> None:
    with pytest.raises(SourceError, match="more than 1,000,000 bytes from a stream"):
        fetch.fetch(serve(body=b" " * 65536, endless=True), most_of_stream=1_000_000)


@pytest.mark.parametrize("head", [b"", length(1 << 40)])
def test_a_server_that_sends_too_slowly_is_refused(
    serve: Serve, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(fetch, "MIN_BYTES_PER_SECOND", 1 << 60)  # no server is as fast
    with pytest.raises(SourceError, match=r"found a server that sent [\d,]+ bytes in \d+ seconds"):
        fetch.fetch(serve(head, endless=True))


def test_a_body_that_ends_too_early_is_refused(serve: Serve) -> None:
    with pytest.raises(SourceError, match="ClientPayloadError"):
        fetch.fetch(serve(length(len(HISTORY) + 1)))


@pytest.mark.parametrize("status", [404, 410])
def test_an_address_without_a_file_is_missing(serve: Serve, status: int) -> None:
    with pytest.raises(MissingSourceError, match="found nothing there"):
        fetch.fetch(serve(length(0), b"", status=status))


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_an_address_that_is_refused_is_not_missing(serve: Serve, status: int) -> None:
    with pytest.raises(SourceError, match=f"found HTTP status {status}; expected") as caught:
        fetch.fetch(serve(length(0), b"", status=status))
    assert not isinstance(caught.value, MissingSourceError)


def test_a_server_that_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.json"
    with pytest.raises(SourceError, match=r"found no answer \(Cannot connect to host") as caught:
        fetch.fetch(address)
    assert not isinstance(caught.value, MissingSourceError)
