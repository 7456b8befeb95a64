"""The run of a hyperparameter search, the parent of its trials, in a store without transactions.

The first trial creates it; status FINISHED shows that it is in use. Of several exports that create
one at the same time, each removes its own and looks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bridges.exporters.base import ConflictError
from bridges.exporters.mlflow.api import Api, ApiRun
from bridges.exporters.mlflow.api_runs import POLL_SECONDS, QUIET_SECONDS
from bridges.exporters.mlflow.settling import Settling

IN_USE = "FINISHED"
ATTEMPTS = 8


@dataclass(frozen=True)
class SearchParents:
    """The runs with the key of a search; `active` lists the active ones, the first choice first."""

    api: Api
    settling: Settling
    key: str
    active: Callable[[], list[ApiRun]]

    def get(self, create: Callable[[], ApiRun], end: int) -> str:
        """The id of the search's run, which ends at `end` (ms) or later."""
        run = self._in_use() or self._made(create)
        end = max(run.end or 0, end)
        if (run.status, run.end) != (IN_USE, end):
            self.api.set_status(run.run_id, IN_USE, end)
        return run.run_id

    def _in_use(self) -> ApiRun | None:
        """The run of the search; one that nobody takes into use for a while was left behind."""
        end = time.monotonic() + QUIET_SECONDS
        while runs := self.active():
            used = [run for run in runs if run.status == IN_USE]
            if used or time.monotonic() > end:
                self.settling.complete_deletions(self.key)
                for run in runs[1:]:
                    if run.status != IN_USE:
                        self.settling.supersede(run)
                return runs[0]
            time.sleep(POLL_SECONDS)
        return None

    def _made(self, create: Callable[[], ApiRun]) -> ApiRun:
        for attempt in range(ATTEMPTS):
            mine = create()
            if all(run.run_id == mine.run_id for run in self.active()):
                return mine
            if self.api.get_run(mine.run_id).status != IN_USE:
                self.settling.supersede(mine)
            time.sleep(int(mine.run_id[:4], 16) / 0xFFFF * 0.1 * 2**attempt)  # others come first
            if run := self._in_use():
                return run
        raise ConflictError
