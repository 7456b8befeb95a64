"""`wandb sync`, the official client, as the judge of offline runs: what a server has afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.receipts import Receipt, RunReceipt
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.testing.exporters import ROWS
from tests.integration.exporters.wandb.support import (
    GROUNDTRUTH,
    SCENARIOS,
    TIMES,
    export,
    file_of,
    files_of,
    received,
    rows_of,
    sync,
    wandb_server,
    without,
)
from tests.support import make_run, read_one


@pytest.fixture
def server() -> Iterator[str]:
    with wandb_server() as url:
        yield url


def upload(url: str, tmp_path: Path) -> None:
    """Sync every run below the folder."""
    sync(url, tmp_path / "place", *(file.parent for file in files_of(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_every_row_is_uploaded(server: str, writer: str, tmp_path: Path) -> None:
    for scenario in SCENARIOS:
        run = read_one(GROUNDTRUTH / scenario / "trainer_state.json")
        assert not export(run, tmp_path, project="p", wandb_writer=writer).failed
    files = files_of(tmp_path)
    upload(server, tmp_path)
    runs = received(server)
    assert len(runs) == len(files) == len(SCENARIOS)
    there = Counter(without(row) for run in runs for row in run["history"])
    assert there == Counter(without(row) for file in files for row in rows_of(file))
    assert all(run["complete"] and run["project"] == "p" for run in runs)
    if writer == "direct":
        started = [run["files"]["wandb-metadata.json"] for run in runs]
        assert all("startedAt" in text for text in started)


@pytest.mark.slow
def test_a_run_that_was_synced_grows_by_a_part_of_its_own(server: str, tmp_path: Path) -> None:
    first = export(make_run(ROWS[:3]), tmp_path)
    upload(server, tmp_path)
    assert export(make_run(ROWS[:3]), tmp_path).status == "unchanged"
    report = export(make_run(ROWS[:5]), tmp_path)
    assert (report.status, report.verified) == ("appended", True)
    assert report.location != first.location
    longer = export(make_run(ROWS), tmp_path)  # not yet synced: the new part is replaced
    assert (longer.status, longer.location, longer.verified) == ("appended", report.location, True)
    assert [len(rows_of(file)) for file in files_of(tmp_path)] == [3, 3]
    upload(server, tmp_path)
    assert export(make_run(ROWS), tmp_path).status == "unchanged"
    (run,) = received(server)
    assert [row["_step"] for row in run["history"]] == list(range(len(ROWS)))
    export(make_run(ROWS), tmp_path / "whole")
    assert [without(row, *TIMES) for row in run["history"]] == [
        without(row, *TIMES) for row in rows_of(file_of(tmp_path / "whole"))
    ]
    times = [row["_timestamp"] for row in run["history"]]
    assert times == sorted(set(times))
    assert run["rows_received"] == len(ROWS)
    assert run["summary"]["train_runtime"] == 9.5
    assert json.loads(run["config"]["bridges"]["value"]["state"])["rows"] == len(ROWS)


@pytest.mark.slow
def test_a_part_that_is_gone_is_told(server: str, tmp_path: Path) -> None:
    export(make_run(ROWS[:3]), tmp_path)
    upload(server, tmp_path)
    first = file_of(tmp_path)
    export(make_run(ROWS), tmp_path)
    first.parent.rename(tmp_path / "elsewhere")
    report = export(make_run(ROWS), tmp_path)
    assert report.status == "failed"
    assert "the file with the rows before row 3 is missing" in report.findings[-1].message


@pytest.mark.slow
def test_merged_rows_that_were_synced_are_not_merged_again(server: str, tmp_path: Path) -> None:
    def merged(rows: list[dict[str, Any]]) -> Any:
        return export(make_run(rows), tmp_path, wandb_step="global_step")

    merged(ROWS[:2])
    upload(server, tmp_path)
    report = merged(ROWS[:3])
    assert report.failed
    assert "it can no longer be merged" in report.findings[-1].message
    assert merged([*ROWS[:2], {"loss": 1.0, "step": 7}]).verified
    upload(server, tmp_path)
    (run,) = received(server)
    assert [row["_step"] for row in run["history"]] == [1, 2, 7]


@pytest.mark.slow
def test_sources_are_uploaded_before_and_after_a_sync(server: str, tmp_path: Path) -> None:
    scenario = GROUNDTRUTH / "token_counts" / "trainer_state.json"
    run, exporter = read_one(scenario), WandbExporter(WandbOptions(wandb_dir=str(tmp_path)))

    def attach() -> Any:
        report = export_run(run, exporter, ExportOptions(attach_source=True))
        assert (report.verified, [f for f in report.findings if f.fails]) == (True, [])
        return report

    if not export(run, tmp_path).verified:
        pytest.fail("not exported")
    upload(server, tmp_path)
    assert attach().status == "unchanged"
    assert attach().status == "unchanged"
    assert [len(rows_of(file)) for file in files_of(tmp_path)] == [5, 0]
    upload(server, tmp_path)
    (there,) = received(server)
    assert there["files"]["source/trainer_state.json"] == scenario.read_text()
    assert there["rows_received"] == 5
    # and where nothing was synced, within the run's own file
    exporter = WandbExporter(WandbOptions(wandb_dir=str(tmp_path / "other"), project="other"))
    attach()
    attach()
    sync(server, tmp_path / "place", file_of(tmp_path / "other").parent)
    (other,) = [run for run in received(server) if run["project"] == "other"]
    assert other["files"].keys() >= {"source/trainer_state.json", "wandb-metadata.json"}
    assert other["rows_received"] == 5


@pytest.mark.slow
def test_receipts_stay_where_they_are(server: str, tmp_path: Path) -> None:
    """They are not uploaded, a sync does not touch them, and a part that comes later has none."""
    exporter = WandbExporter(WandbOptions(wandb_dir=str(tmp_path)))

    def receipt_of_run() -> RunReceipt:
        report = export_run(make_run(ROWS[:3]), exporter, ExportOptions())
        receipt = Receipt("a", 1, 0, "/x", report.digest, report.rows, report.points)
        return RunReceipt.of(report, receipt)

    folder = tmp_path / "wandb"
    first = receipt_of_run()
    changed = folder.stat().st_mtime_ns
    exporter.save_receipts([first])
    assert folder.stat().st_mtime_ns == changed  # so that it is not listed again
    assert [*exporter.receipts()] == [first]
    upload(server, tmp_path)
    (run,) = received(server)
    assert not [name for name in run["files"] if "bridges" in name]
    assert receipt_of_run() == first
    assert [*WandbExporter(WandbOptions(wandb_dir=str(tmp_path))).receipts()] == [first]
    grown = export(make_run(ROWS), tmp_path)
    assert (grown.status, grown.verified) == ("appended", True)
    assert [*exporter.receipts()] == []
    upload(server, tmp_path)
    (run,) = received(server)
    assert [row["_step"] for row in run["history"]] == list(range(len(ROWS)))
    assert not [name for name in run["files"] if "bridges" in name]
