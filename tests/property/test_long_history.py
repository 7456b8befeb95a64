"""A long history read in pieces is the history that the parser of whole documents reads.

The pieces are made so small here that each file has some; whether they were read in pieces is
looked at where it should be so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.options import ReadOptions
from bridges.sources.text import SALVAGE_REMEDY, Text
from bridges.sources.trainer import long_history
from bridges.sources.trainer import state_file as trainer_state
from bridges.stream.model import Provenance, Run
from tests.property.histories import Rows, odd_rows, usual_rows
from tests.support import CORPUS, make_stream, needs_corpus, state

ROWS: Rows = [
    {"loss": 0.5 + i, "learning_rate": 1e-5, "epoch": i / 7, "step": i} for i in range(1, 20)
]
NAMES = Provenance("state.json", 0, "")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_history, "PIECE_BYTES", 48)


def read(data: bytes, long: int, *, salvage: bool = False) -> Any:
    """All of the run, or the message, where texts of at least `long` bytes are read in pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_state, "MIN_LONG_BYTES", long)
        try:
            text = Text(data, NAMES)
            return told(trainer_state.read_text("state.json", text, ReadOptions(salvage=salvage)))
        except SourceError as error:
            return str(error)


def told(run: Run) -> Any:
    """Everything that the run holds, with types, and NaN equal to itself."""
    series = [
        (part.key, part.values.dtype.str, part.rows.tolist(), repr(part.values.tolist()))
        for part in run.stream.series
    ]
    stream = run.stream
    return (
        series,
        stream.step.tolist(),
        stream.kind.tolist(),
        repr(replace(run, stream=make_stream([]))),
    )


def in_pieces(data: bytes) -> bool:
    return long_history.read_long("state.json", data) is not None


def compare(data: bytes) -> None:
    for salvage in (False, True):
        assert read(data, 0, salvage=salvage) == read(data, 1 << 40, salvage=salvage)


def spread(rows: Sequence[object], **fields: Any) -> bytes:
    """The rows as a Trainer writes them, with fields before and behind the list."""
    document = {"epoch": 1.0, "global_step": 99, "log_history": rows, "max_steps": 99, **fields}
    return json.dumps(document, indent=2).encode()


LINES = b"\n".join(json.dumps(row).encode() for row in ROWS) + b"\n"
REGULAR = {
    "plain": spread(ROWS),
    "one line": json.dumps({"log_history": ROWS, "global_step": 1}).encode(),
    "no blanks": state(ROWS).replace(b" ", b""),
    "CRLF": spread(ROWS).replace(b"\n", b"\r\n"),
    "evaluations between": spread([*ROWS, {"eval_loss": 0.5, "epoch": 3.0, "step": 20}, *ROWS]),
    "NaN and infinities": spread([{**row, "loss": float("nan")} for row in ROWS]) + b"\n",
    "lists of objects behind": spread(ROWS, stateful_callbacks={"a": {"args": [{}, {"b": []}]}}),
    "integers among floats": spread([*ROWS, {"loss": 1, "epoch": 3, "step": 20}]),
    "integers beyond int64": spread([*ROWS, {"loss": 2**80, "epoch": 3.5, "step": 20}]),
    "text with brackets": spread([*ROWS, {"note": "}, {", "more": "}]", "step": 20}]),
    "rows without a step": spread([*ROWS, {"loss": 0.25}, {}, *ROWS]),
    "booleans and nulls": spread([*ROWS, {"ok": True, "none": None, "step": 20}]),
    "a key twice in the header": spread(ROWS).replace(b'{\n  "epoch"', b'{\n  "epoch": 3, "epoch"'),
    "a wrong value in the header": spread(ROWS, best_metric="x", global_step="99"),
    "no global_step": json.dumps({"log_history": ROWS}).encode(),
    "a key twice": spread(ROWS).replace(b'"loss": 9.5', b'"loss": 1, "loss": 9.5'),
    "a key twice, blank before the colon": spread(ROWS).replace(
        b'"loss": 9', b'"loss" :1,"loss":9'
    ),
    "nested rows": spread([*ROWS, {"of": [{"a": 1}, {"b": 2}], "at": {"x": {}}, "step": 20}]),
    "bare rows": json.dumps(ROWS).encode(),
    "a lone surrogate": spread([*ROWS, {"note": "\ud800", "step": 3}]),
    "a step that is null": spread([*ROWS, {"loss": 1.0, "step": None}]),
    "an epoch that is text": spread([*ROWS, {"loss": 1.0, "epoch": "1", "step": 20}]),
    "a step that is a float": spread([*ROWS, {"loss": 1.0, "step": 20.0}]),
    "a step beyond int64": spread([*ROWS, {"loss": 1.0, "step": 2**70}]),
    "a row that is none": spread([*ROWS, 7, *ROWS]),
    "a list around": b"[" + spread(ROWS) + b"]",
    "lines of states": state(ROWS) + b"\n" + state(ROWS) + b"\n",
    "deep rows": spread([*ROWS, {"deep": json.loads("[" * 99 + "]" * 99), "step": 20}]),
    "lines": LINES,
    "lines with blank ones between": LINES.replace(b"\n", b"\n \n\n"),
    "lines that end with CRLF": LINES.replace(b"\n", b"\r\n"),
    "lines without a step": b'{"text": "a: b"}\n' * 20,
    "nested lines": b'{"step": 1, "data": {"loss": 1.0}}\n' * 20,
    "a key twice in lines": LINES.replace(b'"loss": 9.5', b'"loss": 1, "loss": 9.5'),
    "a line that is none": LINES + b"7\n" + LINES,
}
IRREGULAR = {
    "the list twice": spread(ROWS).replace(b'"max_steps"', b'"log_history": [], "max_steps"'),
    "the list in another object": json.dumps({"x": {"log_history": ROWS}, "a": 1}).encode(),
    "the list in text": json.dumps(
        {"x": '"log_history": [{"step": 1}]', "log_history": []}
    ).encode(),
    "two documents": spread(ROWS) + spread(ROWS),
    "another list in the list": spread(ROWS).replace(
        b'},\n    {\n      "loss": 9', b'}], [{"loss": 9'
    ),
    "a comma too many": spread(ROWS).replace(b"}\n  ],", b"},\n  ],"),
    "two commas": spread(ROWS).replace(b'},\n    {\n      "loss": 9', b'},, {"loss": 9'),
    "an error in a row": spread(ROWS).replace(b'"loss": 9.5', b'"loss": 9.5.'),
    "an error in the header": spread(ROWS).replace(b'"epoch": 1.0', b'"epoch": 1.0.'),
    "an error behind": spread(ROWS).replace(b'"max_steps"', b"max_steps"),
    "an error in a line": LINES.replace(b'"loss": 9.5', b'"loss": 9.5.'),
    "a line that is cut off": LINES.replace(b': 9.5, "learning', b': 9.5, "lear\n'),
    "bytes that are not UTF-8": spread(ROWS).replace(b'"loss": 9', b'"l\xff": 9'),
    "a step that is true": spread([*ROWS, {"loss": 1.0, "step": True}]),
    "an epoch that is true": spread([*ROWS, {"loss": 1.0, "epoch": True, "step": 20}]),
    "an integer of many digits": spread(ROWS).replace(b'"loss": 9.5', b'"loss": 9' + b"9" * 5000),
    "no rows": spread([]),
    "a list that is none": json.dumps({"log_history": 7, "global_step": 1}).encode(),
}


@pytest.mark.parametrize("name", REGULAR)
def test_regular_files_are_read_in_pieces_and_the_same(name: str) -> None:
    assert in_pieces(REGULAR[name])
    compare(REGULAR[name])


@pytest.mark.parametrize("name", IRREGULAR)
def test_what_is_irregular_is_read_or_refused_as_ever(name: str) -> None:
    compare(IRREGULAR[name])


@pytest.mark.parametrize("name", ["plain", "one line", "lists of objects behind", "lines"])
def test_a_file_that_is_cut_off_anywhere(name: str) -> None:
    data = REGULAR[name]
    for end in range(1, len(data), 7):
        compare(data[:end])


@given(odd_rows(), st.sampled_from([None, 0, 2]))
@settings(max_examples=200, deadline=None)
def test_rows_of_any_values(rows: Rows, indent: int | None) -> None:
    compare(json.dumps({"log_history": rows, "global_step": 3}, indent=indent).encode())
    compare(json.dumps(rows, indent=indent).encode())
    compare("\n".join(map(json.dumps, rows)).encode())


@given(usual_rows(), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_texts(rows: Rows, data: st.DataObject) -> None:
    """A few characters of the grammar, put anywhere."""
    text = bytearray(spread([*rows, *rows]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        until = at + data.draw(st.integers(0, 3))
        text[at:until] = data.draw(st.sampled_from([b"", *(b'{ } [ ] , : " 0 \n'.split(b" "))]))
    compare(bytes(text))


def test_no_more_than_a_piece_is_parsed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The objects of a whole document take ten times its text."""
    parsed: list[int] = []

    def from_json(text: bytes, **options: Any) -> Any:
        parsed.append(len(text))
        return parse(text, **options)

    parse = pydantic_core.from_json
    data = spread(ROWS * 100)
    for module in (long_history, json_text):
        monkeypatch.setattr(module, "from_json", from_json)
    read(data, 0)
    assert len(parsed) > 100
    assert max(parsed) < 600


@needs_corpus
@pytest.mark.parametrize("size", [1 << 8, 1 << 14])
def test_real_files(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_history, "PIECE_BYTES", size)
    read_so = 0
    paths: list[Path] = sorted(CORPUS.rglob("*.json"))
    for path in paths:
        data = path.read_bytes()
        read_so += in_pieces(data)
        assert read(data, 0) == read(data, 1 << 40), path
    assert read_so >= 0.9 * sum(b'"log_history"' in path.read_bytes() for path in paths)


@pytest.mark.parametrize("end", ["\\u{", "\\u00}", "\\u001f\\u", "\\u001"])
def test_a_text_that_ends_in_an_escape_is_cut_off(end: str) -> None:
    with pytest.raises(SourceError) as caught:
        json_text.parse("x.json", b'[{"a": "%s' % end.encode())
    assert caught.value.remedy == SALVAGE_REMEDY


@given(odd_rows(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_text_is_cut_off_where_the_fast_parser_says_so(rows: Rows, data: st.DataObject) -> None:
    """Damaged or not: where the text ends too early, its error is that it is cut off."""
    text = json.dumps([*rows, {"word": [True, False, None, 1e-300, -0.5]}], ensure_ascii=True)
    text = text[: data.draw(st.integers(1, len(text)))]
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from([*'{}[],:" .-e0\\utN'])) + text[at:]
    try:
        pydantic_core.from_json(text)
    except ValueError as error:
        is_cut = str(error).startswith("EOF while parsing")
    else:
        return
    with suppress(SourceError):  # a lone surrogate is refused by the fast one only
        json_text.parse("x.json", text.encode())
        return
    with pytest.raises(SourceError) as caught:
        json_text.parse("x.json", text.encode())
    assert (caught.value.remedy == SALVAGE_REMEDY) >= is_cut, text
