"""The command `bridge diff`: two runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bridges.cli.console import count_noun, print_error, print_json, printable
from bridges.errors import BridgeError, SourceError
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import read_runs
from bridges.stream.model import Run
from bridges.stream.redact import redact_message, redact_stream
from bridges.stream.trend import sparks
from bridges.views.compare import Comparison, by_step, compare, is_duration
from bridges.views.params import ABSENT

WIDE, NARROW = 40, 24  # characters of a sparkline
ENOUGH = 100  # columns of a terminal for wide ones
ROUNDING = 1e-12
STYLES = {"A": "cyan", "B": "yellow"}
TROUBLE = 2  # the exit code of `diff` if it cannot compare
Lines = Iterator[Any]


def diff(
    sources: tuple[str, str],
    options: ExportOptions,
    ignored: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Print the differences of two runs. Returns 0 if they are equal, 1 if not, 2 on errors."""
    try:
        a, b = (_only_run(source, options) for source in sources)
    except BridgeError as error:
        print_error(str(error))
        return TROUBLE
    found = compare(a, b, ignored)
    if as_json:
        print_json(_document(a, b, found))
    elif not quiet:
        console = Console()
        for part in chain(
            _head(a, b, found),
            _params(found),
            _metrics(a, b, found, verbose, console.width),
            _rows(found),
        ):
            console.print(part)
    return 0 if found.is_equal else 1


def _only_run(location: str, options: ExportOptions) -> Run:
    """The one run of a location, secrets masked. Raises SourceError if there are several."""
    runs = read_runs(location, options)
    first, second = next(runs, None), next(runs, None)
    if first is None or second is not None:
        names = f"several runs, such as {first.path} and {second.path}" if first and second else ""
        raise SourceError(
            location,
            found=names or "no run",
            expected="one run",
            remedy="Name the directory or the file of one run (`bridge ls` lists them).",
        )
    return replace(first, stream=redact_stream(first.stream)[0])


def _head(a: Run, b: Run, found: Comparison) -> Lines:
    """A line for each run, and a line for equal ones."""
    for side, run in (("A", a), ("B", b)):
        steps = run.stream.step
        span = f", steps {steps.min():,} to {steps.max():,}" if len(steps) else ""
        yield Text.assemble(
            (f"{side}  ", "bold"),
            (printable(run.path), STYLES[side]),
            f"  {count_noun(len(run.stream), 'row')}{span}",
        )
        yield Text(f"   {printable(run.source)}", "dim")
    if found.is_equal:
        yield ""
        yield "The params and rows are equal."


def _params(found: Comparison) -> Lines:
    """The differing params."""
    if not found.params:
        return
    table = _table("params that differ", "A", "B")
    for key, values in found.params.items():
        table.add_row(_key(key), *(Text("–" if v is ABSENT else _text(v)) for v in values))
    yield ""
    yield table


def _metrics(a: Run, b: Run, found: Comparison, verbose: bool, width: int) -> Lines:
    """The table of metrics: last and best values and trends, both runs above each other; of equal
    runs only if `verbose`.
    """
    if found.is_equal and not verbose:
        return
    shown = [key for key in found.metrics if verbose or not is_duration(key)]
    if not shown:
        return
    table = _table("metric", "", "last", "B − A", "best", "trend")
    for key in shown:
        trends = _trends(a, b, key, WIDE if width >= ENOUGH else NARROW)
        one, other = found.metrics[key]
        change = _change(one.last, other.last) if one and other else ""
        for side, each, name in (("A", one, key), ("B", other, "")):
            trend = Text(next(trends), STYLES[side])
            last, best = _number(each.last if each else None), _number(each.best if each else None)
            table.add_row(
                _key(name), Text(side, STYLES[side]), last, "" if name else change, best, trend
            )
    yield ""
    yield table


def _change(before: float, after: float) -> str:
    return "=" if before == after else f"{after - before:+.4g}"


def _trends(a: Run, b: Run, key: str, most: int) -> Iterator[str]:
    """The sparklines of a metric, over the same steps and values; empty for single points."""
    steps = [run.stream.step[run.stream.column(key)[0]] for run in (a, b)]
    width = min(most, max(map(len, steps)))
    both = np.concatenate(steps)
    edges = np.linspace(both.min(), max(both.max(), both.min() + 1), width + 1)
    cells = [by_step(run, key, edges) for run in (a, b)]
    finite = [cell for cell in chain(*cells) if cell is not None]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if high - low <= ROUNDING * max(abs(low), abs(high)):  # the means of equal values
        high = low
    for row in cells:
        yield sparks(row, low, high, " ") if width > 1 else ""


def _rows(found: Comparison) -> Lines:
    """The first different row, and their number."""
    if found.first is None:
        return
    count = f"{count_noun(found.rows, 'row')} in all"
    if found.timed_only == found.rows:
        count = f"{count_noun(found.rows, 'row')}, in durations only"
    elif found.timed_only:
        count += f", {found.timed_only:,} of them in durations only"
    yield ""
    yield Text.assemble(
        (f"row {found.first.row:,} is the first that differs", "bold"), f" ({count})"
    )
    for side, values in (("A", found.first.a), ("B", found.first.b)):
        shown = "this run has ended" if values is None else _pairs(values)
        yield Padding(Text.assemble((f"{side}  ", "bold"), (shown, STYLES[side])), (0, 0, 0, 2))


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{printable(key)} {_exact(value)}" for key, value in values.items())


def _table(*titles: str) -> Table:
    """A table; the first column folds, and columns of texts are aligned to the left."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(titles[0], overflow="fold")
    for title in titles[1:]:
        if title in ("A", "B"):
            table.add_column(title, overflow="fold")
        else:
            is_text = title in ("", "trend")
            table.add_column(title, justify="left" if is_text else "right", no_wrap=True)
    return table


def _key(key: str) -> Text:
    return Text(printable(key))


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _exact(value: Any) -> str:
    return repr(value) if isinstance(value, float) else printable(str(value))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _document(a: Run, b: Run, found: Comparison) -> dict[str, Any]:
    return {
        "equal": found.is_equal,
        **{side: _about(run) for side, run in (("a", a), ("b", b))},
        "params": {key: _sides(pair) for key, pair in found.params.items()},
        "metrics": {
            key: {side: asdict(one) for side, one in zip("ab", pair, strict=True) if one}
            for key, pair in found.metrics.items()
        },
        "rows_that_differ": found.rows,
        "in_durations_only": found.timed_only,
        "first_difference": asdict(found.first) if found.first else None,
    }


def _about(run: Run) -> dict[str, Any]:
    return {"run": run.path, "source": redact_message(run.source), "rows": len(run.stream)}


def _sides(pair: tuple[Any, Any]) -> dict[str, Any]:
    """The values of both runs, without a missing one."""
    return {side: value for side, value in zip("ab", pair, strict=True) if value is not ABSENT}
