"""Settings in the form in which a live callback logs them: order, integer keys, names.

JSON and redaction turn all keys into text, but a live callback logs the numbered labels of a model
with integer keys.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from bridges.sources.sidecars.json_settings import read_json

CONFIG, ARGUMENTS = "config.json", "training_args.bin"
MAX_NAME_CHARS = 250
_NUMBERED = ("id2label", "pruned_heads")  # entries of a model's config with integer keys
_DEFAULT_PROJECT = "huggingface"
_SETFIT_LOSS = "embedding_loss"
_SENTENCE_TRANSFORMERS_SETTING = "multi_dataset_batch_sampler"  # of its trainers only


def read_config(data: bytes) -> dict[str, object]:
    """The settings in a `config.json`, with integer keys where transformers has them."""
    return {key: _numbered(key, value) for key, value in read_json(data).items()}


def _numbered(key: str, value: object) -> object:
    if not isinstance(value, dict):
        return value
    if key in _NUMBERED and all(name.isdecimal() and len(name) < 10 for name in value):
        return {int(name): item for name, item in value.items()}
    return {name: _numbered(name, item) for name, item in value.items()}


def with_integer_keys(clean: object, original: object) -> object:
    """A redacted value with the integer keys of the original."""
    if isinstance(original, dict) and isinstance(clean, dict) and len(clean) == len(original):
        pairs = zip(clean.values(), original.values(), strict=True)
        values = [with_integer_keys(*pair) for pair in pairs]
        has_integers = all(type(key) is int for key in original)
        return dict(zip(original if has_integers else clean, values, strict=True))
    if isinstance(original, list) and isinstance(clean, list) and len(clean) == len(original):
        return [with_integer_keys(*pair) for pair in zip(clean, original, strict=True)]
    return clean


def in_live_order(params: Mapping[str, object], files: Mapping[str, str]) -> dict[str, object]:
    """The params in the order of a live callback: the model's, then the arguments, then others.

    `files`: the file of each param.
    """
    ranks = {CONFIG: 0, ARGUMENTS: 1}
    names = sorted(params, key=lambda name: ranks.get(file_name(files.get(name, "")), 2))
    return {name: params[name] for name in names}


def run_name_of(params: Mapping[str, object], files: Mapping[str, str]) -> str | None:
    """The `run_name` argument, which names the run in live trackers; None if unset or too long.

    Older releases of transformers use the output directory as a name, which does not count.
    """
    given, output = params.get("run_name"), params.get("output_dir")
    if not isinstance(given, str) or not _is_argument("run_name", files):
        return None
    is_path = isinstance(output, str) and posixpath.normpath(given) == posixpath.normpath(output)
    name = "".join(char if char.isprintable() else " " for char in given).strip()
    return name if 0 < len(name) <= MAX_NAME_CHARS and not is_path else None


def project_of(files: Mapping[str, str], keys: Sequence[str]) -> str | None:
    """The tracker project that the library of the trainer sets by default; None if it sets none.

    `keys`: the keys of the log.
    """
    if _SETFIT_LOSS in keys and "loss" not in keys:
        return "setfit"
    is_known = _is_argument(_SENTENCE_TRANSFORMERS_SETTING, files)
    return "sentence-transformers" if is_known else None


def own_projects(params: Mapping[str, object], files: Mapping[str, str]) -> dict[str, str]:
    """By target, the project that the argument `project` names; only Trackio's callback uses it.

    The argument's default does not count.
    """
    given = params.get("project")
    is_set = isinstance(given, str) and given not in ("", _DEFAULT_PROJECT)
    return {"trackio": str(given)} if is_set and _is_argument("project", files) else {}


def _is_argument(key: str, files: Mapping[str, str]) -> bool:
    return file_name(files.get(key, "")) == ARGUMENTS


def file_name(path: str) -> str:
    """The last name of a path, with slashes or backslashes."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]
