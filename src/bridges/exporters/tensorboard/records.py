"""The records of one event file, from a layout, as the live callback writes them.

Besides scalars and texts, a file contains its provenance and state as a text, the settings as a
table of the Text page, and the session records of the HParams page. No experiment summary is
written: TensorBoard shows only one per log directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bridges.exporters.description import files_of
from bridges.exporters.state import State
from bridges.formats.events import proto
from bridges.formats.events.crc32c import UInt8
from bridges.formats.events.writer import ScalarColumn, as_float32, scalar_records
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64, MetricStream, Series
from bridges.stream.naming import encodable
from bridges.stream.redact import redact_text

STATE_TAG = "bridges/provenance/text_summary"
PARAMS_TAG = "bridges/params/text_summary"
NOTE_TAG = "bridges/note/text_summary"
OWN_TEXTS = (STATE_TAG, PARAMS_TAG, NOTE_TAG)
IS_SUCCESS = {"finished": True, "failed": False, "killed": False}  # by status of an ended run
_CELL = re.compile(r"((?:[^\\|]|\\.)*)\|")
_BREAK = re.compile(r"[\r\n]")
# borders and backslashes are escaped by a backslash; a last backslash, marks of emphasis and code,
# links and entities by an entity
_MARKDOWN = re.compile(
    r"\\$|[\\|*`]|(?<![^\W_])_|_(?![^\W_])|\[(?=[^\]]*\]\()|&(?=#?\w+;)|<(?=https?:)"
)
_ESCAPED = re.compile(r"\\([\\|])|&#(38|42|60|91|92|95|96);")
TEXTS_PER_BATCH = 256  # framed together
FOLDERS = "directories"  # in the state: the other directories of the run
_FENCE = ("```json\n", "\n```")


def parse_state(text: str) -> tuple[int, State]:
    """The first row of a segment and the state of its run, from the segment's first text.

    Raises one of `UNREADABLE` for other texts.
    """
    found = state_fields(text)
    first, rows = found["rows"]
    if not (0 <= first <= rows and found["clock"]):
        raise ValueError(text)
    return int(first), State.of({**found, "rows": rows})


def parse_tags(text: str) -> dict[str, str]:
    """The run tags in a segment's first text."""
    return dict(state_fields(text)["tags"])


def state_fields(text: str) -> dict[str, Any]:
    """The JSON object in a segment's first text. Raises ValueError for other texts."""
    found: dict[str, Any] = json.loads(text.removeprefix(_FENCE[0]).removesuffix(_FENCE[1]))
    return found


def records(layout: Layout, start: int, state: State) -> Iterator[bytes | UInt8]:
    """The records of the rows from `start` on: version, state, settings, scalars, texts, end.

    A file from row 0 on begins a session, which replaces all earlier files.
    """
    head = [*_head(layout, start, state)]
    framed = proto.frames([*head, *_end(layout)])
    own = _in_folder(layout, "")
    yield from framed[: len(head)]
    yield from _scalars(own, start)
    yield from _texts(own, start)
    yield from framed[len(head) :]


def part_records(layout: Layout, start: int, folder: str) -> Iterator[bytes | UInt8]:
    """The records of the rows from `start` on in another directory of the run."""
    begin = layout.clock.start / 1e6
    head = [proto.file_version_event(begin)]
    if start == 0:
        head.append(proto.session_start_event(begin, int(layout.stream.step.min(initial=0))))
    own = _in_folder(layout, folder)
    yield from proto.frames(head)
    yield from _scalars(own, start)
    yield from _texts(own, start)


def _in_folder(layout: Layout, folder: str) -> Layout:
    """The layout with the series of a directory, under their tags in it."""
    folders = layout.run.folders
    if not folders:
        return layout
    prefix = f"{folder}/" if folder else ""

    def own(series: Sequence[Series]) -> tuple[Series, ...]:
        mine = (part for part in series if folders.get(part.key, "") == folder)
        return tuple(part.under(part.key.removeprefix(prefix)) for part in mine)

    stream = replace(layout.stream, series=own(layout.stream.series))
    return replace(layout, stream=stream, texts=own(layout.texts))


def _head(layout: Layout, start: int, state: State) -> Iterator[bytes]:
    """The events before the scalars."""
    begin = layout.clock.start / 1e6
    yield proto.file_version_event(begin)
    value = proto.text_value(STATE_TAG, _state_text(layout, start, state))
    yield proto.summary_event(begin, 0, [value])
    if start == 0:
        yield proto.session_start_event(begin, int(layout.stream.step.min(initial=0)))
        yield from (proto.summary_event(begin, 0, [value]) for value in _settings(layout, begin))


def _end(layout: Layout) -> Iterator[bytes]:
    """The last event of a run with an end."""
    is_success = IS_SUCCESS.get(layout.run.status)
    if is_success is not None and layout.params:
        end = layout.clock.end / 1e6
        yield proto.summary_event(end, 0, [proto.session_end(end, is_success=is_success)])


def _settings(layout: Layout, begin: float) -> Iterator[bytes]:
    """The note, and the params as a table, of the Text page; a row of the HParams page."""
    if layout.run.note:
        yield proto.text_value(NOTE_TAG, encodable(redact_text(layout.run.note)))
    params = layout.params
    if not params:
        return
    lines = [f"|{_cell(key)}|{_cell(params[key])}|" for key in sorted(params)]
    yield proto.text_value(PARAMS_TAG, "\n".join(["|setting|value|", "|-|-|", *lines]))
    hparams = {
        str(key): value
        for key, value in params.items()
        if isinstance(value, bool | int | float | str)
    }
    group = f"{layout.run.path} {layout.digest[:8]}"  # the page has one row per group name
    yield proto.session_start(group, hparams, begin)


def params_in(table: str) -> dict[str, str]:
    """The params in the table of the Text page, as text."""
    rows = (_CELL.findall(line)[1:] for line in table.split("\n")[2:])
    return {_text(row[0]): _text(row[1]) for row in rows if len(row) == 2}


def _cell(value: object) -> str:
    """A value as Markdown that shows exactly its text."""
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return _MARKDOWN.sub(_escape, _BREAK.sub(" ", text))


def _escape(mark: re.Match[str]) -> str:
    is_last = mark.end() == len(mark.string)
    needs_entity = mark[0] not in "\\|" or (mark[0] == "\\" and is_last)
    return f"&#{ord(mark[0])};" if needs_entity else f"\\{mark[0]}"


def _text(cell: str) -> str:
    return _ESCAPED.sub(lambda found: found[1] or chr(int(found[2])), cell)


def _state_text(layout: Layout, start: int, state: State) -> str:
    """Provenance and state of the segment as JSON, for people and for the next export."""
    run = layout.run
    found = {
        "bridges": 1,
        "key": layout.key,
        "run": run.path,
        **state.fields(),
        "rows": [start, state.rows],
        "clock origin": layout.clock.origin,
        "written by transformers": run.writer,
        "status": run.status,
        "facts": dict(run.facts),
        "tags": dict(run.tags),
        "sources": files_of(run),
    }
    if run.folders:
        found[FOLDERS] = sorted({*run.folders.values()})
    # one line per entry; json's own indent is much slower
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(found[name])}" for name in found)
    return f"{{\n{lines}\n}}".join(_FENCE)


def _scalars(layout: Layout, start: int) -> Iterator[bytes | UInt8]:
    """The rows from `start` on, by step if the steps of a tag fall: the default loader drops points
    before a lower step of their tag.
    """
    stream = layout.stream
    assert stream.time is not None
    step, time = stream.step[start:], stream.time[start:] / 1e6
    parts = (series.slice(start, layout.rows) for series in stream.series)
    columns = [ScalarColumn(part.key, part.rows - start, as_float32(part.values)) for part in parts]
    if any(series.time is not None for series in stream.series):
        step, time, columns = _by_point(stream, start)
    if _falls(step) and any(_falls(step[column.rows]) for column in columns):
        order = np.argsort(step, kind="stable")
        step, time, columns = step[order], time[order], _in_order(columns, order)
    yield from scalar_records(columns, step, time)


def _falls(step: Int64) -> bool:
    return bool((step[1:] < step[:-1]).any())


def _by_point(stream: MetricStream, start: int) -> tuple[Int64, Float64, list[ScalarColumn]]:
    """Steps, times and columns with one row per point, for series with times of their own."""
    parts = [series.slice(start, len(stream)) for series in stream.series]
    rows = np.concatenate([part.rows for part in parts])
    time = np.concatenate([stream.times(part) for part in parts])
    order = np.lexsort((time, rows))
    ends = np.cumsum([len(part.rows) for part in parts])
    columns = [
        ScalarColumn(part.key, np.arange(end - len(part.rows), end), as_float32(part.values))
        for part, end in zip(parts, ends.tolist(), strict=True)
    ]
    return stream.step[rows[order]], time[order] / 1e6, _in_order(columns, order)


def _in_order(columns: Sequence[ScalarColumn], order: Int64) -> list[ScalarColumn]:
    """The columns with their rows reordered by `order` (int64, n)."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ordered = []
    for column in columns:
        rows = place[column.rows]
        sort = np.argsort(rows)
        ordered.append(ScalarColumn(column.tag, rows[sort], column.values[sort]))
    return ordered


def _texts(layout: Layout, start: int) -> Iterator[bytes]:
    stream = layout.stream
    for series in layout.texts:
        part = series.slice(start, layout.rows)
        by_step = np.argsort(stream.step[part.rows], kind="stable")
        for some in np.array_split(by_step, len(by_step) // TEXTS_PER_BATCH + 1):
            rows = part.rows[some]
            columns = stream.times(part)[some] / 1e6, stream.step[rows], part.values[some]
            events = [
                proto.summary_event(
                    time, step, [proto.text_value(f"{series.key}/text_summary", text)]
                )
                for time, step, text in zip(*(each.tolist() for each in columns), strict=True)
            ]
            yield from proto.frames(events)
