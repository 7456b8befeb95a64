"""Settings as a live callback sees them: order and integer keys, and what else it takes from them.

JSON and redaction make text of every key, and the labels of a model are numbered.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from bridges.sources.sidecars.json_settings import read_json

CONFIG, ARGUMENTS = "config.json", "training_args.bin"
MAX_NAME_CHARS = 250  # characters
_NUMBERED = ("id2label", "pruned_heads")  # of a model's configuration: their keys are integers
_OF_SETFIT = "embedding_loss"  # what SetFit calls the loss
_OF_SENTENCE_TRANSFORMERS = "multi_dataset_batch_sampler"  # a setting that only its trainers have


def read_config(data: bytes) -> dict[str, object]:
    """The settings of a `config.json`, with integer keys where transformers makes integers."""
    return {key: _numbered(key, value) for key, value in read_json(data).items()}


def _numbered(key: str, value: object) -> object:
    if not isinstance(value, dict):
        return value
    if key in _NUMBERED and all(name.isdecimal() and len(name) < 10 for name in value):
        return {int(name): item for name, item in value.items()}
    return {name: _numbered(name, item) for name, item in value.items()}


def with_integer_keys(clean: object, original: object) -> object:
    """The clean copy of a value with the integer keys of the original."""
    if isinstance(original, dict) and isinstance(clean, dict) and len(clean) == len(original):
        pairs = zip(clean.values(), original.values(), strict=True)
        values = [with_integer_keys(*pair) for pair in pairs]
        has_integers = all(type(key) is int for key in original)
        return dict(zip(original if has_integers else clean, values, strict=True))
    if isinstance(original, list) and isinstance(clean, list) and len(clean) == len(original):
        return [with_integer_keys(*pair) for pair in zip(clean, original, strict=True)]
    return clean


def in_live_order(params: Mapping[str, object], files: Mapping[str, str]) -> dict[str, object]:
    """The params as a callback logs them: those of the model first, then the arguments.

    Those that it does not know come last. `files` has the file of each.
    """
    ranks = {CONFIG: 0, ARGUMENTS: 1}
    names = sorted(params, key=lambda name: ranks.get(_file_name(files.get(name, "")), 2))
    return {name: params[name] for name in names}


def run_name_of(params: Mapping[str, object], files: Mapping[str, str]) -> str | None:
    """The name that a run was started with, and has in its live trackers; None where it has none.

    Older releases of transformers take the output directory for a name. One that is longer than
    trackers allow is not used.
    """
    given, output = params.get("run_name"), params.get("output_dir")
    if not isinstance(given, str) or not _is_of_arguments("run_name", files):
        return None
    is_path = isinstance(output, str) and posixpath.normpath(given) == posixpath.normpath(output)
    name = "".join(sign if sign.isprintable() else " " for sign in given).strip()
    return name if 0 < len(name) <= MAX_NAME_CHARS and not is_path else None


def project_of(files: Mapping[str, str], keys: Sequence[str]) -> str | None:
    """The project that the library of a run's trainer sets for its trackers; None for none.

    `keys` are those of its log.
    """
    if _OF_SETFIT in keys and "loss" not in keys:
        return "setfit"
    is_known = _is_of_arguments(_OF_SENTENCE_TRANSFORMERS, files)
    return "sentence-transformers" if is_known else None


def _is_of_arguments(key: str, files: Mapping[str, str]) -> bool:
    return _file_name(files.get(key, "")) == ARGUMENTS


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
