"""Rows that event files hold behind a state come back as the Trainer logged them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import bridges
from bridges.formats.events.proto import file_version_event, frame, scalar_value, summary_event
from bridges.huggingface.callback_naming import CallbackNaming
from tests.property.histories import Rows, usual_rows
from tests.support import state

T0 = 1_700_000_000.0


def ordered(row: dict[str, Any]) -> list[tuple[str, float]]:
    """The values of a row as the Trainer sends them: the epoch behind the metrics."""
    keys = sorted(row.keys() - {"step"}, key=lambda key: key == "epoch")
    return [(key, row[key]) for key in keys]


def event_file(rows: Rows) -> bytes:
    """What the live callback writes: a record for each value, a second between rows."""
    records = [frame(file_version_event(T0))]
    for number, row in enumerate(rows):
        for place, (key, value) in enumerate(ordered(row)):
            tag = CallbackNaming("tensorboard").tag(key)
            part = scalar_value(tag, np.float32(value).tobytes())
            time = T0 + number + place / 1000
            records.append(frame(summary_event(time, row["step"], [part])))
    return b"".join(records)


def told(rows: Rows) -> list[list[tuple[str, float]]]:
    """The rows as float32, whose order within a row does not matter."""
    return [sorted((key, float(np.float32(value))) for key, value in row.items()) for row in rows]


@given(usual_rows(), st.data())
def test_the_rows_behind_a_state_are_filled_in(rows: Rows, data: st.DataObject) -> None:
    rows = [
        {**row, "step": row["step"], "loss": number + 0.5} if "loss" in row else row
        for number, row in enumerate(rows)
    ]
    kept = data.draw(st.integers(1, len(rows)))
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "trainer_state.json").write_bytes(state(rows[:kept]))
        (Path(place) / "events.out.tfevents.1700000000.host.1.0").write_bytes(event_file(rows))
        (run,) = bridges.read(place, fill_from_events=True)
    assert told(list(run.stream)) == told(rows)
    assert run.added == tuple(range(kept, len(rows)))
