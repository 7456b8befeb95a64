"""Redaction: nothing secret leaves this function. It masks what a key or a value gives away.

As the live callbacks do, a setting whose name ends in `_token` becomes `<ITS_NAME>`; passwords,
keys, tokens inside URLs and strings that look like well-known credentials are masked as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bridges.stream.finding import Finding, Severity

_SECRET_KEY = re.compile(
    r"(?:^|[_\-.]|(?<=[a-z0-9])(?=[A-Z]))"
    r"(?i:token|secret|passw(or)?d|credentials?|(api|access|private|secret|auth)[_-]?key)$"
)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_URL_SECRET = re.compile(
    r"([?&](?:[\w-]*(?:token|key|secret|password|signature|sig))=)[^&\s#]+", re.I
)
_CREDENTIAL = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})\b"
)
_HOME = re.compile(
    r"(?<![\w.])((/[\w.-]+)*/(home|Users)/|[A-Za-z]:\\Users\\)[^/\\\s\"']+"  # also /mnt/home
)


def redact(
    params: Mapping[str, Any], *, home: bool = False
) -> tuple[dict[str, Any], list[Finding]]:
    """The params with every secret masked, and a finding that names the settings concerned.

    `home` also turns home directories (`/home/anna/x`) into `~/x`.
    """
    masked: list[str] = []
    clean = {key: _clean(key, value, key, masked, home) for key, value in params.items()}
    if not masked:
        return clean, []
    where = ", ".join(dict.fromkeys(masked))
    message = "secrets are masked before anything is written"
    return clean, [Finding("secret-masked", Severity.INFO, where, message, len(masked))]


def redact_text(text: str, *, home: bool = False) -> str:
    """One string with credentials, logins in URLs and (on request) home directories masked."""
    text = _URL_LOGIN.sub("<LOGIN>@", text)
    text = _URL_SECRET.sub(r"\1<SECRET>", text)
    text = _CREDENTIAL.sub("<SECRET>", text)
    return _HOME.sub("~", text) if home else text


def _clean(key: str, value: Any, path: str, masked: list[str], home: bool) -> Any:
    secret = _SECRET_KEY.search(key)
    if isinstance(value, Mapping):  # what lies under a secret name is secret
        names = {k: key if secret else str(k) for k in value}
        return {str(k): _clean(names[k], v, f"{path}.{k}", masked, home) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(key, item, path, masked, home) for item in value]
    number = type(value) in (int, float) and not key.lower().endswith("token")  # a count of tokens
    mask = f"<{key.upper()}>"
    if secret and (number or (isinstance(value, str) and value not in ("", mask))):
        masked.append(path)
        return mask
    if not isinstance(value, str):
        return value
    shown = redact_text(value)
    if shown != value:
        masked.append(path)
    return redact_text(shown, home=True) if home else shown
