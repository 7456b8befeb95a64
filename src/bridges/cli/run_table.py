"""The table of `bridge ls`.

On a terminal the table is fitted to the width: long names and params are shortened, and the least
important columns are hidden and listed below the table. Metrics have two lines of titles. Other
output has its columns in full, under one line of titles, and params only if they are asked for:
they would make lines of any length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import click
from rich.cells import cell_len, set_cell_size

from bridges.cli.console import padded, printable
from bridges.stream.redact import redact_key
from bridges.views.listing import PARAMS, Listing, is_metric, metric_of

METRICS = 3  # shown by default
SHORTEST = {"name": 16, "source": 16, PARAMS: 20}  # minimum widths of shortened columns
FACTS = ("rows", "steps", "epochs", "seconds")


class Table:
    """The lines of a table of runs; `width` is the terminal's, or None."""

    def __init__(self, listing: Listing, columns: Sequence[str], width: int | None) -> None:
        self._listing = listing
        self._width = width
        self._columns = [*columns] if columns else _defaults(listing, width is not None)
        self._telling = listing.telling()

    def lines(self, order: Sequence[int]) -> Iterator[str]:
        """The titles, a line for each run in this order, and the names of hidden columns."""
        if not order:
            return
        cells = {name: [self._cell(name, run) for run in order] for name in self._columns}
        widths = {name: max(map(cell_len, column)) for name, column in cells.items()}
        sizes = self._fitted(widths)
        texts = {name for name in sizes if self._is_text(name, order)}
        for titles in self._titles(sizes, texts):
            yield click.style(titles.rstrip(), dim=True)
        for at in range(len(order)):
            row = (_padded(cells[name][at], size, name, texts) for name, size in sizes.items())
            yield "  ".join(row).rstrip()
        if len(sizes) < len(self._columns):
            hidden = ", ".join(_shown(name) for name in self._columns if name not in sizes)
            yield click.style(f"hidden to fit: {hidden}", dim=True)

    def _cell(self, column: str, run: int) -> str:
        if column == PARAMS:
            pairs = self._listing.params(run, self._telling).items()
            return " ".join(f"{printable(key)}={_short(item)}" for key, item in pairs)
        value = self._listing.value(run, column)
        return "" if value is None else _short(value)

    def _is_text(self, column: str, order: Sequence[int]) -> bool:
        """Whether a column is aligned to the left."""
        values = (self._listing.value(run, column) for run in order)
        return any(isinstance(value, (str, dict)) for value in values)

    def _fitted(self, widths: dict[str, int]) -> dict[str, int]:
        """The widths of the visible columns, with their titles."""
        if self._width is None:
            return {name: max(size, cell_len(_shown(name))) for name, size in widths.items()}
        names, are_params_cut = [*widths], widths.get(PARAMS, 0) > SHORTEST[PARAMS]
        while True:
            sizes = _with_titles({name: widths[name] for name in names})
            least = {name: min(size, SHORTEST.get(name, size)) for name, size in sizes.items()}
            if _total(least) <= self._width or len(names) == 1:
                return _shrunk(sizes, self._width)
            names.remove(_least_telling(names, are_params_cut))

    def _titles(self, sizes: dict[str, int], texts: set[str]) -> Iterator[str]:
        """One line of titles; on a terminal two, metrics above the names of their values."""
        if self._width is None:
            yield "  ".join(_padded(_shown(name), sizes[name], name, texts) for name in sizes)
            return
        groups = [(key, [*names]) for key, names in groupby(sizes, _group)]
        if any(key for key, _ in groups):
            parts = ((key, _total({name: sizes[name] for name in names})) for key, names in groups)
            yield "  ".join(_padded(_shown(key), size, key, set()) for key, size in parts)
        yield "  ".join(_padded(_title(name), sizes[name], name, texts) for name in sizes)


def _defaults(listing: Listing, with_params: bool) -> list[str]:
    metrics = listing.metrics()[:METRICS]
    pairs = [name for key in metrics for name in (key, f"{key}:best")]
    params = [PARAMS] if with_params and listing.telling() else []
    return ["name", "rows", "steps", *pairs, *params]


def _shown(column: str) -> str:
    return printable(redact_key(column))


def _group(column: str) -> str:
    """The metric above the title of a column; empty for other columns."""
    return metric_of(column) if is_metric(column) else ""


def _title(column: str) -> str:
    """The title on a terminal; for a metric, the name of its value, such as `last`."""
    if not is_metric(column):
        return _shown(column)
    return column[len(metric_of(column)) + 1 :] or "last"


def _with_titles(widths: dict[str, int]) -> dict[str, int]:
    """The widths, increased to fit the titles."""
    sizes = {name: max(size, cell_len(_title(name))) for name, size in widths.items()}
    for key, group in groupby([*widths], _group):
        names = [*group]
        missing = cell_len(_shown(key)) - _total({name: sizes[name] for name in names})
        sizes[names[0]] += max(0, missing)
    return sizes


def _total(sizes: dict[str, int]) -> int:
    return sum(sizes.values()) + 2 * (len(sizes) - 1)


def _least_telling(names: Sequence[str], are_params_cut: bool) -> str:
    """The next column to hide: last values of evaluations, the best loss, params that are too
    long to be read, facts, the rest.
    """
    lasts = [name for name in names if f"{name}:best" in names]
    bests = [f"{name}:best" for name in lasts]
    facts = [name for name in FACTS if name in names]
    params = [PARAMS] if are_params_cut and PARAMS in names else []
    return [*reversed(lasts[1:]), *bests, *params, *facts, *names[:0:-1]][0]


def _shrunk(sizes: dict[str, int], width: int) -> dict[str, int]:
    """Shorten params and names until the line fits."""
    for name in (PARAMS, "source", "name"):
        if name in sizes:
            size = sizes[name]
            sizes[name] = max(min(SHORTEST[name], size), size - max(0, _total(sizes) - width))
    return sizes


def _padded(text: str, width: int, column: str, texts: set[str]) -> str:
    if column == PARAMS and cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return padded(text, width, right=column not in texts)


def _short(value: object) -> str:
    """A short text of a value: a float with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))
