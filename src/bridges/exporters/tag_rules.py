"""The rules for runs whose keys are already tags: every target gets these tags.

Texts and objects go to the places that each target has for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridges.stream.naming import Naming, Place, PlainNaming, PlainRules
from bridges.stream.options import Version

_NAMING = {
    "tensorboard": PlainNaming(texts=Place.TEXT, others=Place.DROPPED),
    "mlflow": PlainNaming(texts=Place.DROPPED, others=Place.DROPPED),
    "wandb": PlainNaming(step_key="global_step", any_axis=True),
}


@dataclass(frozen=True)
class TagRules(PlainRules):
    """The tags of a tracker; each one is a measured value."""

    def naming(self, target: str, style: str, version: Version) -> Naming:
        """Plain naming, with the places of the target."""
        return _NAMING.get(target, PlainNaming())


TAG_RULES = TagRules()
