"""Identity: recognises a run in a target, and the part of its history that the target has.

The *run key* does not change when the log grows or the file moves. The *prefix digests* of n rows
of two logs are equal exactly if their first n rows are (steps, keys, types and values; times are
excluded, as they may be synthetic).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from bridges.stream.model import Int64, Log, MetricStream, Run, Series, Values
from bridges.stream.naming import KeyRules
from bridges.stream.settings import Settings

FORMAT = b"bridges-1"
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr).encode


@dataclass(frozen=True)
class Identity:
    """The properties by which a target finds a run.

    key: the run key
    aliases: other keys under which earlier exports may have stored the run
    earlier: the key of the run in the first version, if different
    onward: with layout options, the key of its export from a target of an earlier export, or for a
        run from such a target, the key of an export of its original
    options: the non-default layout options
    digest: the prefix digest of the complete history
    settings: distinguish runs with equal rows
    path, project, own_projects: the location of a new run (path: group and name)
    record: `Run.record`
    """

    key: str
    digest: str
    path: str
    aliases: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    project: str | None = None
    own_projects: Mapping[str, str] = field(default_factory=dict)
    earlier: str | None = None
    onward: str | None = None
    record: object = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The run key, then the aliases."""
        return (self.key, *self.aliases)


def identity_of(run: Run, options: Mapping[str, str] | None = None) -> Identity:
    """The identity of a run; `options`: the non-default layout options.

    The aliases of a run with logs beside it are the keys of exports of a log alone. The first
    version computed the key of a log from its first row with a measured value. A copy of
    a tracker's run, which has a stored key, has the key of its own identity as alias. Layout
    options give a run and its copy in a target different keys, each the alias of the other.
    """
    key = run_key(run, options)
    is_copy = run.key and run.identity and run.key_style == "tags"
    own = run_key(replace(run, key=None), options) if is_copy else None
    is_log = run.identity and run.logged and run.key_style == "trainer"
    earlier = run_key(replace(run, identity=()), options) if is_log else None
    onward = _onward_key(run, options) if options else None
    of_logs = [run_key(alone, options) for log in run.logs for alone in logs_alone(run, log)]
    of_logs += [run_key(part, options) for part in run.folded]
    return Identity(
        key=key,
        digest=prefix_digest(run.history, len(run.history)),
        path=run.path,
        aliases=tuple(a for a in dict.fromkeys([earlier, own, onward, *of_logs]) if a and a != key),
        options=options or {},
        settings=run.settings,
        project=run.project,
        own_projects=run.own_projects,
        earlier=earlier,
        onward=onward,
        record=run.record,
    )


def _onward_key(run: Run, options: Mapping[str, str]) -> str | None:
    """See `Identity.onward`; None if a stored key is not that of the rows or the identity."""
    if not run.key:
        return key_of([run_key(run)], None, options)
    is_copy = run.key_style == "tags"
    original = replace(run, key=None, identity=run.identity if is_copy else ())
    return run_key(original, options) if run_key(original) == run.key else None


def logs_alone(run: Run, log: Log) -> list[Run]:
    """The run as an export of a log alone reads it, now and in the first version."""
    alone = replace(run, stream=log.stream, added=(), evidence=(), trial=None, identity=())
    return [replace(alone, identity=log.identity), alone] if log.identity else [alone]


def run_key(run: Run, layout: Mapping[str, str] | None = None) -> str:
    """32 hex digits over the first row with a measured value, the trial, and the layout options.

    `Run.key_rules` defines measured values; other values are equal in all runs of one recipe. The
    key of a run with an `identity` is computed from that instead of the row. `layout`: non-default
    options that change the stored data (x-axis, naming, duplicates), which make it another run. A
    run from a target of an earlier export without such options keeps its key.
    """
    if run.key:
        return key_of([run.key], None, layout) if layout else run.key
    first = [*run.identity] or _first_row(run.history, run.key_rules)
    return key_of(first or [run.name, _text_keys(run.params)], run.trial, layout)


def key_of(first: Sequence[object], trial: str | None, layout: Mapping[str, str] | None) -> str:
    """The run key of a first row (see `first_values`) or an identity."""
    digest = hashlib.blake2b(FORMAT, digest_size=16)
    digest.update(_canonical(first))
    digest.update(_canonical(trial))
    digest.update(_canonical(sorted(layout.items()) if layout else None))
    return digest.hexdigest()


def prefix_digest(stream: MetricStream, rows: int) -> str:
    """32 hex digits over the first `rows` rows; the cost is linear in their points."""
    digest = hashlib.blake2b(FORMAT, digest_size=16)
    digest.update(_canonical(rows))
    digest.update(stream.step[:rows].tobytes())
    for series in sorted(stream.series, key=lambda s: (s.key, s.values.dtype.kind)):
        part = series.slice(0, rows)
        if len(part.rows):
            digest.update(_head(series.key, series.values.dtype.kind))
            digest.update(_positions(part.rows))
            digest.update(_values(part.values))
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _head(key: str, kind: str) -> bytes:
    return _canonical([key, kind])


def _positions(rows: Int64) -> bytes:
    """A digest of row positions; `all` for 0..n-1, the common case."""
    return b"all" if rows[-1] == len(rows) - 1 else hashlib.blake2b(rows.tobytes()).digest()


def _values(values: Values) -> bytes:
    if values.dtype == object:
        return hashlib.blake2b(_canonical(values.tolist())).digest()
    if values.dtype == np.float64 and np.isnan(values).any():
        values = np.where(np.isnan(values), np.nan, values)  # one bit pattern for every NaN
    return hashlib.blake2b(np.ascontiguousarray(values).data).digest()


def _first_row(stream: MetricStream, rules: KeyRules) -> list[object] | None:
    """Step and measured values of the first row with a measured value; else the first row."""
    series = [part for part in stream.numbers if rules.is_measured(part.key)] or stream.series
    if not series:
        return [stream.step[:1].tolist()] if len(stream) else None
    return first_values(stream, series)


def first_values(
    stream: MetricStream, series: Sequence[Series], digits: int | None = None
) -> list[object]:
    """Step and values of the first row of some series, from which a run key is computed.

    `digits` rounds floats like Python, because NumPy rounds some values differently.
    """
    row = min(int(part.rows[0]) for part in series)
    values = []
    for part in series:
        if part.rows[0] == row:
            value = part.values[:1].tolist()
            if digits is not None and isinstance(value[0], float):
                value = [round(value[0], digits)]
            values.append([part.key, repr(value)])
    return [int(stream.step[row]), sorted(values)]


def _text_keys(value: object) -> object:
    """The value with all keys as text, as run keys have used them since the first version."""
    if isinstance(value, Mapping):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _canonical(value: object) -> bytes:
    return _encode(value).encode()
