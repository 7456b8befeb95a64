"""Naming: the protocols for the meaning and the tags of keys, and plain rules that keep every key.

Other rules are defined outside, for example for the keys of a library and each target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from bridges.stream.model import Evidence, Float64, MetricStream


class Place(str, Enum):
    """The place of a value in a target."""

    SERIES = "series"
    SUMMARY = "summary"
    TEXT = "text"
    DROPPED = "dropped"


class Naming(Protocol):
    """The rules for tags and places of a run's keys in one target."""

    @property
    def is_live(self) -> bool:
        """Whether the tags follow a live callback."""
        ...

    @property
    def step_key(self) -> str:
        """The key of the step in a target whose rows are dictionaries."""
        ...

    @property
    def epoch_key(self) -> str:
        """The key of the epoch in such a target."""
        ...

    @property
    def any_axis(self) -> bool:
        """Whether any metric can be the x-axis; if not, an x-axis replaces the step."""
        ...

    def tag(self, key: str) -> str:
        """The tag of a key."""
        ...

    def place(self, key: str, value_type: type) -> Place:
        """The place of a value of this type (bool, int, float, str, list, dict, NoneType)."""
        ...


class KeyRules(Protocol):
    """The meaning of a run's keys, as defined by the library that logged them."""

    def naming(self, target: str, style: str, release: str | None) -> Naming:
        """The naming rules for a target, `live` or `raw`, as of a release (None: the latest)."""
        ...

    def is_measured(self, key: str) -> bool:
        """Whether the values of a key differ between runs of the same recipe."""
        ...

    def main_keys(self, stream: MetricStream) -> list[str]:
        """The keys of the loss and of the main evaluation metric, if present."""
        ...

    def evidence(self, stream: MetricStream) -> Sequence[Evidence]:
        """The durations in the rows."""
        ...

    def own_seconds(self, stream: MetricStream) -> Float64:
        """The duration of each row itself, such as an evaluation, in seconds (float64, n)."""
        ...


@dataclass(frozen=True)
class PlainNaming:
    """Keys are used as tags; `texts` and `others` are the places of text and other objects."""

    step_key: str = "step"
    epoch_key: str = "epoch"
    any_axis: bool = False
    texts: Place = Place.SERIES
    others: Place = Place.SERIES
    is_live: bool = False

    def tag(self, key: str) -> str:
        """The key, unchanged."""
        return key

    def place(self, key: str, value_type: type) -> Place:
        """`SERIES` for numbers, `texts` for text, else `others`."""
        if value_type in (bool, int, float):
            return Place.SERIES
        return self.texts if value_type is str else self.others


@dataclass(frozen=True)
class PlainRules:
    """Keys without a known meaning: every key is measured, and rows contain no durations."""

    def naming(self, target: str, style: str, release: str | None) -> Naming:
        """`PlainNaming` for every target."""
        return PlainNaming()

    def is_measured(self, key: str) -> bool:
        """True for every key."""
        return True

    def main_keys(self, stream: MetricStream) -> list[str]:
        """The first key with "loss" in its name, else the first key."""
        keys = [*dict.fromkeys(series.key for series in stream.numbers)]
        losses = [key for key in keys if "loss" in key.lower()]
        return [*losses, *keys][:1]

    def evidence(self, stream: MetricStream) -> Sequence[Evidence]:
        """No evidence."""
        return ()

    def own_seconds(self, stream: MetricStream) -> Float64:
        """Zeros."""
        return np.zeros(len(stream))


def encodable(text: str) -> str:
    """The text with lone surrogates as escapes, because UTF-8 cannot encode them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
