"""Reads pickles as plain data: nothing is imported, called or hashed, so hostile ones are harmless.

The memory and time of Python's unpickler cannot be limited: a few bytes make it allocate gigabytes
(a memo index), or hash a nested tuple forever. This reader supports the opcodes of protocols 0 to
5, except extensions and out-of-band buffers, in time and memory linear in the size of the pickle.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_ATTRIBUTES = 50_000  # of all objects together


class PickleError(ValueError):
    """The bytes are not a readable pickle; the message gives the reason."""


@dataclass(eq=False)
class Pickled:
    """Stand-in for a class, a function, or an object in a pickle.

    `args`: the constructor arguments, None if it was not called; `fields`: its attributes.
    """

    name: str
    args: tuple[Any, ...] | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def read_pickle(data: bytes) -> Any:
    """The value of a pickle: sets as lists, dict keys as text or integer, objects as `Pickled`.

    The value may contain shared, nested and circular values. Raises PickleError.
    """
    machine = _Machine(data)
    try:
        while not machine.stopped:
            action = _ACTIONS[data[machine.at]]
            machine.at += 1
            action(machine)
        return machine.pop()
    except (LookupError, ValueError, TypeError) as error:
        raise PickleError(f"{type(error).__name__} at byte {machine.at}") from None


class _Machine:
    """The pickle machine: its stack, marks and memo."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stopped = False
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.built = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises ValueError if fewer are left."""
        start, self.at = self.at, self.at + size
        if size < 0 or self.at > len(self.data):
            raise ValueError(size)
        return self.data[start : self.at]

    def number(self, size: int, *, signed: bool = False) -> int:
        """The next `size` bytes as an integer."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def counted(self, size: int) -> bytes:
        """Bytes prefixed with their count, which has `size` bytes."""
        return self.take(self.number(size))

    def line(self) -> bytes:
        """The bytes up to the end of the line."""
        start, self.at = self.at, self.data.index(b"\n", self.at) + 1
        return self.data[start : self.at - 1]

    def push(self, value: Any) -> None:
        """Push a value onto the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Pop the last value from the stack."""
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """Pop the values after the last mark from the stack."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def memoize(self, index: int) -> None:
        """Store the last value in the memo."""
        self.memo[index] = self.stack[-1]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _key(key: Any) -> str | int:
    """A dict key as integer or text; nested values become their type, as their text is long."""
    if isinstance(key, str) or (type(key) is int and abs(key) < 2**64):
        return key
    plain = key is None or isinstance(key, (bool, float))
    return str(key) if plain else f"<{type(key).__name__}>"


def _integer(machine: _Machine) -> None:
    line = machine.line()
    known = {b"00": False, b"01": True}
    machine.push(known[line] if line in known else int(line))


def _quoted(machine: _Machine) -> None:
    line = machine.line()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError(line)
    machine.push(codecs.escape_decode(line[1:-1])[0].decode("ascii"))


def _mark(machine: _Machine) -> None:
    machine.marks.append(len(machine.stack))


def _pop(machine: _Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


def _stop(machine: _Machine) -> None:
    machine.stopped = True


def _tuple(count: int) -> Callable[[_Machine], None]:
    def action(machine: _Machine) -> None:
        if len(machine.stack) < count:
            raise IndexError(count)
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return action


def _pairs(values: list[Any]) -> dict[str | int, Any]:
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _set_items(machine: _Machine, pairs: list[Any]) -> None:
    owner = machine.stack[-1]
    if isinstance(owner, dict):
        owner.update(_pairs(pairs))
    elif not isinstance(owner, Pickled):  # items of an object are not fields and are ignored
        raise TypeError(type(owner))


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _append(machine: _Machine, values: list[Any]) -> None:
    owner = machine.stack[-1]
    if isinstance(owner, list):
        owner += values
    elif not isinstance(owner, Pickled):
        raise TypeError(type(owner))


def _append_one(machine: _Machine) -> None:
    value = machine.pop()
    _append(machine, [value])


def _name(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.push(Pickled(f"{_text(module)}.{_text(name)}"))


def _stack_name(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError(type(name))
    machine.push(Pickled(f"{module}.{name}"))


def _called(made: Any, args: Any) -> Pickled:
    if not isinstance(made, Pickled) or not isinstance(args, tuple):
        raise TypeError(type(made))
    return Pickled("" if made.args is not None else made.name, args)


def _call(machine: _Machine) -> None:
    args, made = machine.pop(), machine.pop()
    machine.push(_called(made, args))


def _call_with_keywords(machine: _Machine) -> None:
    machine.pop()
    _call(machine)


def _call_marked(machine: _Machine) -> None:
    made, *args = machine.marked()
    machine.push(_called(made, tuple(args)))


def _call_named(machine: _Machine) -> None:
    _name(machine)
    made = machine.pop()
    machine.push(_called(made, tuple(machine.marked())))


def _build(machine: _Machine) -> None:
    state, owner = machine.pop(), machine.stack[-1]
    if not isinstance(owner, Pickled):
        raise TypeError(type(owner))
    for part in state if isinstance(state, tuple) else (state,):  # slots come as a pair
        if isinstance(part, dict):
            machine.built += len(part)
            if machine.built > MAX_ATTRIBUTES:
                raise PickleError("its objects have too many attributes")
            fields = {str(key): value for key, value in part.items()}
            owner.fields.update((key, fields[key]) for key in fields if not key.startswith("_"))


def _persistent(machine: _Machine) -> None:
    machine.push(Pickled("", (machine.pop(),)))


def _pushing(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value(machine))


_ACTIONS: dict[int, Callable[[_Machine], Any]] = {
    # control
    0x80: lambda m: m.take(1),  # PROTO
    0x95: lambda m: m.take(8),  # FRAME
    ord("."): _stop,
    ord("("): _mark,
    ord("0"): _pop,
    ord("1"): _Machine.marked,  # POP_MARK
    ord("2"): _pushing(lambda m: m.stack[-1]),  # DUP
    # the memo
    ord("p"): lambda m: m.memoize(int(m.line())),
    ord("q"): lambda m: m.memoize(m.number(1)),
    ord("r"): lambda m: m.memoize(m.number(4)),
    0x94: lambda m: m.memoize(len(m.memo)),
    ord("g"): _pushing(lambda m: m.memo[int(m.line())]),
    ord("h"): _pushing(lambda m: m.memo[m.number(1)]),
    ord("j"): _pushing(lambda m: m.memo[m.number(4)]),
    # numbers and constants
    ord("N"): _pushing(lambda m: None),
    0x88: _pushing(lambda m: True),
    0x89: _pushing(lambda m: False),
    ord("I"): _integer,
    ord("L"): _pushing(lambda m: int(m.line().removesuffix(b"L"))),
    ord("J"): _pushing(lambda m: m.number(4, signed=True)),
    ord("K"): _pushing(lambda m: m.number(1)),
    ord("M"): _pushing(lambda m: m.number(2)),
    0x8A: _pushing(lambda m: m.number(m.number(1), signed=True)),
    0x8B: _pushing(lambda m: m.number(m.number(4, signed=True), signed=True)),
    ord("F"): _pushing(lambda m: float(m.line())),
    ord("G"): _pushing(lambda m: struct.unpack(">d", m.take(8))[0]),
    # text and bytes
    ord("S"): _quoted,
    ord("T"): _pushing(lambda m: m.counted(4).decode("ascii")),
    ord("U"): _pushing(lambda m: m.counted(1).decode("ascii")),
    ord("V"): _pushing(lambda m: m.line().decode("raw-unicode-escape")),
    ord("X"): _pushing(lambda m: _text(m.counted(4))),
    0x8C: _pushing(lambda m: _text(m.counted(1))),
    0x8D: _pushing(lambda m: _text(m.counted(8))),
    ord("B"): _pushing(lambda m: m.counted(4)),
    ord("C"): _pushing(lambda m: m.counted(1)),
    0x8E: _pushing(lambda m: m.counted(8)),
    0x96: _pushing(lambda m: m.counted(8)),  # BYTEARRAY8
    # containers
    ord("t"): _pushing(lambda m: tuple(m.marked())),
    ord(")"): _pushing(lambda m: ()),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("l"): _pushing(_Machine.marked),
    ord("]"): _pushing(lambda m: []),
    ord("d"): _pushing(lambda m: _pairs(m.marked())),
    ord("}"): _pushing(lambda m: {}),
    0x8F: _pushing(lambda m: []),  # EMPTY_SET
    0x91: _pushing(_Machine.marked),  # FROZENSET
    ord("a"): _append_one,
    ord("e"): lambda m: _append(m, m.marked()),
    0x90: lambda m: _append(m, m.marked()),  # ADDITEMS
    ord("s"): _set_item,
    ord("u"): lambda m: _set_items(m, m.marked()),
    # objects
    ord("c"): _name,
    0x93: _stack_name,
    ord("R"): _call,
    0x81: _call,  # NEWOBJ
    0x92: _call_with_keywords,  # NEWOBJ_EX
    ord("o"): _call_marked,
    ord("i"): _call_named,
    ord("b"): _build,
    ord("P"): _pushing(lambda m: Pickled("", (_text(m.line()),))),
    ord("Q"): _persistent,
}
