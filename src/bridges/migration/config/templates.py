"""Templates for names, with the fields of a run, such as `{parent}/{name}-{params.seed}`.

`{field|text}` uses the text if the run lacks the field, `{field:.1e}` is Python's format, `{{` is a
brace.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from string import Formatter

from bridges.errors import ConfigError
from bridges.sources.trainer.state_file import default_name
from bridges.stream.model import Run
from bridges.stream.redact import redact_text

FIELDS = (
    *("name", "run_name", "parent", "group", "trial", "trial_name", "status", "writer", "rows"),
)
MAPPINGS = ("params", "facts", "tags")
KNOWN = (*FIELDS, *(f"{name}.<key>" for name in MAPPINGS))
MAX_LISTED = 12  # fields in a message
Part = tuple[str, str | None, str | None, str]  # text before, field, fallback, format


def check_template(text: str) -> str:
    """Return the template. Raises ValueError for unknown fields or wrong braces."""
    for _, field, _, _ in _parts(text):
        if field is None:
            continue
        head, dot, key = field.partition(".")
        if (head in MAPPINGS and key) or (head in FIELDS and not dot):
            continue
        raise ValueError(
            f"found the field {{{field}}}; expected one of {', '.join(KNOWN)}.{_near(field, KNOWN)}"
        )
    return text


def render(text: str, run: Run) -> str:
    """Fill in the fields of a run. Raises ConfigError for a missing field."""
    return "".join(part[0] + _filled(text, part, run) for part in _parts(text))


def params_of(run: Run) -> dict[str, object]:
    """The params of a run, overridden by those of its trial."""
    return {**run.params, **run.trial_params}


def _parts(text: str) -> list[Part]:
    """Parse the template. Raises ValueError for wrong braces."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(
            f"found {text!r} ({error}); expected a template such as {{name}}"
        ) from None
    parts: list[Part] = []
    for before, field, form, conversion in parsed:
        if conversion:
            raise ValueError(f"found {text!r}; expected no '!' within braces")
        name, bar, fallback = (field or "").partition("|")
        parts.append(
            (before, None if field is None else name, fallback if bar else None, form or "")
        )
    return parts


def _filled(text: str, part: Part, run: Run) -> str:
    _, field, fallback, form = part
    if field is None:
        return ""
    value = _value(field, run)
    if value is None and fallback is None:
        raise ConfigError(_missing(text, field, run))
    if value is None:
        return fallback or ""
    try:
        return format(value, form)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{run.source}: the template {text!r} cannot show {field} {value!r}: {error}"
        ) from None


def _value(field: str, run: Run) -> object:
    head, _, key = field.partition(".")
    if key:
        return _looked_up(_mapping(head, run), key)
    if head == "parent":
        return _parent_run(run) or _parent(run.source)
    if head == "trial":  # stored unredacted, because it identifies the run
        return run.trial and redact_text(run.trial)
    return len(run.stream) if head == "rows" else getattr(run, head)


def _mapping(name: str, run: Run) -> Mapping[str, object]:
    return params_of(run) if name == "params" else getattr(run, name)


def _looked_up(values: Mapping[str, object], key: str) -> object:
    """The value of a key, or of a dotted path into nested mappings."""
    if key in values:
        return values[key]
    head, dot, rest = key.partition(".")
    inner = values.get(head)
    return _looked_up(inner, rest) if dot and isinstance(inner, Mapping) else None


def _parent_run(run: Run) -> str | None:
    """The name of the parent of a run from a store, else of its experiment."""
    return None if run.record is None else [run.project, *run.parents][-1]


def _parent(source: str) -> str | None:
    """The parent directory's name; the run is named after the directory (or file) itself."""
    path = source.split("://", 1)[-1] if "://" in source else os.path.abspath(source)
    parts = [part for part in re.split(r"[/\\]", path) if part]
    named = default_name(source)
    directories = [end for end in (-2, -3, -4) if len(parts) + end >= 0 and parts[end] == named]
    end = directories[0] if directories else -1
    return parts[end - 1] if len(parts) + end > 0 else None


def _missing(text: str, field: str, run: Run) -> str:
    known = [name for name in FIELDS if _value(name, run) is not None]
    known += [
        f"{name}.{key}"
        for name in MAPPINGS
        for key, value in sorted(_mapping(name, run).items())
        if value is not None
    ]
    near = difflib.get_close_matches(field, known, MAX_LISTED, 0.3)
    shown = list(dict.fromkeys([*near, *known]))[:MAX_LISTED]
    more = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
    return (
        f"{run.source}: the template {text!r} needs {field}, but this run lacks it; it has "
        f"{', '.join(shown)}{more}. Write {{{field}|TEXT}} to use TEXT if it is missing."
    )


def _near(field: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(field, known, 1)
    return f" Did you mean {{{near[0]}}}?" if near else ""
