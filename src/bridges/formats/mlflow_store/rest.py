"""MLflow's REST API, version 2.0, without importing mlflow.

https://mlflow.org/docs/latest/rest-api.html. Credentials come from mlflow's own environment
variables and are sent in the request's header only.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from bridges.errors import ConfigError, ExportError
from bridges.http import (
    ATTEMPTS,
    TIMEOUT,
    Answer,
    Connection,
    environment_number,
    proxy_of,
    url_parts,
)

API = "/api/2.0/mlflow/"
POINTS_PER_PAGE = 25_000  # MLflow's maximum
MAX_PAGES = 10_000
MLFLOW_ONLY = (  # settings that need mlflow's own client
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_WORKSPACE",
)
MISSING = "RESOURCE_DOES_NOT_EXIST"


def needs_mlflow(uri: str) -> str | None:
    """The reason why a server needs mlflow's own client; None if it does not."""
    for name in MLFLOW_ONLY:
        if os.environ.get(name, "").lower() not in ("", "0", "false"):
            return f"{name} is set"
    proxy = proxy_of(url_parts(uri)[0])
    if proxy and proxy.scheme != "http":
        return f"the proxy uses {proxy.scheme}"
    return None


class RefusedError(ExportError):
    """The server rejected a request. `code`: MLflow's error code, or ''."""

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        super().__init__(message)


class RestClient:
    """The tracking server at `url`; `option` names the URL in messages, such as --tracking-uri.

    Raises ConfigError for a login in the URL.
    """

    def __init__(self, url: str, option: str) -> None:
        if url_parts(url)[0].username is not None:
            raise ConfigError(
                f"{option} contains a login. Remove it from the URL and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead."
            )
        self._option = option
        self.server = Connection(
            url,
            _authorization(),
            _context() if url.startswith("https:") else None,
            int(environment_number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", ATTEMPTS - 1, most=100)) + 1,
            environment_number("MLFLOW_HTTP_REQUEST_TIMEOUT", TIMEOUT, least=1.0, most=86_400),
        )

    def get(self, call: str, query: Mapping[str, Any]) -> Any:
        """The answer of a call with GET; lists in the query are repeated parameters."""
        path = f"{API}{call}?{urlencode(query, doseq=True)}"
        return self.checked(self.server.request("GET", path)).json()

    def post(self, call: str, body: Mapping[str, Any], *, repeatable: bool = True) -> Any:
        """The answer of a call with POST."""
        return self.send("POST", call, body, repeatable=repeatable)

    def send(
        self, method: str, call: str, body: Mapping[str, Any], *, repeatable: bool = True
    ) -> Any:
        """The answer of a call with a body."""
        data = json.dumps(body, separators=(",", ":")).encode()
        answer = self.server.request(method, API + call, data, repeatable=repeatable)
        return self.checked(answer).json()

    def pages(
        self, call: str, wanted: Mapping[str, Any], most: int, *, method: str = "POST"
    ) -> Iterator[Any]:
        """All answers of a search, each with `most` items."""
        body = {**wanted, "max_results": most}
        ask = self.post if method == "POST" else self.get
        return self._all_pages(lambda: ask(call, body), body)

    def history(self, run_id: str, key: str) -> list[Any]:
        """All points of a key as JSON objects.

        MLflow 3.12 repeats its first page for ever if `max_results` is missing; older releases
        ignore it and send all points at once.
        """
        query = {"run_id": run_id, "metric_key": key, "max_results": POINTS_PER_PAGE}
        points: list[Any] = []
        with self.understood():
            for answer in self._all_pages(lambda: self.get("metrics/get-history", query), query):
                points += answer.get("metrics", ())
        return points

    def _all_pages(self, ask: Callable[[], Any], wanted: dict[str, Any]) -> Iterator[Any]:
        """The answers, each requested with the page token of the previous one."""
        for _ in range(MAX_PAGES):
            answer = ask()
            yield answer
            token = answer.get("next_page_token")
            if not token:
                return
            if token == wanted.get("page_token"):
                break
            wanted["page_token"] = token
        raise ExportError(f"{self.server.name}: the server's listing does not end")

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raise errors on answers of an unknown form as ExportError."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ExportError(
                f"{self.server.name}: this is not an answer of MLflow ({type(error).__name__}: "
                f"{str(error)[:100]}). Is this the URL of the server itself?"
            ) from None

    def checked(self, answer: Answer) -> Answer:
        """The answer. Raises RefusedError for an error status."""
        if answer.status < 300:
            return answer
        code, message = _error(answer)
        refusal = _refusal(answer, code, message, self._option)
        raise RefusedError(f"{self.server.name}: {refusal}", code)


def _refusal(answer: Answer, code: str, message: str, option: str) -> str:
    if answer.status in (401, 403):
        return (
            f"access denied ({answer.status}). Set MLFLOW_TRACKING_TOKEN, or "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to a valid login."
        )
    if answer.status == 407:
        return "the proxy requires a login (407). Set http_proxy to http://USER:PASSWORD@HOST:PORT."
    if 300 <= answer.status < 400:
        location = answer.headers.get("Location", "another URL").split("?")[0]
        return f"the server redirects to {location}. Set {option} to it."
    if answer.status == 404 and not code:
        return f"this is not an MLflow tracking server (404). Check {option}."
    return f"MLflow rejects the request ({answer.status} {code}): {message[:500]}".rstrip(": ")


def _error(answer: Answer) -> tuple[str, str]:
    """MLflow's own error code and message; empty texts for other answers."""
    try:
        found = answer.json()
    except ExportError:
        return "", ""
    return str(found.get("error_code", "")), str(found.get("message", ""))


def _authorization() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        if not (token.isascii() and token.isprintable()):
            raise ConfigError(
                "MLFLOW_TRACKING_TOKEN contains a line break, a control character or a character "
                "outside ASCII. Set it to the token alone."
            )
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        return {}
    login = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _context() -> ssl.SSLContext:
    """TLS settings from mlflow's environment variables. Raises ConfigError for unreadable files."""
    authority = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    own = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if own:
            context.load_cert_chain(own)
    except OSError as error:
        raise ConfigError(f"the certificate {authority or own} cannot be read: {error}") from None
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def text_of(values: Mapping[str, Any], key: str, usual: str | None = None) -> str:
    """The text under a key, or the default `usual`. Raises KeyError, TypeError."""
    found = values[key] if usual is None else values.get(key)
    if found is None and usual is not None:
        return usual
    if not isinstance(found, str):
        raise TypeError(f"{key} is not a text")
    return found


def texts_of(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Pairs of `key` and `value` as a dictionary."""
    return {text_of(pair, "key"): text_of(pair, "value", "") for pair in pairs}
