"""Links between runs whose ids change: the new id of a parent run in the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bridges.formats.mlflow_store.records import RunHead, RunRecord
from bridges.stream.identity import Identity, key_of


def parent_key(head: RunHead, identity: Identity) -> str:
    """The run key of a run's parent under the layout options of its identity."""
    return key_of(["mlflow", head.parent_id], None, identity.options or None)


@dataclass
class Links:
    """What this export knows of parents: their new ids, by the ids in the source.

    A child written before its parent is linked as soon as the parent is written.
    """

    _new: dict[str, str] = field(default_factory=dict)
    _sought: set[str] = field(default_factory=set)  # runs of this export
    _open: dict[str, dict[str, str]] = field(default_factory=dict)  # children by parent: old to new

    def is_open(self, head: RunHead) -> bool:
        """Whether the new id of the parent has to be looked for in the target."""
        return bool(head.parent_id) and head.parent_id not in self._new

    def add(self, run_id: str | None, new_id: str | None) -> None:
        """Record the new id of a run."""
        if run_id and new_id:
            self._new[run_id] = new_id

    def seek(self, head: RunHead, new_id: str | None) -> None:
        """Record a run of this export, and its new id if the target has it."""
        self._sought.add(head.run_id)
        self.add(head.run_id, new_id)

    def parent_of(self, head: RunHead) -> str | None:
        """The new id of the parent, if it is known."""
        return self._new.get(head.parent_id or "")

    def is_orphan(self, head: RunHead) -> bool:
        """Whether neither the target nor this export has had the parent so far."""
        return self.is_open(head) and head.parent_id not in self._sought

    def made(self, record: RunRecord | None, new_id: str, link: Callable[[str, str], None]) -> None:
        """Record a written run; `link` sets the parent of a child written before it."""
        if record is None:
            return
        head = record.head
        self.add(head.run_id, new_id)
        for child in self._open.pop(head.run_id, {}).values():
            link(child, new_id)
        if head.parent_id and self.is_open(head):
            self._open.setdefault(head.parent_id, {})[head.run_id] = new_id
