"""Selection: which runs of a source `--select` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges import BatchReport
from bridges.errors import ConfigError
from bridges.migration.config.config import MigrationConfig
from bridges.pipeline.options import ExportOptions
from bridges.sources.selection import Selection
from tests.event_files import START, losses, write
from tests.support import state

RUN = ("baseline-3", "ab12", "FINISHED", {"team/x": "vision", "stage": "dev=1"})


@pytest.mark.parametrize(
    ("conditions", "is_taken"),
    [
        ([], True),
        (["run=baseline-*"], True),
        (["run=ab12"], True),
        (["run=Baseline-*"], False),
        (["status=finished"], True),
        (["status=failed", "status=FIN*"], True),
        (["status=failed"], False),
        (["tag.team/x=vis*"], True),
        (["tag.stage=dev=1"], True),
        (["tag.absent=*"], False),
        (["run=baseline-*", "tag.team/x=audio"], False),
        (["experiment=other"], True),  # asked separately
    ],
)
def test_runs_are_taken_that_match_one_pattern_of_each_key(
    conditions: list[str], is_taken: bool
) -> None:
    assert Selection.of(conditions).takes(*RUN) is is_taken


def test_experiments_are_taken_by_pattern() -> None:
    selection = Selection.of(["experiment=vision*", "experiment=audio"])
    taken = [name for name in ("vision 2", "audio", "text") if selection.takes_experiment(name)]
    assert taken == ["vision 2", "audio"]
    assert Selection.of(["run=x"]).takes_experiment("anything")


@pytest.mark.parametrize("text", ["finished", "owner=me", "tag.=x", "=x"])
def test_another_condition_is_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(ConfigError, match="expected KEY=PATTERN"):
        ExportOptions.of({"select": [text]})


@pytest.mark.parametrize("way", ["export", "migration"])
@pytest.mark.parametrize("kind", ["states", "event files"])
def test_a_location_without_a_selected_run_is_an_error(kind: str, way: str, tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    if kind == "states":
        (source / "trainer_state.json").write_bytes(state([{"loss": 1.0, "step": 1}]))
    else:
        write(source, losses(START, range(3)))

    def exit_code(select: str) -> tuple[int, BatchReport]:
        target: dict[str, Any] = {"to": "tensorboard", "logdir": tmp_path / "runs" / select}
        if way == "export":
            report = bridges.export(source, select=[select], **target)
        else:
            target["logdir"] = str(target["logdir"])
            chosen = {"location": str(source), "select": [select]}
            engine = {"workers": 1}
            report = bridges.migrate(
                MigrationConfig.model_validate(
                    {"sources": [chosen], "targets": [target], "engine": engine}
                )
            )
        return report.exit_code, report

    assert exit_code("run=*")[0] == 0
    code, report = exit_code("run=nothing")
    (failed,) = report.runs
    assert (code, failed.status) == (2, "failed")
    assert "found runs, none of them selected" in failed.findings[0].message
