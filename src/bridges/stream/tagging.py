"""Renames the series of a stream to their tags, including several keys with the same tag.

If two keys in a row have the same tag, a live callback keeps the last one. So the tag gets the
values that the live run shows, and the other values get a tag with a suffix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64, Series
from bridges.stream.naming import Naming, encodable

MAX_SHOWN_KEYS = 5  # in a finding


def under_tags(
    series: Sequence[Series],
    tags: Mapping[str, str],
    legal: Callable[[str], str] = str,
) -> tuple[list[Series], list[Finding]]:
    """The series under the tags of their keys, and a finding for each tag shared by several keys.

    In each row, the last key in alphabetical order gets the tag, as in a saved state. Other keys
    get a tag with a suffix, made `legal`. Later rows do not change the tags of earlier rows.
    """
    keys = {part.key for part in series}
    if len({tags[key] for key in keys}) == len(keys):  # the usual case
        return [part.under(tags[part.key]) for part in series], []
    by_key: dict[str, list[Series]] = {}
    for part in series:
        by_key.setdefault(part.key, []).append(part)
    by_tag: dict[str, list[str]] = {}
    for key in sorted(by_key):
        by_tag.setdefault(tags[key], []).append(key)
    tagged, findings = [], []
    for tag, members in by_tag.items():
        shown, others = _by_row([part for key in members for part in by_key[key]])
        own = {part.key: _own_tag(tag, part.key, by_tag, legal) for part in others}
        tagged += [part.under(tag) for part in _as_one(shown)]
        tagged += [part.under(own[part.key]) for part in others]
        if len(members) > 1:
            findings.append(_shared_tag(tag, members, others))
    return tagged, findings


def _by_row(parts: list[Series]) -> tuple[list[Series], list[Series]]:
    """The values that are last in their row, in the order of the parts, and the other values."""
    if len(parts) == 1:
        return parts, []
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    is_last = np.empty(len(rows), bool)
    is_last[order] = np.append(np.diff(rows[order]) != 0, True)
    shown: list[Series] = []
    others: list[Series] = []
    start = 0
    for part in parts:
        mask = is_last[start : start + len(part.rows)]
        start += len(part.rows)
        for chosen, found in ((mask, shown), (~mask, others)):
            if chosen.any():
                found.append(part.only(chosen))
    return shown, others


def _as_one(parts: list[Series]) -> list[Series]:
    """One series for each value type, in the order of the rows."""
    by_type: dict[str, list[Series]] = {}
    for part in parts:
        by_type.setdefault(part.values.dtype.kind, []).append(part)
    return [_joined(same) if len(same) > 1 else same[0] for same in by_type.values()]


def _joined(parts: list[Series]) -> Series:
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    values = np.concatenate([part.values for part in parts])
    return Series(parts[0].key, rows[order], values[order], _times_of(parts, order))


def _times_of(parts: list[Series], order: Int64) -> Int64 | None:
    """The times of the values of several parts, if all parts have own times."""
    times = [part.time for part in parts if part.time is not None]
    return np.concatenate(times)[order] if len(times) == len(parts) else None


def distinct_tags(keys: Iterable[str], legal: Callable[[str], str]) -> dict[str, str]:
    """A unique legal tag for each key; a legal key is its own tag."""
    tags = {key: key for key in keys if legal(key) == key}
    taken = {*tags}
    for key in keys:
        if key not in tags:
            tag = legal(key)
            tags[key] = _own_tag(tag, key, taken, legal)
            taken.add(tags[key])
    return tags


def renamed(keys: Sequence[str], series: Sequence[Series], message: str) -> Finding:
    """The finding for keys with other tags in the target."""
    points = sum(len(part.rows) for part in series if part.key in keys)
    return Finding("key-renamed", Severity.WARNING, named(keys), message, points)


def _own_tag(tag: str, key: str, taken: Collection[str], legal: Callable[[str], str]) -> str:
    """The first free tag of a key, with a suffix if its tag is taken."""
    suffix = digest(key)
    while tag in taken:
        tag = legal(f"{tag}-{suffix}")
    return tag


def digest(key: str) -> str:
    """Eight hex digits of a key, used as a suffix."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8]


def _shared_tag(tag: str, members: list[str], others: list[Series]) -> Finding:
    message = f"these keys share the tag {tag!r}, which gets the value of the last key in each row"
    count = sum(len(part.rows) for part in others)
    if count:
        message += "; the other values are kept under tags with a suffix"
    return Finding("tag-collision", Severity.WARNING, named(members), message, count or 1)


def named(keys: Sequence[str]) -> str:
    """Keys for messages: `keys 'a@1', 'a_1' and 3 more`."""
    shown = ", ".join(
        repr(key if len(key) <= 60 else f"{key[:60]}…") for key in keys[:MAX_SHOWN_KEYS]
    )
    more = f" and {len(keys) - MAX_SHOWN_KEYS} more" if len(keys) > MAX_SHOWN_KEYS else ""
    return f"{'key' if len(keys) == 1 else 'keys'} {shown}{more}"


def tag_table(naming: Naming, keys: Iterable[str]) -> tuple[dict[str, str], list[Finding]]:
    """The tag of every key by the rules of the first version, for stored runs of that version.

    If two keys have the same tag, the later one gets a stable suffix.
    """
    tags: dict[str, str] = {}
    taken: dict[str, str] = {}
    findings = []
    for key in keys:
        tag = encodable(naming.tag(key))
        if taken.setdefault(tag, key) != key:
            findings.append(_collision(key, taken[tag], tag))
            while taken.setdefault(tag, key) != key:
                tag = f"{tag}-{digest(key)}"
        tags[key] = tag
    return tags, findings


def _collision(key: str, other: str, tag: str) -> Finding:
    return Finding(
        "tag-collision",
        Severity.WARNING,
        f"key {key!r}",
        f"the tag {tag!r} belongs to key {other!r} already; this key gets a suffix",
    )
