"""Points that differ are named with their value, step and time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bridges
from bridges.cli.main import run as bridge
from tests.support import state

ROWS = [{"loss": 2.0, "step": 1}, {"loss": 0.5, "step": 2}]
FIRST, SECOND = "2000-01-01 00:00:01.000000 UTC", "2000-01-01 00:00:02.000000 UTC"


class Changed(bridges.MemoryExporter):
    """A target in which somebody changed a value or a time of the loss."""

    def __init__(self, field: str, position: int, value: float) -> None:
        super().__init__()
        self.change = field, position, value

    def read_back(self, existing: bridges.ExistingRun) -> bridges.Recorded:
        field, position, value = self.change
        recorded = super().read_back(existing)
        (tag,) = (tag for tag in recorded.points if tag.endswith("loss"))
        points = recorded.points[tag]
        column = np.array(getattr(points, field), float)
        column[position] = value
        changed = replace(points, **{field: column})
        return replace(recorded, points={**recorded.points, tag: changed})


@pytest.mark.parametrize(
    ("field", "position", "value", "lacks", "holds"),
    [
        ("value", 0, 9.0, f"2.0 at step 1, {FIRST}", f"9.0 at step 1, {FIRST}"),
        ("value", 1, np.nan, f"0.5 at step 2, {SECOND}", f"nan at step 2, {SECOND}"),
        ("time", 1, 1e15, f"0.5 at step 2, {SECOND}", "0.5 at step 2, 1000000000000000.0 s"),
    ],
)
def test_a_changed_point_is_named(
    field: str, position: int, value: float, lacks: str, holds: str, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_bytes(state(ROWS))
    report = bridges.export(tmp_path / "a.json", to=Changed(field, position, value))
    messages = {each.code: each.message for each in report.runs[0].findings}
    assert messages["missing-points"] == f"the target lacks 1 point: {lacks}"
    assert messages["unexpected-points"] == f"the target also holds 1 point: {holds}"


def test_the_last_lines_name_the_explanation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_bytes(state(ROWS))
    assert bridge(["verify", "a.json", "--to", "tensorboard"]) == 1
    assert "\nExplain: bridge explain not-in-target\n" in capsys.readouterr().out
    assert bridge(["export", "b.json", "--to", "tensorboard"]) == 2
    assert "Explain:" not in capsys.readouterr().out
    Path("m.yaml").write_text("sources: [a.json]\ntargets: [tensorboard]\nengine: {workers: 1}")
    Path("a.json").write_bytes(state([*ROWS, {"x": {}, "step": 3}]))
    assert bridge(["migrate", "m.yaml"]) == 0
    assert "Explain:" not in capsys.readouterr().out
