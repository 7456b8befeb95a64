"""Reads `training_args.bin`, the settings of a Trainer, without executing its pickle.

The file is a zip archive written by torch that contains one pickle.
"""

from __future__ import annotations

import io
import zipfile

from bridges.formats.pickles import Pickled, PickleError, read_pickle
from bridges.sources.sidecars.plain_values import plain

MAX_PICKLE_BYTES = 250_000  # real ones have 2,000 to 8,000
MAX_ARCHIVE_BYTES = 1_000_000  # each entry of an archive takes memory
MAX_VALUES = 20_000  # in total; shared values count each time
MAX_TEXT_CHARS = 1_000_000  # in total; shared values count each time
# attributes of a TrainingArguments object that are not settings
NOT_SETTINGS = frozenset(
    {"distributed_state", "deepspeed_plugin", "hf_deepspeed_config", "args", "unsloth_num_chunks"}
)


class ArgsError(ValueError):
    """The file has no readable settings; the message gives the reason."""


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
        raise ArgsError("it contains no object with settings")
    return settings


def _pickle(data: bytes) -> bytes:
    """The pickle in torch's zip archive. Raises ArgsError."""
    if data[:2] != b"PK":
        raise ArgsError("it is not a zip archive as torch writes it")
    if len(data) > MAX_ARCHIVE_BYTES:
        raise ArgsError(f"it is larger than {MAX_ARCHIVE_BYTES:,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
            if len(names) != 1:
                raise ArgsError("its archive contains no data.pkl")
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
    """Converts pickled values to plain values, up to a limit of values, text and depth."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._text = MAX_TEXT_CHARS

    def plain(self, found: object, depth: int = 0) -> object:
        """One value. Raises ArgsError."""
        self._values -= 1
        self._text -= len(found) if isinstance(found, str) else 0
        if self._values < 0 or self._text < 0 or depth > 20:
            raise ArgsError("its settings are too large or nested too deeply")
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
        """The value of an enum, the name of an attribute or class, or the fields of an object."""
        if found.fields:
            return self.plain(found.fields, depth + 1)
        if found.args is None:  # a class, a function or a torch type
            return self.plain(found.name, depth + 1)
        if not found.args:
            return self.plain(found.name.rsplit(".", 1)[-1], depth + 1)
        if found.name.endswith("getattr"):
            return self.plain(str(found.args[-1]).lower(), depth + 1)
        args = found.args[0] if len(found.args) == 1 else list(found.args)
        return self.plain(args, depth + 1)
