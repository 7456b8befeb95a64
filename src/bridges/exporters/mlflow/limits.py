"""MLflow's limits by release: lengths, batch sizes and legal keys.

The release of a database or server may differ from the installed one. Servers truncate oversized
values silently, so such values must not be sent.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bridges.stream.tagging import digest

OF_API = {  # lengths that each server takes, whatever its database
    "datasets.dataset_source_type": 36,
    "datasets.dataset_source": 65_535,
    "datasets.digest": 36,
    "datasets.name": 500,
    "experiment_tags.value": 5000,
    "experiments.name": 256,
    "input_tags.name": 255,
    "input_tags.value": 500,
    "logged_models.model_type": 500,
    "logged_models.name": 500,
    "runs.user_id": 256,
}
_KEY = re.compile(r"[/\w.\- :]*\Z")
_REFUSED = re.compile(r"[^/\w.\- :]")


@dataclass(frozen=True)
class Limits:
    """Maximum lengths in characters, and maximum numbers per request.

    `key`, `param`, `tag`, `name`  lengths; `name` is the column width of a run's name
    `metrics`                      metrics per request
    `pairs`                        params, and tags, per request
    `entities`                     metrics, params and tags together
    `colon`                        whether keys may contain a colon
    `widths`                       column widths (`runs.name`) of a database that is written
                                   directly; None for the API
    `takes_nul`                    whether the database stores NUL characters
    `columns`                      its columns by table; empty if unknown
    `copies_artifacts`             whether artifact files are copied, so that a run has links to
                                   those of its source for a short time only
    `has_models`                   whether the API has logged models
    """

    key: int = 250
    param: int = 6000
    tag: int = 8000
    metrics: int = 1000
    pairs: int = 100
    entities: int = 1000
    name: int = 250
    colon: bool = True
    widths: Mapping[str, int] | None = None
    takes_nul: bool = False
    columns: Mapping[str, Collection[str]] = field(default_factory=dict)
    copies_artifacts: bool = False
    has_models: bool = True

    @property
    def takes_artifact_uri(self) -> bool:
        """Whether the artifact URI of a run can be chosen."""
        return self.widths is not None

    def width(self, column: str) -> int | None:
        """The maximum length of a value from an MLflow store; None for no limit."""
        if self.widths is not None:
            return self.widths.get(column)
        own = {"params.value": self.param, "tags.value": self.tag, "runs.name": self.name}
        return own.get(column) or OF_API.get(column)

    def carried_key(self, key: str) -> str:
        """The key of a param or tag from an MLflow store; a database takes any that
        fits its columns.
        """
        if self.widths is None:
            return self.legal_key(key)
        fits = len(key) <= self.widths.get("tags.key", len(key)) and "\0" not in key
        return key if fits and key else self.legal_key(key)

    def takes_key(self, key: str) -> bool:
        """Whether MLflow accepts the key of a metric, param or tag."""
        if ":" in key and not self.colon:
            return False
        plain = len(key) <= self.key and _KEY.match(key) is not None and key not in ("", ".")
        return plain and posixpath.normpath(key) == key and not key.startswith(("/", ".."))

    def legal_key(self, key: str) -> str:
        """The key if MLflow accepts it, else a similar legal key."""
        if self.takes_key(key):
            return key
        legal = _REFUSED.sub("_", key if self.colon else key.replace(":", "_"))
        legal = "/".join("_" if part in ("", ".", "..") else part for part in legal.split("/"))
        legal = f"__{legal[2:]}" if legal.startswith("..") else legal
        if len(legal) <= self.key:
            return legal
        return f"{legal[: self.key - 9]}-{digest(key)}"

    def shortened_key(self, key: str) -> str:
        """The key without its illegal characters; live loggers delete them, too."""
        kept = _REFUSED.sub("", key if self.colon else key.replace(":", ""))
        return self.legal_key(kept) if kept else self.legal_key(key)

    def takes_param(self, key: str, value: str) -> bool:
        """Whether MLflow accepts a param unchanged; PostgreSQL rejects NUL characters."""
        return self.takes_key(key) and len(value) <= self.param and "\0" not in value

    def takes_tag(self, key: str, value: str) -> bool:
        """Whether MLflow accepts a tag unchanged."""
        return self.takes_key(key) and len(value) <= self.tag and "\0" not in value


def limits_of(release: str) -> Limits:
    """The limits of a release such as `3.17.2`; 2.14 is the oldest tested one."""
    major, minor = (int(part) for part in (*re.findall(r"\d+", release), "0", "0")[:2])
    return Limits(
        tag=5000 if (major, minor) < (2, 17) else 8000,
        colon=(major, minor) >= (2, 16),
        has_models=major >= 3,
    )
