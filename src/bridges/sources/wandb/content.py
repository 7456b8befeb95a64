"""The content of a W&B run, from its logs or from a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridges.formats.wandb_log.items import Path
from bridges.formats.wandb_log.records import RunRecord, Stats
from bridges.formats.wandb_log.rows import Column
from bridges.sources.wandb.logs import ReadLog
from bridges.sources.wandb.steps import Mask
from bridges.stream.finding import Finding


@dataclass
class Content:
    """The content of a run: its logs in order, and the columns of `count` rows.

    source: the location of the run; files: its files
    status, facts: of a server
    is_remote: wandb-core may have changed the types of numbers
    """

    run_id: str
    source: str
    files: tuple[str, ...]
    logs: list[ReadLog]
    columns: list[Column]
    count: int
    rounded: int = 0
    findings: list[Finding] = field(default_factory=list)
    status: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    is_remote: bool = False

    @property
    def record(self) -> RunRecord:
        """The run record of the last log, completed by earlier ones."""
        found = RunRecord()
        for log in self.logs:
            known = {name: value for name, value in vars(log.run).items() if value}
            found = replace(found, **known)
        return found

    @property
    def config(self) -> dict[str, object]:
        """The values of the config without wandb's own, those of later logs last."""
        found: dict[str, object] = {}
        for log in self.logs:
            for path, value in log.log.config.items():
                _put(found, path, value)
        found.pop("_wandb", None)
        return found

    @property
    def summary(self) -> dict[Path, object]:
        """The summary values, those of later logs last."""
        found: dict[Path, object] = {}
        for log in self.logs:
            found |= log.log.summary
        return found

    @property
    def has_ended(self) -> bool:
        """Whether nothing follows: a log has its exit code and, later up to 0.17, its summary."""
        if self.status is not None:
            return self.status not in ("running", "unfinished")
        last = self.logs[-1].log
        return last.exit_code is not None and bool(last.summary)

    def keep(self, is_kept: Mask) -> None:
        """Remove the other rows (bool, n) from the columns."""
        position = np.cumsum(is_kept) - 1
        for at, (path, rows, values) in enumerate(self.columns):
            own = is_kept[rows]
            self.columns[at] = Column(path, position[rows[own]], values[own])
        self.columns[:] = [column for column in self.columns if len(column.rows)]
        self.count = int(is_kept.sum())

    @property
    def stats(self) -> list[Stats]:
        """All system metrics."""
        return [stats for log in self.logs for stats in log.log.stats]


def _put(target: dict[str, object], path: Sequence[str], value: object) -> None:
    """Set a value in nested dicts."""
    *outer, last = path
    for name in outer:
        inner = target.get(name)
        if not isinstance(inner, dict):
            inner = target[name] = {}
        target = inner
    target[last] = value
