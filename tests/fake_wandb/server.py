"""A fake W&B server on 127.0.0.1: it stores the uploads of the official client for tests.

    python -m tests.fake_wandb --port 8700
    export WANDB_BASE_URL=http://127.0.0.1:8700
    export WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567
    wandb sync wandb/offline-run-…

Tested with `wandb sync` of 0.15 to 0.31, with online runs, resumed runs, and `wandb.Api`. Requests
of the tests themselves: GET /_state has all runs by ENTITY/PROJECT/ID, and GET /_stat the numbers
of requests, GraphQL operations and faults; POST /_delete deletes a run, and POST /_rows keeps some
of its history rows.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.fake_wandb.graphql import GraphQL, Json, operation_of
from tests.fake_wandb.runs import DeletedError, Key, Store

HOST = "127.0.0.1"
KINDS = ("file_stream", "graphql", "storage")  # of requests with faults
HISTORY = "history"  # pages of history alone
FILE_STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")
STORAGE = re.compile(r"/_storage/([^/]+)/([^/]+)/([^/]+)/([^/]+)")


@dataclass(frozen=True)
class Faults:
    """The injected faults; the same `seed` gives the same faults.

    `fail_rate`           probability of an error status
    `fail_first`          number of requests that fail first
    `fail_codes`          the error statuses, used in turn
    `fail_on`             kinds of requests with faults
    `retry_after`         value of the header Retry-After of error statuses, in seconds
    `ack_lost`            probability of an error status for a request that is carried out
    `drop`                probability of a closed connection without an answer
    `latency`             seconds before each answer
    `reject_filestream`   error status of all file streams; 0 for none
    """

    fail_rate: float = 0.0
    fail_first: int = 0
    fail_codes: Sequence[int] = (500,)
    fail_on: Sequence[str] = KINDS
    retry_after: float | None = None
    ack_lost: float = 0.0
    drop: float = 0.0
    latency: float = 0.0
    reject_filestream: int = 0
    seed: int = 0


class FakeServer(ThreadingHTTPServer):
    """The server; `counts` has the numbers of requests and faults."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, port: int, faults: Faults, *, as_served: bool = False) -> None:
        super().__init__((HOST, port), Handler)
        self.faults = faults
        self.store = Store()
        url = f"http://{HOST}:{self.server_port}"
        self.graphql = GraphQL(self.store, url, as_served=as_served)
        self.counts: Counter[str] = Counter()
        self._random = random.Random(faults.seed)
        self._failed = 0

    def refusal(self, kind: str) -> int | None:
        """The error status for a request; None without a fault."""
        faults = self.faults
        if kind not in faults.fail_on:
            return None
        with self.store.lock:
            if self._failed >= faults.fail_first and not self._happens(faults.fail_rate):
                return None
            code = faults.fail_codes[self._failed % len(faults.fail_codes)]
            self._failed += 1
            self.counts[f"fault{code}"] += 1
            return code

    def drops(self, kind: str) -> bool:
        """Whether to close the connection without an answer."""
        return self._counted("drop", kind, self.faults.drop)

    def loses_answer(self, kind: str) -> bool:
        """Whether to answer with an error although the request was carried out."""
        return self._counted("ack_lost", kind, self.faults.ack_lost)

    def _counted(self, name: str, kind: str, rate: float) -> bool:
        with self.store.lock:
            happens = kind in self.faults.fail_on and self._happens(rate)
            self.counts[name] += happens
            return happens

    def _happens(self, rate: float) -> bool:
        return bool(rate) and self._random.random() < rate

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._body()
        path = self._counted_path("GET")
        if path == "/_state":
            with self.server.store.lock:
                runs = self.server.store.runs.items()
                self._send(200, {"/".join(key): run.received() for key, run in runs})
        elif path == "/_stat":
            self._send(200, self.server.counts)
        elif path in ("/healthz", "/"):
            self._send(200, {"ok": True})
        else:
            self._unknown()

    def do_HEAD(self) -> None:
        self._unknown()

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}")
        path = self._counted_path("POST")
        if path in ("/_delete", "/_rows"):
            self._change(path, body)
        elif path == "/graphql":
            self._count(operation := operation_of(body))
            is_history = operation == "HistoryPage" and HISTORY in self.server.faults.fail_on
            kind = HISTORY if is_history else "graphql"
            self._answer(kind, lambda: self.server.graphql.answer(body))
        elif found := FILE_STREAM.fullmatch(path):
            self._stream(_key(found.groups()), body)
        else:
            self._unknown()

    def do_PUT(self) -> None:
        content = self._body()
        found = STORAGE.fullmatch(self._counted_path("PUT"))
        if not found:
            self._unknown()
            return
        *key, name = map(unquote, found.groups())
        self._answer("storage", lambda: self._store(_key(key), name, content))

    def _change(self, path: str, body: Json) -> None:
        """A change by a test: delete a run, or all history rows except `keep`."""
        store, key = self.server.store, _key(body["run"].split("/"))
        with store.lock:
            if path == "/_delete":
                store.delete(key)
            else:
                run = store.runs[key]
                run.history = [run.history[at] for at in body["keep"]]
        self._send(200, {})

    def _stream(self, key: Key, body: Json) -> None:
        if code := self.server.faults.reject_filestream:
            self._send(code, {"error": "rejected"})
            return

        def apply() -> Json:
            with self.server.store.lock:
                self.server.store.get(key).apply(body)
            return {}

        self._answer("file_stream", apply)

    def _store(self, key: Key, name: str, content: bytes) -> Json:
        with self.server.store.lock:
            if key in self.server.store.runs:
                self.server.store.runs[key].store(name, content)
        return {}

    def _answer(self, kind: str, carry_out: Callable[[], Json]) -> None:
        """Carry out a request and answer it, or inject a fault."""
        code = self.server.refusal(kind)
        if code is not None:
            self._send(code, {"error": f"injected {code}"}, self.server.faults.retry_after)
        elif self.server.drops(kind):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            try:
                document = carry_out()
            except DeletedError as error:
                self._send(409, {"errors": [{"message": str(error)}]})
                return
            lost = self.server.loses_answer(kind)
            self._send(500 if lost else 200, {"error": "lost"} if lost else document)

    def _counted_path(self, method: str) -> str:
        path = urlsplit(self.path).path
        self._count(f"{method} {path}")
        return path

    def _count(self, name: str) -> None:
        with self.server.store.lock:
            self.server.counts[name] += 1

    def _unknown(self) -> None:
        self._send(404, {"error": "fake: no such endpoint"})

    def _body(self) -> bytes:
        """The body of the request: chunked or of known length, and unpacked."""
        body = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(
        self, code: int, document: Mapping[str, Any], retry_after: float | None = None
    ) -> None:
        data = b"" if self.command == "HEAD" else json.dumps(document).encode()
        time.sleep(self.server.faults.latency)
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(data)


def _key(parts: Sequence[str]) -> Key:
    entity, project, name = map(unquote, parts)
    return entity, project, name


def main() -> None:
    """Run the server until it is terminated."""
    parser = argparse.ArgumentParser()
    usual = Faults()
    parser.add_argument("--port", type=int, default=8700)
    for name in ("fail_rate", "ack_lost", "drop", "latency", "retry_after"):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=float, default=getattr(usual, name))
    for name in ("fail_first", "reject_filestream", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=0)
    parser.add_argument("--fail-codes", type=_codes, default=usual.fail_codes)
    parser.add_argument("--fail-on", type=lambda text: text.split(","), default=usual.fail_on)
    parser.add_argument("--as-served", action="store_true", help="rows as a real server gives them")
    options = vars(parser.parse_args())
    port, as_served = options.pop("port"), options.pop("as_served")
    with FakeServer(port, Faults(**options), as_served=as_served) as server:
        server.serve_forever()


def _codes(text: str) -> list[int]:
    return [int(code) for code in text.split(",")]
