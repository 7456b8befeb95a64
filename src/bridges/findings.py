"""The meaning and remedy of each finding code, from the table `findings.toml`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from bridges.stream.finding import Severity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GROUPS = {  # in the order of the documentation
    "failures": "Failures",
    "target": "The run in the target",
    "reading": "Reading files",
    "runs": "Runs made of several files",
    "settings": "Settings and results",
    "times": "Times",
    "steps": "Steps, epochs and resumes",
    "values": "Values",
    "names": "Names and keys",
    "wandb": "Runs of W&B",
    "secrets": "Secrets",
    "logs": "Logs of tuning tools",
    "tables": "Tables",
    "events": "Event files beside a history",
    "config": "Configs",
}


@dataclass(frozen=True)
class Explanation:
    """The entry of a finding code: its group (a key of GROUPS), severities, meaning and remedy."""

    code: str
    group: str
    severities: tuple[Severity, ...]
    meaning: str
    action: str


@cache
def explanations() -> Mapping[str, Explanation]:
    """All entries by code, grouped as GROUPS."""
    text = files("bridges").joinpath("findings.toml").read_text(encoding="utf-8")
    entries = [_explanation(code, entry) for code, entry in tomllib.loads(text).items()]
    order = [*GROUPS]
    entries.sort(key=lambda entry: order.index(entry.group))
    return {entry.code: entry for entry in entries}


def _explanation(code: str, entry: Mapping[str, object]) -> Explanation:
    severities = entry["severities"]
    assert isinstance(severities, list)
    return Explanation(
        code,
        str(entry["group"]),
        tuple(map(Severity, severities)),
        str(entry["meaning"]),
        str(entry["action"]),
    )
