"""The installed wandb package: its API for a server, and its errors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import signature
from types import ModuleType
from typing import Any

from bridges.errors import MissingDependencyError

REQUEST_SECONDS = 30
RETRY_SETTINGS = {  # for a few minutes; the client's default is a week
    "x_graphql_retry_max": 5,
    "x_graphql_retry_wait_min_seconds": 1.0,
    "x_graphql_retry_wait_max_seconds": 20.0,
    "x_file_stream_retry_max": 12,
    "x_file_stream_retry_wait_min_seconds": 1.0,
    "x_file_stream_retry_wait_max_seconds": 20.0,
    "x_file_transfer_retry_max": 5,
}


def import_wandb() -> ModuleType:
    """The package. Raises MissingDependencyError."""
    try:
        import wandb
    except ImportError as error:
        raise MissingDependencyError("wandb", "wandb") from error
    return wandb


def known_settings(wandb: ModuleType, wanted: Mapping[str, object]) -> dict[str, object]:
    """The settings of the installed release among `wanted`."""
    known = getattr(wandb.Settings, "model_fields", wanted)
    return {key: value for key, value in wanted.items() if key in known}


def open_api() -> Any:
    """A `wandb.Api` for the user of the API key in the environment or netrc.

    Raises MissingDependencyError, and errors of wandb.
    """
    wandb = import_wandb()
    wandb.setup(wandb.Settings(**known_settings(wandb, {"silent": True, **RETRY_SETTINGS})))
    return wandb.Api(timeout=REQUEST_SECONDS)  # `silent` prevents a prompt for a key


def fresh(scan_history: Any) -> dict[str, bool]:
    """The argument by which `scan_history` asks the server, and not an old copy of its rows."""
    return {"use_cache": False} if "use_cache" in signature(scan_history).parameters else {}


def last_step(run: Any) -> int:
    """The last step in the attributes of an API's run (-1 without rows); else one request."""
    keys = run._attrs.get("historyKeys")
    if isinstance(keys, dict) and isinstance(keys.get("lastStep"), int):
        return int(keys["lastStep"])
    return int(run.lastHistoryStep)


def line_count(run: Any) -> int:
    """The number of history rows of an API's run."""
    lines = run._attrs.get("historyLineCount")
    return last_step(run) + 1 if lines is None else int(lines)


def hide_key(text: str) -> str:
    """The text without the API key."""
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "<KEY>") if key else text


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error of the client, also if it is wrapped."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        for name in ("http_status", "status_code"):
            if getattr(response, name, None):
                return int(getattr(response, name))
        seen = getattr(seen, "exc", None) or seen.__cause__
    return None


def lacks_key(error: BaseException) -> bool:
    """Whether the API key is missing or was refused.

    The client also raises AuthenticationError if the server fails; the key may be valid then.
    """
    status = status_of(error)
    may_pass = status is None or status == 429 or status >= 500
    is_unchecked = type(error).__name__ == "AuthenticationError"
    return "No API key" in str(error) or (is_unchecked and not (may_pass and bool(error.__cause__)))
