"""The tables of a run: points, texts, params, one wide table, and the run itself.

The table of points is long: a row for each number, in the order of the log. `value` is float64;
`integer` holds integers exactly and is null for other numbers; `kind` is float, int or bool.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges import (
    ExistingRun,
    Layout,
    Points,
    Recorded,
    Series,
    State,
    VerifyError,
    __version__,
    encodable,
)
from bridges.exporters.description import metadata
from bridges.exporters.tables.table import TEXT, Column, Numbers, Table, Texts, numbers, texts

KINDS = ("float", "int", "bool")
FLOAT, INT, BOOL = range(3)
_CODES = {"f": FLOAT, "i": INT, "b": BOOL}  # by kind of dtype
_POINT = {"run": TEXT, "key": TEXT, "row": "int64", "step": "int64", "epoch": "float64"}
_TIME = {"time": "datetime64[us]"}
METRICS = {**_POINT, **_TIME, "value": "float64", "integer": "int64", "kind": TEXT}
TEXTS = {**_POINT, **_TIME, "json": TEXT}
PARAMS = {"run": TEXT, "param": TEXT, "value": TEXT, "json": TEXT}
_RUN_TEXTS = ("run", "name", "group", "key", "source", "writer", "status", "clock", "digest")
_RUN_JSON = ("tags", "facts", "files", "state")
RUNS = {
    **dict.fromkeys(_RUN_TEXTS, TEXT),
    **dict.fromkeys(("start", "end"), "datetime64[us]"),
    **dict.fromkeys(("rows", "points"), "int64"),
    **dict.fromkeys(("note", *_RUN_JSON), TEXT),
    "complete": "bool",
    "bridges": TEXT,
}


def metrics(layout: Layout, run: str) -> Table:
    """The numbers of a run."""
    parts = [part for part in layout.stream.numbers if len(part.rows)]
    order, columns = _points(layout, run, parts)
    values = _joined([part.values.astype(np.float64) for part in parts], np.float64)[order]
    whole = [
        part.values if part.values.dtype.kind == "i" else np.zeros(len(part.rows), np.int64)
        for part in parts
    ]
    kinds = np.repeat([_CODES[part.values.dtype.kind] for part in parts], _sizes(parts))
    kind = kinds[order].astype(np.int64)
    integer = Numbers(_joined(whole, np.int64)[order], kind != INT)
    return {**columns, "value": Numbers(values), "integer": integer, "kind": Texts(kind, KINDS)}


def other_values(layout: Layout, run: str) -> Table:
    """The values of a run that are not numbers, as JSON."""
    others = [part for part in layout.stream.series if not part.is_number]
    parts = [part for part in (*others, *layout.texts) if len(part.rows)]
    order, columns = _points(layout, run, parts)
    found = [json.dumps(value) for part in parts for value in part.values.tolist()]
    return {**columns, "json": Texts.of(found[at] for at in order.tolist())}


def params(layout: Layout, run: str) -> Table:
    """The params of a run, each as text and as JSON."""
    names = [encodable(str(name)) for name in layout.params]
    found = [json.dumps(value, default=repr) for value in layout.params.values()]
    pairs = zip(layout.params.values(), found, strict=True)
    shown = [encodable(value) if isinstance(value, str) else text for value, text in pairs]
    return {
        "run": Texts.repeated(run, len(names)),
        "param": Texts.of(names),
        "value": Texts.of(shown),
        "json": Texts.of(found),
    }


def wide(points: Table) -> Table:
    """The points with a column for each key: int64 if all are, bool if all are, else float64.

    If a row has several values of a key, the last one is shown.
    """
    rows, first = np.unique(numbers(points, "row"), return_index=True)
    found: dict[str, Column] = {"row": Numbers(rows)}
    for name in ("step", "epoch", "time"):
        column = points[name]
        assert isinstance(column, Numbers)
        missing = None if column.missing is None else column.missing[first]
        found[name] = Numbers(column.values[first], missing)
    for key, at, values in _by_key(points):
        if key == "epoch":  # a column of every table
            continue
        place = np.searchsorted(rows, numbers(points, "row")[at])
        filled, missing = np.zeros(len(rows), values.dtype), np.ones(len(rows), bool)
        filled[place], missing[place] = values, False
        found[_free(key, found)] = Numbers(filled, missing)
    return found


def recorded(points: Table, others: Table | None) -> Recorded:
    """The points and other values of a run. Raises VerifyError for contradicting columns."""
    value, integer = numbers(points, "value"), numbers(points, "integer")
    is_int = _kinds(points) == INT
    if not np.array_equal(value[is_int], integer[is_int].astype(np.float64)):
        raise VerifyError("the columns `value` and `integer` contradict each other")
    step, time = numbers(points, "step"), _seconds(points)
    found = {key: Points(step[at], values, time[at]) for key, at, values in _by_key(points)}
    return Recorded(found, tuple(_others(others)) if others else ())


def run_row(layout: Layout, run: str, state: State, *, complete: bool) -> Table:
    """The row of a run in the table of runs, with its state."""
    about = metadata(layout)
    shown = {**about, "run": run, "key": layout.key, "clock": layout.clock.name}
    shown |= {"digest": layout.digest, "state": state.fields()}
    texts = {name: Texts.of([str(shown[name])]) for name in (*_RUN_TEXTS, "note")}
    objects = {name: Texts.of([json.dumps(shown[name])]) for name in _RUN_JSON}
    counts = {"rows": layout.rows, "points": layout.points}
    ends = {"start": layout.clock.start, "end": layout.clock.end}
    row: dict[str, Column] = {**texts, **objects, "bridges": Texts.of([__version__])}
    row |= {name: Numbers(np.array([count], np.int64)) for name, count in counts.items()}
    row |= {name: Numbers(np.array([time], "datetime64[us]")) for name, time in ends.items()}
    row["complete"] = Numbers(np.array([complete]))
    return {name: row[name] for name in RUNS}


def existing_run(row: Table, location: str, missing: tuple[str, ...]) -> ExistingRun:
    """The run of a row of the table of runs; `missing` names tables that it lacks.

    Raises ValueError, KeyError, TypeError.
    """
    is_settled = bool(numbers(row, "complete")[0])
    text = {name: texts(row, name).tolist()[0] for name in ("key", "name", "run", "state")}
    return ExistingRun(
        key=text["key"],
        name=text["name"],
        location=location,
        state=State.of(json.loads(text["state"])),
        id=text["run"],
        complete=is_settled and not missing,
        missing=missing if is_settled else (),
    )


def params_in(table: Table) -> dict[str, object]:
    """The params of a table."""
    names, found = texts(table, "param").tolist(), texts(table, "json").tolist()
    return {name: json.loads(text) for name, text in zip(names, found, strict=True)}


def _points(layout: Layout, run: str, parts: list[Series]) -> tuple[NDArray[Any], Table]:
    """The order of the values of series in the log, and the columns that locate them."""
    stream = layout.stream
    rows = _joined([part.rows for part in parts], np.int64)
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    keys = [*dict.fromkeys(part.key for part in parts)]
    codes = np.repeat([keys.index(part.key) for part in parts], _sizes(parts))[order]
    time = _joined([stream.times(part) for part in parts], np.int64)[order]
    epoch = stream.epoch[rows]
    return order, {
        "run": Texts.repeated(run, len(rows)),
        "key": Texts(codes.astype(np.int64), keys),
        "row": Numbers(rows),
        "step": Numbers(stream.step[rows]),
        "epoch": Numbers(np.nan_to_num(epoch), np.isnan(epoch)),
        "time": Numbers(time.view("datetime64[us]")),
    }


def _sizes(parts: list[Series]) -> list[int]:
    return [len(part.rows) for part in parts]


def _joined(columns: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *columns])


def _kinds(points: Table) -> NDArray[np.int64]:
    """The kind of each point (int64, n): FLOAT, INT or BOOL. Raises VerifyError for another."""
    column = texts(points, "kind")
    if not {*column.names} <= {*KINDS}:
        raise VerifyError(f"found a kind of numbers other than {', '.join(KINDS)}")
    places = np.array([KINDS.index(name) for name in column.names], np.int64)
    return places[column.codes] if len(places) else column.codes


def _by_key(points: Table) -> Iterable[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Each key with the positions of its points, in order, and their values."""
    column, kinds = texts(points, "key"), _kinds(points)
    order = np.argsort(column.codes, kind="stable")
    counts = np.bincount(column.codes, minlength=len(column.names))
    for key, at in zip(column.names, np.split(order, np.cumsum(counts)), strict=False):
        if len(at):
            yield key, at, _values(points, at, kinds[at])


def _values(points: Table, at: NDArray[Any], kinds: NDArray[np.int64]) -> NDArray[Any]:
    """The values of some points in the type that holds all of them."""
    found = {*np.unique(kinds).tolist()}
    value: NDArray[Any] = numbers(points, "value")[at]
    if FLOAT in found:
        return value
    truth: NDArray[Any] = value == 1
    integer: NDArray[Any] = numbers(points, "integer")[at]
    return truth if found == {BOOL} else np.where(kinds == INT, integer, truth)


def _seconds(points: Table) -> NDArray[np.float64]:
    return numbers(points, "time").view(np.int64) / 1e6


def _others(table: Table) -> Iterable[tuple[str, int, object]]:
    keys, found = texts(table, "key").tolist(), texts(table, "json").tolist()
    for key, step, text in zip(keys, numbers(table, "step").tolist(), found, strict=True):
        yield key, step, json.loads(text)


def _free(name: str, taken: Mapping[str, object]) -> str:
    """The name of a column that is not in use, with underscores if needed."""
    while name in taken:
        name += "_"
    return name
