"""MLflow's REST API, version 2.0, without importing mlflow.

https://mlflow.org/docs/latest/rest-api.html. Credentials come from mlflow's own environment
variables and are sent in the request's header only.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from bridges.errors import ConfigError, ExportError
from bridges.exporters.base import ConflictError, Points
from bridges.exporters.http import (
    ATTEMPTS,
    TIMEOUT,
    Answer,
    Connection,
    NoAnswerError,
    environment_number,
    proxy_of,
    url_parts,
)
from bridges.exporters.mlflow.api import (
    ITEMS_PER_PAGE,
    ApiRun,
    Batch,
    Metric,
    NewRun,
    UncertainError,
    like_filter,
    tag_filter,
)
from bridges.exporters.mlflow.artifacts import FOLDER, put_file
from bridges.exporters.mlflow.limits import Limits, limits_of

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
POINTS_PER_PAGE = 25_000  # MLflow's maximum
MAX_PAGES = 10_000
MLFLOW_ONLY = (  # settings that need mlflow's own client
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_WORKSPACE",
)


def needs_mlflow(uri: str) -> str | None:
    """The reason why a server needs mlflow's own client; None if it does not."""
    for name in MLFLOW_ONLY:
        if os.environ.get(name, "").lower() not in ("", "0", "false"):
            return f"{name} is set"
    proxy = proxy_of(url_parts(uri)[0])
    if proxy and proxy.scheme != "http":
        return f"the proxy uses {proxy.scheme}"
    return None


class RestApi:
    """The tracking server at `url`. Raises ConfigError for a login in the URL."""

    def __init__(self, url: str) -> None:
        if url_parts(url)[0].username is not None:
            raise ConfigError(
                "--tracking-uri contains a login. Remove it from the URL and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead."
            )
        self._server = Connection(
            url,
            _authorization(),
            _context() if url.startswith("https:") else None,
            int(environment_number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", ATTEMPTS - 1, most=100)) + 1,
            environment_number("MLFLOW_HTTP_REQUEST_TIMEOUT", TIMEOUT, least=1.0, most=86_400),
        )

    @cached_property
    def limits(self) -> Limits:
        """The limits of the server's release; if it is unknown, those of the newest release."""
        answer = self._server.request("GET", "/version")
        known = re.match(rb"\d+\.\d+", answer.body) if answer.status == 200 else None
        return limits_of(answer.body.decode(errors="replace")) if known else Limits()

    def find_experiment(self, name: str) -> tuple[str, str] | None:
        """Id and life-cycle stage of an experiment; None if it does not exist."""
        answer = self._get("experiments/get-by-name", {"experiment_name": name}, missing=True)
        with self._understood():
            found = answer.get("experiment")
            return (
                (_text(found, "experiment_id"), _text(found, "lifecycle_stage")) if found else None
            )

    def create_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new experiment. Raises ConflictError if the name is in use."""
        made = self._post("experiments/create", {"name": name, "tags": _pairs(tags)})
        with self._understood():
            return _text(made, "experiment_id")

    def experiments(self) -> Iterator[str]:
        """The ids of all active experiments, page by page."""
        for page in self._pages("experiments/search", {"view_type": "ACTIVE_ONLY"}):
            with self._understood():
                found = [_text(each, "experiment_id") for each in page.get("experiments", ())]
            yield from found

    def search(
        self, experiments: Sequence[str], tag: str, value: str | None = None
    ) -> Iterator[ApiRun]:
        """The runs with a value of the tag (None: any), including deleted ones, page by page."""
        wanted = {
            "experiment_ids": list(experiments),
            "filter": tag_filter(tag, value),
            "run_view_type": "ALL",
        }
        for page in self._pages("runs/search", wanted):
            with self._understood():
                found = [_run(each) for each in page.get("runs", ())]
            yield from found

    def has_like(self, experiment: str, tag: str, pattern: str) -> bool:
        """Whether the tag of a run, maybe a deleted one, has a value like that (LIKE of SQL)."""
        wanted = {
            "experiment_ids": [experiment],
            "filter": like_filter(tag, pattern),
            "run_view_type": "ALL",
            "max_results": 1,
        }
        return bool(self._post("runs/search", wanted).get("runs"))

    def _pages(self, call: str, wanted: dict[str, Any]) -> Iterator[Any]:
        wanted["max_results"] = ITEMS_PER_PAGE
        return self._all_pages(lambda: self._post(call, wanted), wanted)

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
        raise ExportError(f"{self._server.name}: the server's listing does not end")

    def get_run(self, run_id: str) -> ApiRun:
        """Get a run by its id."""
        answer = self._get("runs/get", {"run_id": run_id})
        with self._understood():
            return _run(answer["run"])

    def create_run(self, new: NewRun) -> ApiRun:
        """Create a run. Raises UncertainError."""
        body = {
            "experiment_id": new.experiment,
            "user_id": new.user,
            "run_name": new.name,
            "tags": _pairs(new.tags),
            **({} if new.start is None else {"start_time": new.start}),
        }
        answer = self._post("runs/create", body, repeatable=False)
        with self._understood():
            return _run(answer["run"])

    def log_batch(self, run_id: str, batch: Batch) -> None:
        """Log one batch. Raises UncertainError only for batches with metrics."""
        body = {
            "run_id": run_id,
            "metrics": _metrics(batch.metrics),
            "params": _pairs(batch.params),
            "tags": _pairs(batch.tags),
        }
        self._post("runs/log-batch", body, repeatable=not batch.metrics)

    def set_status(self, run_id: str, status: str, end: int | None) -> None:
        """Set the status, and the end (ms) unless it is None."""
        more = {} if end is None else {"end_time": end}
        self._post("runs/update", {"run_id": run_id, "status": status, **more})

    def rename(self, run: ApiRun, name: str) -> None:
        """Rename a run. Status and end are sent too, as servers reset missing ones."""
        end = {} if run.end is None else {"end_time": run.end}
        body = {"run_id": run.run_id, "run_name": name, "status": run.status, **end}
        self._post("runs/update", body)

    def histories(self, run_id: str, keys: Iterable[str]) -> dict[str, Points]:
        """All points of these keys, page by page."""
        return {key: self._history(run_id, key) for key in keys}

    def _history(self, run_id: str, key: str) -> Points:
        wanted: dict[str, Any] = {
            "run_id": run_id,
            "metric_key": key,
            "max_results": POINTS_PER_PAGE,
        }
        points: list[dict[str, Any]] = []
        with self._understood():
            for answer in self._all_pages(lambda: self._get("metrics/get-history", wanted), wanted):
                points += answer.get("metrics", ())
            return _points(points)

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        self._post("runs/delete", {"run_id": run_id})

    def restore_run(self, run_id: str) -> None:
        """Mark a deleted run as active."""
        self._post("runs/restore", {"run_id": run_id})

    def put_artifact(self, run: ApiRun, name: str, content: bytes) -> None:
        """Store a file as an artifact of the run: by upload to the server, or in its object store.

        Raises ExportError for a server with artifacts on its own disk.
        """
        parts = urlsplit(run.artifact_uri)
        if parts.scheme in ("", "file"):
            raise ExportError(
                f"{self._server.name}: the server keeps artifacts on its own disk "
                f"({run.artifact_uri}) and accepts no uploads. Export without --attach-source."
            )
        if parts.scheme != "mlflow-artifacts":
            return put_file(run.artifact_uri, name, content)
        path = quote(f"{ARTIFACTS}{parts.path.strip('/')}/{FOLDER}/{name}")
        self._checked(self._server.request("PUT", path, content))
        return None

    def _get(self, call: str, query: Mapping[str, Any], *, missing: bool = False) -> Any:
        answer = self._server.request("GET", f"{API}{call}?{urlencode(query)}")
        if missing and answer.status == 404 and _error(answer)[0] == "RESOURCE_DOES_NOT_EXIST":
            return {}
        return self._checked(answer).json()

    def _post(self, call: str, body: Mapping[str, Any], *, repeatable: bool = True) -> Any:
        data = json.dumps(body, separators=(",", ":")).encode()
        try:
            answer = self._server.request("POST", API + call, data, repeatable=repeatable)
        except NoAnswerError as error:
            if repeatable or error.done is False:
                raise
            raise UncertainError(str(error)) from None
        return self._checked(answer).json()

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise errors on answers of an unknown form as ExportError."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ExportError(
                f"{self._server.name}: this is not an answer of MLflow ({type(error).__name__}: "
                f"{str(error)[:100]}). Is --tracking-uri the URL of the server itself?"
            ) from None

    def _checked(self, answer: Answer) -> Answer:
        """The answer. Raises ConflictError or ExportError for an error status."""
        if answer.status < 300:
            return answer
        code, message = _error(answer)
        if code == "RESOURCE_ALREADY_EXISTS":
            raise ConflictError
        raise ExportError(f"{self._server.name}: {_refusal(answer, code, message)}")


def _refusal(answer: Answer, code: str, message: str) -> str:
    if answer.status in (401, 403):
        return (
            f"access denied ({answer.status}). Set MLFLOW_TRACKING_TOKEN, or "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to a valid login."
        )
    if answer.status == 407:
        return "the proxy requires a login (407). Set http_proxy to http://USER:PASSWORD@HOST:PORT."
    if 300 <= answer.status < 400:
        location = answer.headers.get("Location", "another URL").split("?")[0]
        return f"the server redirects to {location}. Set --tracking-uri to it."
    if answer.status == 404 and not code:
        return "this is not an MLflow tracking server (404). Check --tracking-uri."
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


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _metrics(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Metrics as JSON; NaN is a text, as in all JSON of protocol buffers."""
    return [
        {"key": key, "value": value if value == value else "NaN", "timestamp": time, "step": step}
        for key, value, time, step in metrics
    ]


def _run(run: Mapping[str, Any]) -> ApiRun:
    info, data = run["info"], run.get("data", {})
    end = info.get("end_time")
    return ApiRun(
        run_id=_text(info, "run_id"),
        name=_text(info, "run_name", ""),
        stage=_text(info, "lifecycle_stage"),
        status=_text(info, "status"),
        artifact_uri=_text(info, "artifact_uri", ""),
        experiment=_text(info, "experiment_id"),
        end=None if end is None else int(end),
        tags=_texts(data.get("tags", ())),
        params=_texts(data.get("params", ())),
        latest={_text(point, "key"): repr(point["value"]) for point in data.get("metrics", ())},
    )


def _text(values: Mapping[str, Any], key: str, usual: str | None = None) -> str:
    """The text under a key, or the default `usual`. Raises KeyError, TypeError."""
    found = values[key] if usual is None else values.get(key)
    if found is None and usual is not None:
        return usual
    if not isinstance(found, str):
        raise TypeError(f"{key} is not a text")
    return found


def _texts(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {_text(pair, "key"): _text(pair, "value", "") for pair in pairs}


def _points(metrics: Sequence[Mapping[str, Any]]) -> Points:
    """The points of an answer; `float` also parses the texts NaN and Infinity."""
    step = np.array([int(metric.get("step", 0)) for metric in metrics], np.int64)
    value = np.array([float(metric["value"]) for metric in metrics], np.float64)
    time = np.array([int(metric["timestamp"]) for metric in metrics], np.int64)
    return Points(step, value, time / 1000.0)
