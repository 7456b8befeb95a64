"""Families of nested runs: parents before their children."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bridges.formats.mlflow_store.records import RunHead
from bridges.sources.mlflow.earlier_exports import is_superseded, stored_key


@dataclass(frozen=True)
class Nested:
    """A run, and the runs around it in its experiment, the outermost first."""

    head: RunHead
    around: tuple[RunHead, ...] = ()
    has_children: bool = False

    @property
    def outermost(self) -> RunHead:
        """The outermost run around it, or the run itself."""
        return (*self.around, self.head)[0]

    @property
    def parents(self) -> tuple[str, ...]:
        """The names of the runs around it."""
        return tuple(head.shown_name for head in self.around)

    @property
    def parent_key(self) -> str:
        """The run key of its parent, if an earlier export wrote that; else empty."""
        return stored_key(self.around[-1]) if self.around else ""


def families(heads: Iterable[RunHead]) -> Iterator[list[Nested]]:
    """The runs of an experiment in families: a run without a parent here, then all runs below it.

    Runs whose parents form a circle are families of their own. Superseded runs are left out.
    """
    runs = {head.run_id: head for head in heads if not is_superseded(head)}
    children: dict[str | None, list[RunHead]] = {}
    for head in runs.values():
        parent = head.parent_id if head.parent_id in runs else None
        children.setdefault(parent, []).append(head)
    placed: set[str] = set()
    for head in children.get(None, []):
        family = [*_below(Nested(head), children)]
        placed |= {nested.head.run_id for nested in family}
        yield family
    yield from ([Nested(head)] for key, head in runs.items() if key not in placed)


def _below(top: Nested, children: dict[str | None, list[RunHead]]) -> Iterator[Nested]:
    """A run and all runs below it, each after its parent."""
    waiting = [top]
    while waiting:
        nested = waiting.pop()
        inside = children.get(nested.head.run_id, [])
        yield replace(nested, has_children=bool(inside))
        around = (*nested.around, nested.head)
        waiting += [Nested(head, around) for head in reversed(inside)]
