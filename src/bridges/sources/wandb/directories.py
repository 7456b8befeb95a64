"""The directories of one run id: of one run in their order, or of runs in several projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bridges.sources.wandb.early import early_head
from bridges.sources.wandb.logs import head_of, size_of
from bridges.sources.wandb.places import LATEST, LogPlace
from bridges.stream.finding import Finding, Severity


@dataclass
class Ordered:
    """The logs of one run by their start, and notes about copies of them."""

    places: list[LogPlace]
    findings: list[Finding] = field(default_factory=list)


def by_run(logs: Sequence[LogPlace]) -> list[list[LogPlace]]:
    """The logs of each run id, in the order of their first log."""
    found: dict[str, list[LogPlace]] = {}
    for log in logs:
        found.setdefault(_run_id(log, logs), []).append(log)
    return [*found.values()]


def _run_id(log: LogPlace, logs: Sequence[LogPlace]) -> str:
    """The run id of a log. The copied `latest-run` of an early run has it not in its name."""
    if not (log.is_early and log.run_id == LATEST):
        return log.run_id
    start = early_head(log).start
    others = (other for other in logs if other.is_early and other.run_id != LATEST)
    return next((one.run_id for one in others if early_head(one).start == start), log.run_id)


def in_order(logs: Sequence[LogPlace]) -> list[Ordered]:
    """The logs with one run id, for each project. Of several copies the longest log is kept."""
    if len(logs) == 1:
        return [Ordered([*logs])]
    projects: dict[str, list[tuple[int, LogPlace]]] = {}
    for log in logs:
        head = early_head(log) if log.is_early else head_of(log)
        projects.setdefault(head.project, []).append((head.start, log))
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
        is_longer = size_of(log.files[0]) > size_of(other.files[0])  # of the history
        kept[key], copy = (log, other) if is_longer else (other, log)
        message = f"a copy of {kept[key].path} is left out"
        findings.append(Finding("duplicate-directory", Severity.INFO, copy.path, message))
    return Ordered([*kept.values()], findings)
