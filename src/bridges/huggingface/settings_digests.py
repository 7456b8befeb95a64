"""Digests of a run's settings, without settings that may differ between saves of one run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache

from bridges.stream.settings import KEY_DIGITS, VALUE_DIGITS

# settings that may differ between saves of one run: paths, names, resuming
_VOLATILE = re.compile(
    r"(^|_)(dir|path|name|id|url|port|host|token|folder|file|output)$"
    r"|^(local_rank|resume_from_checkpoint|overwrite_output_dir|transformers_version)$"
    r"|^(max_steps|num_train_epochs)$"  # compared separately
    r"|^_|_version$"
)


def digests(settings: Mapping[str, object], origin: str = "") -> dict[str, str]:
    """The digest of each setting by the digest of its name, without paths and names.

    Settings of different `origin` are not compared: a state and an arguments file may differ.
    """
    return {
        _digest(f"{origin}{key}", KEY_DIGITS): _digest(repr(_normal(value)), VALUE_DIGITS)
        for key, value in settings.items()
        if not _VOLATILE.search(key) and not _is_path(value)
    }


def file_digest(settings: Mapping[str, object]) -> str:
    """One digest of all settings of a file, without paths and names."""
    return _digest(repr(sorted(digests(settings).items())), 8)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)


@lru_cache(maxsize=8192)  # many runs have the same settings
def _digest(text: str, digits: int) -> str:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=9).digest()
    return base64.urlsafe_b64encode(digest)[:digits].decode()


def _normal(value: object) -> object:
    """The value as numbers and text, equal for YAML, JSON and pickles."""
    if isinstance(value, dict):
        return [(str(key), _normal(value[key])) for key in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return hex(value)  # a float would round it, and Python prints no more than 4,300 digits
    text = str(value).lower()
    try:
        return repr(float(text))
    except ValueError:
        return text.rpartition(".")[2]  # the value of an enum
