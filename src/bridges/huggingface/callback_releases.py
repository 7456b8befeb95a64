"""The transformers releases with different callback naming. Imports nothing slow."""

from __future__ import annotations

import re

from bridges.errors import ConfigError

Version = tuple[int, int]

LATEST: Version = (5, 24)  # the newest release compared with real runs
SAME_NAMING = frozenset({(5, 23), LATEST})  # former and present defaults with equal names
LATEST_NAME = f"{LATEST[0]}.{LATEST[1]}"


def parse_version(text: str) -> Version:
    """`5.24` (or `5.24.1`) as (5, 24). Raises ConfigError for anything else."""
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})(\.\w+)*", text)
    if not match:
        raise ConfigError(
            f"--callback-version {text!r} is not a version. "
            "Give a transformers release such as 5.24."
        )
    version = int(match[1]), int(match[2])
    if not (3, 4) <= version <= (5, 999):
        raise ConfigError(
            f"--callback-version {text!r} is not known. The callbacks are known "
            f"from 3.4 to {LATEST_NAME}."
        )
    return version


def named_like(release: str | None) -> str:
    """The release in run keys (None: the latest); releases with equal naming give one value."""
    version = parse_version(release) if release else LATEST
    return LATEST_NAME if version in SAME_NAMING else f"{version[0]}.{version[1]}"
