"""An export that would keep nothing of what the source holds is refused, not an empty success."""

from __future__ import annotations

from bridges.errors import ExportError
from bridges.stream.layout import Layout


def refuse_nothing(layout: Layout, target: str) -> None:
    """Raises ExportError where the target would keep nothing of what the source holds."""
    if layout.points:
        return
    keys = layout.run.stream.keys
    if keys:
        shown = ", ".join(map(repr, keys[:5])) + (" …" if len(keys) > 5 else "")
        raise ExportError(
            f"{target} keeps none of the values that this run holds (under {shown}), so "
            "nothing was written. Log numbers, or export to a target that keeps such values, such "
            "as wandb."
        )
    for finding in layout.run.findings:
        if finding.code.endswith("-left-out"):
            raise ExportError(
                f"the history has no rows, and what lies beside it is left out ({finding.message}),"
                " so nothing was written. Export the run again when its history has rows."
            )
