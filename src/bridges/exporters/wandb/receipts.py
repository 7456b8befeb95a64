"""Receipts on a W&B server: JSON in the config of each run, with its row count and last step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from bridges.exporters.receipts import Receipt, RunReceipt
from bridges.exporters.wandb.reader import state_of
from bridges.exporters.wandb.server import Server, ServerRun

RECEIPT_KEY = "bridges_mark"  # in the config
THREADS = 8  # each saves one receipt by three requests


def save_receipts(server: Server, runs: Sequence[RunReceipt]) -> None:
    """Save the receipts of runs in the server's project, and skip others. Raises ExportError."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(_put, server, run) for run in runs]:
            done.result()


def _put(server: Server, run: RunReceipt) -> None:
    def text(remote: ServerRun) -> str | None:
        """The receipt's text; None for a run with the same id in another project."""
        return _text(run, remote) if remote.url == run.location else None

    server.set_config(run.id, RECEIPT_KEY, text)


def _text(run: RunReceipt, remote: ServerRun) -> str:
    receipt = json.loads(run.receipt.text())
    rows = [remote.lines, remote.last_step]
    return json.dumps({"key": run.key, "name": run.name, "rows": rows, "mark": receipt})


def receipts_in(server: Server) -> Iterator[RunReceipt]:
    """The receipts of complete and unchanged runs of the project."""
    for remote in server.having(RECEIPT_KEY):
        with suppress(ValueError, KeyError, TypeError):
            found = json.loads(remote.config[RECEIPT_KEY])
            receipt = Receipt.of(found["mark"])
            key, state = state_of(remote.config_json)
            is_same = [remote.lines, remote.last_step] == found["rows"]
            if is_same and key == found["key"] and state and state.agrees_with(receipt):
                yield RunReceipt(key, found["name"], remote.url, receipt, remote.run_id)
