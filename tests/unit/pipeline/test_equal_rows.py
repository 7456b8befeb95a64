"""Runs with equal rows: one run or two, in a tree, in a target, and from a file alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.base import Exporter
from bridges.exporters.memory import MemoryExporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.pipeline import target as target_module
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.layout import EARLIEST_RULES, Layout, Stored, lay_out
from bridges.stream.model import Run
from bridges.stream.settings import Settings
from tests.support import DATA, codes, state

FAULTS = DATA / "faults"
ROWS = [{"loss": 0.0, "grad_norm": float("nan"), "step": step} for step in range(1, 7)]


def read(folder: Path) -> list[Run]:
    return list(RunDirectorySource().read(str(folder), ReadOptions()))


def put(folder: Path, rows: int, **settings: Any) -> Path:
    """A state with these many rows, with `max_steps` and a file of the other settings."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = settings.pop("max_steps", 6)
    data = state(ROWS[:rows], global_step=rows, max_steps=ends)
    (folder / "trainer_state.json").write_bytes(data)
    if settings:
        args = folder.parent if folder.name.startswith("checkpoint-") else folder
        (args / "args.json").write_text(json.dumps(settings))
    return folder


def targets(folder: Path) -> dict[str, Exporter]:
    return {
        "memory": MemoryExporter(),
        "tensorboard": TensorBoardExporter(TensorBoardOptions(str(folder / "tb"))),
        "mlflow": MlflowExporter(MlflowOptions(f"sqlite:///{folder}/mlflow.db")),
        "wandb": WandbExporter(WandbOptions(wandb_dir=str(folder))),
    }


def export(exporter: Exporter, *folders: Path) -> list[tuple[str, str | None]]:
    """Status and place of each run of these directories, exported one directory at a time."""
    reports = [export_run(run, exporter, ExportOptions()) for at in folders for run in read(at)]
    assert all(report.verified for report in reports), reports
    return [(report.status, report.location) for report in reports]


def test_runs_that_diverged_alike_are_three_runs_in_a_tree() -> None:
    runs = read(FAULTS / "nan_runs")
    assert [run.name for run in runs] == ["bf16", "fp16", "noflash"]
    assert [run.forked for run in runs] == [None] * 3
    assert ["same-rows" in codes(run) for run in runs] == [False, True, True]


@pytest.mark.parametrize("target", ["memory", "tensorboard", "mlflow", "wandb"])
def test_runs_that_diverged_alike_are_three_runs_in_a_target(target: str, tmp_path: Path) -> None:
    folders = [FAULTS / "nan_runs" / name for name in ("bf16", "fp16", "noflash")]
    first = export(targets(tmp_path)[target], *folders) if target != "memory" else None
    exporter = targets(tmp_path)[target]
    first = first or export(exporter, *folders)
    assert [status for status, _ in first] == ["exported"] * 3
    assert len({place for _, place in first}) == 3
    again = export(exporter, FAULTS / "nan_runs", *folders)
    assert again == [("unchanged", place) for _, place in first] * 2


CLIENT = pytest.param("client", marks=pytest.mark.slow)


@pytest.mark.parametrize("target", ["tensorboard", "mlflow", "wandb", CLIENT])
def test_params_in_a_target_tell_runs_of_the_first_version_apart(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That version stored no settings, and held runs with equal rows for one."""
    options = MlflowOptions(f"sqlite:///{tmp_path}/client.db", mlflow_writer="client")
    exporter = MlflowExporter(options) if target == "client" else targets(tmp_path)[target]
    folders = [put(tmp_path / name, 3, bf16=name == "bf16") for name in ("bf16", "fp16")]
    (run,) = read(folders[0])

    def by_first_rules(*args: Any, stored: Stored | None, **known: Any) -> Layout:
        return lay_out(*args, stored=Stored(rules=EARLIEST_RULES), **known)

    with monkeypatch.context() as earlier:
        earlier.setattr(target_module, "lay_out", by_first_rules)
        first = export_run(replace(run, settings=Settings()), exporter, ExportOptions())
    (known, other) = export(exporter, *folders)
    assert known == ("unchanged", first.location)
    assert other[0] == "exported"
    assert other[1] != first.location
    assert export(exporter, *folders) == [known, ("unchanged", other[1])]


def test_without_settings_the_first_of_several_is_meant(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    (first, _) = export(exporter, put(tmp_path / "a", 3, seed=1), put(tmp_path / "b", 3, seed=2))
    (run,) = read(put(tmp_path / "unknown", 3))
    report = export_run(run, exporter, ExportOptions())
    assert (report.status, report.location) == ("unchanged", first[1])
    assert [f.count for f in report.findings if f.code == "several-runs-fit"] == [2]


def test_a_smoke_test_is_no_earlier_save_of_the_full_run(tmp_path: Path) -> None:
    put(tmp_path / "smoke", 2, max_steps=2, seed=1)
    put(tmp_path / "full", 6, max_steps=6, seed=1)
    short, full = sorted(read(tmp_path), key=lambda run: len(run.stream))
    assert (short.name, full.name, full.saves) == ("smoke", "full", (full.source,))


@pytest.mark.parametrize("order", [("smoke", "full"), ("full", "smoke")])
@pytest.mark.parametrize("target", ["memory", "tensorboard", "mlflow", "wandb"])
def test_a_smoke_test_is_another_run_in_a_target(
    target: str, order: tuple[str, str], tmp_path: Path
) -> None:
    put(tmp_path / "smoke", 2, max_steps=2, seed=1)
    put(tmp_path / "full", 6, max_steps=6, seed=1)
    exporter = targets(tmp_path)[target]
    done = export(exporter, *(tmp_path / name for name in order))
    assert [status for status, _ in done] == ["exported"] * 2
    again = export(exporter, *(tmp_path / name for name in order))
    assert again == [("unchanged", place) for _, place in done]


def test_a_resume_with_other_settings_in_its_directory_is_one_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out / "checkpoint-2", 2, max_steps=2, seed=1)
    exporter = MemoryExporter()
    (before,) = export(exporter, out)
    put(out / "checkpoint-6", 6, max_steps=6, seed=2)
    (run,) = read(out)
    assert len(run.saves) == 2
    assert export(exporter, out) == [("appended", before[1])]


def test_a_copy_of_a_run_is_that_run(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    (before,) = export(exporter, put(tmp_path / "run", 3, seed=1))
    assert export(exporter, put(tmp_path / "backup", 3, seed=1)) == [("unchanged", before[1])]
    assert export(exporter, put(tmp_path / "unknown", 3)) == [("unchanged", before[1])]
    assert export(exporter, put(tmp_path / "moved", 6, seed=1)) == [("appended", before[1])]


def test_settings_are_compared_by_value_and_not_by_file_format(tmp_path: Path) -> None:
    settings = {"learning_rate": 5e-5, "fp16": True, "save_strategy": "steps", "seed": 1}
    put(tmp_path / "a", 3, **settings, output_dir="/a", run_name="a")
    put(tmp_path / "b", 3)
    text = "learning_rate: 5e-05\nfp16: true\nsave_strategy: IntervalStrategy.STEPS\nseed: 1.0\n"
    (tmp_path / "b" / "training_args.yaml").write_text(f"{text}output_dir: /b\nrun_name: b\n")
    assert len(read(tmp_path)) == 1
    (tmp_path / "b" / "training_args.yaml").write_text(text.replace("true", "false"))
    assert len(read(tmp_path)) == 2


def test_of_two_saves_with_equal_rows_the_later_one_is_the_run() -> None:
    (run,) = read(FAULTS / "tie")
    assert Path(run.source).parent.name == "checkpoint-57"
    assert run.status == "finished"
    assert len(run.added) == 1


@pytest.mark.parametrize(
    ("saves", "last"),
    [
        ({"checkpoint-10": 9, "checkpoint-9": 9}, "checkpoint-10"),
        ({"checkpoint-10": 7, "checkpoint-9": 9}, "checkpoint-9"),
        ({"checkpoint-9": 9, "checkpoint-11": 9, ".": 9}, "."),
        ({"checkpoint-9": 9, ".": 7}, "checkpoint-9"),
    ],
    ids=["number", "global step", "root", "global step before root"],
)
def test_the_later_save_wins(saves: dict[str, int], last: str, tmp_path: Path) -> None:
    for name, step in saves.items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "trainer_state.json").write_bytes(state(ROWS[:3], global_step=step))
    (run,) = read(tmp_path)
    assert Path(run.source) == tmp_path / last / "trainer_state.json"
    assert len(run.saves) == len(saves)


def test_states_without_rows_are_no_saves_of_each_other(tmp_path: Path) -> None:
    runs = read(FAULTS / "empty_saves")
    assert [run.saves for run in runs] == [(run.source,) for run in runs]
    assert [codes(run).count("no-rows") for run in runs] == [1, 1]
    out = tmp_path / "out"
    put(out / "checkpoint-1", 0)
    put(out / "checkpoint-2", 0)
    put(out / "checkpoint-6", 6)
    (run,) = read(out)
    assert [f.count for f in run.findings if f.code == "empty-saves"] == [2]
    assert "resume-other-max-steps" not in codes(run)
