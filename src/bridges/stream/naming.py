"""Naming: the tag and the place that a live callback gives to a key, per target and version.

The tables follow the callbacks of transformers (`integrations/integration_utils.py`), minor
release by minor release; `LATEST` is the newest one that was compared with real runs. Raw naming
keeps the keys of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from bridges.stream.finding import Finding, Severity
from bridges.stream.options import LATEST, Version
from bridges.stream.tagging import digest

TARGETS = ("mlflow", "tensorboard", "wandb")
WANDB_SUMMARY_KEYS = frozenset(
    {
        "train_runtime",
        "train_samples_per_second",
        "train_steps_per_second",
        "train_loss",
        "total_flos",
    }
)
RESERVED_TAGS = ("bridges.", "mlflow.")  # prefixes of the tags that exporters or MLflow manage
_MLFLOW_REFUSED = re.compile(r"[^0-9A-Za-z_\-. :/]")


class Place(str, Enum):
    """Where a value goes in its target."""

    SERIES = "series"
    SUMMARY = "summary"
    TEXT = "text"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Naming:
    """The naming rules of one target: those of the live callback, or the raw keys.

    A target that is none of `TARGETS` (a plug-in) has raw keys and takes every value.
    """

    target: str
    style: str = "live"
    version: Version = LATEST

    @property
    def is_live(self) -> bool:
        """Whether the rules are those of a live callback."""
        return self.style == "live" and self.target in TARGETS

    def tag(self, key: str) -> str:
        """The tag of a key."""
        if not self.is_live:
            return key
        if self.target == "mlflow":
            return _MLFLOW_REFUSED.sub("_", key) if self.version >= (4, 54) else key
        return key if self.version < (3, 5) else self._rewritten(key)

    def _rewritten(self, key: str) -> str:
        """`rewrite_logs` of transformers: only the first prefix is cut, all else is training's."""
        if key.startswith("eval_"):
            return "eval/" + key[5:]
        if key.startswith("test_") and self.version >= (4, 12):
            return "test/" + key[5:]
        return "train/" + key

    def place(self, key: str, value_type: type) -> Place:
        """Where a value of that type goes (bool, int, float, or str, list, dict, NoneType)."""
        if value_type in (bool, int, float):
            return self._number_place(key)
        if self.target == "tensorboard":
            text = value_type is str and (self.version >= (4, 47) or not self.is_live)
            return Place.TEXT if text else Place.DROPPED
        if self.target == "mlflow":
            return Place.DROPPED
        return self._number_place(key)

    def _number_place(self, key: str) -> Place:
        split = self.target == "wandb" and self.is_live and self.version >= (4, 39)
        return Place.SUMMARY if split and key in WANDB_SUMMARY_KEYS else Place.SERIES

    @property
    def step_key(self) -> str | None:
        """The key in which W&B rows carry their global step (4.5 and later), None elsewhere."""
        if self.target != "wandb":
            return None
        return "train/global_step" if self.version >= (4, 5) or not self.is_live else None

    def table(self, keys: Iterable[str]) -> tuple[dict[str, str], list[Finding]]:
        """The tag of every key by the first version's rules, which stored runs may have.

        Where two keys meet in one tag, the later one gets a stable suffix.
        """
        tags: dict[str, str] = {}
        taken: dict[str, str] = {}
        findings = []
        for key in keys:
            tag = encodable(self.tag(key))
            if taken.setdefault(tag, key) != key:
                findings.append(_collision(key, taken[tag], tag))
                while taken.setdefault(tag, key) != key:
                    tag = f"{tag}-{digest(key)}"
            tags[key] = tag
        return tags, findings


def encodable(text: str) -> str:
    """The text with lone surrogates as visible escapes: UTF-8 cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _collision(key: str, other: str, tag: str) -> Finding:
    return Finding(
        "tag-collision",
        Severity.WARNING,
        f"key {key!r}",
        f"the tag {tag!r} belongs to key {other!r} already; this key gets a suffix",
    )


def reserved_tag(key: str) -> str:
    """Why a user may not set the tag of this key; empty if they may."""
    if not key.startswith(RESERVED_TAGS):
        return ""
    remedy = " Use --run-name to name runs." if key == "mlflow.runName" else ""
    return (
        f"found {key!r}; tags that begin with {' or '.join(RESERVED_TAGS)} are set by bridges and"
        f" MLflow themselves; expected another name.{remedy}"
    )
