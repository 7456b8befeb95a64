"""A Hugging Face training history becomes a run: `trainer_state.json`, a list of rows, JSON lines.

What the format fixes is checked by pydantic: the fields of the state, and in every row `step` (an
int64) and `epoch` (a number). Rows may hold anything else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridges.errors import SourceError
from bridges.huggingface.diagnose import diagnose, unfinished_tail
from bridges.huggingface.row_kinds import row_kinds
from bridges.huggingface.rules import TRAINER_RULES
from bridges.huggingface.versions import writer_band
from bridges.sources import json_text
from bridges.sources.base import FilePart, ReadOptions
from bridges.sources.long_state import LONG, read_long
from bridges.sources.not_a_history import describe, not_a_history, refuse_nested, refuse_stepless
from bridges.sources.output_directory import output_of
from bridges.sources.plain_values import MOST, count_values, plain_values
from bridges.sources.text import Text, load
from bridges.stream.align import fill_steps
from bridges.stream.columns import column_of, series_from_rows
from bridges.stream.finding import Finding
from bridges.stream.model import MetricStream, RowKind, Run, Series
from bridges.stream.redact import redact, redact_text
from bridges.stream.settings import Settings, digests

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Number = int | float
PlaceOf = Callable[[int], str]

PARAMS = (
    "eval_steps",
    "logging_steps",
    "max_steps",
    "num_train_epochs",
    "save_steps",
    "train_batch_size",
)
FACTS = (
    "best_global_step",
    "best_metric",
    "best_model_checkpoint",
    "epoch",
    "global_step",
    "is_hyper_param_search",
    "num_input_tokens_seen",
    "total_flos",
)
MOST_KEYS = 20_000  # a log has a few hundred at most, and each is a curve in every target
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt", ".gz", "")
REMEDY_ROW = "Mend that row, or take it out of the file."
_TYPES = {  # pydantic's names of errors, in words for people
    "bool_type": "true, false or null",
    "dict_type": "an object or null",
    "int_type": "an integer or null",
    "float_type": "a number or null",
    "string_type": "text or null",
    "string_unicode": "text without lone surrogates",
}
INT64 = "an integer between -2^63 and 2^63-1"


class TrainerState(BaseModel):
    """The fields of `trainer_state.json` (transformers 3.5 to 5.x); others are passed over."""

    model_config = ConfigDict(strict=True, extra="ignore")

    log_history: list[Any]
    global_step: Int64
    epoch: Number | None = None
    max_steps: Int64 | None = None
    num_train_epochs: Number | None = None
    total_flos: Number | None = None
    logging_steps: Number | None = None
    eval_steps: Number | None = None
    save_steps: Number | None = None
    train_batch_size: int | None = None
    num_input_tokens_seen: int | None = None
    best_metric: Number | None = None
    best_model_checkpoint: str | None = None
    best_global_step: Int64 | None = None
    is_hyper_param_search: bool | None = None
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    stateful_callbacks: dict[str, Any] | None = None


class FixedColumns(BaseModel):
    """The two columns of the log whose types the format fixes, one entry a row (null: absent)."""

    model_config = ConfigDict(strict=True)

    step: list[Int64 | None]
    epoch: list[Number | None]


class TrainerStateSource:
    """Reads one history from a file, an fsspec URL or standard input."""

    name = "trainer_state"

    def claims(self, location: str) -> bool:
        """Whether the name could be that of a history: JSON, JSON lines, text, gzip, or none."""
        return location == "-" or os.path.splitext(location)[1].lower() in _SUFFIXES

    def split(self, location: str) -> list[FilePart]:
        """The file."""
        return [FilePart(location)]

    def read_part(self, part: FilePart, options: ReadOptions) -> Iterator[Run]:
        """The run of the file, as `read`."""
        return self.read(part.location, options)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run of that file. Raises SourceError."""
        yield read_text(
            location,
            load(location, salvage=options.salvage, max_unpacked=options.max_unpacked),
            options,
        )


def read_text(location: str, text: Text, options: ReadOptions) -> Run:
    """The run of a text that was loaded from a location. Raises SourceError."""
    long = read_long(location, text.data) if len(text.data) >= LONG else None
    if long is not None:
        text.data = b""
        stream, missing = _with_steps(long.step, long.known, long.series)
        found = [*long.repeated, *missing, *long.findings]
        return _run(location, text, _state(location, long.header), stream, found, options)
    state, rows, findings = _decode(location, text, options)
    text.data = b""  # the text may be large, and is not needed any more
    return make_run(location, text, state, rows, findings, options)


def _decode(
    location: str, text: Text, options: ReadOptions
) -> tuple[TrainerState | None, list[Any], list[Finding]]:
    """State (None for bare rows), rows and findings of a text."""
    try:
        lines = json_text.parse_lines(location, text.data)
        value, findings = lines or json_text.parse(location, text.data)
    except SourceError as error:
        if not (options.salvage and error.remedy == json_text.SALVAGE):
            raise
        header, rows, finding = json_text.salvage(location, text.data)
        state = _state(location, _salvaged(header, rows)) if header is not None else None
        return state, rows, [finding]
    if isinstance(value, dict) and "log_history" in value:
        state = _state(location, value)
        return state, state.log_history, findings
    if isinstance(value, dict) and "step" in value and len(value) > 1:
        value = [value]
    if isinstance(value, list):
        refuse_stepless(location, value)
        refuse_nested(location, value)
        return None, value, findings
    raise not_a_history(location, value)


def _salvaged(header: dict[str, Any], rows: list[Any]) -> dict[str, Any]:
    """A state of what is left; where `global_step` came after the rows, their last step."""
    steps = [row["step"] for row in rows if type(row.get("step")) is int]
    return {"global_step": steps[-1] if steps else 0, **header, "log_history": rows}


def _state(location: str, value: Mapping[str, Any]) -> TrainerState:
    known = {name: value[name] for name in TrainerState.model_fields if name in value}
    try:
        state = TrainerState.model_validate(known)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        key, given = str(errors[0]["loc"][0]), errors[0]["input"]
        if errors[0]["type"] == "missing":
            raise SourceError(
                location,
                place=f"key {key!r}",
                found="no such key",
                expected="it beside 'log_history'",
                remedy="Get the whole file, or give the list under 'log_history' alone.",
            ) from None
        raise SourceError(
            location,
            place=f"key {key!r}",
            found=describe(given),
            expected=_expected(key, [e["type"] for e in errors if e["loc"][0] == key]),
            remedy="Mend that value: transformers never writes it so.",
        ) from None
    if count_values(state.trial_params, MOST) > MOST:
        raise SourceError(
            location,
            place="key 'trial_params'",
            found=f"more than {MOST:,} values",
            expected="the parameters of a trial",
            remedy="Take it out: transformers never writes it so.",
        )
    return state


def _fixed_columns(
    location: str, rows: Sequence[dict[str, Any]], place_of: PlaceOf
) -> FixedColumns:
    """`step` and `epoch` of all rows, checked."""
    try:
        return FixedColumns(step=column_of(rows, "step"), epoch=column_of(rows, "epoch"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key, row = first["loc"][0], first["loc"][1]
        raise SourceError(
            location,
            place=f"{place_of(int(row))}, key {key!r}",
            found=describe(first["input"]),
            expected="a number" if key == "epoch" else _expected(key, [first["type"]]),
            remedy=REMEDY_ROW,
        ) from None


def _expected(key: str | int, error_types: Sequence[str]) -> str:
    """What a value should be, from pydantic's names of what is wrong with it."""
    if key == "log_history":
        return "a list of log rows"
    if {"greater_than_equal", "less_than_equal", "int_parsing_size"} & set(error_types):
        return INT64
    words = _TYPES.get(error_types[-1], "another value")  # the last of a union is the widest
    return words.removesuffix(" or null") if key in ("global_step", "step") else words


def _check_rows(location: str, rows: Sequence[Any]) -> None:
    if set(map(type, rows)) - {dict}:
        row = next(i for i, value in enumerate(rows) if type(value) is not dict)
        raise SourceError(
            location,
            place=f"log row {row}",
            found=describe(rows[row]),
            expected="an object with the keys and values of one log row",
            remedy=REMEDY_ROW,
        )


def make_run(
    location: str,
    text: Text,
    state: TrainerState | None,
    rows: list[Any],
    found: list[Finding],
    options: ReadOptions,
    place_of: PlaceOf = "log row {}".format,
) -> Run:
    """The run of these rows and what the state (None for bare rows) says of it.

    `found` are the findings of the reading so far; `place_of` names a row for a message, by its
    position. Raises SourceError where a row is not what a log row is.
    """
    _check_rows(location, rows)
    stream, findings = _stream(location, rows, place_of)
    return _run(location, text, state, stream, [*found, *findings], options)


def _run(
    location: str,
    text: Text,
    state: TrainerState | None,
    stream: MetricStream,
    found: list[Finding],
    options: ReadOptions,
) -> Run:
    """The run of this stream, with the findings of its reading."""
    if len(stream.series) > MOST_KEYS:
        raise SourceError(
            location,
            found=f"{len(stream.keys):,} different keys in its rows",
            expected=f"at most {MOST_KEYS:,}",
            remedy="This is not a log history: check which file you gave.",
        )
    params, secrets = redact(_params(state), home=options.redact_home)
    facts, _ = redact(_fields(state, FACTS), home=True)
    findings = [*text.findings, *found, *secrets, *diagnose(stream)]
    cut = any(finding.code == "salvaged" for finding in found)  # fields after the rows are lost
    findings += unfinished_tail(stream, state.global_step if state and not cut else None)
    return Run(
        name=redact_text(default_name(location)),
        stream=stream,
        source=location,
        params=params,
        facts=facts,
        trial=_trial(state),
        trial_name=redact_text(state.trial_name) if state and state.trial_name else None,
        trial_params=redact(_trial_params(state))[0],
        status=_status(state, stream),
        writer=writer_band(state.model_fields_set, stream) if state and not cut else None,
        provenance=(text.provenance,),
        findings=tuple(findings),
        settings=_settings(state, params),
        key_rules=TRAINER_RULES,
    )


def rows_stream(location: str, rows: list[Any], place_of: PlaceOf) -> MetricStream:
    """The stream of log rows. Raises SourceError where a row is not what a log row is."""
    _check_rows(location, rows)
    return _stream(location, rows, place_of)[0]


def _settings(state: TrainerState | None, params: Mapping[str, Any]) -> Settings:
    """What tells the run from others with equal rows, as far as its state says it."""
    if state is None:
        return Settings()
    ends = state.max_steps if (state.max_steps or 0) > 0 else None
    return Settings(digests(params, "state "), max_steps=ends, step=state.global_step)


def _stream(
    location: str, rows: list[dict[str, Any]], place_of: PlaceOf
) -> tuple[MetricStream, list[Finding]]:
    fixed = _fixed_columns(location, rows, place_of)
    series, findings = series_from_rows(rows)
    known = np.array([step is not None for step in fixed.step], bool)
    raw = np.array([0 if step is None else step for step in fixed.step], np.int64)
    stream, missing = _with_steps(raw, known, series)
    return stream, [*missing, *findings]


def _with_steps(
    raw: NDArray[np.int64], known: NDArray[np.bool_], series: tuple[Series, ...]
) -> tuple[MetricStream, list[Finding]]:
    """The stream of rows whose steps (n) are `raw` where they are `known`."""
    step, missing = fill_steps(raw, known)
    return MetricStream(step, row_kinds(len(step), series), series), missing


def _fields(state: TrainerState | None, names: Sequence[str]) -> dict[str, Any]:
    values = {name: getattr(state, name, None) for name in names}
    return plain_values({name: value for name, value in values.items() if value is not None})


def _params(state: TrainerState | None) -> dict[str, Any]:
    """Settings: those of the state, and over them the trial's."""
    return {**_fields(state, PARAMS), **_trial_params(state)}


def _trial_params(state: TrainerState | None) -> dict[str, Any]:
    return plain_values(state.trial_params) if state and state.trial_params else {}


def _trial(state: TrainerState | None) -> str | None:
    if state is None or not (state.trial_name or state.trial_params):
        return None
    params = sorted(redact(state.trial_params or {})[0].items())
    return f"{state.trial_name or ''}{params or ''}"


def _status(state: TrainerState | None, stream: MetricStream) -> str:
    if (stream.kind == RowKind.SUMMARY).any():
        return "finished"
    if state is None or not state.max_steps or state.max_steps < 0:
        return "unknown"
    return "finished" if state.global_step >= state.max_steps else "unfinished"


def default_name(location: str) -> str:
    """The run's name where none is given: the file's own, or that of the directory it lies in."""
    if location == "-":
        return "stdin"
    path = location.split("://", 1)[-1] if "://" in location else os.path.abspath(location)
    parts = [part for part in re.split(r"[/\\]", path) if part]
    stem = re.sub(r"\.(gz|json|jsonl|ndjson|txt)$", "", re.sub(r"\.gz$", "", parts.pop()))
    if not re.fullmatch(r"trainer_state|log_history|state|trainer_log|logging", stem):
        return stem
    outer = output_of("/".join([*parts, ""])).rpartition("/")[2]
    return outer or (parts[-1] if parts else stem)
