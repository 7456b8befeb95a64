"""`training_args.bin`: the settings of a Trainer out of a pickle, of which nothing is ever run.

The file is a zip of torch with one pickle in it.
"""

from __future__ import annotations

import io
import zipfile

from bridges.formats.pickles import Pickled, PickleError, read_pickle
from bridges.sources.sidecars.plain_values import plain

MAX_PICKLE_BYTES = 250_000  # bytes of the pickle; real ones have 2 to 8 thousand
MAX_ARCHIVE_BYTES = 1_000_000  # bytes: each entry of an archive takes memory
MAX_VALUES = 20_000  # in all of it, what is shared counted each time it is met
MAX_TEXT_CHARS = 1_000_000  # characters in all of it, counted in the same way
# what a TrainingArguments object holds beside its settings
NOT_SETTINGS = frozenset(
    {"distributed_state", "deepspeed_plugin", "hf_deepspeed_config", "args", "unsloth_num_chunks"}
)


class ArgsError(ValueError):
    """The bytes hold no settings; the message says why."""


def read_training_args(data: bytes) -> dict[str, object]:
    """The settings as plain values (text, numbers, lists, dicts). Raises ArgsError."""
    try:
        found = read_pickle(_pickle(data))
    except PickleError as error:
        raise ArgsError(f"its pickle is broken ({error})") from None
    state = found.fields if isinstance(found, Pickled) else found
    values = _Values()
    named = {str(key): value for key, value in state.items()} if isinstance(state, dict) else {}
    settings = {
        key: values.plain(value)
        for key, value in named.items()
        if not key.startswith("_") and key not in NOT_SETTINGS
    }
    if not settings:
        raise ArgsError("it holds no object with settings")
    return settings


def _pickle(data: bytes) -> bytes:
    """The pickle within torch's zip, or the bytes themselves (torch before 1.6)."""
    if data[:2] != b"PK":
        raise ArgsError("it is not a zip archive as torch writes it")
    if len(data) > MAX_ARCHIVE_BYTES:
        raise ArgsError(f"it is larger than {MAX_ARCHIVE_BYTES:,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
            if len(names) != 1:
                raise ArgsError("its archive holds no data.pkl")
            with archive.open(names[0]) as file:
                found = file.read(MAX_PICKLE_BYTES + 1)
    except ArgsError:
        raise
    except Exception as error:  # deliberately broad: zipfile documents few of its errors
        raise ArgsError(f"its archive is broken ({type(error).__name__})") from None
    if len(found) > MAX_PICKLE_BYTES:
        raise ArgsError(f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes")
    return found


class _Values:
    """Pickled values as plain ones; what is nested or shared beyond reason is refused."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._text = MAX_TEXT_CHARS

    def plain(self, found: object, depth: int = 0) -> object:
        """One value. Raises ArgsError."""
        self._values -= 1
        self._text -= len(found) if isinstance(found, str) else 0
        if self._values < 0 or self._text < 0 or depth > 20:
            raise ArgsError("its settings are nested beyond reason")
        if isinstance(found, Pickled):
            return self._object(found, depth)
        if isinstance(found, dict):
            has_integers = all(type(key) is int for key in found)
            keys = found if has_integers else [str(key) for key in found]
            self._text -= sum(len(str(key)) for key in keys)
            values = [self.plain(item, depth + 1) for item in found.values()]
            return dict(zip(keys, values, strict=True))
        if isinstance(found, (list, tuple)):
            return [self.plain(item, depth + 1) for item in found]
        if isinstance(found, bytes):
            return "<bytes>"
        return plain(found)

    def _object(self, found: Pickled, depth: int) -> object:
        """An enum is its value, a named attribute its name, another object its fields."""
        if found.fields:
            return self.plain(found.fields, depth + 1)
        if found.args is None:  # a class, a function or a type of torch
            return self.plain(found.name, depth + 1)
        if not found.args:
            return self.plain(found.name.rsplit(".", 1)[-1], depth + 1)
        if found.name.endswith("getattr"):
            return self.plain(str(found.args[-1]).lower(), depth + 1)
        args = found.args[0] if len(found.args) == 1 else list(found.args)
        return self.plain(args, depth + 1)
