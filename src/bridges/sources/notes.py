"""Findings about files without a run become notes of the runs beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bridges.errors import SourceError
from bridges.stream.finding import Finding
from bridges.stream.model import Run


def with_notes(runs: Iterator[Run], notes: list[Finding]) -> Iterator[Run]:
    """The runs, each with the notes added before it; these are removed.

    The last run waits until all others are read, for the notes behind it. Raises the errors of
    `runs` after it.
    """
    last: Run | None = None
    try:
        for run in runs:
            if last is not None:
                yield last
            last = replace(run, findings=(*notes, *run.findings))
            notes.clear()
    except SourceError:
        if last is not None:
            yield replace(last, findings=(*last.findings, *notes))
        raise
    if last is not None:
        yield replace(last, findings=(*last.findings, *notes))
