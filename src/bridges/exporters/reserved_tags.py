"""Tags that users may not set, because exporters or their targets manage them."""

from __future__ import annotations

RESERVED_TAGS = ("bridges.", "mlflow.")


def reserved_tag(key: str) -> str:
    """Why a user may not set the tag of this key; empty if they may."""
    if not key.startswith(RESERVED_TAGS):
        return ""
    remedy = " Use --run-name to name runs." if key == "mlflow.runName" else ""
    return (
        f"found {key!r}; tags that begin with {' or '.join(RESERVED_TAGS)} are set by bridges and"
        f" MLflow themselves; expected another name.{remedy}"
    )
