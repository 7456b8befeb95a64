"""Event files and a table of one training, of which either may be exported first, or be ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest

import bridges
from bridges.exporters.base import Exporter
from bridges.exporters.factory import make_exporters
from bridges.exporters.memory import MemoryExporter
from bridges.migration.config.config import MigrationConfig
from bridges.pipeline.batch import for_each_run
from bridges.pipeline.export_run import export_run
from bridges.pipeline.follow import Following
from bridges.pipeline.options import ExportOptions, Pace
from bridges.pipeline.watching import stamps
from bridges.report import RunReport
from tests.event_files import START, tagged, write
from tests.unit.sources.tables.tables import put

STEPS = (10, 20, 30, 40)


def events(folder: Path, count: int, *tags: str, start: float = START) -> None:
    """An event file with the losses of the first steps, and a value of each of the tags."""
    for path in folder.glob("*tfevents*"):
        path.unlink()
    points = [
        tagged(start + n, step, tag, 1 / (step + 3))
        for n, step in enumerate(STEPS[:count])
        for tag in ("loss", *tags)
    ]
    if points:
        write(folder, points)


def table(folder: Path, count: int) -> None:
    """A table of Stable-Baselines3 with the losses of the first steps, and the learning rate."""
    rows = [f"{step},{n},{1 / (step + 3)},{step / 7},nan\n" for n, step in enumerate(STEPS[:count])]
    if rows:
        put(
            folder / "progress.csv",
            "time/total_timesteps,time/time_elapsed,loss,lr,variance\n" + "".join(rows),
        )


def exported(folder: Path, exporter: Exporter) -> RunReport:
    """The report of the only run in a directory."""
    (report,) = for_each_run(export_run, [str(folder)], [exporter], ExportOptions()).runs
    assert report.verified, report.findings
    return report


def codes(report: RunReport) -> set[str]:
    """The codes of the findings."""
    return {finding.code for finding in report.findings}


TARGETS: dict[str, Callable[[Path], Exporter]] = {
    "memory": lambda folder: MemoryExporter(),
    "mlflow": lambda folder: _made("mlflow", tracking_uri=f"sqlite:///{folder}/m.db"),
    "tensorboard": lambda folder: _made("tensorboard", logdir=str(folder / "tb")),
    "wandb": lambda folder: _made("wandb", wandb_dir=str(folder / "w")),
}


def _made(name: str, **options: str) -> Exporter:
    made: Exporter
    (made,) = make_exporters([name], options)
    return made


def grown(folder: Path, exporter: Exporter, states: Iterable[tuple[int, int]]) -> list[RunReport]:
    """The reports of exports after each state: the number of events, and of rows in the table."""
    reports = []
    for count, rows in states:
        events(folder / "a/PPO_1", count)
        table(folder / "a/PPO_1", rows)
        reports.append(exported(folder / "a", exporter))
        assert exported(folder / "a", exporter).status == "unchanged"
    return reports


def test_an_unchanged_run_is_matched_without_reading_its_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = MemoryExporter()
    events(tmp_path / "PPO_1", 4)
    table(tmp_path / "PPO_1", 4)
    exported(tmp_path, exporter)
    monkeypatch.setattr(exporter, "read_back", lambda existing: pytest.fail("read"))
    options = ExportOptions(verify=False)
    (report,) = for_each_run(export_run, [str(tmp_path)], [exporter], options).runs
    assert report.status == "unchanged"


@pytest.mark.parametrize(
    ("first", "middle"),
    [
        *product(
            [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)],
            [(2, 2), (3, 2), (2, 3), (3, 3), (4, 2), (2, 4)],
        )
    ],
)
def test_events_first_or_ahead_of_their_table(
    tmp_path: Path, first: tuple[int, int], middle: tuple[int, int]
) -> None:
    exporter = MemoryExporter()
    grown(tmp_path, exporter, [first, middle, (4, 4)])
    (stored,) = exporter.runs.values()
    points = exporter.read_back(stored.run).points
    assert {tag: sorted(each.step.tolist()) for tag, each in points.items()} == {
        "loss": [*STEPS],
        "lr": [*STEPS],
        "variance": [*STEPS],
    }
    for step, value in zip(points["loss"].step, points["loss"].value, strict=True):
        assert value == pytest.approx(1 / (step + 3), rel=1e-7)


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "memory"])
def test_events_before_their_table_in_each_target(tmp_path: Path, target: str) -> None:
    exporter = TARGETS[target](tmp_path)
    states = [(2, 0), (2, 1), (2, 3), (3, 3), (4, 3), (4, 4)]
    reports = grown(tmp_path, exporter, states)
    assert reports[0].status == "exported"
    assert {report.status for report in reports[1:]} == {"appended", "unchanged"}
    assert len({report.location for report in reports}) == 1
    if target != "tensorboard":  # it has 32 bits in any case
        assert "event-values-kept" in codes(reports[1])


@pytest.mark.parametrize("target", TARGETS)
def test_a_table_before_its_events(tmp_path: Path, target: str) -> None:
    """The run of the table goes on, and the report says how to have the events, too."""
    exporter, folder = TARGETS[target](tmp_path), tmp_path / "a/PPO_1"
    table(folder, 2)
    first = exported(tmp_path / "a", exporter)
    events(folder, 2)
    same = exported(tmp_path / "a", exporter)
    assert (same.status, same.location) == ("unchanged", first.location)
    (note,) = (each for each in same.findings if each.code == "events-left-out")
    assert not note.fails
    for rows in (3, 4):
        table(folder, rows)
        events(folder, rows)
        more = exported(tmp_path / "a", exporter)
        assert (more.status, more.location) == ("appended", first.location)
    events(folder, 4, "entropy")
    later = exported(tmp_path / "a", exporter)
    assert (later.status, later.location) == ("unchanged", first.location)
    (note,) = (each for each in later.findings if each.code == "events-left-out")
    assert (note.fails, note.count) == (True, 4)
    assert "delete the run in the target and export it again" in note.message


def test_both_at_once_while_they_grow_is_one_run(tmp_path: Path) -> None:
    """`--follow` sees the event file ahead of its table, and the table ahead of its event file."""
    folder = tmp_path / "a/PPO_1"
    states = [(1, 1), (2, 1), (2, 2), (3, 2), (3, 4), (4, 4)]

    def advance() -> None:
        count, rows = states.pop(0)
        events(folder, count)
        table(folder, rows)

    def wait(seconds: float) -> bool:
        if states:
            advance()
            return False
        return True

    advance()
    target = MemoryExporter()
    following = Following([str(tmp_path / "a")], [target], ExportOptions(), Pace(), wait=wait)
    (report,) = following.run().runs
    assert (report.verified, report.points, len(target.runs)) == (True, 12, 1)


def test_a_table_that_grows_alone_is_followed(tmp_path: Path) -> None:
    """The files of CatBoost's tables lie in the directory around those of its event files."""
    folder = tmp_path / "catboost_info"
    write(folder / "learn", [tagged(START, 0, "RMSE", 1.5), tagged(START, 1, "RMSE", 1.25)])
    path = put(folder / "learn_error.tsv", "iter\tRMSE\n0\t1.5\n")
    assert path in (stamps(str(tmp_path)) or {})
    rows = ["1\t1.25\n", "2\t1.125\n"]

    def wait(seconds: float) -> bool:
        if not rows:
            return True
        with (folder / "learn_error.tsv").open("a") as file:
            file.write(rows.pop(0))
        return False

    target = MemoryExporter()
    seen: list[int] = []
    following = Following(
        [str(tmp_path)],
        [target],
        ExportOptions(),
        Pace(),
        wait=wait,
        on_append=lambda report: seen.append(report.new_points),
    )
    (report,) = following.run().runs
    assert (report.verified, report.points, len(target.runs)) == (True, 3, 1)
    assert seen[-1] == 1


def test_a_migration_reads_a_folded_run_again_if_only_its_table_changed(tmp_path: Path) -> None:
    folder = tmp_path / "tree/PPO_1"
    events(folder, 2)
    table(folder, 2)
    config = {
        "sources": [{"location": str(tmp_path / "tree"), "rename": {"loss": "my_loss"}}],
        "targets": [{"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/m.db"}],
        "engine": {"workers": 1},
    }
    statuses = []
    for count, rows in ((2, 2), (2, 2), (3, 2), (3, 3), (3, 4)):
        events(folder, count)
        table(folder, rows)
        (report,) = bridges.migrate(MigrationConfig.model_validate(config)).runs
        assert report.verified
        statuses.append(report.status)
    assert statuses == ["exported", "unchanged", "appended", "appended", "appended"]
