"""Reads a Hugging Face training history as a run: `trainer_state.json`, a list of rows, JSON lines.

pydantic checks the fields of the state; `log_rows` reads its rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_type_hints

from pydantic_core import ValidationError

from bridges.errors import SourceError
from bridges.huggingface.diagnose import diagnose, unfinished_tail
from bridges.huggingface.settings_digests import digests
from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.huggingface.writer_version import writer_band
from bridges.sources import json_salvage, json_text
from bridges.sources.base import FileSource
from bridges.sources.options import ReadOptions
from bridges.sources.sidecars.plain_values import MAX_VALUES, count_values, plain_values
from bridges.sources.text import SALVAGE_REMEDY, Text, load
from bridges.sources.trainer.checkpoint_paths import output_of
from bridges.sources.trainer.field_types import Int64, Number, expected_type, validator_of
from bridges.sources.trainer.log_rows import LogRows
from bridges.sources.trainer.long_history import MIN_LONG_BYTES, History, read_long
from bridges.sources.trainer.not_a_history import describe, not_a_history
from bridges.stream.finding import Finding
from bridges.stream.model import MetricStream, RowKind, Run
from bridges.stream.redact import redact, redact_text
from bridges.stream.settings import Settings

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
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt", ".gz", "")


@dataclass(frozen=True)
class TrainerState:
    """The fields of `trainer_state.json` (transformers 3.5 to 5.x); other fields are ignored."""

    log_history: list[object]
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
    trial_params: dict[str, object] | None = None
    stateful_callbacks: dict[str, object] | None = None


_state_fields = validator_of(
    get_type_hints(TrainerState, include_extras=True), required=("log_history", "global_step")
)


class TrainerStateSource(FileSource):
    """Reads a history of the Trainer: a file, a URL or standard input."""

    name = "trainer_state"

    def claims(self, location: str) -> bool:
        """Whether the suffix may be that of a history: JSON, JSON lines, text, gzip, or none."""
        return location == "-" or os.path.splitext(location)[1].lower() in _SUFFIXES

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run of the file. Raises SourceError."""
        yield read_text(
            location,
            load(location, salvage=options.salvage, max_unpacked=options.max_unpacked),
            options,
        )


def read_text(location: str, text: Text, options: ReadOptions) -> Run:
    """The run of a text loaded from `location`. Raises SourceError."""
    try:
        history, found = _history(location, text.data)
    except SourceError as error:
        if not (options.salvage and error.remedy == SALVAGE_REMEDY):
            raise
        history, found = _salvaged(location, text.data)
    text.data = b""  # may be large, and is no longer needed
    state = None if history.header is None else _state(location, history.header)
    if state is None:
        history.rows.refuse_other_files()
    run = make_run(location, text, state, history.rows, found, options)
    if history.header is None or _is_salvaged(found):
        return run
    return replace(run, writer=writer_band(history.header.keys(), run.stream))


def _is_salvaged(found: Sequence[Finding]) -> bool:
    """Whether the file is truncated: the fields after the rows are lost."""
    return any(finding.code == "salvaged" for finding in found)


def _history(location: str, data: bytes) -> tuple[History, list[Finding]]:
    """The history in a text, and the findings of the parser. Raises SourceError."""
    history = read_long(location, data) if len(data) >= MIN_LONG_BYTES else None
    history = history or _short_history(location, data)
    return history, json_text.repeated_keys(history.repeated)


def _short_history(location: str, data: bytes) -> History:
    """The history in a text that is parsed at once."""
    is_lines = json_text.is_lines(data)
    parse = json_text.parse_each_line if is_lines else json_text.parse
    value, repeated = parse(location, data)
    header, rows = None, LogRows(location)
    if isinstance(value, dict) and "log_history" in value:
        header, value = value, value["log_history"]
    elif isinstance(value, dict) and "step" in value and len(value) > 1:
        value = [value]
    elif not isinstance(value, list):
        raise not_a_history(location, value)
    if isinstance(value, list):  # the check of the header refuses any other
        rows.add(value)
    return History(header, rows, repeated)


def _salvaged(location: str, data: bytes) -> tuple[History, list[Finding]]:
    """The complete rows of a truncated text; a missing `global_step` is their last step."""
    rows, last = LogRows(location), 0

    def add(part: list[object]) -> None:
        nonlocal last
        rows.add(part)
        found = [row.get("step") for row in part if isinstance(row, dict)]
        steps = [step for step in found if type(step) is int]
        last = steps[-1] if steps else last

    header, finding = json_salvage.salvage(location, data, add)
    if header is not None:
        header = {"global_step": last, **header, "log_history": []}
    return History(header, rows, json_text.Repeated()), [finding]


def _state(location: str, value: Mapping[str, object]) -> TrainerState:
    try:
        state = TrainerState(**_state_fields.validate_python(value))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        key, given = str(errors[0]["loc"][0]), errors[0]["input"]
        if errors[0]["type"] == "missing":
            raise SourceError(
                location,
                place=f"key {key!r}",
                found="no such key",
                expected="the key beside 'log_history'",
                remedy="Get the complete file, or pass only the list under 'log_history'.",
            ) from None
        raise SourceError(
            location,
            place=f"key {key!r}",
            found=describe(given),
            expected=expected_type(key, [e["type"] for e in errors if e["loc"][0] == key]),
            remedy="Fix that value: transformers never writes such a value.",
        ) from None
    if count_values(state.trial_params, MAX_VALUES) > MAX_VALUES:
        raise SourceError(
            location,
            place="key 'trial_params'",
            found=f"more than {MAX_VALUES:,} values",
            expected="the parameters of a trial",
            remedy="Remove it: transformers never writes so many.",
        )
    return state


def make_run(
    location: str,
    text: Text,
    state: TrainerState | None,
    rows: LogRows,
    found: list[Finding],
    options: ReadOptions,
) -> Run:
    """The run of log rows and their state (None for bare rows).

    `found`: the findings of the parser. Raises SourceError for an invalid row.
    """
    stream, findings = rows.stream()
    found = [*found, *findings]
    params, secrets = redact(_params(state), home=options.redact_home)
    facts, _ = redact(_fields(state, FACTS), home=True)
    findings = [*text.findings, *found, *secrets, *diagnose(stream)]
    end = state.global_step if state and not _is_salvaged(found) else None
    findings += unfinished_tail(stream, end)
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
        provenance=(text.provenance,),
        findings=tuple(findings),
        settings=_settings(state, params),
        key_rules=TRAINER_RULES,
    )


def _settings(state: TrainerState | None, params: Mapping[str, object]) -> Settings:
    """The settings in the state, which distinguish runs with equal rows."""
    if state is None:
        return Settings()
    ends = state.max_steps if (state.max_steps or 0) > 0 else None
    return Settings(digests(params, "state "), max_steps=ends, step=state.global_step)


def _fields(state: TrainerState | None, names: Sequence[str]) -> dict[str, object]:
    values = {name: getattr(state, name, None) for name in names}
    return plain_values({name: value for name, value in values.items() if value is not None})


def _params(state: TrainerState | None) -> dict[str, object]:
    """The settings in the state, overridden by the trial's params."""
    return {**_fields(state, PARAMS), **_trial_params(state)}


def _trial_params(state: TrainerState | None) -> dict[str, object]:
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
    """The default run name: the stem of the file, or its output directory for usual file names."""
    if location == "-":
        return "stdin"
    path = location.split("://", 1)[-1] if "://" in location else os.path.abspath(location)
    parts = [part for part in re.split(r"[/\\]", path) if part]
    stem = re.sub(r"\.(gz|json|jsonl|ndjson|txt)$", "", re.sub(r"\.gz$", "", parts.pop()))
    if not re.fullmatch(r"trainer_state|log_history|state|trainer_log|logging", stem):
        return stem
    outer = output_of("/".join([*parts, ""])).rpartition("/")[2]
    return outer or (parts[-1] if parts else stem)
