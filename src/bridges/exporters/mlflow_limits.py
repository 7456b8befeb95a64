"""What MLflow takes: lengths and batch sizes of the installed release, and the rule for keys.

The figures are read from the text of the installed `mlflow/utils/validation.py`, because importing
mlflow takes seconds; where it is not installed they are those of mlflow 3.17.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_KEY = re.compile(r"[/\w.\- :]*\Z")
_NAMES = {
    "MAX_ENTITY_KEY_LENGTH": "key",
    "MAX_PARAM_VAL_LENGTH": "param",
    "MAX_TAG_VAL_LENGTH": "tag",
    "MAX_METRICS_PER_BATCH": "metrics",
    "MAX_PARAMS_TAGS_PER_BATCH": "pairs",
    "MAX_ENTITIES_PER_BATCH": "entities",
}


@dataclass(frozen=True)
class Limits:
    """Lengths in characters (`key`, `param`, `tag`, and `name` of a run: the width of its column),
    and how many `metrics`, params or tags (`pairs`) and all together (`entities`) a request takes.
    """

    key: int = 250
    param: int = 6000
    tag: int = 8000
    metrics: int = 1000
    pairs: int = 100
    entities: int = 1000
    name: int = 250

    def takes_key(self, key: str) -> bool:
        """Whether MLflow takes the key of a metric, param or tag."""
        plain = len(key) <= self.key and _KEY.match(key) is not None and key not in ("", ".")
        return plain and posixpath.normpath(key) == key and not key.startswith(("/", ".."))

    def takes_param(self, key: str, value: str) -> bool:
        """Whether MLflow takes a param as it is; no SQL database keeps a NUL."""
        return self.takes_key(key) and len(value) <= self.param and "\0" not in value

    def takes_tag(self, key: str, value: str) -> bool:
        """Whether MLflow takes a tag as it is."""
        return self.takes_key(key) and len(value) <= self.tag and "\0" not in value


@cache
def installed_limits() -> Limits:
    """The limits of the installed mlflow."""
    spec = find_spec("mlflow")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "utils" / "validation.py"
        if file.is_file():
            return read_limits(file.read_text(encoding="utf-8"))
    return Limits()


def read_limits(source: str) -> Limits:
    """The limits that the text of `validation.py` sets; what it does not set is as in 3.17."""
    found = re.findall(r"^(MAX_\w+) = ([\d_]+)$", source, re.MULTILINE)
    return Limits(**{_NAMES[name]: int(value) for name, value in found if name in _NAMES})
