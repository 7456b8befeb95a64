"""The directories of one run id: of one run in their order, or of runs in several projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bridges.sources.wandb.logs import head_of, size_of
from bridges.sources.wandb.places import LogPlace
from bridges.stream.finding import Finding, Severity


@dataclass
class Ordered:
    """The logs of one run by their start, and notes about copies of them."""

    places: list[LogPlace]
    findings: list[Finding] = field(default_factory=list)


def in_order(logs: Sequence[LogPlace]) -> list[Ordered]:
    """The logs with one run id, for each project. Of several copies the longest log is kept."""
    if len(logs) == 1:
        return [Ordered([*logs])]
    projects: dict[str, list[tuple[int, LogPlace]]] = {}
    for log in logs:
        head = None if log.is_early else head_of(log)
        start, project = (head.start, head.project) if head else (0, "")
        projects.setdefault(project, []).append((start, log))
    return [_without_copies(found) for found in projects.values()]


def _without_copies(logs: Sequence[tuple[int, LogPlace]]) -> Ordered:
    kept: dict[object, LogPlace] = {}
    findings = []
    for start, log in sorted(logs, key=lambda found: (found[0], found[1].path)):
        key = start or log.path
        other = kept.get(key)
        if other is None:
            kept[key] = log
            continue
        kept[key], copy = (log, other) if size_of(log.path) > size_of(other.path) else (other, log)
        message = f"a copy of {kept[key].path} is left out"
        findings.append(Finding("duplicate-directory", Severity.INFO, copy.path, message))
    return Ordered([*kept.values()], findings)
