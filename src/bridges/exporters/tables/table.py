"""A table in memory: named columns of equal length, which both file formats write and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEXT = "text"  # the type of columns of texts; other types are names of NumPy


@dataclass(frozen=True)
class Numbers:
    """A column of int64, float64, bool or datetime64[us] (n); `missing` (bool, n): nulls."""

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def only(self, chosen: slice) -> Numbers:
        """Some rows of the column."""
        missing = None if self.missing is None else self.missing[chosen]
        return Numbers(self.values[chosen], missing)

    @property
    def type(self) -> str:
        """The name of the type."""
        return str(self.values.dtype)


@dataclass(frozen=True)
class Texts:
    """A column of n texts: `names` has the distinct texts, `codes` (int64, n) their positions."""

    codes: NDArray[np.int64]
    names: Sequence[str]
    type = TEXT

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """The column of these texts."""
        places: dict[str, int] = {}
        codes = [places.setdefault(text, len(places)) for text in texts]
        return cls(np.array(codes, np.int64), [*places])

    @classmethod
    def repeated(cls, text: str, count: int) -> Texts:
        """The column with one text in each row."""
        return cls(np.zeros(count, np.int64), [text])

    def __len__(self) -> int:
        return len(self.codes)

    def only(self, chosen: slice) -> Texts:
        """Some rows of the column."""
        return Texts(self.codes[chosen], self.names)

    def tolist(self) -> list[str]:
        """The texts."""
        return [self.names[code] for code in self.codes.tolist()]


Column = Numbers | Texts
Table = Mapping[str, Column]


def numbers(table: Table, name: str) -> NDArray[Any]:
    """The values of a column. Raises KeyError without such a column of numbers."""
    column = table[name]
    if not isinstance(column, Numbers):
        raise KeyError(name)
    return column.values


def texts(table: Table, name: str) -> Texts:
    """A column of texts. Raises KeyError without such a column."""
    column = table[name]
    if not isinstance(column, Texts):
        raise KeyError(name)
    return column


def types_of(table: Table) -> dict[str, str]:
    """The types of the columns by name."""
    return {name: column.type for name, column in table.items()}


def is_equal(one: Table, other: Table) -> bool:
    """Whether tables have equal columns in the same order; NaN equals NaN."""
    return types_of(one) == types_of(other) and all(_is_same(one[n], other[n]) for n in one)


def _is_same(one: Column, other: Column) -> bool:
    if isinstance(one, Texts) or isinstance(other, Texts):
        return isinstance(other, Texts) and isinstance(one, Texts) and _equal_texts(one, other)
    first, second = _missing(one), _missing(other)
    a, b = one.values[~first], other.values[~second]
    is_float = a.dtype.kind == "f"
    return np.array_equal(first, second) and np.array_equal(a, b, equal_nan=is_float)


def _equal_texts(one: Texts, other: Texts) -> bool:
    return one.tolist() == other.tolist()


def _missing(column: Numbers) -> NDArray[np.bool_]:
    gone = column.missing
    return np.zeros(len(column.values), bool) if gone is None else gone
