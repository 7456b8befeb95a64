"""Runs without content become notes of the runs beside them."""

from __future__ import annotations

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run


def is_empty(run: Run) -> bool:
    """Whether a run has no rows, and no summary values of its own.

    Before the end, these may be those of a row that follows.
    """
    has_summary = any(key.startswith("wandb.summary.") for key in run.facts)
    has_ended = run.status not in ("running", "unfinished")
    return not len(run.stream) and not (has_summary and has_ended)


def notes_on(run: Run) -> list[Finding]:
    """The notes about an empty run."""
    message = "runs without rows are not exported, unless they ended with summary values"
    found = Finding("run-without-rows", Severity.INFO, run.source, message)
    return [found, *(finding for finding in run.findings if finding.fails)]
