"""Reads the `meta.yaml` files of a file store: a mapping of scalars, all kept as text.

Numbers stay text, so an id of digits keeps its zeros. MLflow writes one `key: value` a line;
PyYAML reads other YAML. Values are taken from its nodes, so aliases are never expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

UNENDED = ""
MAX_DIGITS = 20
MAX_YAML_BYTES = 1 << 20  # PyYAML is slow
MAX_DEPTH = 100
LFS_POINTER, CONFLICT = "version https://git-lfs", "<<<<<<< "
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_NULL_TAG, _MAP_TAG = "tag:yaml.org,2002:null", "tag:yaml.org,2002:map"
# a line with a plain scalar of harmless characters, a quoted one, or {} or []
_LINE = re.compile(
    r"^(\w+):(?: (?:([\w/+.][\w/+.@%=()-]*(?:[ :][\w/+.@%=()-]+)*)"
    r"|'((?:[^'\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]|'')*)'"
    r"|(\{\}|\[\])))?\r?$",
    re.MULTILINE,
)
_KEY, _PLAIN, _QUOTED = 1, 2, 3  # groups of a line

Meta = Mapping[str, "str | Mapping[str, str] | None"]


class MetaError(ValueError):
    """A `meta.yaml` cannot be read: its content, the place, and a remedy."""

    def __init__(self, found: str, place: str = "", remedy: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.place = place
        self.remedy = remedy or "Restore the file from a backup or from git."


def read_meta(data: bytes) -> Meta:
    """The mapping: scalars as text, null as None, mappings of scalars as such, lists as empty.

    A file whose last line has no end has the key UNENDED. Raises MetaError.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MetaError("bytes other than UTF-8 text", f"line {line}") from None
    _refuse_other_content(text)
    if not text.endswith("\n"):
        return {**_from_nodes(text), UNENDED: None}
    lines = [*_LINE.finditer(text)]
    if len(lines) == text.count("\n"):
        return {line[1]: _value(line) for line in lines}
    return _from_nodes(text)


def text(meta: Meta, key: str) -> str:
    """A scalar as text; empty if it is missing or null."""
    return optional_text(meta, key) or ""


def optional_text(meta: Meta, key: str) -> str | None:
    """A scalar as text; None if it is missing or null."""
    value = meta.get(key)
    return value if isinstance(value, str) else None


def integer(meta: Meta, key: str) -> int | None:
    """An int64; None if it is missing, null or anything else."""
    found = text(meta, key)
    if len(found) > MAX_DIGITS or not re.fullmatch(r"-?[0-9]+", found):
        return None
    return value if -(2**63) <= (value := int(found)) < 2**63 else None


def _value(line: re.Match[str]) -> str | Mapping[str, str] | None:
    if line.lastindex == _PLAIN:
        return None if line[_PLAIN] in _NULLS else line[_PLAIN]
    if line.lastindex == _QUOTED:
        return line[_QUOTED].replace("''", "'")
    return None if line.lastindex == _KEY else {}


def _refuse_other_content(text: str) -> None:
    if not text.strip("\0 \t\r\n"):
        raise MetaError("zero bytes only" if "\0" in text else "an empty file")
    if text.startswith(LFS_POINTER):
        raise MetaError("a pointer of Git LFS", remedy="Run `git lfs pull` in the repository.")
    if CONFLICT in text:
        before = text[: text.index(CONFLICT)]
        place = f"line {before.count(chr(10)) + 1}"
        raise MetaError("a merge conflict of git", place, "Resolve the conflict in the file.")
    if len(text) > MAX_YAML_BYTES:
        raise MetaError(f"{len(text):,} characters")


def _from_nodes(text: str) -> Meta:
    """Like `read_meta`, for any YAML."""
    import yaml  # here only: few files need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(yaml.parse(text, loader))
        node = yaml.compose(text, loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        raise MetaError("invalid YAML", _line(mark)) from None
    if not isinstance(node, yaml.MappingNode):
        raise MetaError("YAML without a mapping")
    return {key: _node_value(value) for key, value in _pairs(node)}


def _check_depth(events: Iterable[Any]) -> None:
    """Raise MetaError for values nested too deep: PyYAML before 6.0.4 crashes on them."""
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > MAX_DEPTH:
            raise MetaError(f"YAML of more than {MAX_DEPTH} levels", _line(event.start_mark))


def _line(mark: Any) -> str:
    return "" if mark is None else f"line {mark.line + 1}"


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    """Key and node of each value of a mapping."""
    return ((key.value, value) for key, value in node.value if isinstance(key.value, str))


def _node_value(node: Any) -> str | Mapping[str, str] | None:
    if isinstance(node.value, str):
        return None if node.tag == _NULL_TAG else node.value
    if node.tag != _MAP_TAG:
        return {}
    return {key: each.value for key, each in _pairs(node) if isinstance(each.value, str)}
