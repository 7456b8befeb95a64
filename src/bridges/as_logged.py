"""Runs of which a target got rows from a log, before a state held them.

They lie under the key of the log's first row, and their rows are those of the log. Where a log lies
beside a state, the run is looked up by both, and goes on from the rows that the target has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bridges.exporters.base import Exporter, Held
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import prefix_digest
from bridges.stream.layout import Layout, LayoutOptions, lay_out
from bridges.stream.logged import as_stored
from bridges.stream.model import Run

Look = Callable[[Layout, Exporter, LayoutOptions], Held | None]


def recognised(
    layout: Layout, exporter: Exporter, options: LayoutOptions, look: Look
) -> tuple[Layout, Held | None]:
    """The run of the target that is this one, and the layout with the rows that it has.

    `look` finds a run by the layout alone; its key must be the last that an exporter is asked for.
    """
    if not layout.run.logs:
        return layout, look(layout, exporter, options)
    by_logs = _found_by_logs(layout, exporter, options)
    held = look(layout, exporter, options)
    if held is not None:
        return layout, held
    found = [*by_logs, *exporter.find(layout)]
    return _as_logged(layout, found, exporter, options) or (layout, None)


def _found_by_logs(layout: Layout, exporter: Exporter, options: LayoutOptions) -> list[Held]:
    """The runs of the target under the keys of the logs' first rows."""
    found: dict[str, list[Held]] = {}
    for log in layout.run.logs:
        run = replace(layout.run, stream=log.stream, added=(), evidence=(), trial=None)
        other = exporter.fit(lay_out(run, exporter.rules, replace(options, clock=None)))
        if other.key != layout.key and other.key not in found:
            found[other.key] = exporter.find(other)
    return [held for runs in found.values() for held in runs]


def _as_logged(
    layout: Layout, found: Sequence[Held], exporter: Exporter, options: LayoutOptions
) -> tuple[Layout, Held] | None:
    """The first of these runs that is this one, and the layout with the rows that it has."""
    for held in sorted(found, key=lambda held: (-held.rows, not held.whole)):
        for run in _views(layout.run, held):
            if prefix_digest(run.history, held.history) == held.digest:
                run = replace(run, key=held.key, findings=(*run.findings, *_note(run, layout.run)))
                return exporter.fit(lay_out(run, exporter.rules, options)), held
    return None


def _views(run: Run, held: Held) -> Iterator[Run]:
    """The run as it is, and with the rows of its logs that the target may have."""
    if held.history <= len(run.history):
        yield run
    for log in run.logs:
        view = as_stored(run, log, held.logged or ((0, held.history, 0),), held.history)
        if view is not None:
            yield view


def _note(run: Run, source: Run) -> list[Finding]:
    """What the target has from the log although the source holds it exactly."""
    count = _logged(run) - _logged(source)
    if count <= 0:
        return []
    message = (
        "rows were exported from the log before a state held them: the target keeps them as the "
        "log has them, with fewer metrics or rounded"
    )
    return [Finding("rows-kept-from-log", Severity.INFO, source.source, message, count)]


def _logged(run: Run) -> int:
    return sum(stop - start for start, stop, _ in run.logged)
