"""Completes the values of a config file: fills in `${NAME}`, rejects credentials, resolves paths.

Configs are shared and attached to reports, so they must not contain credentials, not even from
environment variables. Trackers and file systems read credentials from the environment themselves.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Mapping

from bridges.exporters.built_in import PATHS
from bridges.sources.config_errors import Problems
from bridges.sources.config_text import Loc
from bridges.sources.trainer.locations import GLOB
from bridges.stream.redact import redact, redact_text

SQLITE = "sqlite:///"
_VARIABLE = re.compile(r"\$(\$\{)|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_]\w*")
_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|(?:^|_)(?:KEYS?|APIKEY|PASS|AUTH)(?:$|_)|_PWD$", re.I
)
_USER_ALONE = re.compile(r"\A(?!https?:)([\w+.-]+://)[^/\s@:]+@")
_ADVICE = {
    "mlflow": "mlflow reads MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and"
    " MLFLOW_TRACKING_PASSWORD, from the environment",
    "postgresql": "PostgreSQL's client reads PGPASSWORD from the environment, or ~/.pgpass",
    "wandb": "wandb reads WANDB_API_KEY from the environment, or ~/.netrc",
    "hf": "huggingface_hub reads HF_TOKEN from the environment",
    "s3": "s3fs reads AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY from the environment",
    "gs": "gcsfs reads GOOGLE_APPLICATION_CREDENTIALS from the environment",
}
_OTHER = "Pass it in an environment variable to the program that needs it"


def complete(data: object, folder: str, environ: Mapping[str, str]) -> tuple[object, Problems]:
    """The data with variables filled in and local paths absolute, and its problems."""
    problems: Problems = []

    def text(loc: Loc, value: str) -> str:
        filled, wrong = _filled(value, environ)
        if wrong:
            problems.append((loc, wrong.replace("ADVICE", _advice(data, loc, value))))
            return value
        return filled

    filled = _map_leaves(data, (), lambda loc, v: text(loc, v) if isinstance(v, str) else v)

    def secret(loc: Loc, value: object) -> object:
        if _is_secret(loc, value):
            found = "found a value that looks like a credential; expected none in this file"
            problems.append((loc, f"{found}. {_advice(filled, loc, str(value))}."))
        return value

    _map_leaves(filled, (), secret)
    return _map_leaves(filled, (), lambda loc, value: _absolute(loc, value, folder)), problems


def _map_leaves(value: object, loc: Loc, change: Callable[[Loc, object], object]) -> object:
    if isinstance(value, dict):
        return {key: _map_leaves(part, (*loc, key), change) for key, part in value.items()}
    if isinstance(value, list):
        return [_map_leaves(part, (*loc, i), change) for i, part in enumerate(value)]
    return change(loc, value)


def _filled(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The text with each `${NAME}` filled in (`$${` is `${`), and a problem or an empty text."""
    wrong = ""

    def value(found: re.Match[str]) -> str:
        nonlocal wrong
        if found[1]:
            return "${"
        name = found[2]
        if not _NAME.fullmatch(name) or not found[0].endswith("}"):
            wrong = (
                wrong or f"found {redact_text(found[0])!r}; expected ${{NAME}}, or $${{ for ${{."
            )
        elif _SECRET_NAME.search(name):
            wrong = wrong or (
                f"found ${{{name}}}, by its name a credential; expected none in this file. ADVICE."
            )
        elif name not in environ:
            wrong = wrong or (
                f"found ${{{name}}}, which is not set; expected an environment variable. "
                f"Set it: export {name}=…"
            )
        return environ.get(name, "")

    return _VARIABLE.sub(value, text), wrong


def _is_secret(loc: Loc, value: object) -> bool:
    """Whether a value is a credential, by itself or by the name of a key around it."""
    if isinstance(value, str):
        value = _USER_ALONE.sub(r"\1", value)  # a user name is not a secret
    if isinstance(value, str) and redact_text(value) != value:
        return True
    if "rename" in loc or loc[0] == "tables":  # keys of metrics, such as loss_per_token
        return False
    return any(redact({part: value})[1] for part in loc if isinstance(part, str))


def _advice(data: object, loc: Loc, value: str) -> str:
    """How to pass the credential instead."""
    scheme = value.partition("://")[0] if "://" in value else ""
    target = _at(data, (*loc[:2], "to")) if loc[:1] == ("targets",) else None
    kind = {"gcs": "gs", "postgres": "postgresql"}.get(scheme, scheme.partition("+")[0])
    return _ADVICE.get(kind) or _ADVICE.get(str(target), _OTHER)


def _at(data: object, loc: Loc) -> object:
    for part in loc:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]
        else:
            return None
    return data


def _absolute(loc: Loc, value: object, folder: str) -> object:
    """Make a local path absolute: workers may run in another directory."""
    if not isinstance(value, str) or not value or value == "-":
        return value
    if loc[:1] == ("sources",) and (len(loc) == 2 or (len(loc) == 3 and loc[2] == "location")):
        if _is_sqlite_file(value):
            return _sqlite(folder, value)
        return value if "://" in value else _joined(folder, value)
    if loc[:1] in (("sources",), ("defaults",)) and loc[-1] == "format" and len(loc) < 4:
        is_file = value.partition("#")[0].lower().endswith((".yaml", ".yml", ".toml"))
        return _joined(folder, value) if is_file and "://" not in value else value
    if loc[:1] != ("targets",) or len(loc) != 3:
        return value
    if loc[2] in PATHS:
        return value if "://" in value else _joined(folder, value)
    return _sqlite(folder, value) if loc[2] == "tracking_uri" and _is_sqlite_file(value) else value


def _is_sqlite_file(uri: str) -> bool:
    """Whether a URI is that of a file of SQLite."""
    return uri.startswith(SQLITE) and uri not in (SQLITE, f"{SQLITE}:memory:")


def _sqlite(folder: str, uri: str) -> str:
    return SQLITE + _joined(folder, uri.removeprefix(SQLITE))


def _joined(folder: str, path: str) -> str:
    path = os.path.expanduser(path)
    if os.path.isabs(path):
        return path
    base = glob.escape(folder) if GLOB.search(path) else folder
    return os.path.normpath(os.path.join(base, path))
