"""The logs that tuning tools write beside the Trainer's own: what their lines hold, by format.

LLaMA-Factory's `trainer_log.jsonl` (read from its sources, 2023 to 2025): every call of the
Trainer's log adds `current_steps`, `total_steps`, a fixed choice of metrics, `percentage` (a
number) and two durations as Python prints a timedelta. The learning rate is `learning_rate` until
mid-2024 and `lr` since; `accuracy` is what the Trainer logs as `rewards/accuracies` and
`total_tokens` its `num_input_tokens_seen`. Metrics that a row lacks are null in the oldest files
and absent since. Evaluation after the training has `total_steps` 0 in the oldest files, and
prediction adds lines of a count of batches, without an epoch. Resumed runs append.

ms-swift's `logging.jsonl`: the Trainer's row with floats rounded to 8 decimals, and the step as
`global_step` (1.x to 2.3), then as text `"10/438"` under `global_step/max_steps`, for a time
`steps[global_step/max_steps]`, or `iteration` (Megatron). `percentage` is text, durations read
`1d 2h 3m 4s`. Memory and speed are metrics of the Trainer's row in some releases. A last line
without a step tells of the outcome, and may hold the whole `log_history`, unrounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic_core import from_json

from bridges.sources.trainer.log_rows import INT64
from bridges.stream.finding import Finding, Severity

HEAD_BYTES = 1 << 16  # bytes of a file that tell its format
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
    """One tool's log: how its lines become the Trainer's rows.

    `wrote` tells whether a line is one of them. `position` gives the step and the last step of a
    line, as far as it has them, and `step_key` the key that its step is under. `bookkeeping` are
    keys that are no metrics, `renamed` those that the Trainer calls otherwise, `outcome` those of a
    line that is no row. `shortcoming` is a finding: what its rows lack against the Trainer's;
    where `null_is_absent`, null is written for what a row has not. `digits`
    is the number of decimals that values are rounded to, None where they are exact.
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
        """Whether a line tells of the run's outcome and is no row."""
        return not self.outcome.isdisjoint(line) and line.keys().isdisjoint(_SWIFT_STEPS)

    def metrics(self, line: Row) -> Row:
        """What the Trainer's row would have held, less its step."""
        step_key, renamed = self.step_key(line), self.renamed
        return {
            renamed.get(key, key): value
            for key, value in line.items()
            if key not in self.bookkeeping
            and key != step_key
            and not (value is None and self.null_is_absent)
        }


def is_of_process(key: str) -> bool:
    """Whether two processes of one run log other values under a key: times, speed and memory."""
    return key in _DURATIONS or _OF_PROCESS.match(key) is not None


def is_duration(key: str) -> bool:
    """Whether a key holds how long the process has run, or will."""
    return key in _DURATIONS


def is_of_process_or_runtime(key: str) -> bool:
    """Whether a key is of the process, or how long an evaluation took."""
    return is_of_process(key) or _OF_RUNTIME.search(key) is not None


def same_line(line: Row, other: Row, passing: Callable[[str], bool]) -> bool:
    """Whether two lines differ at most in `passing` keys.

    Texts are compared, because NaN is not equal to itself.
    """
    if line.keys() != other.keys():
        return False
    kept = [key for key in line if not passing(key)]
    return repr([line[key] for key in kept]) == repr([other[key] for key in kept])


def recognise(data: bytes) -> LogFormat | None:
    """The format of a text, by its first lines; None where it is neither."""
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


def _whole(value: object) -> int | None:
    """An integer that fits into int64; None for anything else."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _factory_position(line: Row) -> tuple[int | None, int | None]:
    total = _whole(line.get("total_steps"))
    return (None if total == 0 else _whole(line.get("current_steps"))), total


def _swift_key(line: Row) -> str | None:
    return next((key for key in (*_SWIFT_STEPS, "global_step") if key in line), None)


def _swift_position(line: Row) -> tuple[int | None, int | None]:
    value = line.get(_swift_key(line) or "")
    match = _FRACTION.match(value) if isinstance(value, str) else None
    return (int(match[1]), int(match[2])) if match else (_whole(value), None)


def _swift_wrote(line: Row) -> bool:
    if not line.keys().isdisjoint(_SWIFT_STEPS[:2]):
        return True
    iteration = line.get("iteration")
    if isinstance(iteration, str) and _FRACTION.match(iteration):
        return True
    # as ordinary rows may hold it too: the Trainer's `step` is never there, its `epoch` always
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
        "LLaMA-Factory's log has few of the Trainer's metrics: no grad_norm, and of an evaluation "
        "only its loss; a trainer_state.json would hold them all",
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
        "ms-swift's log has all values rounded to 8 decimals; a trainer_state.json would not",
    ),
    outcome=_OUTCOME,
    digits=8,
)
FORMATS = (LLAMA_FACTORY, MS_SWIFT)
