"""`training_args.bin`: the settings of a Trainer out of a pickle, of which nothing is ever run.

The file is a zip of torch with one pickle in it. The unpickler here imports nothing: every class
and function that the pickle names becomes an empty stand-in, which only keeps what it is given.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

LARGEST = 5_000_000  # bytes of the pickle; real ones have 2 to 8 thousand
MOST_VALUES = 20_000  # in all of it, what is shared counted each time it is met
# what a TrainingArguments object holds beside its settings
NOT_SETTINGS = frozenset(
    {"distributed_state", "deepspeed_plugin", "hf_deepspeed_config", "args", "unsloth_num_chunks"}
)


class ArgsError(ValueError):
    """The bytes hold no settings; the message says why."""


class _StandIn:
    """In place of any object: what it was called with, and what was set on it."""

    _name = ""

    def __new__(cls, *args: Any, **_: Any) -> _StandIn:
        made = object.__new__(cls)
        made.__dict__["_args"] = args
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:  # slots come as a pair
            if isinstance(part, dict):
                named = {str(key): value for key, value in part.items()}
                own = {key: named[key] for key in named if not key.startswith("_")}
                self.__dict__.update(own)  # nothing takes the place of what is kept here

    def __call__(self, *args: Any, **_: Any) -> _StandIn:
        return _StandIn(*args)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("_items", {})[str(key)] = value

    def append(self, value: Any) -> None:
        """Items of a list; nobody asks for those of an object."""

    extend = append

    def __hash__(self) -> int:
        return id(self)


class _Unpickler(pickle.Unpickler):
    """Knows no class: `find_class` imports nothing, so nothing can be run."""

    def find_class(self, module: str, name: str) -> Any:
        return type("StandIn", (_StandIn,), {"_name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        return _StandIn(pid)


def read_training_args(data: bytes) -> dict[str, Any]:
    """The settings as plain values (text, numbers, lists, dicts). Raises ArgsError."""
    try:
        found = _Unpickler(io.BytesIO(_pickle(data))).load()
    except ArgsError:
        raise
    except Exception as error:  # deliberately broad: a pickle can go wrong in any way
        raise ArgsError(f"its pickle is broken ({type(error).__name__})") from None
    state = found if isinstance(found, dict) else vars(found) if _is_stand_in(found) else {}
    plain = _Plain()
    settings = {
        str(key): plain.value(value)
        for key, value in state.items()
        if not str(key).startswith("_") and key not in NOT_SETTINGS
    }
    if not settings:
        raise ArgsError("it holds no object with settings")
    return settings


def _is_stand_in(value: Any) -> bool:
    return isinstance(value, _StandIn)


def _pickle(data: bytes) -> bytes:
    """The pickle within torch's zip, or the bytes themselves (torch before 1.6)."""
    if data[:2] != b"PK":
        raise ArgsError("it is no zip archive as torch writes it")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(names) != 1:
            raise ArgsError("its archive holds no data.pkl")
        if archive.getinfo(names[0]).file_size > LARGEST:
            raise ArgsError(f"its pickle is larger than {LARGEST:,} bytes")
        with archive.open(names[0]) as file:
            return file.read(LARGEST)


class _Plain:
    """Stand-ins as plain values; what is nested or shared beyond reason is refused."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def value(self, found: Any, depth: int = 0) -> Any:
        """One value. Raises ArgsError."""
        self._left -= 1
        if self._left < 0 or depth > 20:
            raise ArgsError("its settings are nested beyond reason")
        if isinstance(found, _StandIn):
            return self._object(found, depth)
        if isinstance(found, dict):
            return {str(key): self.value(item, depth + 1) for key, item in found.items()}
        if isinstance(found, (list, tuple, set, frozenset)):
            return [self.value(item, depth + 1) for item in found]
        if found is None or isinstance(found, (bool, int, float, str)):
            return found
        return f"<{type(found).__name__}>"

    def _object(self, found: _StandIn, depth: int) -> Any:
        """An enum is its value, a named attribute its name, another object its fields."""
        fields = {key: item for key, item in vars(found).items() if not key.startswith("_")}
        if fields:
            return self.value(fields, depth + 1)
        args = vars(found)["_args"]
        if not args:
            return type(found)._name.rsplit(".", 1)[-1]
        if type(found)._name.endswith("getattr"):
            return str(args[-1]).lower()
        return self.value(args[0] if len(args) == 1 else list(args), depth + 1)
