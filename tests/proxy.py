"""An HTTP/1.1 proxy in front of a real server, with faults scripted by a test.

    with FaultyProxy(url, lambda method, path, n: Refuse(503) if n == 1 else None) as proxy:
        ... proxy.url, proxy.requests, proxy.faults["Refuse"], proxy.log

The client's connection persists between requests, as with real servers. Each request to the server
has its own connection, so all faults come from the script.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

HOST = "127.0.0.1"
OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "host",
                     "te", "upgrade", "proxy-connection", "expect"}  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BODILESS = {204, 304}
UPSTREAM_TIMEOUT = 300


@dataclass(frozen=True)
class Refuse:
    """Answer with this status, without a request to the server."""

    status: int
    retry_after: str | None = None


@dataclass(frozen=True)
class Replace:
    """Let the server carry out the request, then replace its answer by this status."""

    status: int
    retry_after: str | None = None


@dataclass(frozen=True)
class LoseAnswer:
    """Let the server carry out the request, then close the connection without an answer."""

    reset: bool = False


@dataclass(frozen=True)
class Drop:
    """Close the connection without a request to the server; optionally with a TCP reset."""

    reset: bool = False


@dataclass(frozen=True)
class Cut:
    """Let the server carry out the request, then close the connection within its answer."""


@dataclass(frozen=True)
class Delay:
    """Wait before the request to the server."""

    seconds: float


Fault = Refuse | Replace | LoseAnswer | Drop | Cut | Delay
# method, path with query, and the number of requests so far with this method and path (without
# query), including this one
Script = Callable[[str, str, int], Fault | None]


@dataclass(frozen=True)
class Answer:
    """The answer to a client."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of_fault(cls, fault: Refuse | Replace) -> Answer:
        """An error in the JSON format of mlflow's server."""
        body = {"error_code": "SCRIPTED_FAULT", "message": f"the proxy says {fault.status}"}
        headers = [("Content-Type", "application/json")]
        if fault.retry_after is not None:
            headers.append(("Retry-After", fault.retry_after))
        return cls(fault.status, "Scripted", headers, json.dumps(body).encode())


class FaultyProxy:
    """Forwards requests to `upstream`, except for scripted faults; `script` can change at any time.

    `requests` counts all requests; `faults` counts faults by class name ("BadGateway" if the server
    is unreachable); `log` lists method, path and fault of each request; `authorizations` has the
    values of the Authorization headers.
    """

    def __init__(self, upstream: str, script: Script | None = None) -> None:
        self.upstream_url = upstream
        self.upstream = urlsplit(upstream).netloc
        self.script = script
        self.clear()
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()

    def clear(self) -> None:
        """Reset all counters."""
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self.log: list[tuple[str, str, Fault | None]] = []
        self.seen: Counter[tuple[str, str]] = Counter()
        self.authorizations: set[str] = set()

    def __enter__(self) -> FaultyProxy:
        methods = {f"do_{method}": Handler.do_any for method in METHODS}
        handler = type("BoundHandler", (Handler,), {"proxy": self, **methods})
        self.server = http.server.ThreadingHTTPServer((HOST, 0), handler)
        self.url = f"http://{HOST}:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        with self.lock:
            for connection in self.connections:  # kept open by clients
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def fault_of(self, method: str, path: str) -> Fault | None:
        """Count a request. Returns its fault in the script."""
        key = (method, urlsplit(path).path)
        with self.lock:
            self.requests += 1
            self.seen[key] += 1
            fault = self.script(method, path, self.seen[key]) if self.script else None
            self.log.append((method, path, fault))
            if fault is not None:
                self.faults[type(fault).__name__] += 1
        return fault

    def ask(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        """The real server's answer; status 502 if it is unreachable."""
        connection = http.client.HTTPConnection(self.upstream, timeout=UPSTREAM_TIMEOUT)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body or method not in {"GET", "HEAD", "OPTIONS"}:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            kept = [
                pair for pair in answer.getheaders() if pair[0].lower() not in OF_ONE_CONNECTION
            ]
            return Answer(answer.status, answer.reason, kept, answer.read())
        except (OSError, http.client.HTTPException) as error:
            with self.lock:
                self.faults["BadGateway"] += 1
            return Answer(502, "Bad Gateway", [], f"the proxy: {error}".encode())
        finally:
            connection.close()


class Handler(http.server.BaseHTTPRequestHandler):
    """One client's connection."""

    proxy: FaultyProxy  # set in a subclass
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.proxy.lock:
            self.proxy.connections.add(self.connection)

    def finish(self) -> None:
        with self.proxy.lock:
            self.proxy.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client went away
            super().handle()

    def do_any(self) -> None:
        body = self.read_body()
        self.proxy.authorizations.add(self.headers.get("Authorization", ""))
        fault = self.proxy.fault_of(self.command, self.path)
        if isinstance(fault, Delay):
            time.sleep(fault.seconds)
        if isinstance(fault, Drop):
            return self.hang_up(fault.reset)
        if isinstance(fault, Refuse):
            return self.send(Answer.of_fault(fault))
        headers = [(k, v) for k, v in self.headers.items() if k.lower() not in OF_ONE_CONNECTION]
        answer = self.proxy.ask(self.command, self.path, headers, body)
        if isinstance(fault, LoseAnswer):
            return self.hang_up(fault.reset)
        if isinstance(fault, Replace):
            return self.send(Answer.of_fault(fault))
        return self.send(answer, cut=isinstance(fault, Cut))

    def read_body(self) -> bytes:
        """The body of a request, of known length or chunked."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(chunks)

    def send(self, answer: Answer, *, cut: bool = False) -> None:
        """Send an answer; `cut` sends half of the body (or of the head, without a body)."""
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if answer.status not in BODILESS:
            lines.append(f"Content-Length: {len(answer.body)}")
        head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
        body = b"" if self.command == "HEAD" else answer.body
        if cut:
            self.wfile.write(head + body[: len(body) // 2] if body else head[: len(head) // 2])
            self.hang_up()
        else:  # in one piece: a body after the acknowledgement of its head takes 40 ms more
            self.wfile.write(head + body)

    def hang_up(self, reset: bool = False) -> None:
        """Close the connection, orderly or with a reset."""
        self.close_connection = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()  # before socketserver closes it in order

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: `FaultyProxy.log` has all requests."""
