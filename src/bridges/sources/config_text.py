"""Parses the text of a config file: YAML or TOML to plain data, with the line of each key."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridges.sources.sidecars.plain_values import plain_values
from bridges.sources.sidecars.yaml_settings import MAX_YAML_BYTES, compose, reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Loc = tuple[str | int, ...]
MERGE = "tag:yaml.org,2002:merge"
_TOML_TOKEN = re.compile(  # strings and comments as a whole, else brackets and line ends
    r""""{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[][{}\n]""",
    re.DOTALL,
)
_DEPTH = {"[": 1, "{": 1, "]": -1, "}": -1}


@dataclass
class Document:
    """The data of a file, the first line of each value, and the problems of the text."""

    data: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[tuple[Loc, str]] = field(default_factory=list)

    def line(self, loc: Loc) -> int | None:
        """The line of a value, or of the nearest enclosing one."""
        ends = range(len(loc), -1, -1)
        return next((self.lines[loc[:end]] for end in ends if loc[:end] in self.lines), None)


def read_yaml_text(data: bytes) -> Document:
    """Parse YAML. Raises ValueError if the text is not YAML of plain values."""
    import yaml

    document = Document()
    try:
        loader, node = compose(data)
        if node is not None:
            _walk(loader, node, (), document)
            if not document.problems:
                document.data = loader.construct_document(node)
    except (yaml.YAMLError, AttributeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"it is not YAML of plain values ({reason(error)})") from None
    except RecursionError:
        raise ValueError("its values are nested too deep") from None
    return document


def read_toml_text(data: bytes) -> Document:
    """Parse TOML. Raises ValueError if the text is not TOML."""
    if len(data) > MAX_YAML_BYTES:
        raise ValueError(f"it has {len(data):,} bytes, more than {MAX_YAML_BYTES:,}")
    text = data.decode("utf-8-sig")
    try:
        return Document(plain_values(tomllib.loads(text)), _toml_lines(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not TOML ({error})") from None
    except ValueError as error:
        if "set_int_max_str_digits" not in str(error):
            raise
        raise ValueError("it contains an integer of more than 4,300 digits") from None
    except RecursionError:
        raise ValueError("its values are nested too deep") from None


def _walk(loader: Any, node: Any, loc: Loc, document: Document) -> None:
    """Record the line of every key and item below a node, and duplicate or non-text keys."""
    if node.id == "mapping":
        _check_keys(node, loc, document)
        loader.flatten_mapping(node)
        for key, value in node.value:
            inner = (*loc, str(key.value))
            document.lines[inner] = key.start_mark.line + 1
            _walk(loader, value, inner, document)
    elif node.id == "sequence":
        for position, item in enumerate(node.value):
            document.lines[(*loc, position)] = item.start_mark.line + 1
            _walk(loader, item, (*loc, position), document)


def _check_keys(node: Any, loc: Loc, document: Document) -> None:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line, name = key.start_mark.line + 1, str(key.value)
        inner: Loc = (*loc, name) if key.id == "scalar" else loc
        document.lines.setdefault(inner, line)
        if key.tag == MERGE:
            continue
        if key.tag != "tag:yaml.org,2002:str":
            kind = key.tag.rpartition(":")[2]
            message = f"found a key of type {kind} in YAML; expected a text. Put it in quotes."
            document.problems.append((inner, message))
        elif name in first:
            message = f"found this key on line {first[name]} and on line {line}; expected it once."
            document.problems.append((inner, message))
        first.setdefault(name, line)


def _toml_lines(text: str) -> dict[Loc, int]:
    """The line of each table and key; nested values use the line of their key."""
    lines: dict[Loc, int] = {}
    sizes: Counter[Loc] = Counter()  # of arrays of tables
    table: Loc = ()
    for line, statement in _statements(text):
        keys = tomllib.loads(statement)
        if statement.startswith("["):
            table = _table(keys, sizes)
            lines.setdefault(table, line)
        else:
            for loc in _locations(keys, table):
                lines.setdefault(loc, line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each table header, and each key with its value; with their first lines."""
    depth = start = 0
    first = line = 1
    for token in _TOML_TOKEN.finditer(text + "\n"):
        depth += _DEPTH.get(token[0], 0)
        line += token[0].count("\n")
        if token[0] == "\n" and not depth:
            yield first, text[start : token.start()].strip()
            start, first = token.end(), line


def _table(header: object, sizes: Counter[Loc]) -> Loc:
    """The location of a table; an array of tables on its path stands for its last item."""
    loc: Loc = ()
    while header:
        if isinstance(header, dict):
            ((key, header),) = header.items()
            loc = (*loc, key)
        if isinstance(header, list):
            sizes[loc] += 1
            (header,) = header
        if loc in sizes:
            loc = (*loc, sizes[loc] - 1)
    return loc


def _locations(keys: Mapping[str, object], table: Loc) -> Iterator[Loc]:
    """The locations of all keys below a table."""
    for key, value in keys.items():
        yield (*table, key)
        if isinstance(value, dict):
            yield from _locations(value, (*table, key))


READERS = {".yaml": read_yaml_text, ".yml": read_yaml_text, ".toml": read_toml_text}
