"""An exporter into memory: a real target for tests, notebooks and plug-in authors.

It keeps float64 values under the raw keys, and behaves as every exporter must.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.base import ConflictError, Held, Points, Recorded
from bridges.exporters.marks import Marked
from bridges.exporters.state import State, whole_state
from bridges.stream.finding import Finding
from bridges.stream.layout import Layout
from bridges.stream.model import Series


@dataclass
class _Stored:
    held: Held
    state: State
    layouts: list[tuple[int, Layout]]  # each write: its first row, and what it wrote
    files: dict[str, bytes] = field(default_factory=dict)
    marked: Marked | None = None


class MemoryExporter:
    """Holds runs in this object for as long as it lives."""

    name = "memory"
    rules = "raw"
    place = ""

    def __init__(self) -> None:
        self.runs: dict[str, _Stored] = {}

    def fit(self, layout: Layout) -> Layout:
        """Everything fits."""
        return layout

    def find(self, layout: Layout) -> list[Held]:
        """The runs with the layout's key."""
        return [
            stored.state.held(stored.held.name, stored.held.location, layout)
            for stored in self.runs.values()
            if stored.held.key == layout.key
        ]

    def write(self, layout: Layout, held: Held | None) -> Held:
        """Keep the run, or its new rows."""
        if held is None:
            return self._create(layout)
        stored = self.runs[held.location]
        if stored.held.rows != held.rows:
            raise ConflictError
        if layout.run.replaces:
            stored.layouts = [(0, layout)]
        else:
            stored.layouts.append((held.rows, layout))
        stored.marked = None
        stored.state = whole_state(layout, held)
        stored.held = stored.state.held(held.name, held.location, layout)
        return stored.held

    def can_replace(self, layout: Layout, held: Held) -> bool:
        """Any run can be replaced."""
        return True

    def _create(self, layout: Layout) -> Held:
        mine = layout.digest, layout.run.settings
        there = (stored.held for stored in self.runs.values() if stored.held.key == layout.key)
        if any((run.digest, run.settings) == mine for run in there):
            raise ConflictError
        name, number = layout.run.path, 2
        while name in self.runs:
            name, number = f"{layout.run.path}-{number}", number + 1
        state = whole_state(layout)
        held = state.held(name, name, layout)
        self.runs[name] = _Stored(held, state, [(0, layout)])
        return held

    def read_back(self, held: Held) -> Recorded:
        """What was kept."""
        parts: dict[str, list[Points]] = {}
        others: list[tuple[str, int, Any]] = []
        summary: dict[str, Any] = {}
        for start, layout in self.runs[held.location].layouts:
            for series in (*layout.stream.series, *layout.texts):
                part = series.slice(start, layout.rows)
                if not series.is_number:
                    others += _others(part, layout)
                elif len(part.rows):
                    parts.setdefault(series.key, []).append(_points(part, layout))
            summary.update(layout.summary)
        points = {tag: _joined(pieces) for tag, pieces in parts.items()}
        return Recorded(points, tuple(others), summary)

    def attach(self, held: Held, files: Mapping[str, bytes]) -> bool:
        """Keep the files."""
        self.runs[held.location].files.update(files)
        return True

    def remember(self, runs: Sequence[Marked]) -> None:
        """Keep the marks as long as the runs do not change."""
        for run in runs:
            self.runs[run.location].marked = run

    def remembered(self) -> Iterator[Marked]:
        """The marked runs."""
        yield from [stored.marked for stored in self.runs.values() if stored.marked]

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Numbers are kept as float64."""
        return values.astype(np.float64)

    def notes(self, layout: Layout) -> list[Finding]:
        """Everything is held as it is."""
        return []

    def hint(self, locations: list[str], longest: int) -> str | None:
        """There is nothing to look at."""
        return None


def _points(series: Series, layout: Layout) -> Points:
    assert layout.stream.time is not None
    return Points(
        layout.stream.step[series.rows],
        series.values.astype(np.float64),
        layout.stream.time[series.rows] / 1e6,
    )


def _others(series: Series, layout: Layout) -> list[tuple[str, int, Any]]:
    steps = layout.stream.step[series.rows].tolist()
    return [
        (series.key, step, value) for step, value in zip(steps, series.values.tolist(), strict=True)
    ]


def _joined(pieces: list[Points]) -> Points:
    return Points(
        np.concatenate([piece.step for piece in pieces]),
        np.concatenate([piece.value for piece in pieces]),
        np.concatenate([piece.time for piece in pieces]),
    )
