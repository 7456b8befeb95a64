"""Event files that grow record by record: followed, and through a Dask cluster from an S3 server.

In the end the target holds the runs of one export of the finished files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import bridges
from bridges.exporters.memory import MemoryExporter
from bridges.migration.config.config import MigrationConfig
from bridges.pipeline.follow import Following
from bridges.pipeline.options import ExportOptions, Pace
from tests.dask_cluster import dask_cluster
from tests.event_files import START, borders, losses, scalars, tagged, text, write
from tests.object_store import object_store

LATER = START + 100
Grown = dict[str, bytes]  # the content of each file so far


def growing() -> dict[str, list[bytes]]:
    """The events of the files, by path: a run of two directories, and one that is resumed."""
    return {
        "keras/train/events.out.tfevents.1700000000.host.7.0.v2": losses(START, range(4)),
        "keras/validation/events.out.tfevents.1700000000.host.7.1.v2": [
            scalars(START + 0.1 + step, step, loss=step, acc=-step) for step in range(3)
        ],
        "run/events.out.tfevents.1700000000.host.8.0": [
            text(START, 0, "note", "hello"),
            *losses(START + 1, range(4)),
            tagged(START + 9, 3, "acc", float("nan")),
        ],
        "run/events.out.tfevents.1700000100.host.9.0": losses(LATER, range(4, 6)),
    }


def stages(folder: Path) -> Iterator[Grown]:
    """All files, cut at each border of a record and inside each record, one after the other."""
    grown: Grown = {}
    for name, events in growing().items():
        at = LATER if "1700000100" in name else START
        content = write(folder, events, at=at, name="tfevents").read_bytes()
        for end in borders(content)[1:]:
            for cut in (end - 5, end):
                grown[name] = content[:cut]
                yield grown


def finished(folder: Path) -> dict[str, int]:
    """The runs of the finished files, with their points."""
    for name, events in growing().items():
        at = LATER if "1700000100" in name else START
        write(folder / Path(name).parent, events, at=at, name=Path(name).name)
    return {run.name: run.stream.points for run in bridges.read(folder)}


def test_runs_are_followed_record_by_record(tmp_path: Path) -> None:
    logs, target, seen = tmp_path / "logs", MemoryExporter(), stages(tmp_path / "spare")

    def next_stage() -> bool:
        grown = next(seen, None)
        for name, content in (grown or {}).items():
            path = logs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return grown is None

    next_stage()
    following = Following(
        [str(logs)], [target], ExportOptions(), Pace(interval=0.01), wait=lambda _: next_stage()
    )
    report = following.run()
    assert {each.status for each in report.runs} <= {"exported", "appended", "unchanged"}
    (last,) = [bridges.export(logs, to=target)]
    assert {each.run: each.status for each in last.runs} == dict.fromkeys(
        finished(tmp_path / "done"), "unchanged"
    )
    assert all(each.verified for each in last.runs)
    assert len(target.runs) == 2


@pytest.mark.slow
def test_runs_grow_in_an_object_store_and_a_cluster_exports_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, want = tmp_path / "out", finished(tmp_path / "done")
    with object_store() as (found, files):
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        with dask_cluster(2, found) as (scheduler, _):
            config = MigrationConfig.model_validate(
                {
                    "sources": ["s3://bucket/logs/"],
                    "targets": [{"to": "tensorboard", "logdir": str(out)}],
                    "engine": {"kind": "dask", "scheduler": scheduler},
                }
            )
            for grown in stages(tmp_path / "spare"):
                files.pipe({f"bucket/logs/{name}": content for name, content in grown.items()})
                report = bridges.migrate(config)
                failed = [each for each in report.runs if each.status == "failed"]
                assert not failed or not out.exists(), failed[0].findings  # no point yet
                messages = [each.findings[0].message for each in failed]
                assert all("found files without a run;" in each for each in messages)
            again = bridges.migrate(config)
        assert {each.run: each.status for each in again.runs} == dict.fromkeys(want, "unchanged")
        pattern = "s3://bucket/logs/*/**/events.out.tfevents.*"
        assert {run.name: run.stream.points for run in bridges.read(pattern)} == want
    assert {run.name: run.stream.points for run in bridges.read(out)} == want
    checked = bridges.verify(tmp_path / "done", to="tensorboard", logdir=out)
    assert [each.verified for each in checked.runs] == [True, True]
