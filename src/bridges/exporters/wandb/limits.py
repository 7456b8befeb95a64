"""W&B's limits for names: projects, runs, groups, job types and tags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bridges.errors import ConfigError

MAX_NAME_CHARS, MAX_TAG_CHARS = 128, 64
_PROJECT = re.compile(r"[^/\\#?%:]{1,128}\Z")


def check_project(project: str) -> str:
    """The name of a project. Raises ConfigError if it is illegal."""
    if _PROJECT.match(project):
        return project
    raise ConfigError(
        f"--project {project!r} is not a legal W&B project name: found {len(project)} characters; "
        r"expected 1 to 128, none of them / \ # ? % :"
    )


def tag_texts(tags: Mapping[str, str]) -> list[str]:
    """Tags as W&B texts: `key` or `key:value`, cut to 64 characters."""
    return [(f"{key}:{value}" if value else key)[:MAX_TAG_CHARS] for key, value in tags.items()]


def merged_tags(texts: Sequence[str], tags: Mapping[str, str]) -> list[str]:
    """Tag texts with new tags, which replace old ones of the same keys."""
    fresh = tag_texts(tags)
    keys = {text.partition(":")[0] for text in fresh}
    return [*(text for text in texts if text.partition(":")[0] not in keys), *fresh]


def short(name: str) -> str:
    """A name of a run, group or job type, cut to W&B's limit."""
    return name[:MAX_NAME_CHARS]
