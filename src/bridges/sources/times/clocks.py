"""The clocks of runs that the built-in sources know, best first."""

from __future__ import annotations

from bridges.huggingface.durations import DURATION, ELAPSED
from bridges.stream.clock import RECORDED
from bridges.stream.model import EvidenceKind, Knows
from bridges.stream.pace import SYNTHETIC

EVENTS = EvidenceKind("events", Knows.INSTANTS, 10, "event files")
LOG = EvidenceKind("log", Knows.DURATIONS, 30, "elapsed times in a log beside it")
MTIMES = EvidenceKind("mtimes", Knows.INSTANTS, 40, "times when its checkpoints were saved")
START = EvidenceKind("start", Knows.START, 0, "the start that a name tells")
KINDS = (EVENTS, ELAPSED, LOG, MTIMES, DURATION, SYNTHETIC)
IN_ROWS = tuple(kind.name for kind in KINDS if kind.in_rows)  # the rows alone give these again


def kind_named(name: str) -> EvidenceKind:
    """The kind of that name; one that is unknown here came from a plug-in and knows instants."""
    known = {kind.name: kind for kind in (*KINDS, RECORDED)}
    return known.get(name) or EvidenceKind(name, Knows.INSTANTS, 0, name)
