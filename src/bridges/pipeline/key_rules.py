"""How the keys of a run are named in a target: by the Trainer's callbacks, or as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridges.errors import SourceError
from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.stream.model import Run
from bridges.stream.naming import KeyRules, Naming, Place, PlainNaming, PlainRules

_TAG_NAMING = {
    "tensorboard": PlainNaming(texts=Place.TEXT, others=Place.DROPPED),
    "mlflow": PlainNaming(texts=Place.DROPPED, others=Place.DROPPED),
    "trackio": PlainNaming(step_key="global_step"),
    "wandb": PlainNaming(step_key="global_step", any_axis=True),
}


@dataclass(frozen=True)
class TagRules(PlainRules):
    """The rules for the tags of a tracker: no tag is renamed, and each is a measured value."""

    def naming(self, target: str, style: str, release: str | None) -> Naming:
        """Plain naming, with the target's places for texts and objects."""
        return _TAG_NAMING.get(target, PlainNaming())


_RULES: dict[str, KeyRules] = {"trainer": TRAINER_RULES, "tags": TagRules()}


def with_key_rules(run: Run) -> Run:
    """The run with the rules of its key style, unless it has rules already.

    Raises SourceError if a plug-in gave an unknown style.
    """
    if type(run.key_rules) is not PlainRules:
        return run
    if run.key_style not in _RULES:
        raise SourceError(
            run.source,
            place="key_style",
            found=repr(run.key_style),
            expected=" or ".join(map(repr, _RULES)),
            remedy="This is a bug of the source that read the run.",
        )
    return replace(run, key_rules=_RULES[run.key_style])
