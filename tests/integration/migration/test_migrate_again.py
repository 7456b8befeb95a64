"""A migration done again: what is known is not read, what changed is; few questions are asked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.tensorboard.exporter import RECEIPTS_NAME, TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.migration.config.config import MigrationConfig, SourceSpec
from bridges.migration.fingerprint import Files
from bridges.migration.known_runs import KnownRuns
from bridges.migration.migrate import migrate
from bridges.migration.tasks import plan
from bridges.migration.worker import carry_out
from bridges.pipeline.options import LayoutOptions
from bridges.report import RunReport
from bridges.stream.layout import lay_out
from bridges.testing.exporters import ROWS
from tests.integration.exporters.tensorboard.support import entries
from tests.integration.migration.test_migrate import config, make_tree, rows_of
from tests.proxy import FaultyProxy
from tests.support import make_run, state

pytestmark = pytest.mark.slow
TARGETS = {"tensorboard", "mlflow", "wandb"}
RUNS = 12
Reports = tuple[RunReport, ...]
Change = Callable[[Path], object]


def known(report: RunReport) -> bool:
    """Whether a run was not read, because a target remembers it."""
    is_known = [finding.code for finding in report.findings] == ["known-by-its-files"]
    assert not is_known or (report.status, report.verified) == ("unchanged", None)
    return is_known


def read(reports: Reports) -> set[tuple[str, str]]:
    """The runs that were read (the directory of each), by target."""
    return {
        (report.target, report.source.split("/checkpoint-")[0].rpartition("/")[2])
        for report in reports
        if not known(report)
    }


def state_of(number: int, folder: Path) -> Path:
    """The newest state of a run of the tree."""
    return max((folder / "tree" / f"exp{number % 10}" / f"run{number}").rglob("*.json"), key=str)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sources, two of them broken, and targets that have them."""
    folder = tmp_path_factory.mktemp("migrated") / "place"
    make_tree(folder / "tree", RUNS, 2)
    (folder / "wb").mkdir()
    first = migrate(config(folder))
    assert first.exit_code == 1
    assert not any(known(report) for report in first.runs)
    return folder


@pytest.fixture
def place(migrated: Path) -> Path:
    """The same folder, with everything as it was."""
    kept = migrated.parent / "kept"
    if not kept.exists():
        shutil.copytree(migrated, kept)
    shutil.rmtree(migrated)
    shutil.copytree(kept, migrated)
    return migrated


def test_what_did_not_change_is_not_read(place: Path) -> None:
    again = migrate(config(place))
    assert {report.target for report in again.runs} == TARGETS
    for report in again.runs:
        assert known(report) != report.failed
    broken = sum(1 + number % 2 for number in range(2))
    assert again.totals["failed"] == broken * len(TARGETS)
    assert again.totals["unchanged"] == (RUNS - 2) * len(TARGETS)
    first = migrate(config(place), recheck=True)
    assert not any(known(report) for report in first.runs)
    assert all(report.verified for report in first.runs if not report.failed)
    told = [{(r.source, r.target, r.run, r.location, r.rows, r.points) for r in each.runs}
            for each in (again, first)]  # fmt: skip
    assert told[0] == told[1]
    rechecked = migrate(config(place))
    assert {report.target for report in rechecked.runs if known(report)} == TARGETS


@pytest.mark.parametrize("location", ["run1", "run*", "**/*.json", "run1/trainer_state.json", "."])
def test_a_source_that_is_not_read_has_the_same_name(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "tree" / "run1"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_bytes(state(ROWS))
    targets = [{"to": "tensorboard", "logdir": str(tmp_path / "tb")}]
    for source in (str(tmp_path / "tree" / location), f"{tmp_path}/tree/{location}"):
        said = MigrationConfig.model_validate({"sources": [source], "targets": targets})
        (first,), (again,) = migrate(said).runs, migrate(said).runs
        assert known(again) or not first.source.startswith(source)
        assert first.source == again.source


def change_byte(folder: Path) -> None:
    """White space, which means nothing; size and time stay."""
    path = state_of(5, folder)
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content.replace(b", ", b",\n", 1))
    assert path.read_bytes() != content
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(folder: Path) -> None:
    os.utime(state_of(5, folder), ns=(10**18, 10**18))


def grow(folder: Path) -> None:
    more = [*rows_of(5), {"loss": 0.25, "epoch": 99.0, "step": 990}]
    state_of(5, folder).write_bytes(state(more, global_step=990))


@pytest.mark.parametrize("change", [change_byte, touch, grow])
def test_a_source_that_changed_is_read_again_and_no_other(place: Path, change: Change) -> None:
    change(place)
    runs = migrate(config(place)).runs
    assert {pair for pair in read(runs) if pair[1] not in ("run0", "run1")} == {
        (target, "run5") for target in TARGETS
    }
    status = "appended" if change is grow else "unchanged"
    assert {report.status for report in runs if "/run5/" in report.source} == {status}
    assert all(report.verified for report in runs if "/run5/" in report.source)
    assert {run for _, run in read(migrate(config(place)).runs)} == {"run0", "run1"}


def wait_until_settled(folder: Path) -> None:
    """Until the source files were changed long enough ago to be known by how they look."""
    for path in (folder / "tree").rglob("*.json"):
        while not Files(str(path)).stat_fingerprint:
            time.sleep(0.1)


@pytest.mark.parametrize("settled", [False, True])
def test_another_setting_of_a_target_is_another_run_there(place: Path, settled: bool) -> None:
    """Also where one target knows a run by how its files look, and the others by their content."""
    if settled:
        wait_until_settled(place)
    said = config(place).model_dump(mode="json", exclude_none=True)
    said["targets"][0]["naming"] = "raw"
    runs = migrate(MigrationConfig.model_validate(said)).runs
    of_mlflow = {known(report) for report in runs if report.target != "tensorboard"}
    assert of_mlflow == {True, False}  # the broken ones are read
    exported = [report for report in runs if report.target == "tensorboard" and not report.failed]
    assert {report.status for report in exported} == {"exported"}
    again = migrate(MigrationConfig.model_validate(said)).runs
    assert all(known(report) != report.failed for report in again)


def delete_in_tensorboard(folder: Path) -> str:
    (there,) = (folder / "tb").rglob("run5")
    shutil.rmtree(there)
    return "exported"


def touch_in_tensorboard(folder: Path) -> str:
    (there,) = (folder / "tb").rglob("run5")
    (file,) = there.glob("events*")
    os.utime(file, ns=(10**18, 10**18))
    return "unchanged"


def touch_in_wandb(folder: Path) -> str:
    (file,) = [path for path in files_of(folder) if b"run5" in path.read_bytes()[:4000]]
    os.utime(file, ns=(10**18, 10**18))
    return "unchanged"


def delete_in_wandb(folder: Path) -> str:
    (file,) = [path for path in files_of(folder) if b"run5" in path.read_bytes()[:4000]]
    shutil.rmtree(file.parent)
    return "exported"


def change_in_mlflow(folder: Path) -> str:
    in_mlflow(folder, "update tags set value = replace(value, '\"digest\": \"', '\"digest\": \"f')"
              " where key = 'bridges.state' and run_uuid = ?")  # fmt: skip
    return "exported"  # another history is there now


def delete_in_mlflow(folder: Path) -> str:
    in_mlflow(folder, "update runs set lifecycle_stage = 'deleted' where run_uuid = ?")
    return "failed"  # it is not written again without being forced


def in_mlflow(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        (run_id,) = database.execute("select run_uuid from runs where name like '%run5'").fetchone()
        assert database.execute(statement, (run_id,)).rowcount == 1


def files_of(folder: Path) -> list[Path]:
    return [*(folder / "wb").rglob("run-*.wandb")]


@pytest.mark.parametrize(
    "change",
    [
        delete_in_tensorboard,
        touch_in_tensorboard,
        delete_in_wandb,
        touch_in_wandb,
        delete_in_mlflow,
        change_in_mlflow,
    ],
)
def test_a_run_that_changed_in_a_target_is_read_again_for_that(place: Path, change: Any) -> None:
    status, target = change(place), change.__name__.rpartition("_")[2]
    runs = migrate(config(place)).runs
    assert {pair for pair in read(runs) if pair[1] not in ("run0", "run1")} == {(target, "run5")}
    (report,) = [report for report in runs if "/run5/" in report.source and not known(report)]
    assert report.status == status


def test_a_run_that_grew_in_the_targets_is_read_again(place: Path, tmp_path: Path) -> None:
    longer = tmp_path / "exp5" / "run5" / "trainer_state.json"
    longer.parent.mkdir(parents=True)
    more = [*rows_of(5), {"loss": 0.25, "epoch": 99.0, "step": 990}]
    longer.write_bytes(state(more, global_step=990))
    said = config(place).model_copy(update={"sources": (SourceSpec(location=str(longer)),)})
    assert {report.status for report in migrate(said).runs} == {"appended"}
    runs = migrate(config(place)).runs
    again = [report for report in runs if "/run5/" in report.source]
    assert {report.target for report in again} == TARGETS
    for report in again:
        assert (report.status, report.verified) == ("unchanged", True)
        assert "target-is-longer" in [finding.code for finding in report.findings]
    assert {run for _, run in read(runs)} == {"run0", "run1", "run5"}


def test_a_run_that_does_not_verify_gets_no_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do those of the same task; other targets of it get theirs."""
    place = tmp_path / "tree" / "run"
    place.mkdir(parents=True)
    (place / "trainer_state.json").write_bytes(state(ROWS[:1], global_step=1))
    chosen = config(tmp_path)
    (task,), _ = plan(chosen, KnownRuns(chosen.targets).settings)
    assert {*task.settings} == TARGETS

    write = TensorBoardExporter.write
    other = lay_out(make_run([{**ROWS[0], "loss": 123.0}]), "tensorboard", LayoutOptions())

    def tampered(self: TensorBoardExporter, layout: Any, seen: Any, existing: Any) -> Any:
        """Write the run, and put the values of another one there."""
        written = write(self, layout, seen, existing)
        kept = TensorBoardExporter(TensorBoardOptions(str(tmp_path / "kept")))
        wrong = write(kept, other, [], None)
        (file,), (values,) = (Path(run.location).glob("events*") for run in (written, wrong))
        shutil.copyfile(values, file)
        return written

    monkeypatch.setattr(TensorBoardExporter, "write", tampered)
    done = carry_out(task, dry_run=False)
    assert {report.target: report.verified for report in done.reports} == {
        "tensorboard": False,
        "mlflow": True,
        "wandb": True,
    }
    assert {*done.receipts} == {"mlflow", "wandb"}


@pytest.mark.parametrize("runs", [5, 50])
def test_a_dry_run_asks_a_server_few_questions(
    runs: int, mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that does not grow with the runs; and it tells what it told with one for each."""
    make_tree(tmp_path / "tree", runs, 0)
    experiment = uuid.uuid4().hex

    def to(url: str, tree: Path) -> MigrationConfig:
        target = {"to": "mlflow", "tracking_uri": url, "experiment": experiment}
        said = {"sources": [str(tree)], "targets": [target], "engine": {"workers": 1}}
        return MigrationConfig.model_validate(said)

    for number in (1, 2):  # one is there as it is, the other grows
        shutil.copytree(state_of(number, tmp_path).parents[1], tmp_path / "some" / f"run{number}")
    migrate(to(mlflow_url, tmp_path / "some"))
    more = [*rows_of(2), {"loss": 0.25, "epoch": 99.0, "step": 990}]
    state_of(2, tmp_path).write_bytes(state(more, global_step=990))
    with FaultyProxy(mlflow_url) as proxy:
        report = migrate(to(proxy.url, tmp_path / "tree"), dry_run=True)
        asked = [(method, path.partition("?")[0]) for method, path, _ in proxy.log]
        assert len({*asked}) == 4, asked
        # six: half of them for receipts; a server that is busy is asked once more
        assert len(asked) < 10, "\n".join(map(str, asked))
    assert len(report.runs) == runs
    assert {run.status for run in report.runs} == {"planned"}
    told = sorted((run.source, run.new_points, len(run.findings)) for run in report.runs)
    monkeypatch.setattr(
        "bridges.exporters.mlflow.exporter.MlflowExporter.preload", lambda self: None
    )
    alone = [
        run
        for task in plan(to(mlflow_url, tmp_path / "tree"))[0]
        for run in carry_out(task, dry_run=True).reports
    ]
    assert told == sorted((run.source, run.new_points, len(run.findings)) for run in alone)
    assert [run.new_points for run in alone if "/run1/" in run.source] == [0]
    assert [run.new_points for run in alone if "/run2/" in run.source] == [2]


def test_what_a_killed_export_left_of_a_known_run_is_removed(tmp_path: Path) -> None:
    folder, logdir = tmp_path / "tree" / "run1", tmp_path / "tb"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_bytes(state(ROWS))
    said = {
        "sources": [str(tmp_path / "tree")],
        "targets": [{"to": "tensorboard", "logdir": str(logdir)}],
    }
    (first,) = migrate(MigrationConfig.model_validate(said)).runs
    own, other = (logdir / f".bridges-{key}-01234567" for key in (first.key, "0" * 32))
    for hidden in (own, other):
        hidden.mkdir()
    (again,) = migrate(MigrationConfig.model_validate(said)).runs
    assert known(again)
    assert entries(logdir) == sorted(["run1", other.name, RECEIPTS_NAME])
