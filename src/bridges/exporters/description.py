"""The description of a run on its page in a tracker."""

from __future__ import annotations

from bridges.stream.layout import Layout
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
