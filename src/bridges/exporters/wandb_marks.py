"""Marks of runs on a W&B server: a text in the config of each, with the rows that it then had."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from bridges.exporters.marks import Mark, Marked
from bridges.exporters.wandb_reader import state_of
from bridges.exporters.wandb_server import Remote, Server

MARK = "bridges_mark"  # in the config
AT_ONCE = 8  # runs: each takes three requests


def put_marks(server: Server, runs: Sequence[Marked]) -> None:
    """Set the marks of those of these runs that are in the server's project. Raises ExportError."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(_put, server, run) for run in runs]:
            done.result()


def _put(server: Server, run: Marked) -> None:
    def text(remote: Remote) -> str | None:
        """None for a run of the same id in another project."""
        return _text(run, remote) if remote.url == run.location else None

    server.set_config(run.location.rpartition("/")[2], MARK, text)


def _text(run: Marked, remote: Remote) -> str:
    mark = json.loads(run.mark.text())
    rows = [remote.lines, remote.last_step]
    return json.dumps({"key": run.key, "name": run.name, "rows": rows, "mark": mark})


def marked_runs(server: Server) -> Iterator[Marked]:
    """The marked runs of the project that are whole, and have what they had then."""
    for remote in server.having(MARK):
        with suppress(ValueError, KeyError, TypeError):
            found = json.loads(remote.config[MARK])
            mark = Mark.of(found["mark"])
            key, state = state_of(remote.config_json)
            is_same = [remote.lines, remote.last_step] == found["rows"]
            if is_same and key == found["key"] and state and state.is_marked(mark):
                yield Marked(key, found["name"], remote.url, mark)
