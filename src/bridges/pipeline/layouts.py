"""Runs are laid out for a target: by its naming rules, and as it can hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bridges.exporters.base import Exporter, layout_options
from bridges.stream.identity import Identity, identity_of
from bridges.stream.layout import Layout, lay_out
from bridges.stream.model import Run
from bridges.stream.options import LayoutOptions


@dataclass(frozen=True)
class Placer:
    """Lays out runs for one exporter with one choice of options."""

    exporter: Exporter
    options: LayoutOptions

    def identity(self, run: Run, key: str | None = None) -> Identity:
        """The identity of a run in the target, under a key that the target has for it."""
        chosen = {**self.options.identity(run.key_style), **layout_options(self.exporter)}
        identity = identity_of(run, chosen)
        return identity if key is None else replace(identity, key=key)

    def place(self, run: Run, identity: Identity, **known: Any) -> Layout:
        """The layout of a run as the target can hold it; `known` is as for `lay_out`."""
        laid_out = lay_out(run, self.exporter.naming, self.options, identity=identity, **known)
        return self.exporter.adapt(laid_out)
