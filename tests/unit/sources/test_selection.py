"""Selection: which runs of a source `--select` takes."""

from __future__ import annotations

import pytest

from bridges.errors import ConfigError
from bridges.pipeline.options import ExportOptions
from bridges.sources.selection import Selection

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
