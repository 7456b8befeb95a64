"""Links between runs whose ids change: the id of a parent run in the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bridges.formats.mlflow_store.records import RunHead, RunRecord
from bridges.stream.identity import Identity, key_of


def parent_keys(record: RunRecord, identity: Identity) -> list[str]:
    """The run keys of a run's parent under the layout options of its identity, the first one of an
    earlier export.
    """
    options = identity.options or None
    own = key_of(["mlflow", record.head.parent_id], None, options)
    if not record.parent_key:
        return [own]
    return [key_of([record.parent_key], None, options) if options else record.parent_key, own]


@dataclass
class Links:
    """What this export knows of parents: their ids in the target, by the ids in the source.

    A child written before its parent is linked as soon as the parent is written.
    """

    _copies: dict[str, Sequence[str]] = field(default_factory=dict)  # several: the likeliest first
    _sought: set[str] = field(default_factory=set)  # runs of this export
    _open: dict[str, dict[str, str]] = field(default_factory=dict)  # children by parent: old to new

    def is_open(self, head: RunHead) -> bool:
        """Whether the parent has to be looked for in the target."""
        return bool(head.parent_id) and head.parent_id not in self._copies

    def found(self, run_id: str | None, copies: Sequence[str]) -> None:
        """Record the possible copies of a run of the source in the target."""
        if run_id and copies:
            self._copies[run_id] = copies

    def seek(self, head: RunHead) -> None:
        """Record a run of this export."""
        self._sought.add(head.run_id)

    def is_orphan(self, head: RunHead) -> bool:
        """Whether neither the target nor this export has had the parent so far."""
        return self.is_open(head) and head.parent_id not in self._sought

    def parent_of(self, head: RunHead, *, is_new: bool) -> str | None:
        """The id of the parent in the target, if it is known.

        A stored run keeps its parent if several runs of the target may be the right one.
        """
        copies = self._copies.get(head.parent_id or "", ())
        return copies[0] if len(copies) == 1 or (copies and is_new) else None

    def copy_of(self, run_id: str) -> str | None:
        """The id of a run in the target, if it is known for sure."""
        copies = self._copies.get(run_id, ())
        return copies[0] if len(copies) == 1 else None

    def made(self, record: RunRecord | None, run_id: str, link: Callable[[str, str], None]) -> None:
        """Record a written run; `link` sets the parent of a child written before it."""
        if record is None:
            return
        head = record.head
        self.found(head.run_id, [run_id])
        for child in self._open.get(head.run_id, {}).values():  # kept: a write can be rolled back
            if run_id != head.run_id:
                link(child, run_id)
        if head.parent_id and self.is_open(head):
            self._open.setdefault(head.parent_id, {})[head.run_id] = run_id
