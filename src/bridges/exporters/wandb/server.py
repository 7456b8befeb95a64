"""A W&B server through the official client: queries, and uploads by `wandb sync`.

The exit status of `wandb sync` and its marker file are ignored: both report success even if the
server rejected everything. Only rows that are read back count.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from bridges.errors import ExportError
from bridges.exporters.wandb.release import check_appends
from bridges.formats.wandb_log.client import (
    RETRY_SETTINGS,
    fresh,
    hide_key,
    import_wandb,
    lacks_key,
    last_step,
    line_count,
    open_api,
    status_of,
)
from bridges.log import log

T = TypeVar("T")
RUNS_PER_PAGE = 200  # with config and summary
NO_KEY = (
    "W&B has no valid API key for its server: set WANDB_API_KEY, or run `wandb login`. "
    "Without a key, use --mode offline."
)
SYNC_SECONDS = 900.0  # for one run, plus its row count divided by the next rate
ROWS_PER_SECOND = 500


class DeletedError(Exception):
    """The id belongs to a deleted run: W&B never accepts it again."""


@dataclass(frozen=True)
class ServerRun:
    """A run on the server.

    `config` holds values by name, `url` is the run's page, `lines` is the server's row count, and
    `last_step` the last `_step` (-1 without rows). `group` may be empty.
    """

    run_id: str
    name: str
    config: Mapping[str, Any]
    url: str
    lines: int
    last_step: int
    group: str = ""
    tags: tuple[str, ...] = ()

    @property
    def config_json(self) -> dict[str, str]:
        """The config with its values as JSON."""
        return {key: json.dumps(value) for key, value in self.config.items()}


class Server:
    """The runs of one project, for the user of the API key in the environment or netrc."""

    def __init__(self, project: str, entity: str | None) -> None:
        import_wandb()
        check_appends()
        with _translated_errors("login"):
            self._api = open_api()
            self._place = entity or self._api.default_entity, project

    def find(self, key: str, run_id: str) -> list[ServerRun]:
        """The runs with this key in their config, or this id (with any suffix)."""
        wanted = [{"config.bridges_key": key}, {"name": {"$regex": f"^{run_id}(-[0-9a-f]+)*$"}}]

        def ask() -> list[ServerRun]:
            self._api.flush()  # clears the client's cache
            runs = self._api.runs("/".join(self._place), filters={"$or": wanted}, lazy=False)
            return [_remote(run) for run in runs]

        found = {run.run_id: run for run in _or(self._asked(ask), [])}
        if run_id not in found and (run := self.get(run_id)):
            found[run_id] = run
        return list(found.values())

    def holds(self, name: str, values: Collection[str]) -> bool:
        """Whether a run has one of these values under a name in its config."""
        wanted = {"$or": [{f"config.{name}": value} for value in values]}

        def ask() -> bool:
            self._api.flush()
            runs = self._api.runs("/".join(self._place), filters=wanted, per_page=1, lazy=False)
            return next(iter(runs), None) is not None

        return bool(self._asked(ask))

    def having(self, name: str) -> list[ServerRun]:
        """The runs with a text called `name` in their config."""
        wanted = {f"config.{name}": {"$regex": "."}}

        def ask() -> list[ServerRun]:
            self._api.flush()
            place = "/".join(self._place)
            runs = self._api.runs(place, filters=wanted, per_page=RUNS_PER_PAGE, lazy=False)
            return [_remote(run) for run in runs]

        return _or(self._asked(ask), [])

    def set_config(
        self, run_id: str, name: str, value_of: Callable[[ServerRun], str | None]
    ) -> None:
        """Set a config value of a run, if the run exists and the value is not None.

        The client sends all of config and summary again.
        """

        def ask() -> None:
            self._api.flush()
            run = self._api.run("/".join((*self._place, run_id)))
            value = value_of(_remote(run))
            if value is not None:
                run.config[name] = value
                run.update()

        self._asked(ask)

    def relabel(self, run_id: str, name: str, group: str, tags: Sequence[str]) -> None:
        """Set name, group and tags of a run. The client sends all of its config again."""

        def ask() -> None:
            self._api.flush()
            run = self._api.run("/".join((*self._place, run_id)))
            run.name, run.group, run.tags = name, group or None, [*tags]
            run.update()

        self._asked(ask)

    def get(self, run_id: str) -> ServerRun | None:
        """Get a run by its id; None if it does not exist."""

        def ask() -> ServerRun:
            self._api.flush()
            return _remote(self._api.run("/".join((*self._place, run_id))))

        return self._asked(ask)

    def _asked(self, ask: Callable[[], T]) -> T | None:
        """The answer; None if the project or run does not exist."""
        with _translated_errors(ask.__qualname__.split(".")[1]):
            try:
                return ask()
            except Exception as error:
                if "Could not find" in str(error):
                    return None
                raise
        raise AssertionError  # unreachable; mypy does not see that the error is raised

    def claim(self, run_id: str) -> None:
        """Create the run if it does not exist. Raises DeletedError."""
        entity, project = self._place
        with _translated_errors("claim"):
            try:
                self._api.create_run(run_id=run_id, project=project, entity=entity)
            except Exception as error:
                if status_of(error) == 409 or "previously created and deleted" in str(error):
                    raise DeletedError(run_id) from error
                raise

    def content(self, run_id: str) -> tuple[ServerRun, list[dict[str, Any]], dict[str, Any]]:
        """The run, all of its history rows by `_step`, and its summary."""
        with _translated_errors("content"):
            self._api.flush()
            run = self._api.run("/".join((*self._place, run_id)))
            rows = list(run.scan_history(**fresh(run.scan_history)))
            return _remote(run), rows, dict(run.summary._json_dict)
        raise AssertionError  # unreachable; mypy does not see that the error is raised

    def attach(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Upload files, unless the run has them with equal content."""
        with _translated_errors("attach"):
            run = self._api.run("/".join((*self._place, run_id)))
            uploaded = {file.name: file.md5 for file in run.files(names=[*files])}
            with tempfile.TemporaryDirectory() as folder:
                for name, content in files.items():
                    if uploaded.get(name) not in _sums(content):
                        path = os.path.join(folder, *name.split("/"))
                        os.makedirs(os.path.dirname(path), exist_ok=True)
                        with open(path, "wb") as file:
                            file.write(content)
                        run.upload_file(path, root=folder)

    def upload(self, folder: str, rows: int, keep_open: Sequence[int]) -> str:
        """Run `wandb sync` on an offline run's directory; return its error lines.

        The child inherits the descriptors `keep_open`, which hold a lock. Raises ExportError if it
        does not end in time.
        """
        environment = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
        environment.pop("WANDB_SERVICE", None)  # use a new service, which ends with the command
        for name, value in RETRY_SETTINGS.items():
            environment.setdefault(f"WANDB__{name[2:].upper()}", str(value))
        command = [sys.executable, "-m", "wandb", "sync", folder]
        with subprocess.Popen(
            command,
            cwd=os.path.dirname(folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=keep_open,
            start_new_session=True,  # to kill its child process too
        ) as child:
            try:
                output, _ = child.communicate(timeout=SYNC_SECONDS + rows / ROWS_PER_SECOND)
            except BaseException as error:
                _kill(child)
                if isinstance(error, subprocess.TimeoutExpired):
                    message = f"`wandb sync` did not end within {error.timeout:.0f} s"
                    raise ExportError(message, transient=True) from error
                raise
        log("http", "wandb sync %s: %s", folder, hide_key(output).strip())
        return hide_key("; ".join(line for line in output.splitlines() if "rror" in line))


def _remote(run: Any) -> ServerRun:
    return ServerRun(
        run.id,
        run.name or "",
        dict(run.config),
        run.url,
        line_count(run),
        last_step(run),
        getattr(run, "group", None) or "",
        tuple(run.tags or ()),
    )


def _or(found: T | None, other: T) -> T:
    return other if found is None else found


def _sums(content: bytes) -> Sequence[str]:
    """The MD5 of the content in base64, as W&B reports it, and in hex."""
    digest = hashlib.md5(content, usedforsecurity=False)
    return base64.b64encode(digest.digest()).decode(), digest.hexdigest()


def _kill(child: subprocess.Popen[str]) -> None:
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


@contextmanager
def _translated_errors(call: str) -> Iterator[None]:
    """Log a call of the client, and raise its errors as ExportError.

    They have the server's message, and `transient`.
    """
    began = time.monotonic()
    try:
        yield
        log("http", "W&B %s: %.1f ms", call, 1000 * (time.monotonic() - began))
    except (ExportError, DeletedError, KeyboardInterrupt):
        raise
    except Exception as error:  # deliberately broad: the client raises many kinds
        status = status_of(error)
        transient = status is None or status == 429 or status >= 500
        unchecked = type(error).__name__ == "AuthenticationError"
        if lacks_key(error):
            raise ExportError(NO_KEY) from error
        text = hide_key(f"{type(error).__name__}: {error}")
        code = f" ({status})" if status else ""
        raise ExportError(f"W&B{code}: {text}", transient=transient, waited=unchecked) from error
