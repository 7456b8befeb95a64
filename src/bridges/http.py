"""A persistent connection to an HTTP server, based on urllib3: JSON in and out, with retries.

urllib3 connects (through the proxy of the environment), detects stale connections, and reads
answers. This module adds:

- whether a failed request may have been carried out (`NoAnswerError.done`);
- deadlines for headers and body, and a size limit for answers;
- an immediate acknowledgement of answers on Linux (TCP_QUICKACK). Without it, servers that send
  headers and body in two packets wait about 40 ms at every request.
"""

from __future__ import annotations

import http.client
import io
import json
import math
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Url, make_headers, parse_url

from bridges.errors import ConfigError, ExportError
from bridges.log import log
from bridges.short_retries import HAS_SHORT_RETRIES, SHORT_RETRY_SECONDS
from bridges.stream.redact import redact_text

ATTEMPTS = 8  # of one request, including the first
FIRST_ATTEMPTS = 3  # until the server has answered once: it may not exist
FIRST_PAUSE = 0.25  # seconds; doubled after each attempt, and shortened at random
MAX_PAUSE = 20.0  # seconds
TIMEOUT = 120.0  # seconds for an answer
CONNECT_TIMEOUT = 10.0  # seconds
BODY_TIMEOUT = 10.0  # seconds for a body, plus its size divided by the next rate
MIN_BYTES_PER_SECOND = 4096
MAX_ANSWER_BYTES = 128 << 20
CHUNK_BYTES = 1 << 16
FILE_CHUNK_BYTES = 1 << 20
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
NOT_DONE_STATUSES = frozenset({429})  # the server rejected the request before doing anything
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
Pause = Callable[[float], None]
A = TypeVar("A")


@dataclass(frozen=True)
class Answer:
    """A server's answer: status, headers (by case-insensitive name) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as a JSON object. Raises ExportError for other bodies."""
        try:
            found = json.loads(self.body or b"{}")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            start = self.body[:80].decode(errors="replace")
            raise ExportError(
                f"the answer is not a JSON object but {start!r}. Is this the URL of the "
                "server itself?"
            )
        return found


class NoAnswerError(ExportError):
    """No answer, or a busy server, after all retries.

    `done` is False if the request was not carried out, and None if it may have been. `status` is
    that of the last answer; 0 without one.
    """

    def __init__(
        self, message: str, done: bool | None, answered: bool = False, status: int = 0
    ) -> None:
        self.done, self.status = done, status
        super().__init__(message, transient=True, waited=True, answered=answered)


class _Reading(io.RawIOBase):
    """The bytes of one answer: a deadline for the headers, then a minimum rate and a maximum size.

    A body of any size (`is_file`) has a deadline for each read instead, as its reader may be slow.
    Raises TimeoutError, and ExportError for a body that is too long.
    """

    def __init__(self, sock: socket.socket, timeout: float, *, is_file: bool) -> None:
        self._socket = sock
        self._raw: Any = sock.makefile("rb", 0)
        self._timeout, self._is_file = timeout, is_file
        self._until = time.monotonic() + timeout
        self._body_began: float | None = None
        self._size = 0

    def begin_body(self) -> None:
        """Start the deadline of the body, after the headers have arrived."""
        self._body_began = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._is_file and self._body_began is not None:
            self._until = time.monotonic() + self._timeout
        elif self._body_began is not None:
            self._until = self._body_began + BODY_TIMEOUT + self._size / MIN_BYTES_PER_SECOND
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._socket.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        self._size += count or 0
        if self._size > MAX_ANSWER_BYTES and not self._is_file:
            raise ExportError(f"the answer has more than {MAX_ANSWER_BYTES:,} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response with the deadlines and limits of `_Reading`."""

    is_file = False

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        timeout = sock.gettimeout() or TIMEOUT
        self._reading = _Reading(sock, timeout, is_file=self.is_file)
        self.fp = io.BufferedReader(self._reading)

    def begin(self) -> None:
        """Read the headers."""
        super().begin()
        self._reading.begin_body()


class _FileResponse(_Response):
    """A response with a body of any size."""

    is_file = True


@dataclass(frozen=True)
class FileBody:
    """The body of an upload: chunks with `size` bytes in total, read anew for each attempt."""

    chunks: Iterable[bytes]
    size: int


@dataclass
class _Attempt:
    """One attempt of a request. `is_sent`: the request may have arrived."""

    method: str
    path: str
    is_sent: bool = False


class Connection:
    """A persistent connection to the server at `url`; every request has these headers."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        context: ssl.SSLContext | None = None,
        attempts: int = ATTEMPTS,
        timeout: float = TIMEOUT,
        pause: Pause = time.sleep,
    ) -> None:
        parts, port = url_parts(url)
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json", **headers}
        self._attempts = max(attempts, 1)
        self._answers = False  # the last request was answered: later ones get more attempts
        self._answered = False  # any request was answered
        self._pause = pause
        self._timeout = timeout
        self._connection = _new_connection(parts, port, context)
        self._tunnel: tuple[str, int, dict[str, str]] | None = None
        proxy = self._connection.proxy
        self._via = f" through the proxy {proxy.netloc}" if proxy else ""
        login = make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy and proxy.auth else {}
        if proxy and parts.scheme == "https":
            self._tunnel = parts.hostname or "", port or 443, login
        elif proxy:  # requests to a proxy have the full URL
            self._prefix = self.name + self._prefix
            self._headers |= login

    def request(
        self,
        method: str,
        path: str,
        body: bytes | FileBody | None = None,
        *,
        repeatable: bool = True,
    ) -> Answer:
        """Send a request, with retries, and return the server's answer.

        Raises NoAnswerError after the last attempt. A request that is not `repeatable` raises it
        as soon as it may have been carried out.
        """
        return self._repeated(lambda: self._once(method, path, body), repeatable)

    def download(self, path: str, check: Callable[[Answer], object]) -> Iterator[bytes]:
        """The body of the answer to a GET request in chunks; it may have any size.

        `check` gets the answer if it has an error status, and raises. Raises NoAnswerError if the
        body breaks off, and after the last attempt.
        """
        attempt = _Attempt("GET", path)
        response = self._repeated(lambda: self._opened(attempt), repeatable=True)
        if isinstance(response, Answer):
            check(response)
            return
        with self._errors(attempt):
            yield from response.stream(FILE_CHUNK_BYTES, decode_content=False)

    def _opened(self, attempt: _Attempt) -> Answer | BaseHTTPResponse:
        """The response to a request, whose body is not read yet unless it is an error."""
        with self._errors(attempt):
            response = self._respond(attempt, None, _FileResponse)
            self._answers = self._answered = True
            log("http", "%s %s: %d", attempt.method, attempt.path, response.status)
            if response.status < 300:
                return response
            content = b"".join(islice(response.stream(CHUNK_BYTES, decode_content=False), 1))
            self._connection.close()  # the rest of the body is not read
            return Answer(response.status, response.headers, content)

    def _repeated(self, once: Callable[[], A], repeatable: bool) -> A:
        """The result of the first attempt with an answer. Raises NoAnswerError, see `request`."""
        began = time.monotonic()
        for attempt in range(self._attempts):
            last = attempt >= (self._attempts if self._answers else FIRST_ATTEMPTS) - 1
            wait = min(FIRST_PAUSE * 2**attempt, MAX_PAUSE) * random.uniform(0.5, 1.0)
            try:
                answer = once()
                if not isinstance(answer, Answer) or answer.status not in RETRIED_STATUSES:
                    return answer
                error = self._busy(answer)
                wait = max(wait, _retry_after(answer))
            except NoAnswerError as lost:
                error = lost
            last = last or (
                HAS_SHORT_RETRIES.get() and time.monotonic() - began + wait > SHORT_RETRY_SECONDS
            )
            if last or (error.done is None and not repeatable):
                self._answers = self._answers and not last
                raise error
            self._pause(wait)
        raise AssertionError

    def _busy(self, answer: Answer) -> NoAnswerError:
        text = answer.body[:200].decode(errors="replace").strip()
        done = False if answer.status in NOT_DONE_STATUSES else None
        message = f"{self.name} answers {answer.status} ({text})"
        return NoAnswerError(message, done, True, answer.status)

    def _once(self, method: str, path: str, body: bytes | FileBody | None) -> Answer:
        """Send a request once. A connection closed by the server is opened again."""
        began, attempt = time.monotonic(), _Attempt(method, path)
        with self._errors(attempt):
            response = self._respond(attempt, body, _Response)
            content = b"".join(response.stream(CHUNK_BYTES, decode_content=False))
            self._answers = self._answered = True
        milliseconds = 1000 * (time.monotonic() - began)
        status, size = response.status, len(content)
        log("http", "%s %s: %d, %d bytes, %.1f ms", method, path, status, size, milliseconds)
        return Answer(response.status, response.headers, content)

    def _respond(
        self, attempt: _Attempt, body: bytes | FileBody | None, kind: type[_Response]
    ) -> BaseHTTPResponse:
        """Send a request, and read the headers of the answer."""
        connection, headers = self._connection, dict(self._headers)
        connection.response_class = kind
        if isinstance(body, FileBody):
            headers |= {"Content-Type": "application/octet-stream"}
            headers |= {"Content-Length": str(body.size)}
        elif body is not None:
            headers.setdefault("Content-Type", "application/json")
        content = body.chunks if isinstance(body, FileBody) else body
        attempt.is_sent = False
        if not connection.is_connected:
            self._connect()
        attempt.is_sent = True
        connection.timeout = self._timeout
        connection.request(
            attempt.method, self._prefix + attempt.path, content, headers, preload_content=False
        )
        _acknowledge_at_once(connection.sock)
        return connection.getresponse()

    @contextmanager
    def _errors(self, attempt: _Attempt) -> Iterator[None]:
        """Raise errors of an attempt as ExportError, and close the connection."""
        try:
            yield
        except NoAnswerError:  # of the server that the body of an upload comes from
            self._connection.close()
            raise
        except ExportError as error:
            self._connection.close()
            raise ExportError(f"{self.name}: {error}") from None
        except (UnicodeError, LocationParseError):
            raise ExportError(f"{self.name} is not the URL of a server") from None
        except ssl.SSLCertVerificationError as error:
            self._connection.close()
            raise ExportError(f"{self.name}: {error.verify_message}") from None
        except (OSError, http.client.HTTPException, HTTPError) as error:
            self._connection.close()
            done, advice = (None, "") if attempt.is_sent else (False, " Is the server running?")
            message = f"{self.name} does not answer{self._via}: {_reason(error)}.{advice}"
            log("http", "%s %s: %s", attempt.method, attempt.path, message)
            raise NoAnswerError(message, done, self._answered) from None
        except BaseException:  # of the body: the request or the answer is incomplete
            self._connection.close()
            raise

    def _connect(self) -> None:
        connection = self._connection
        connection.close()  # also resets the tunnel
        connection.timeout = min(CONNECT_TIMEOUT, self._timeout)
        if self._tunnel:
            connection.set_tunnel(*self._tunnel)
        connection.connect()


def _new_connection(
    parts: SplitResult, port: int | None, context: ssl.SSLContext | None
) -> HTTPConnection:
    """An unopened connection to the server, or to its proxy."""
    proxy = proxy_of(parts)
    host, port = (proxy.host, proxy.port or 80) if proxy else (parts.hostname, port)
    made = (
        HTTPSConnection(host or "", port, ssl_context=context, proxy=proxy)
        if parts.scheme == "https"
        else HTTPConnection(host or "", port, proxy=proxy)
    )
    made.response_class = _Response
    return made


def _reason(error: Exception) -> str:
    """The reason of a failed request, without urllib3's wrapping."""
    cause = error.__cause__ or error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _acknowledge_at_once(sock: Any) -> None:
    if _QUICKACK is not None and sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # for the next answer only


def _retry_after(answer: Answer) -> float:
    """The server's Retry-After in seconds, at most 60; 0 without it."""
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), 60.0) if asked.isascii() and asked.isdigit() else 0.0


def url_parts(url: str) -> tuple[SplitResult, int | None]:
    """The parts of a URL, and its port. Raises ConfigError if it is not the URL of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{redact_text(url)} is not the URL of a server: {error}") from None
    if not parts.hostname:
        raise ConfigError(f"{redact_text(url)} is not the URL of a server: it has no host")
    return parts, port


def proxy_of(parts: SplitResult) -> Url | None:
    """The proxy for a server, from the environment. Raises ConfigError for an invalid URL."""
    proxies = getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or proxy_bypass(parts.netloc):
        return None
    try:
        proxy = parse_url(address if "://" in address else f"http://{address}")
    except LocationParseError:
        proxy = Url()
    if not proxy.host:
        found = redact_text(address)
        raise ConfigError(
            f"{found} is not the URL of a proxy: set {parts.scheme}_proxy to http://HOST:PORT"
        )
    return proxy


def environment_number(name: str, usual: float, *, least: float = 0.0, most: float) -> float:
    """A number from the environment; `usual` if it is unset, invalid or out of range."""
    try:
        number = float(os.environ[name])
    except (KeyError, ValueError):
        return usual
    return number if math.isfinite(number) and least <= number <= most else usual
