"""The protocol of a tracking store that runs are read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from bridges.errors import SourceError
from bridges.formats.mlflow_store.records import Experiment, Metric, RunHead, RunRecord


class Store(Protocol):
    """A tracking store, which is only read: nothing is written into it or beside it.

    Methods raise SourceError for the store as a whole. What concerns one experiment or one run is
    collected in `errors`, and the others are read.
    """

    location: str
    errors: list[SourceError]

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones included, in a stable order."""
        ...

    def heads(self, experiment: Experiment) -> Iterator[RunHead]:
        """All runs of an experiment, deleted ones included, in a stable order."""
        ...

    def read(self, head: RunHead) -> tuple[RunRecord, list[Metric]]:
        """A run with its metrics. Raises SourceError if the run as a whole cannot be read."""
        ...

    def left_out(self) -> Counter[str]:
        """The records that are not read, counted by kind, such as `traces`."""
        ...


@runtime_checkable
class MarksRuns(Protocol):
    """A store that knows for less than a reading whether a run has changed."""

    def marks(self, heads: Sequence[RunHead]) -> list[str]:
        """A text for each run that changes with it; empty if unknown. Raises SourceError."""
        ...
