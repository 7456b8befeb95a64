"""The description of a run on its page in a tracker."""

from __future__ import annotations

from bridges.stream.layout import Layout
from bridges.stream.model import Run
from bridges.stream.naming import encodable
from bridges.stream.redact import redact_text


def description(layout: Layout) -> str:
    """The description of a run in Markdown: its note, source files and clock."""
    run, clock = layout.run, layout.clock
    lines = [redact_text(run.note), ""] if run.note else []
    lines += [f"Written by bridges from {redact_text(run.source, home=True)}."]
    lines += [f"- `{file.sha256}` sha256 of {file.size} bytes" for file in run.provenance]
    if clock.is_synthetic:
        lines.append(f"- Times are synthetic (clock: {clock.source}); none is real.")
    if run.writer:
        lines.append(f"- Logged by transformers {run.writer}.")
    return "\n".join(lines)


def files_of(run: Run) -> list[dict[str, object]]:
    """The files that a run was read from, as JSON objects: location, bytes and sha256."""
    return [
        {
            "location": redact_text(file.location, home=True),
            "bytes": file.size,
            "sha256": file.sha256,
        }
        for file in run.provenance
    ]


def metadata(layout: Layout) -> dict[str, object]:
    """The metadata of a run as JSON values: texts are UTF-8, and empty if unknown.

    The keys are name, group, source, writer, status, note, tags, facts and files.
    """
    run = layout.run
    return {
        "name": encodable(run.name),
        "group": encodable(run.group or ""),
        "source": encodable(redact_text(run.source, home=True)),
        "writer": run.writer or "",
        "status": run.status,
        "note": encodable(redact_text(run.note)),
        "tags": dict(run.tags),
        "facts": dict(run.facts),
        "files": files_of(run),
    }
