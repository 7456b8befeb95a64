"""The way of one run: each step is done once, in one order."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest

from bridges.exporters.base import Exporter
from bridges.exporters.factory import make_exporters
from bridges.pipeline import export_run as way
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from tests.support import make_run

ROWS = [{"loss": 1.0 / step, "step": step} for step in range(1, 5)]
PACKAGE = str(Path(way.__file__).parents[1]) + "/"
STEPS = ("find", "lay_out", "adapt", "write", "read_back", "compare")
TARGETS = ("memory", "tensorboard", "mlflow", "wandb", "parquet", "csv", "trackio")


def exporter_of(target: str, place: Path) -> Exporter:
    options = {
        "tensorboard": {"logdir": str(place)},
        "mlflow": {"tracking_uri": f"sqlite:///{place}.db"},
        "wandb": {"wandb_dir": str(place)},
        "parquet": {"out": str(place)},
        "trackio": {"trackio_dir": str(place)},
        "csv": {"out": str(place)},
    }
    return make_exporters([target], options.get(target, {}))[0]


class Calls:
    """The calls between modules of the package, as (module, name) of caller and called."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[str, str], tuple[str, str]]] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_back and (called := place_of(frame)):
            self.seen.append((place_of(frame.f_back) or ("", ""), called))

    def of(self, action: Callable[[], object]) -> None:
        sys.setprofile(self)
        try:
            action()
        finally:
            sys.setprofile(None)

    def steps(self) -> list[str]:
        """The steps of the way, each called from the pipeline."""
        return [
            name
            for (caller, _), (module, name) in self.seen
            if name in STEPS and caller.startswith("pipeline/") and not module.endswith("/target")
        ]

    def visits(self) -> list[str]:
        """The modules that the way enters, without its own data types, the options and the log."""
        modules = [
            module
            for (caller, _), (module, _) in self.seen
            if caller == "pipeline/export_run" and module not in (caller, "pipeline/options", "log")
        ]
        return modules[:1] + [after for before, after in pairwise(modules) if before != after]


def place_of(frame: FrameType) -> tuple[str, str] | None:
    file = frame.f_code.co_filename
    if not file.startswith(PACKAGE):
        return None
    return file.removeprefix(PACKAGE).removesuffix(".py"), frame.f_code.co_name


@pytest.mark.parametrize("target", TARGETS)
def test_each_step_is_done_once_and_in_order(target: str, tmp_path: Path) -> None:
    run, exporter, options = make_run(ROWS), exporter_of(target, tmp_path / "to"), ExportOptions()
    for action, steps in (
        (export_run, ["find", "lay_out", "adapt", "write", "read_back", "compare"]),
        (export_run, ["find", "lay_out", "adapt", "read_back", "compare"]),
        (verify_run, ["find", "lay_out", "adapt", "read_back", "compare"]),
    ):
        calls = Calls()
        calls.of(partial(action, run, exporter, options))
        assert calls.steps() == steps


@pytest.mark.parametrize("target", TARGETS)
def test_no_module_is_entered_more_than_twice(target: str, tmp_path: Path) -> None:
    """Once on the way to the target, and once on the way back."""
    run, exporter = make_run(ROWS), exporter_of(target, tmp_path / "to")
    for _ in ("new", "unchanged"):
        calls = Calls()
        calls.of(partial(export_run, run, exporter, ExportOptions()))
        assert max(Counter(calls.visits()).values()) <= 2
