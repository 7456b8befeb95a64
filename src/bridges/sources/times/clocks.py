"""The kinds of time evidence that the built-in sources provide, best first."""

from __future__ import annotations

from bridges.huggingface.durations import DURATION, ELAPSED
from bridges.stream.clock import RECORDED
from bridges.stream.model import EvidenceKind, Knows
from bridges.stream.pace import SYNTHETIC

EVENTS = EvidenceKind("events", Knows.INSTANTS, 10, "event files")
LOG = EvidenceKind("log", Knows.DURATIONS, 30, "elapsed times in a log beside it")
MTIMES = EvidenceKind("mtimes", Knows.INSTANTS, 40, "times when its checkpoints were saved")
START = EvidenceKind("start", Knows.START, 0, "the start time in a file or directory name")
KINDS = (EVENTS, ELAPSED, LOG, MTIMES, DURATION, SYNTHETIC)
IN_ROWS = tuple(kind.name for kind in KINDS if kind.in_rows)  # can be recomputed from the rows


def kind_named(name: str) -> EvidenceKind:
    """The kind with that name; an unknown name is a plug-in's, with instants."""
    known = {kind.name: kind for kind in (*KINDS, RECORDED)}
    return known.get(name) or EvidenceKind(name, Knows.INSTANTS, 0, name)
