"""Naming: what a layout asks about the keys of a run, and the plain rules that keep every key.

Other rules come from outside: those of the library that logged the keys, for each target.
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
    """Where a value goes in its target."""

    SERIES = "series"
    SUMMARY = "summary"
    TEXT = "text"
    DROPPED = "dropped"


class Naming(Protocol):
    """The rules by which one target names the keys of a run and places their values."""

    @property
    def is_live(self) -> bool:
        """Whether the tags are those of a live callback."""
        ...

    @property
    def step_key(self) -> str:
        """The key of the step in a target whose rows are dictionaries."""
        ...

    @property
    def epoch_key(self) -> str:
        """The key of the epoch there."""
        ...

    @property
    def any_axis(self) -> bool:
        """Whether any metric can be the x-axis of the target, so that steps stay steps."""
        ...

    def tag(self, key: str) -> str:
        """The tag of a key."""
        ...

    def place(self, key: str, value_type: type) -> Place:
        """Where a value of that type goes (bool, int, float, or str, list, dict, NoneType)."""
        ...


class KeyRules(Protocol):
    """The meaning of a run's keys, as the library that logged them defines it."""

    def naming(self, target: str, style: str, release: str | None) -> Naming:
        """The naming rules of a target, live or raw, of a release (None: the latest)."""
        ...

    def is_measured(self, key: str) -> bool:
        """Whether the values of a key tell one run from another of the same recipe."""
        ...

    def main_keys(self, stream: MetricStream) -> list[str]:
        """The keys of the loss and of the main metric of evaluation, as far as there are any."""
        ...

    def evidence(self, stream: MetricStream) -> Sequence[Evidence]:
        """The durations that the rows themselves hold."""
        ...

    def own_seconds(self, stream: MetricStream) -> Float64:
        """How long each row took by itself, such as an evaluation (float64 seconds, one a row)."""
        ...


@dataclass(frozen=True)
class PlainNaming:
    """Every key is its own tag; `texts` and `others` are the places of text and other objects."""

    step_key: str = "step"
    epoch_key: str = "epoch"
    any_axis: bool = False
    texts: Place = Place.SERIES
    others: Place = Place.SERIES
    is_live: bool = False

    def tag(self, key: str) -> str:
        """The key."""
        return key

    def place(self, key: str, value_type: type) -> Place:
        """Numbers are series."""
        if value_type in (bool, int, float):
            return Place.SERIES
        return self.texts if value_type is str else self.others


@dataclass(frozen=True)
class PlainRules:
    """Keys without any meaning: each is measured, and rows hold no durations."""

    def naming(self, target: str, style: str, release: str | None) -> Naming:
        """Plain naming in every target."""
        return PlainNaming()

    def is_measured(self, key: str) -> bool:
        """Every key is."""
        return True

    def main_keys(self, stream: MetricStream) -> list[str]:
        """The first key with a loss in its name, else the first one."""
        keys = [*dict.fromkeys(series.key for series in stream.numbers)]
        losses = [key for key in keys if "loss" in key.lower()]
        return [*losses, *keys][:1]

    def evidence(self, stream: MetricStream) -> Sequence[Evidence]:
        """None."""
        return ()

    def own_seconds(self, stream: MetricStream) -> Float64:
        """Rows take no time."""
        return np.zeros(len(stream))


def encodable(text: str) -> str:
    """The text with lone surrogates as visible escapes: UTF-8 cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode()
