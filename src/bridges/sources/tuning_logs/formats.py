"""The formats of the logs that tuning tools write beside the Trainer's own.

LLaMA-Factory's `trainer_log.jsonl` (from its sources, 2023 to 2025): each call of the Trainer's
`log` adds a line with `current_steps`, `total_steps`, a fixed set of metrics, `percentage` (a
number) and two durations in the format of a Python timedelta. The learning rate is `learning_rate`
until mid-2024 and `lr` since; `accuracy` is the Trainer's `rewards/accuracies`, `total_tokens` its
`num_input_tokens_seen`. Missing metrics are null in the oldest files and absent since. Evaluation
after the training has `total_steps` 0 in the oldest files. Prediction adds lines with a count of
batches and without an epoch. Resumed runs append.

ms-swift's `logging.jsonl`: the Trainer's rows with floats rounded to 8 decimals. The step is
`global_step` (1.x to 2.3), then text such as `"10/438"` under `global_step/max_steps`, temporarily
`steps[global_step/max_steps]`, or `iteration` (Megatron). `percentage` is text; durations look like
`1d 2h 3m 4s`. Some releases add memory and speed to the rows. A last line without a step describes
the outcome and may contain the complete, unrounded `log_history`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic_core import from_json

from bridges.sources.trainer.field_types import INT64
from bridges.stream.finding import Finding, Severity

HEAD_BYTES = 1 << 16  # searched for a line of a known format
_FRACTION = re.compile(r"(\d{1,18})/(-?\d{1,18})\Z", re.ASCII)
_SWIFT_STEPS = ("global_step/max_steps", "steps[global_step/max_steps]", "iteration")
_OUTCOME = frozenset(
    {
        *("best_model_checkpoint", "dataset_info", "last_model_checkpoint", "log_history"),
        *("model_info", "model_parameter_info", "train_dataset"),
    }
)
_DURATIONS = frozenset({"elapsed_time", "remaining_time"})
_OF_PROCESS = re.compile(r"(train_speed|memory)\(|(throughput|vram_\w+)\Z")
_OF_RUNTIME = re.compile(r"_(runtime|per_second)\Z")
Row = dict[str, object]


@dataclass(frozen=True)
class LogFormat:
    """The log format of one tool, and the conversion of its lines to the Trainer's rows.

    wrote: whether the tool wrote a line
    position: step and last step of a line; None if absent
    step_key: the key of the step in a line
    bookkeeping: keys that are not metrics
    expected_step: description of the step, for error messages
    shortcoming: a finding about differences from the Trainer's rows
    renamed: the Trainer's keys by the tool's keys
    outcome: keys of a line about the outcome, which is not a row
    null_is_absent: null stands for a missing metric
    digits: number of decimals of the values; None if exact
    """

    tool: str
    wrote: Callable[[Row], bool]
    position: Callable[[Row], tuple[int | None, int | None]]
    step_key: Callable[[Row], str | None]
    bookkeeping: frozenset[str]
    expected_step: str
    shortcoming: Finding
    renamed: Mapping[str, str] = field(default_factory=dict)
    outcome: frozenset[str] = frozenset()
    null_is_absent: bool = False
    digits: int | None = None

    def is_outcome(self, line: Row) -> bool:
        """Whether a line describes the outcome of the run and is not a row."""
        return not self.outcome.isdisjoint(line) and line.keys().isdisjoint(_SWIFT_STEPS)

    def metrics(self, line: Row) -> Row:
        """The Trainer's row for a line, without its step."""
        step_key, renamed = self.step_key(line), self.renamed
        return {
            renamed.get(key, key): value
            for key, value in line.items()
            if key not in self.bookkeeping
            and key != step_key
            and not (value is None and self.null_is_absent)
        }


def is_of_process(key: str) -> bool:
    """Whether a key differs between processes of one run: times, speed and memory."""
    return key in _DURATIONS or _OF_PROCESS.match(key) is not None


def is_duration(key: str) -> bool:
    """Whether a key is the elapsed or remaining time of the process."""
    return key in _DURATIONS


def is_of_process_or_runtime(key: str) -> bool:
    """Whether a key differs between processes, or is the duration of an evaluation."""
    return is_of_process(key) or _OF_RUNTIME.search(key) is not None


def same_line(line: Row, other: Row, ignored: Callable[[str], bool]) -> bool:
    """Whether two lines are equal except in `ignored` keys.

    Their text is compared, because NaN is not equal to itself.
    """
    if line.keys() != other.keys():
        return False
    kept = [key for key in line if not ignored(key)]
    return repr([line[key] for key in kept]) == repr([other[key] for key in kept])


def recognise(data: bytes) -> LogFormat | None:
    """The log format of a text, by its first lines; None if it is none of `FORMATS`."""
    for line in data[:HEAD_BYTES].split(b"\n")[:50]:
        try:
            row = from_json(line, allow_partial=True)
        except ValueError:
            continue
        if type(row) is dict:
            for log_format in FORMATS:
                if log_format.wrote(row):
                    return log_format
    return None


def _int64(value: object) -> int | None:
    """The value if it is an integer in the range of int64, else None."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _factory_position(line: Row) -> tuple[int | None, int | None]:
    total = _int64(line.get("total_steps"))
    return (None if total == 0 else _int64(line.get("current_steps"))), total


def _swift_key(line: Row) -> str | None:
    return next((key for key in (*_SWIFT_STEPS, "global_step") if key in line), None)


def _swift_position(line: Row) -> tuple[int | None, int | None]:
    value = line.get(_swift_key(line) or "")
    match = _FRACTION.match(value) if isinstance(value, str) else None
    return (int(match[1]), int(match[2])) if match else (_int64(value), None)


def _swift_wrote(line: Row) -> bool:
    if not line.keys().isdisjoint(_SWIFT_STEPS[:2]):
        return True
    iteration = line.get("iteration")
    if isinstance(iteration, str) and _FRACTION.match(iteration):
        return True
    # the Trainer's rows may have this key, too; ms-swift's lines have an `epoch` and no `step`
    return type(line.get("global_step")) is int and "epoch" in line and "step" not in line


LLAMA_FACTORY = LogFormat(
    "LLaMA-Factory",
    wrote=lambda line: "current_steps" in line,
    position=_factory_position,
    step_key=lambda line: "current_steps",
    bookkeeping=_DURATIONS | {"percentage", "total_steps"},
    expected_step=INT64,
    shortcoming=Finding(
        "log-has-few-metrics",
        Severity.INFO,
        "all rows",
        "LLaMA-Factory's log has few of the Trainer's metrics: no grad_norm, and only the loss of "
        "an evaluation; a trainer_state.json has all metrics",
    ),
    renamed={
        "accuracy": "rewards/accuracies",
        "lr": "learning_rate",
        "total_tokens": "num_input_tokens_seen",
    },
    null_is_absent=True,
)
MS_SWIFT = LogFormat(
    "ms-swift",
    wrote=_swift_wrote,
    position=_swift_position,
    step_key=_swift_key,
    bookkeeping=_DURATIONS | {"percentage"},
    expected_step="a step and the last one, such as '10/438'",
    shortcoming=Finding(
        "values-rounded",
        Severity.INFO,
        "all rows",
        "ms-swift's log rounds all values to 8 decimals; a trainer_state.json does not",
    ),
    outcome=_OUTCOME,
    digits=8,
)
FORMATS = (LLAMA_FACTORY, MS_SWIFT)
