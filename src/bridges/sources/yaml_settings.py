"""`training_args.yaml`, as LLaMA-Factory writes it: read without running or unfolding anything.

The safe loader makes plain values only; but a few bytes of aliases can stand for a billion of them,
so the nodes are counted before any is made.
"""

from __future__ import annotations

from typing import Any

LARGEST = 250_000  # bytes; the parser is slow
MOST = 50_000  # values that aliases may unfold to


def read_yaml(data: bytes) -> dict[str, Any]:
    """The settings in a YAML mapping; dates and other rare kinds as text.

    Raises ValueError or TypeError that says what the file is instead.
    """
    import yaml  # only here: few directories have such a file

    try:
        loader, node = compose(data)
        found = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, AttributeError, LookupError) as error:  # of `!!bool maybe` and the like
        raise ValueError(f"it is no YAML of plain values ({reason(error)})") from None
    if not isinstance(found, dict | None):
        raise TypeError(f"it is a YAML document that is no mapping but {type(found).__name__}")
    return {str(key): _plain(value) for key, value in (found or {}).items()}


def compose(data: bytes) -> tuple[Any, Any]:
    """The safe loader and its root node (None of an empty file), which aliases cannot blow up.

    Raises ValueError and yaml.YAMLError.
    """
    import yaml

    if len(data) > LARGEST:
        raise ValueError(f"it has {len(data):,} bytes, and YAML settings no more than {LARGEST:,}")
    loader = yaml.SafeLoader(data.decode("utf-8-sig"))
    node = loader.get_single_node()
    _count(node, {})
    return loader, node


def _count(node: Any, known: dict[int, int]) -> int:
    """How many values a node unfolds to; no more than `MOST`, and itself in none of them."""
    import yaml

    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST + 1  # as long as we are inside of it
        children = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    if known[id(node)] > MOST:
        raise ValueError(f"with its aliases it stands for more than {MOST:,} values")
    return known[id(node)]


def reason(error: Exception) -> str:
    """One line of an error that has many: what is wrong, and where."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    problem = problem.removeprefix("but ")
    return f"{problem}, line {mark.line + 1}" if mark else problem


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if value is None or type(value) in (str, int, float, bool) else str(value)
