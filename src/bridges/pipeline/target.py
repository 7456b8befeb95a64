"""A target of an export: one exporter and one choice of layout options."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridges.exporters.base import Exporter, layout_options
from bridges.stream.identity import Identity, identity_of
from bridges.stream.layout import Layout, Stored, lay_out
from bridges.stream.model import Run
from bridges.stream.options import LayoutChoices


@dataclass(frozen=True)
class Target:
    """One exporter, and the options by which runs are laid out for it."""

    exporter: Exporter
    options: LayoutChoices

    def identity(self, run: Run, key: str | None = None) -> Identity:
        """The identity of a run in the target; `key` replaces its run key."""
        chosen = {**self.options.identity(run.key_style), **layout_options(self.exporter)}
        identity = identity_of(run, chosen)
        return identity if key is None else replace(identity, key=key)

    def lay_out(self, run: Run, identity: Identity, stored: Stored | None = None) -> Layout:
        """The layout of a run, adapted to the target; `stored` is given for an existing run."""
        layout = lay_out(run, self.exporter.naming, self.options, identity=identity, stored=stored)
        return self.exporter.adapt(layout)
