"""A compact record of a run for tree views: its summary line and its input files.

Input files are the merged states, results and settings, and the run at its fork.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from bridges.cli.console import COLOURS, count_noun
from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, folder_of, output_of
from bridges.sources.trainer.discovery import natural
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run
from bridges.stream.trend import sparkline

SPARK_CHARS = 12
PLACE_CODES = frozenset(  # findings of a location, not of a run
    {
        *("files-ignored", "checkpoint-without-state", "empty-saves", "other-store"),
        *("deleted-runs", "empty-experiment", "not-carried"),
        *("events-empty", "not-event-files", "table-empty", "table-uncertain"),
        *("empty-log", "run-without-rows"),
    }
)
SHOWN_CODES = frozenset(  # findings with their own text in the tree
    {
        "checkpoints-folded",
        "params-beside",
        "results-added",
        "predictions-kept",
        "forked",
        "clock-copied",
        "event-format",
    }
)
TIMED_BY = {"events": "event files", "log": "a log", "mtimes": "the checkpoints' files"}
STATUS = {"finished": "green", "unfinished": "yellow"}
Part = tuple[str, str]  # a text and its style


@dataclass(frozen=True)
class Record:
    """The record of a run: `head` and `made_from` are the parts of its lines.

    `folder` is its output directory; `parts` are the names of the directories above it in the tree:
    experiment and parents for a tracker's run. `search` is the group of a trial, otherwise None;
    `states` the number of merged states, 0 for a run from a single file. Runs can be nested in a
    tracker's run (`nests`).
    """

    name: str
    source: str
    folder: str
    search: str | None
    states: int
    forked: tuple[str, int] | None
    head: tuple[Part, ...]
    made_from: tuple[Part, ...]
    parts: tuple[str, ...]
    nests: bool

    @classmethod
    def of(cls, run: Run) -> Record:
        """The record of a run."""
        is_tracked, has_tags = run.record is not None, run.key_style == "tags"
        outer, _, name = run.path.rpartition("/")
        folder = _output(run) if run.saves and not has_tags else outer
        own = (run.group,) if run.group else ()
        parts = (*own, *run.parents) if is_tracked else tuple(folder.split("/"))
        return cls(
            name=run.name if is_tracked else name if has_tags else run.path,
            source=run.source,
            folder=folder,
            parts=parts if folder or is_tracked else (),
            nests=is_tracked or has_tags,
            search=run.group if run.trial is not None else None,
            states=0 if is_tracked or has_tags else len(run.saves),
            forked=run.forked,
            head=tuple(_head(run)),
            made_from=tuple(_made_from(run)),
        )

    @property
    def state(self) -> str:
        """The short name of the run's state."""
        return short_state(self.source)

    @property
    def place(self) -> str:
        """The location of the state itself: its checkpoint directory, or the file."""
        folder = "/".join(_parts(self.source)[:-1])
        return folder if CHECKPOINT.match(self.state) else self.source


def _head(run: Run) -> Iterator[Part]:
    """Rows, steps, status, the last loss and evaluation, the worst finding."""
    stream = run.stream
    yield count_noun(len(stream), "row"), ""
    if len(stream):
        low, high = f"{stream.step.min():,}", f"{stream.step.max():,}"
        yield f"steps {low} to {high}" if low != high else f"step {low}", ""
    yield run.status, STATUS.get(run.status, "dim")
    for key in run.key_rules.main_keys(stream):
        values = stream.column(key)[1]
        yield f"{key} {values[-1]:.4g} {sparkline(values.tolist(), SPARK_CHARS)}", "green"
    yield from _worst(run.findings)


def _worst(findings: Iterable[Finding]) -> Iterator[Part]:
    """The most severe findings without their own text in the tree: the first, and a count."""
    order = [*Severity]
    others = [note for note in findings if note.code not in PLACE_CODES | SHOWN_CODES]
    worst = max(others, key=lambda note: order.index(note.severity), default=None)
    if worst is not None:
        equal = sum(note.severity is worst.severity for note in others) - 1
        more = f" and {equal:,} more" if equal else ""
        yield f"{worst.severity.value} {worst.code}{more}", COLOURS[worst.severity]


def _made_from(run: Run) -> Iterator[Part]:
    """The trial params, the fork, and the merged states, results and settings."""
    if run.trial_params:
        yield ", ".join(f"{key}={_value(value)}" for key, value in run.trial_params.items()), ""
    if run.forked:
        other, rows = run.forked
        yield (
            f"forks from {_apart(other, output_of(run.source))} after {count_noun(rows, 'row')}",
            "yellow",
        )
    if len(run.saves) > 1 and run.key_style == "tags":
        yield f"from {count_noun(len(run.saves), 'file')}", "dim"
    elif run.saves:
        yield f"from {_states(run.saves)}", "dim"
    results = sum(note.count for note in run.findings if note.code == "results-added")
    if results:
        yield count_noun(results, "row") + " of results", "dim"
    timed = [TIMED_BY[one.source] for one in run.evidence if one.source in TIMED_BY]
    if timed:
        yield f"times of {timed[0]}", "dim"
    files = dict.fromkeys(file for file in run.param_files.values() if file not in run.saves)
    names = dict.fromkeys(_parts(file)[-1] for file in files)
    if names:
        yield f"settings of {_listed([*names])}", "dim"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _states(saves: Sequence[str]) -> str:
    """The states as text: `9 checkpoints (checkpoint-500, -1000 … -4500) and trainer_state.json`.

    If two have the same name, states in other directories are named by their paths.
    """
    names = [short_state(save) for save in saves]
    if len({*names}) < len(names):
        names = [_apart(save, output_of(saves[0])) for save in saves]
    checkpoints = sorted({name for name in names if CHECKPOINT.match(name)}, key=natural)
    others = [name for name in names if name not in checkpoints]
    return _listed([_numbers(checkpoints), *others[:3]] if checkpoints else others[:3])


def _numbers(names: Sequence[str]) -> str:
    """The checkpoints as text: the first name, then the other numbers."""
    first, *others = names
    if not others:
        return first
    numbers = [name.removeprefix("checkpoint") for name in others]
    if len(numbers) > 2:
        return f"{len(names):,} checkpoints ({first}, {numbers[0]} … {numbers[-1]})"
    return f"{len(names)} checkpoints ({', '.join([first, *numbers])})"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def _output(run: Run) -> str:
    """The directory of the checkpoints of a run, or of its state if it has none."""
    folders = [folder_of(save) for save in run.saves]
    outputs = map(output_of, run.saves)
    pairs = zip(outputs, folders, strict=True)
    return next((output for output, folder in pairs if output != folder), folders[0])


def _apart(location: str, home: str) -> str:
    """The short name of a state, with its path below the common parent if not in `home`."""
    output = output_of(location)
    if output == home:
        return short_state(location)
    pairs = zip(_parts(output), _parts(home), strict=False)
    shared = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
    return "/".join([*_parts(output)[shared:], short_state(location)])


def short_state(location: str) -> str:
    """The directory name of a checkpoint, or the file name of another state."""
    parts = _parts(location)
    is_checkpoint = len(parts) > 1 and CHECKPOINT.match(parts[-2])
    return parts[-2] if is_checkpoint else parts[-1]


def _parts(path: str) -> list[str]:
    return path.replace("\\", "/").split("/")
