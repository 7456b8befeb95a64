"""The series of a stream under their tags, also where several keys meet in one tag.

A live callback that meets two keys of one tag in a row keeps the last of them. So the tag holds
what the live run shows, and the values that it lost there get a tag of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64, Series
from bridges.stream.naming import Naming, encodable

SHOWN = 5  # keys that a finding names


def under_tags(
    series: Sequence[Series],
    tags: Mapping[str, str],
    legal: Callable[[str], str] = str,
) -> tuple[list[Series], list[Finding]]:
    """The series under the tags of their keys, and a finding for each tag in which keys meet.

    Of the keys in one row, the last in alphabetical order has the tag: that is their order in a
    saved state. The tag of another one has a suffix, and is made `legal`. Rows that come later
    change nothing for those before them.
    """
    keys = {part.key for part in series}
    if len({tags[key] for key in keys}) == len(keys):  # the usual case
        return [part.under(tags[part.key]) for part in series], []
    by_key: dict[str, list[Series]] = {}
    for part in series:
        by_key.setdefault(part.key, []).append(part)
    meeting: dict[str, list[str]] = {}
    for key in sorted(by_key):
        meeting.setdefault(tags[key], []).append(key)
    tagged, findings = [], []
    for tag, members in meeting.items():
        shown, others = _by_row([part for key in members for part in by_key[key]])
        own = {part.key: _own_tag(tag, part.key, meeting, legal) for part in others}
        tagged += [part.under(tag) for part in _as_one(shown)]
        tagged += [part.under(own[part.key]) for part in others]
        if len(members) > 1:
            findings.append(_met(tag, members, others))
    return tagged, findings


def _by_row(parts: list[Series]) -> tuple[list[Series], list[Series]]:
    """The values that are the last of their row in the order of the parts, and the other ones."""
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
    """One series for each type of values, in the order of the rows."""
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
    """The times of the values of several parts, if all have times of their own."""
    times = [part.time for part in parts if part.time is not None]
    return np.concatenate(times)[order] if len(times) == len(parts) else None


def distinct_tags(keys: Iterable[str], legal: Callable[[str], str]) -> dict[str, str]:
    """A legal tag for each key, none of which two keys share: a key that is legal keeps its own."""
    tags = {key: key for key in keys if legal(key) == key}
    taken = {*tags}
    for key in keys:
        if key not in tags:
            tag = legal(key)
            tags[key] = _own_tag(tag, key, taken, legal)
            taken.add(tags[key])
    return tags


def renamed(keys: Sequence[str], series: Sequence[Series], message: str) -> Finding:
    """The finding that these keys have other tags in the target."""
    points = sum(len(part.rows) for part in series if part.key in keys)
    return Finding("key-renamed", Severity.WARNING, named(keys), message, points)


def _own_tag(tag: str, key: str, taken: Collection[str], legal: Callable[[str], str]) -> str:
    """The tag of a key whose own tag shows another one."""
    suffix = digest(key)
    while tag in taken:
        tag = legal(f"{tag}-{suffix}")
    return tag


def digest(key: str) -> str:
    """Eight hex digits that tell keys apart."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8]


def _met(tag: str, members: list[str], others: list[Series]) -> Finding:
    message = f"these keys share the tag {tag!r}, which shows the last of them in each row"
    count = sum(len(part.rows) for part in others)
    if count:
        message += "; the values of the others are kept under tags with a suffix"
    return Finding("tag-collision", Severity.WARNING, named(members), message, count or 1)


def named(keys: Sequence[str]) -> str:
    """Keys for people: `keys 'a@1', 'a_1' and 3 more`."""
    shown = ", ".join(repr(key if len(key) <= 60 else f"{key[:60]}…") for key in keys[:SHOWN])
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{'key' if len(keys) == 1 else 'keys'} {shown}{more}"


def tag_table(naming: Naming, keys: Iterable[str]) -> tuple[dict[str, str], list[Finding]]:
    """The tag of every key by the first version's rules, which stored runs may have.

    Where two keys meet in one tag, the later one gets a stable suffix.
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
