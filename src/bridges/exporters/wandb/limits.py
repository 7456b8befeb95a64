"""W&B's limits for names: projects, runs, groups, job types and tags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bridges.errors import ConfigError
from bridges.stream.model import Run

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


def legal_project(name: str) -> str:
    """The name of a tracker's experiment as a project; dashes replace illegal characters."""
    return re.sub(r"[/\\#?%:]", "-", name)[:MAX_NAME_CHARS].strip() or "-"


def group_of(run: Run) -> str | None:
    """The group of a run. The project of a tracker's run is its experiment; nested runs
    are grouped by their outermost run unless the user named a group.
    """
    if run.key_style != "tags" or run.group != run.project:
        return run.group
    if run.parents:
        return run.parents[0]
    return run.name if run.has_children else None


def job_type_of(run: Run) -> str | None:
    """The job type of a nested run: `child`, or `parent` if it is the outermost one."""
    return "child" if run.parents else "parent" if run.has_children else None


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
