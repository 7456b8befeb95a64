"""An exporter into memory: a real target for tests, notebooks and plug-in authors.

It stores float64 values under the raw keys, and passes the contract suite of exporters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridges.exporters.base import BaseExporter, ConflictError, ExistingRun, Points, Recorded
from bridges.exporters.receipts import RunReceipt
from bridges.exporters.state import whole_state
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Series


@dataclass
class _Stored:
    run: ExistingRun
    layouts: list[tuple[int, Layout]]  # first row and layout of each write
    files: dict[str, bytes] = field(default_factory=dict)
    receipt: RunReceipt | None = None


class MemoryExporter(BaseExporter):
    """Keeps runs in this object."""

    name = "memory"
    place = ""

    def __init__(self) -> None:
        self.runs: dict[str, _Stored] = {}

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys."""
        return [stored.run for stored in self.runs.values() if stored.run.key in identity.keys]

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Store a new run, or the new rows of an existing one."""
        if existing is None:
            return self._create(layout, seen)
        stored = self.runs[existing.location]
        if stored.run != existing:
            raise ConflictError
        if layout.replaces:
            stored.layouts = [(0, layout)]
        else:
            stored.layouts.append((existing.state.rows, layout))
        stored.receipt = None
        stored.run = replace(existing, state=whole_state(layout, existing.state))
        return stored.run

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """Object run can be replaced."""
        return True

    def _create(self, layout: Layout, seen: Sequence[ExistingRun]) -> ExistingRun:
        runs = [stored.run for stored in self.runs.values() if stored.run.key == layout.key]
        if any(run not in seen for run in runs):
            raise ConflictError
        name, number = layout.run.path, 2
        while name in self.runs:
            name, number = f"{layout.run.path}-{number}", number + 1
        run = ExistingRun(layout.key, name, name, whole_state(layout))
        self.runs[name] = _Stored(run, [(0, layout)])
        return run

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points and other values of the run."""
        parts: dict[str, list[Points]] = {}
        others: list[tuple[str, int, object]] = []
        summary: dict[str, object] = {}
        for start, layout in self.runs[existing.location].layouts:
            for series in (*layout.stream.series, *layout.texts):
                part = series.slice(start, layout.rows)
                if not series.is_number:
                    others += _others(part, layout)
                elif len(part.rows):
                    parts.setdefault(series.key, []).append(_points(part, layout))
            summary.update(layout.summary)
        points = {tag: _joined(pieces) for tag, pieces in parts.items()}
        return Recorded(points, tuple(others), summary)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files."""
        self.runs[existing.location].files.update(files)

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts; a write to a run removes its receipt."""
        for run in runs:
            self.runs[run.location].receipt = run

    def receipts(self) -> Iterator[RunReceipt]:
        """All valid receipts."""
        yield from [stored.receipt for stored in self.runs.values() if stored.receipt]


def _points(series: Series, layout: Layout) -> Points:
    return Points(
        layout.stream.step[series.rows],
        series.values.astype(np.float64),
        layout.stream.times(series) / 1e6,
    )


def _others(series: Series, layout: Layout) -> list[tuple[str, int, object]]:
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
