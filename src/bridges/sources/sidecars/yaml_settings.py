"""Reads `training_args.yaml`, as LLaMA-Factory writes it, with a limit on alias expansion.

The safe loader builds plain values only. A few bytes of aliases can expand to a billion values, so
the nodes are counted before values are built.
"""

from __future__ import annotations

from typing import Any

MAX_YAML_BYTES = 250_000  # the parser is slow
MAX_VALUES = 50_000  # after alias expansion
MAX_TEXT_CHARS = MAX_YAML_BYTES  # after alias expansion
MAX_NUMBER_CHARS = 100  # longer numbers stay text, because base 60 takes quadratic time
_RARE_COLLECTIONS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("set", "omap", "pairs"))
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


def read_yaml(data: bytes, *, any_tag: bool = False) -> dict[str, Any]:
    """The settings in a YAML mapping; dates and other rare types as text.

    With `any_tag`, the values of unknown tags, such as Python objects, are read as plain values;
    no object is made. Raises ValueError or TypeError with a message that describes the content.
    """
    import yaml  # here only: few directories have such a file

    try:
        loader, node = compose(data)
        if any_tag:
            _without_unknown_tags(node, loader, set())
        found = None if node is None else loader.construct_document(node)
    # `!!bool maybe` and the like raise the latter errors
    except (yaml.YAMLError, AttributeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"it is not YAML of plain values ({reason(error)})") from None
    if not isinstance(found, dict | None):
        raise TypeError(f"it is a YAML {type(found).__name__}, not a mapping")
    return {str(key): _plain(value) for key, value in (found or {}).items()}


def compose(data: bytes) -> tuple[Any, Any]:
    """The safe loader and its root node (None for an empty file), after the alias check.

    Raises ValueError or yaml.YAMLError.
    """
    import yaml

    if len(data) > MAX_YAML_BYTES:
        raise ValueError(
            f"it has {len(data):,} bytes, and YAML settings no more than {MAX_YAML_BYTES:,}"
        )
    loader = yaml.SafeLoader(data.decode("utf-8-sig"))
    node = loader.get_single_node()
    _check_size(node, {})
    return loader, node


def _without_unknown_tags(node: Any, loader: Any, seen: set[int]) -> None:
    """Replace the tags that the safe loader does not know, in place.

    A name in the tag of an empty value is its value: `!!python/name:torch.nn.ReLU`.
    """
    import yaml

    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    is_mapping, is_scalar = isinstance(node, yaml.MappingNode), isinstance(node, yaml.ScalarNode)
    if node.tag not in loader.yaml_constructors or node.tag in _RARE_COLLECTIONS:
        if is_scalar and not node.value:
            node.value = node.tag.rpartition(":")[2]
        node.tag = f"tag:yaml.org,2002:{'map' if is_mapping else 'str' if is_scalar else 'seq'}"
    if is_mapping:
        _merged(node, loader)
        for pair in node.value:
            for part in pair:
                _without_unknown_tags(part, loader, seen)
    elif not is_scalar:
        for part in node.value:
            _without_unknown_tags(part, loader, seen)


def _merged(node: Any, loader: Any) -> None:
    """Turn the keys of a mapping that are not scalars into text: a dict cannot hold them."""
    import yaml

    for position, (key, value) in enumerate(node.value):
        if not isinstance(key, yaml.ScalarNode):
            text = yaml.ScalarNode("tag:yaml.org,2002:str", yaml.serialize(key).strip())
            node.value[position] = text, value


def _check_size(node: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """The numbers of values and of characters that a node expands to.

    Turns long numbers into text. Raises ValueError for too many values or characters.
    """
    import yaml

    if not isinstance(node, yaml.CollectionNode):
        size = len(node.value) if node is not None else 0
        if size > MAX_NUMBER_CHARS and node.tag in _NUMBERS:
            node.tag = "tag:yaml.org,2002:str"
        return 1, size
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1, 0  # an alias of a node within itself fails the check
        children = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        sizes = [_check_size(child, known) for child in children]
        known[id(node)] = 1 + sum(values for values, _ in sizes), sum(text for _, text in sizes)
    values, text = known[id(node)]
    if values > MAX_VALUES:
        raise ValueError(f"its aliases expand to more than {MAX_VALUES:,} values")
    if text > MAX_TEXT_CHARS:
        raise ValueError(f"its aliases expand to more than {MAX_TEXT_CHARS:,} characters")
    return values, text


def reason(error: Exception) -> str:
    """The problem and line number of a YAML error, as one line."""
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
