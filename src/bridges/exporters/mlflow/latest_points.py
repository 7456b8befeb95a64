"""The latest points of a run in an MLflow database, which its pages and searches show."""

from __future__ import annotations

import numpy as np

from bridges.exporters.mlflow.database import Session
from bridges.exporters.mlflow.rows import MetricColumn


class LatestPoints:
    """The latest point of each key: the first one with the highest (step, time, value)."""

    def __init__(self) -> None:
        self._points: dict[str, tuple[int, int, float, bool]] = {}

    def seen(self, column: MetricColumn) -> MetricColumn:
        """Take the points of a column, and return it."""
        at, step = len(column.step) - 1, column.step
        if at and not step[-1] > step[:-1].max():
            at -= int(np.lexsort((column.value[::-1], column.time[::-1], step[::-1]))[-1])
        point = (
            int(step[at]),
            int(column.time[at]),
            float(column.value[at]),
            bool(column.is_nan[at]),
        )
        known = self._points.get(column.key)
        if known is None or point[:3] > known[:3]:
            self._points[column.key] = point
        return column

    def put(self, session: Session, run_id: str) -> None:
        """Set them in the table."""
        if self._points:
            step, time, value, is_nan = zip(*self._points.values(), strict=True)
            columns = {"step": step, "timestamp": time, "value": value, "is_nan": is_nan}
            session.upsert("latest_metrics", run_id, {"key": [*self._points], **columns})
