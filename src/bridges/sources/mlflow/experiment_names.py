"""Names of experiments: one each, also in stores merged by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridges.formats.mlflow_store.records import ACTIVE, Experiment


def with_distinct_names(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments in their order; those after the first active one of a name are `name (id)`.

    A target has one experiment of a name.
    """
    taken: set[str] = set()
    named: dict[int, Experiment] = {}
    for at in sorted(range(len(experiments)), key=lambda at: experiments[at].stage != ACTIVE):
        own, name = experiments[at], experiments[at].name
        while name in taken:
            name = f"{name} ({own.id})"
        taken.add(name)
        named[at] = own if name == own.name else replace(own, name=name)
    return [named[at] for at in range(len(experiments))]
