"""Runs whose rows have no order of their own, such as MLflow's: new points may lie between known
ones, and are added exactly once to each target.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bridges.exporters.base import Exporter
from bridges.exporters.memory import MemoryExporter
from bridges.formats.mlflow_store.records import Experiment
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.report import RunReport
from bridges.stream.model import Run
from tests.integration.pipeline.test_tags import in_mlflow, in_tensorboard, in_wandb, make
from tests.mlflow_records import START, head, record, run

Points = Mapping[str, Sequence[tuple[int, int, float]]]
WAVES: list[Points] = [  # each time all points so far; keys of one row arrive separately
    {"loss": [(1, 1000, 0.5), (3, 3000, 0.25)], "acc": [(1, 1000, 0.1)]},
    {
        "loss": [(1, 1000, 0.5), (2, 2000, 0.375), (3, 3000, 0.25)],
        "acc": [(1, 1000, 0.1), (3, 3000, 0.2)],
        "late": [(0, 0, 7.0)],
    },
    {
        "loss": [(1, 1000, 0.5), (2, 2000, 0.375), (2, 2000, 0.5), (3, 3000, 0.25)],
        "acc": [(1, 1000, 0.1), (2, 2000, 0.15), (3, 3000, 0.2)],
        "late": [(0, 0, 7.0), (3, 3000, float("nan"))],
    },
]


def export(one: Run, exporter: Exporter) -> RunReport:
    return export_run(one, exporter, ExportOptions())


def named(points: Points) -> Run:
    """The run of these points, in an experiment and under a name that the readers look for."""
    bridges = Experiment("3", "bridges")
    return replace(run(record(head(experiment=bridges, name="run", tags={})), points), group=None)


def stored(target: str, folder: Path) -> dict[str, list[tuple[int, int, str]]]:
    """The points in a target. In TensorBoard, a file with lower steps replaces those before it."""
    if target == "tensorboard":
        *replaced, _ = sorted(
            (folder / "runs" / "run").iterdir(), key=lambda at: at.stat().st_mtime
        )
        for path in replaced:
            path.unlink()
        return in_tensorboard(folder)
    return in_mlflow(folder) if target == "mlflow" else in_wandb(folder)


def expected(points: Points) -> dict[str, Counter[tuple[int, int, str]]]:
    return {
        key: Counter((step, (START + time) * 1000, repr(value)) for step, time, value in curve)
        for key, curve in points.items()
    }


@pytest.mark.parametrize("target", ["mlflow", "tensorboard", "wandb"])
def test_each_target_gets_each_new_point_once(target: str, tmp_path: Path) -> None:
    total = 0
    for points in WAVES:
        report = export(named(points), make(target, tmp_path))
        count = sum(map(len, points.values()))
        assert (report.status, report.verified) == ("appended" if total else "exported", True)
        assert report.new_points == count - total
        total = count
        assert export(named(points), make(target, tmp_path)).status == "unchanged"
    found = stored(target, tmp_path)
    for key, points_of_key in expected(WAVES[-1]).items():
        there = Counter({point: found[key].count(point) for point in found[key]})
        if target == "tensorboard":  # float32
            assert Counter((step, time) for step, time, _ in there.elements()) == Counter(
                (step, time) for step, time, _ in points_of_key.elements()
            )
        else:
            assert there == points_of_key


@pytest.mark.parametrize("seed", range(25))
def test_random_growth(seed: int) -> None:
    """Points arrive in random order and parts; each target row count stays its own."""
    chance, exporter = random.Random(seed), MemoryExporter()
    everything = [
        (key, chance.randrange(4), chance.randrange(4) * 1000, chance.choice([0.5, 0.0, -0.0, 1.5]))
        for key in ("a", "b", "c")
        for _ in range(8)
    ]
    everything = [*dict.fromkeys(everything)]
    chance.shuffle(everything)
    count, known = 0, 0
    while known < len(everything):
        known = min(len(everything), known + chance.randint(1, 9))
        points: dict[str, list[tuple[int, int, float]]] = {}
        for key, step, time, value in everything[:known]:
            points.setdefault(key, []).append((step, time, value))
        one = run(record(), points)
        report = export(one, exporter)
        assert (report.status, report.verified) == ("appended" if count else "exported", True)
        count += report.new_points
        assert count == one.stream.points
        assert export(one, exporter).status == "unchanged"
    (stored,) = exporter.runs.values()
    there = exporter.read_back(stored.run).points
    assert sum(len(part.step) for part in there.values()) == count


def test_a_target_with_more_points_stays(tmp_path: Path) -> None:
    for target in ("mlflow", "tensorboard", "wandb"):
        export(named(WAVES[1]), make(target, tmp_path))
        report = export(named(WAVES[0]), make(target, tmp_path))
        assert (report.status, report.verified) == ("unchanged", True)
        assert "target-is-longer" in [found.code for found in report.findings]
        report = export(named(WAVES[2]), make(target, tmp_path))
        assert (report.status, report.verified) == ("appended", True)


@pytest.mark.parametrize("target", ["mlflow", "tensorboard", "wandb"])
def test_another_history_is_a_run_of_its_own(target: str, tmp_path: Path) -> None:
    export(named(WAVES[0]), make(target, tmp_path))
    other = {"loss": [(1, 1000, 0.5), (3, 3000, 9.25)]}
    report = export(named(other), make(target, tmp_path))
    assert (report.status, report.verified) == ("exported", True)
    assert [f.severity for f in report.findings if f.code == "another-history"] == ["warning"]
    for points in (WAVES[0], other):
        again = export(named(points), make(target, tmp_path))
        assert (again.status, again.verified) == ("unchanged", True)
        assert verify_run(named(points), make(target, tmp_path), ExportOptions()).verified
    more = {"loss": [*other["loss"], (4, 4000, 1.0)]}
    grown = export(named(more), make(target, tmp_path))
    assert (grown.status, grown.verified) == ("appended", True)


WITHOUT_STEPS: list[Points] = [
    {"loss": [(0, 1000, 0.5), (0, 3000, 0.25)], "acc": [(0, 1000, 0.1), (0, 4000, 0.2)]},
    {  # between known points, in a known row, before all others
        "loss": [(0, 1000, 0.5), (0, 2000, 0.375), (0, 3000, 0.25), (0, 4000, 0.5)],
        "acc": [(0, 500, 0.1), (0, 1000, 0.1), (0, 4000, 0.2)],
    },
    {  # a value twice, and two values of one key at one time
        "loss": [(0, 1000, 0.5), (0, 2000, 0.375), (0, 3000, 0.25), (0, 4000, 0.5), (0, 5000, 0.5)],
        "acc": [(0, 500, 0.1), (0, 1000, 0.1), (0, 1000, 0.05), (0, 4000, 0.2)],
    },
]


@pytest.mark.parametrize("target", ["tensorboard", "wandb"])
def test_points_without_steps_keep_the_steps_of_their_order(target: str, tmp_path: Path) -> None:
    """Known points keep their steps; new ones follow, although they lie between known ones."""
    total, shown = 0, Counter[tuple[str, int, int]]()
    for points in WITHOUT_STEPS:
        report = export(named(points), make(target, tmp_path))
        count = sum(map(len, points.values()))
        assert (report.status, report.verified) == ("appended" if total else "exported", True)
        assert report.new_points == count - total
        total = count
        again = export(named(points), make(target, tmp_path))
        assert (again.status, again.verified) == ("unchanged", True)
        found = in_tensorboard(tmp_path) if target == "tensorboard" else in_wandb(tmp_path)
        there = Counter((key, step, time) for key, at in found.items() for step, time, _ in at)
        assert there.total() == count
        assert not shown - there
        shown = there
    times = Counter((key, time) for key, _, time in shown)
    assert times == Counter(
        (key, time) for key, at in expected(points).items() for _, time, _ in at.elements()
    )


def test_points_between_chosen_ones_are_not_added(tmp_path: Path) -> None:
    """With one point a step, the choice was made without the new points; later ones are added."""
    options = ExportOptions(layout=LayoutOptions(duplicates="last"))

    def send(points: Sequence[tuple[int, int, float]]) -> RunReport:
        return export_run(named({"loss": points}), make("mlflow", tmp_path), options)

    points = [(1, 1000, 0.5), (1, 2000, 0.25)]
    assert send(points).status == "exported"
    assert send(points).status == "unchanged"
    points += [(1, 3000, 0.125), (2, 4000, 0.0625)]
    assert [send(points).status for _ in range(2)] == ["appended", "unchanged"]
    report = send([(0, 500, 1.0), *points])
    assert report.status == "failed"
    message = report.findings[-1].message
    assert "this run has new points, which cannot be added with --duplicates last" in message
    stored = [(1, 2000, "0.25"), (1, 3000, "0.125"), (2, 4000, "0.0625")]
    expected = {(step, (START + time) * 1000, value) for step, time, value in stored}
    assert {*in_mlflow(tmp_path)["loss"]} == expected


def test_an_infinity_merged_with_the_largest_number_is_a_loss(tmp_path: Path) -> None:
    largest = sys.float_info.max
    points = [(1, 1000, float("inf")), (1, 1000, largest), (2, 2000, largest), (3, 3000, 0.0)]
    report = export(named({"loss": [*points, (3, 3000, -0.0)]}), make("mlflow", tmp_path))
    assert (report.status, report.verified) == ("exported", True)
    told = {note.code: (note.severity, note.count) for note in report.findings}
    assert told["infinities-merged"] == ("loss", 1)
    assert told["exact-repeats"] == ("info", 1)
