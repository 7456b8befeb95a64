"""The config of a run in Trackio: its params, as with the live callback, and keys of bridges.

The live callback loses the five values of the summary; they are kept as `summary/KEY`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from bridges import Layout, __version__
from bridges.exporters.description import metadata
from bridges.exporters.trackio.adapt import clean
from bridges.exporters.trackio.rows import SPECIAL

OWN = ("_Username", "_Created", "_Group", "bridges")
OWN_BEGINS = ("summary/", "tags/")
ABOUT = ("source", "status", "writer", "note", "facts", "files")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def config_of(layout: Layout, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The config as JSON values; `before` is the config in the target, whose other keys stay."""
    about = metadata(layout)
    config = {**(before or {}), **_json(layout.params)}
    config |= {f"summary/{key}": clean(value) for key, value in layout.summary.items()}
    config |= {f"tags/{key}": value for key, value in _json(layout.run.tags).items()}
    own = {name: about[name] for name in ABOUT if about[name]}
    return {
        **config,
        "_Username": (before or {}).get("_Username"),
        "_Created": _iso(layout.clock.start),
        "_Group": about["group"] or None,
        "bridges": {"version": __version__, "clock": layout.clock.name, **_json(own)},
    }


def params_in(config: Mapping[str, Any]) -> dict[str, object]:
    """The params in a config."""
    return {k: v for k, v in config.items() if k not in OWN and not k.startswith(OWN_BEGINS)}


def summary_in(config: Mapping[str, Any]) -> dict[str, object]:
    """The values of the summary in a config."""
    begin = OWN_BEGINS[0]
    values = {k.removeprefix(begin): v for k, v in config.items() if k.startswith(begin)}
    return {k: SPECIAL.get(v, v) if isinstance(v, str) else v for k, v in values.items()}


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    cleaned = clean(dict(values))
    assert isinstance(cleaned, dict)
    return cleaned


def _iso(time: int) -> str:
    """A time (microseconds since 1970 UTC) in Trackio's form; empty beyond the years of Python."""
    try:
        return (EPOCH + timedelta(microseconds=time)).isoformat()
    except OverflowError:
        return ""
