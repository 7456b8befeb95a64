"""Reads every run below a directory, a glob or a URL, each once.

The states that a run saved are folded into its longest one (`folding`). Several runs in one
directory stay separate and get unique names.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from bridges.errors import BridgeError, SourceError, TreeError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.sidecars.settings_files import read_settings
from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, folder_of, output_of
from bridges.sources.trainer.discovery import FoundFiles, discover, natural, unlisted
from bridges.sources.trainer.file_cache import UnchangedFiles
from bridges.sources.trainer.file_sidecars import partition_around
from bridges.sources.trainer.folding import FoldedRun, Save, fold
from bridges.sources.trainer.locations import GLOB, is_tree
from bridges.sources.trainer.not_a_history import OtherFileError
from bridges.sources.trainer.partitions import Partition, partitions, single_partition
from bridges.sources.trainer.paths import label_of, name_of, names_of
from bridges.sources.trainer.read_units import read_units
from bridges.sources.trainer.run_sidecars import RunCompleter, kinds_of, outputs_of
from bridges.sources.trainer.state_file import TrainerStateSource
from bridges.sources.trainer.trials import trial_directories
from bridges.sources.tuning_logs.source import TrainerLogSource, is_log
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import MetricStream, Run
from bridges.stream.settings import Settings as Identity

MIN_ROWS_AHEAD = 5_000  # small runs are read in batches of so many rows, for warm CPU caches
MAX_KEPT_POINTS = 1_000_000  # of cached runs: about 10 MB


def read(location: str, options: ReadOptions) -> Iterator[Run]:
    """The runs of a tree, or the run of a file as its directory would give it.

    Errors are raised after the last readable run: SourceError, or TreeError for several.
    """
    if is_tree(location):
        yield from _in_batches(_read_tree(location, options))
    else:
        yield from _read_file(partition_around(location), options)


def _read_tree(location: str, options: ReadOptions) -> Iterator[Run]:
    found = discover(location)
    parts = read_units(location, found) or [single_partition(location, found)]
    is_empty, errors = True, list[SourceError]()
    notes = next((part.notes for part in parts if part.notes), ())
    for part in parts:
        own = part.found if len(parts) > 1 else found
        if len(parts) > 1:  # the first run reports the other files of the tree
            own.others = Counter(found.others if is_empty else ())
        own.notes = notes if is_empty else ()
        try:
            for run in _read(part, own, options):
                is_empty = False
                yield run
        except TreeError as error:
            errors += error.errors
    if errors:
        if is_empty:
            _add_notes(errors, notes)
        raise TreeError(location, errors)
    if is_empty and not found.states:
        raise _no_states(location, found)


def split(location: str) -> list[Partition]:
    """The partitions of a location. Raises SourceError."""
    if not is_tree(location):
        return [partition_around(location)]
    found = discover(location)
    parts = partitions(location, found)
    if not parts and found.unlisted:
        raise TreeError(location, [unlisted(*each) for each in found.unlisted.items()])
    if not parts:
        raise _no_states(location, found)
    return parts


def read_part(part: Partition, options: ReadOptions) -> Iterator[Run]:
    """The runs of a partition; errors as in `read`."""
    if part.named_file:
        yield from _read_file(part, options)
        return
    is_empty = True
    try:
        for run in _read(part, part.found, options):
            is_empty = False
            yield run
    except TreeError as error:
        if is_empty:
            _add_notes(error.errors, part.notes)
            raise TreeError(part.location, error.errors) from None
        raise


def _add_notes(errors: Sequence[SourceError], notes: Sequence[Finding]) -> None:
    """Add the notes about other logs of a tree, which no run reports, to the first error."""
    for note in notes:
        errors[0].add_remedy(f"{note.where}: {note.message}.")


def _in_batches(runs: Iterator[Run]) -> Iterator[Run]:
    """Read small runs in batches before yielding them, and keep none of the yielded ones.

    An error is raised after the read runs.
    """
    ahead: deque[Run] = deque()
    rows = 0
    try:
        for run in runs:
            ahead.append(run)
            rows += len(run.stream)
            if rows >= MIN_ROWS_AHEAD:
                yield from _emptied(ahead)
                rows = 0
    except BridgeError:
        yield from _emptied(ahead)
        raise
    yield from _emptied(ahead)


def _emptied(runs: deque[Run]) -> Iterator[Run]:
    """The runs, each removed when it is yielded."""
    while runs:
        yield runs.popleft()


def _read_file(partition: Partition, options: ReadOptions) -> Iterator[Run]:
    """The run of a named file, with its sidecars if its directory contains no other run.

    An earlier save gives the shorter history, without later rows and results.
    """
    file, found = partition.named_file, partition.found
    reader = _Reader(options, is_alone=False)
    run = reader.run(file)
    states = [*found.states, *_logs_alone(found, options)]
    runs, trials = _FOLDED.of(
        (partition.files, partition.neighbour, options),
        lambda: _fold_file(partition, found, states, reader),
    )
    mine = [folded for folded in runs if file in folded.locations]
    if not mine or [other for other in runs if _share_output(other, mine[0])] != mine:
        yield _alone(run, partition)
        return
    folded, trials = mine[0], {**trials}
    (name,) = names_of([folded.longest.location], dict(partition.depths))
    if file != folded.longest.location:
        options = replace(options, growing=True)
        if folded.longest.location in trials:
            trials[file] = trials[folded.longest.location]
        folded = _up_to(file, folded)
    yield RunCompleter(file, found, runs, trials, options, ()).complete(run, folded, name)


def _fold_file(
    partition: Partition, found: FoundFiles, states: Sequence[str], reader: _Reader
) -> tuple[list[FoldedRun], dict[str, tuple[str, str]]]:
    """The folded runs around a named file, and the names of those that are trials."""
    saves = [save for path in states if (save := reader.save(path))]
    runs, _ = _without_empty(fold(saves, reader.stream, reader.settings(found)))
    return runs, _trials(partition, runs, reader)


_FOLDED: UnchangedFiles[tuple[list[FoldedRun], dict[str, tuple[str, str]]]] = UnchangedFiles()


def _share_output(one: FoldedRun, other: FoldedRun) -> bool:
    """Whether two runs have a common output directory."""
    return not {*outputs_of(one)}.isdisjoint(outputs_of(other))


def _up_to(location: str, folded: FoldedRun) -> FoldedRun:
    """The run as of the save at `location`."""
    (last,) = (save for save in folded.saves if save.location == location)
    earlier = [save for save in folded.saves if save.rows <= last.rows and save is not last]
    return FoldedRun(last, earlier)


def _alone(run: Run, partition: Partition) -> Run:
    """The run of a file without its sidecars, and a note if there are any."""
    if len(partition.files) == 1:
        return run
    message = (
        "several runs lie in this directory, so the settings and event files beside the file may "
        "belong to another run: they are not read. `bridge inspect` shows the directory."
    )
    note = Finding("beside-left-out", Severity.INFO, output_of(run.source) or ".", message)
    return replace(run, findings=(*run.findings, note))


def _read(partition: Partition, found: FoundFiles, options: ReadOptions) -> Iterator[Run]:
    """The runs of a partition with the files `found`."""
    states = [*found.states, *_logs_alone(found, options)]
    reader = _Reader(options, is_alone=len(states) == 1)
    # among equal saves, the one outside a checkpoint names the run
    states.sort(key=lambda path: bool(CHECKPOINT.match(label_of(path))))
    saves = [save for path in states if (save := reader.save(path))]
    reader.sort_out_others(found)
    runs, empty = _without_empty(fold(saves, reader.stream, reader.settings(found)))
    runs.sort(key=lambda run: natural(run.longest.location))
    names = names_of([run.longest.location for run in runs], dict(partition.depths))
    tree = RunCompleter(
        partition.location, found, runs, _trials(partition, runs, reader), options, empty
    )
    for run, name in zip(runs, names, strict=True):
        yield tree.complete(reader.run(run.longest.location), run, name)
    errors = [*reader.errors, *(unlisted(*each) for each in found.unlisted.items())]
    if errors:
        raise TreeError(partition.location, errors)


class _Reader:
    """Reads states, and caches the last ones up to `MAX_KEPT_POINTS` points."""

    def __init__(self, options: ReadOptions, *, is_alone: bool) -> None:
        self._options = options
        self._is_alone = is_alone
        self._kept: OrderedDict[str, Run] = OrderedDict()
        self._points = 0
        self.errors: list[SourceError] = []
        self.others: list[SourceError] = []

    def sort_out_others(self, found: FoundFiles) -> None:
        """Count a file without a history as ignored if only a pattern matched it, else as an error.

        If no file has a history, each is an error.
        """
        for error in self.others:
            if error.source in found.by_pattern and self._kept:
                found.ignore(name_of(error.source))
            else:
                self.errors.append(error)

    def save(self, location: str) -> Save | None:
        """The save at a location; None if it cannot be read, which adds to `errors`."""
        try:
            return Save.of(self.run(location), is_alone=self._is_alone)
        except OtherFileError as error:
            self.others.append(error)
            return None
        except SourceError as error:
            self.errors.append(error)
            return None

    def stream(self, location: str) -> MetricStream:
        """The rows of the state at a location."""
        return self.run(location).stream

    def settings(self, found: FoundFiles) -> Callable[[str], Identity]:
        """A function from a save's location to its settings, sidecar files included."""

        def settings(location: str) -> Identity:
            run = self.run(location)
            folders = dict.fromkeys([folder_of(location), output_of(location)])
            sidecars = [found.sidecars.get(folder, []) for folder in folders]
            return read_settings(run.params, run.source, sidecars).identity(run.settings)

        return cache(settings)

    def run(self, location: str) -> Run:
        """The run of the file at a location, without its sidecars."""
        if location in self._kept:
            self._kept.move_to_end(location)
            return self._kept[location]
        log = TrainerLogSource()
        source = log if log.claims(location) else TrainerStateSource()
        (run,) = source.read(location, self._options)
        self._kept[location] = run
        self._points += run.stream.points
        while self._points > MAX_KEPT_POINTS and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._points -= oldest.stream.points
        return run


def _logs_alone(found: FoundFiles, options: ReadOptions) -> list[str]:
    """The logs of tuning tools in directories without a state."""
    with_state = {output_of(path) for path in found.states}
    folders = sorted(found.logs.keys() - with_state, key=natural)
    known = []
    for path in (path for folder in folders for path in sorted(found.logs[folder])):
        if is_log(path, options.max_unpacked):
            known.append(path)
        else:
            found.ignore(name_of(path))
    return known


def _without_empty(runs: list[FoldedRun]) -> tuple[list[FoldedRun], list[str]]:
    """Leave out states without rows beside other runs of their directory; return their locations.

    A directory's only state is kept, with or without rows.
    """
    full = {output_of(run.longest.location) for run in runs if run.longest.rows}
    kept, empty = [], []
    for run in runs:
        if run.longest.rows or output_of(run.longest.location) not in full:
            kept.append(run)
        else:
            empty.append(run.longest.location)
    return kept, empty


def _trials(
    partition: Partition, runs: Sequence[FoldedRun], reader: _Reader
) -> dict[str, tuple[str, str]]:
    """Group (the search) and name of each trial, by the location of its longest save."""
    if not any(run.longest.is_trial for run in runs):
        return {}
    save = reader.save(partition.neighbour) if partition.neighbour else None
    neighbours = [FoldedRun(save)] if save else []
    found = trial_directories([*runs, *neighbours])
    searches = [*dict.fromkeys(search for search, _ in found.values())]
    paths = [f"{search}/x" for search in searches]
    groups = dict(zip(searches, names_of(paths, dict(partition.depths)), strict=True))
    return {location: (groups[search], name) for location, (search, name) in found.items()}


def _no_states(location: str, found: FoundFiles) -> MissingSourceError:
    ending = next((end for end in (".json", ".jsonl") if end in found.others), "")
    pattern = f"{location.rstrip('/')}/*{ending}"
    by_pattern = f", or all of them by a pattern in quotes: '{pattern}'" if ending else ""
    tables = (
        " Tables are read only if they are certainly logs of trainings: name the file itself, or "
        "give its format with --format (`bridge sources` lists the formats)."
    )
    has_tables = any(end in found.others for end in (".csv", ".tsv"))
    missing = "no log that matches" if GLOB.search(location) else "no trainer_state.json below it"
    return MissingSourceError(
        location,
        found=f"{missing} ({kinds_of(found) or 'no files at all'})",
        expected="output directories of a Trainer, or logs of another tracker or logger",
        remedy="Name another directory, or the file itself if it has another name"
        f"{by_pattern}.{tables if has_tables else ''}",
    )
