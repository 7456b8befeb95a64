"""Naming: the tag and the place that a live callback gives to a key, per target and version.

The rules follow the callbacks of transformers (`integrations/integration_utils.py`) by minor
release; `LATEST` is the newest release compared with real runs. Raw naming keeps the keys of the
file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridges.huggingface.callback_releases import LATEST, Version
from bridges.stream.naming import Place

TARGETS = ("mlflow", "tensorboard", "trackio", "wandb")
SUMMARY_KEYS = frozenset(
    {
        "train_runtime",
        "train_samples_per_second",
        "train_steps_per_second",
        "train_loss",
        "total_flos",
    }
)
SUMMARY_SINCE: dict[str, Version] = {"wandb": (4, 39), "trackio": (0, 0)}
_MLFLOW_REFUSED = re.compile(r"[^0-9A-Za-z_\-. :/]")


@dataclass(frozen=True)
class CallbackNaming:
    """The naming rules for one target: the live callback's, or the raw keys.

    A target outside `TARGETS` (a plug-in) gets raw keys and all values. W&B rows contain the global
    step under `step_key`.
    """

    target: str
    style: str = "live"
    version: Version = LATEST
    step_key: str = "train/global_step"

    @property
    def is_live(self) -> bool:
        """Whether a live callback's rules apply."""
        return self.style == "live" and self.target in TARGETS

    @property
    def any_axis(self) -> bool:
        """Whether any metric can be the x-axis, as in W&B."""
        return self.target == "wandb"

    @property
    def epoch_key(self) -> str:
        """The tag of the epoch."""
        return self.tag("epoch")

    def tag(self, key: str) -> str:
        """The tag of a key."""
        if not self.is_live:
            return key
        if self.target == "mlflow":
            return _MLFLOW_REFUSED.sub("_", key) if self.version >= (4, 54) else key
        return key if self.version < (3, 5) else self._rewritten(key)

    def _rewritten(self, key: str) -> str:
        """`rewrite_logs` of transformers: replaces the first prefix; other keys get `train/`."""
        if key.startswith("eval_"):
            return "eval/" + key[5:]
        if key.startswith("test_") and self.version >= (4, 12):
            return "test/" + key[5:]
        return "train/" + key

    def place(self, key: str, value_type: type) -> Place:
        """The place of a value of this type (bool, int, float, str, list, dict, NoneType)."""
        if value_type in (bool, int, float):
            return self._number_place(key)
        if self.target == "tensorboard":
            text = value_type is str and (self.version >= (4, 47) or not self.is_live)
            return Place.TEXT if text else Place.DROPPED
        if self.target == "mlflow":
            return Place.DROPPED
        return self._number_place(key)

    def _number_place(self, key: str) -> Place:
        since = SUMMARY_SINCE.get(self.target)
        is_split = self.is_live and since is not None and self.version >= since
        return Place.SUMMARY if is_split and key in SUMMARY_KEYS else Place.SERIES
