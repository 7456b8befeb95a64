"""One kept connection to an HTTP server: JSON in and out, retried with patience.

On Linux the server's answer is acknowledged at once (TCP_QUICKACK): servers that write headers and
body apart wait some 40 ms for that otherwise, at every request. An answer has a deadline as a whole
and a largest size, whatever a server sends.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from bridges.errors import ConfigError, ExportError
from bridges.exporters.brief import HAS_SHORT_RETRIES, SHORT_RETRY_SECONDS
from bridges.stream.redact import redact_text

ATTEMPTS = 8  # of one request, counting the first
FIRST_ATTEMPTS = 3  # while the server has never answered: it may not be there at all
FIRST_PAUSE = 0.25  # seconds; doubled each time, and shortened at random
LONGEST_PAUSE = 20.0
TIMEOUT = 120.0  # seconds for an answer
CONNECT_TIMEOUT = 10.0  # seconds for a connection, where a host that is not there says nothing
BODY_TIMEOUT = 10.0  # seconds for a body, after the headers, and more at this rate:
LEAST_RATE = 4096  # bytes in a second
LARGEST_ANSWER = 128 << 20  # bytes
CHUNK = 1 << 16  # bytes that are read at once
BUSY = frozenset({408, 429, 500, 502, 503, 504})
NOT_DONE = frozenset({429})  # surely refused before anything was done
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
Pause = Callable[[float], None]


@dataclass(frozen=True)
class Answer:
    """What a server said: status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, a JSON object. Raises ExportError where it is something else."""
        try:
            found = json.loads(self.body or b"{}")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            start = self.body[:80].decode(errors="replace")
            raise ExportError(
                f"the answer is not a JSON object but {start!r}. Does --tracking-uri name the "
                "server itself?"
            )
        return found


class NoAnswerError(ExportError):
    """The server did not answer, or only that it cannot now, and patience has ended.

    `done` is None where it may have carried the request out, and False where it surely has not.
    """

    def __init__(self, message: str, done: bool | None, answered: bool = False) -> None:
        self.done = done
        super().__init__(message, transient=True, waited=True, answered=answered)


class _Reading(io.RawIOBase):
    """What comes over a socket, until a moment (`time.monotonic`). Raises TimeoutError."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._socket = sock
        self._raw: Any = sock.makefile("rb", 0)
        self.until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("its answer takes too long")
        self._socket.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response whose headers and body have a deadline each."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        self._until = time.monotonic() + (sock.gettimeout() or TIMEOUT)
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self._reading = _Reading(sock, self._until)
        self.fp = io.BufferedReader(self._reading)

    def whole(self) -> bytes:
        """The body. Raises TimeoutError, and ExportError for one that is too long."""
        began, parts, size = time.monotonic(), [], 0
        while True:
            self._reading.until = began + BODY_TIMEOUT + size / LEAST_RATE
            part = self.read1(CHUNK)
            if not part:
                break
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER:
                raise ExportError(f"its answer has more than {LARGEST_ANSWER:,} bytes")
        if self.length:
            raise http.client.IncompleteRead(b"", self.length)
        self.close()  # which lets the connection take the next request
        return b"".join(parts)


class Connection:
    """A kept connection to the server at `url`; headers go with every request."""

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
        self._answers = False  # it did last, so that it is worth waiting for
        self._answered = False  # it ever did
        self._pause = pause
        self._timeout = timeout
        host = parts.hostname or ""
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self._connection.response_class = _Response

    def request(
        self, method: str, path: str, body: bytes | None = None, *, repeatable: bool = True
    ) -> Answer:
        """The server's answer. What may be repeated is, until it answers or patience ends.

        Raises NoAnswerError; for a request that is not `repeatable`, as soon as it may have been
        carried out.
        """
        began = time.monotonic()
        for attempt in range(self._attempts):
            last = attempt >= (self._attempts if self._answers else FIRST_ATTEMPTS) - 1
            wait = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0)
            try:
                answer = self._once(method, path, body)
                if answer.status not in BUSY:
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
        said = answer.body[:200].decode(errors="replace").strip()
        done = False if answer.status in NOT_DONE else None
        return NoAnswerError(f"{self.name} answers {answer.status} ({said})", done, True)

    def _once(self, method: str, path: str, body: bytes | None) -> Answer:
        """One try. An old connection that the server has closed meanwhile is opened again."""
        connection, sent = self._connection, False
        headers = dict(self._headers)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            if connection.sock is None:
                self._connect()
            elif _is_closed(connection.sock, self._timeout):
                connection.close()
                self._connect()
            sent = True
            connection.request(method, self._prefix + path, body, headers)
            _acknowledge_at_once(connection.sock)
            response: Any = connection.getresponse()
            answer = Answer(response.status, dict(response.headers.items()), response.whole())
            if connection.sock is not None:
                connection.sock.settimeout(self._timeout)
            self._answers = self._answered = True
            return answer
        except ExportError as error:
            connection.close()
            raise ExportError(f"{self.name}: {error}") from None
        except UnicodeError:
            raise ExportError(f"{self.name} is not the name of a server") from None
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise ExportError(f"{self.name}: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            what = getattr(error, "strerror", None) or str(error) or type(error).__name__
            done, advice = (None, "") if sent else (False, " Is the server running?")
            message = f"{self.name} does not answer: {what}.{advice}"
            raise NoAnswerError(message, done, self._answered) from None

    def _connect(self) -> None:
        self._connection.timeout = min(CONNECT_TIMEOUT, self._timeout)
        self._connection.connect()
        self._connection.sock.settimeout(self._timeout)


def _is_closed(sock: socket.socket, timeout: float | None) -> bool:
    """Whether the other side has ended a connection that should be silent."""
    sock.settimeout(0)
    try:
        return not sock.recv(1, socket.MSG_PEEK) if not isinstance(sock, ssl.SSLSocket) else False
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        sock.settimeout(timeout)


def _acknowledge_at_once(sock: Any) -> None:
    if _QUICKACK is not None and sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # for the next answer only


def _retry_after(answer: Answer) -> float:
    """The seconds that the server asks to wait, within reason."""
    asked = {name.lower(): value for name, value in answer.headers.items()}.get("retry-after", "")
    return min(float(asked), 60.0) if asked.isascii() and asked.isdigit() else 0.0


def url_parts(url: str) -> tuple[SplitResult, int | None]:
    """The parts of a URL, and its port. Raises ConfigError where it is not one of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{redact_text(url)} is not the URL of a server: {error}") from None
    if not parts.hostname:
        raise ConfigError(f"{redact_text(url)} is not the URL of a server: it names no host")
    return parts, port


def environment_number(name: str, usual: float, *, least: float = 0.0, most: float) -> float:
    """A number from the environment; one out of range is as if it were not set."""
    try:
        number = float(os.environ[name])
    except (KeyError, ValueError):
        return usual
    return number if math.isfinite(number) and least <= number <= most else usual
