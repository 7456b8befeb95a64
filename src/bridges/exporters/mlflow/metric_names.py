"""The names in MLflow of a tracker's keys, without illegal characters.

Live loggers for MLflow delete these characters: Ultralytics writes `metrics/mAP50(B)` as
`metrics/mAP50B`. Keys from an MLflow store keep the names of earlier exports.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridges.errors import ExportError
from bridges.exporters.mlflow.limits import Limits
from bridges.formats.mlflow_store.records import RunRecord
from bridges.stream.layout import Layout
from bridges.stream.tagging import distinct_tags


def names_of(layout: Layout, limits: Limits) -> Mapping[str, str]:
    """The name of each key. Raises ExportError if two keys have the same name."""
    if isinstance(layout.run.record, RunRecord):
        stored = stored_names(layout)
        return distinct_tags(layout.stream.keys, lambda key: limits.legal_key(stored.get(key, key)))
    names: dict[str, str] = {}
    keys: dict[str, str] = {}
    for key in layout.stream.keys:
        name = key if limits.takes_key(key) else limits.shortened_key(key)
        if keys.setdefault(name, key) != key:
            raise ExportError(
                f"the keys {keys[name]!r} and {key!r} are both called {name!r} in MLflow, which "
                "refuses some of their characters. Rename one of them in a config "
                "(`rename: {OLD: NEW}`), or exclude it."
            )
        names[key] = name
    return names


def stored_names(layout: Layout) -> dict[str, str]:
    """The names in an MLflow store of the keys that an export into this store renamed."""
    record = layout.run.record
    renamed = record.head.renamed if isinstance(record, RunRecord) else {}
    return {key: name for name, key in renamed.items()}


def changed_names(layout: Layout, limits: Limits) -> dict[str, str]:
    """The keys of a run by their names in MLflow, where these differ."""
    run = layout.run
    if run.key_style != "tags" or isinstance(run.record, RunRecord):
        return {}
    keys = [series.key for series in run.stream.numbers]
    changed = {key: limits.shortened_key(key) for key in keys if not limits.takes_key(key)}
    return {name: key for key, name in changed.items()}
