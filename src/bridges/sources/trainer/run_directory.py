"""Run directories: every run below a directory, a glob or a URL, once and whole.

The states that a run saved on its way are folded into its longest one (`folding`); several runs in
one directory stay several, each under a name of its own.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from bridges.errors import BridgeError, SourceError, TreeError
from bridges.sources.options import ReadOptions
from bridges.sources.sidecars.sidecars import read_settings
from bridges.sources.text import MissingSourceError
from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, folder_of, output_of
from bridges.sources.trainer.discovery import Found, discover, is_place, natural, unlisted
from bridges.sources.trainer.file_sidecars import bundle_around, is_history
from bridges.sources.trainer.folding import Folded, Save, fold
from bridges.sources.trainer.not_a_history import OtherFileError
from bridges.sources.trainer.partitions import Bundle, bundles, whole
from bridges.sources.trainer.paths import last_of, name_of, names_of
from bridges.sources.trainer.read_units import units
from bridges.sources.trainer.run_sidecars import Surroundings, kinds_of, outputs_of
from bridges.sources.trainer.state_file import TrainerStateSource
from bridges.sources.trainer.trials import trial_places
from bridges.sources.trainer.unchanged import UnchangedFiles
from bridges.sources.tuning_logs.source import TrainerLogSource, is_log
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import MetricStream, Run
from bridges.stream.settings import Settings as Identity

ROWS_AHEAD = 5_000  # of small runs that are read together, which keeps the caches warm
KEPT_POINTS = 1_000_000  # of runs that were read and may be needed again: about 10 MB


class RunDirectorySource:
    """Reads every run of a directory tree."""

    name = "run_directory"

    def claims(self, location: str) -> bool:
        """Whether it is a directory, a pattern, or a local file called as a history is."""
        return is_place(location) or is_history(location)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs of that tree; what cannot be read is told after the others.

        Of a file, the run whose history it holds, as of its directory. Raises SourceError, and
        TreeError where several files are broken.
        """
        if is_place(location):
            yield from _some_ahead(self._read_place(location, options))
        else:
            yield from _read_file(bundle_around(location), options)

    def _read_place(self, location: str, options: ReadOptions) -> Iterator[Run]:
        found = discover(location)
        parts = units(location, found) or [whole(location, found)]
        nothing, errors = True, list[SourceError]()
        for part in parts:
            own = part.found if len(parts) > 1 else found
            if len(parts) > 1:  # the first run names the other files
                own.others = Counter(found.others if nothing else ())
            try:
                for run in _read(part, own, options):
                    nothing = False
                    yield run
            except TreeError as error:
                errors += error.errors
        if errors:
            raise TreeError(location, errors)
        if nothing and not found.states:
            raise _no_states(location, found)

    def split(self, location: str) -> list[Bundle]:
        """The same runs in parts. Raises SourceError."""
        if not is_place(location):
            return [bundle_around(location)]
        found = discover(location)
        parts = bundles(location, found)
        if not parts and found.unlisted:
            raise TreeError(location, [unlisted(*each) for each in found.unlisted.items()])
        if not parts:
            raise _no_states(location, found)
        return parts

    def read_part(self, part: Bundle, options: ReadOptions) -> Iterator[Run]:
        """The runs of a part of a tree, as `read`."""
        if part.named:
            return _read_file(part, options)
        return _read(part, part.found, options)


def _some_ahead(runs: Iterator[Run]) -> Iterator[Run]:
    """The runs, of which a few small ones are read before the first of them is taken.

    What cannot be read is raised after those that were.
    """
    ahead: list[Run] = []
    rows = 0
    try:
        for run in runs:
            ahead.append(run)
            rows += len(run.stream)
            if rows >= ROWS_AHEAD:
                yield from ahead
                ahead, rows = [], 0
    except BridgeError:
        yield from ahead
        raise
    yield from ahead


def _read_file(bundle: Bundle, options: ReadOptions) -> Iterator[Run]:
    """The run of a named file, with what lies around it if its directory holds that run alone.

    Of an earlier save it is the shorter history, without what came later.
    """
    named, found = bundle.named, bundle.found
    reader = _Reader(options, is_alone=False)
    run = reader.run(named)
    states = [*found.states, *_logs_alone(found, options)]
    runs, trials = _FOLDED.of(
        (bundle.files, bundle.neighbour, options),
        lambda: _fold_file(bundle, found, states, reader),
    )
    mine = [folded for folded in runs if named in folded.locations]
    if not mine or [other for other in runs if _share(other, mine[0])] != mine:
        yield _alone(run, bundle)
        return
    folded, trials = mine[0], {**trials}
    (name,) = names_of([folded.longest.location], dict(bundle.depths))
    if named != folded.longest.location:
        options = replace(options, growing=True)
        if folded.longest.location in trials:
            trials[named] = trials[folded.longest.location]
        folded = _up_to(named, folded)
    yield Surroundings(named, found, runs, trials, options, ()).whole(run, folded, name)


def _fold_file(
    bundle: Bundle, found: Found, states: Sequence[str], reader: _Reader
) -> tuple[list[Folded], dict[str, tuple[str, str]]]:
    """The runs of the directory around a named file, and its trials."""
    saves = [save for path in states if (save := reader.save(path))]
    runs, _ = _without_empty(fold(saves, reader.stream, reader.settings(found)))
    return runs, _trials(bundle, runs, reader)


_FOLDED: UnchangedFiles[tuple[list[Folded], dict[str, tuple[str, str]]]] = UnchangedFiles()


def _share(one: Folded, other: Folded) -> bool:
    """Whether two runs wrote to one directory."""
    return not {*outputs_of(one)}.isdisjoint(outputs_of(other))


def _up_to(location: str, folded: Folded) -> Folded:
    """The run as it was when the save at that location was made."""
    (last,) = (save for save in folded.saves if save.location == location)
    earlier = [save for save in folded.saves if save.rows <= last.rows and save is not last]
    return Folded(last, earlier)


def _alone(run: Run, bundle: Bundle) -> Run:
    """A run as its file alone holds it, and a note where something lies beside that."""
    if len(bundle.files) == 1:
        return run
    message = (
        "several runs lie in this directory, so that settings and event files beside the file may "
        "be those of another run: they are not read. `bridge inspect` shows the directory."
    )
    note = Finding("beside-left-out", Severity.INFO, output_of(run.source) or ".", message)
    return replace(run, findings=(*run.findings, note))


def _read(bundle: Bundle, found: Found, options: ReadOptions) -> Iterator[Run]:
    """The runs of a part of a tree, of which this was found."""
    states = [*found.states, *_logs_alone(found, options)]
    reader = _Reader(options, is_alone=len(states) == 1)
    # of equal saves the one outside a checkpoint names the run
    states.sort(key=lambda path: bool(CHECKPOINT.match(last_of(path))))
    saves = [save for path in states if (save := reader.save(path))]
    reader.pass_over(found)
    runs, empty = _without_empty(fold(saves, reader.stream, reader.settings(found)))
    runs.sort(key=lambda run: natural(run.longest.location))
    names = names_of([run.longest.location for run in runs], dict(bundle.depths))
    tree = Surroundings(bundle.location, found, runs, _trials(bundle, runs, reader), options, empty)
    for run, name in zip(runs, names, strict=True):
        yield tree.whole(reader.run(run.longest.location), run, name)
    errors = [*reader.errors, *(unlisted(*each) for each in found.unlisted.items())]
    if errors:
        raise TreeError(bundle.location, errors)


class _Reader:
    """Reads states, and keeps the latest of them as long as they are small together."""

    def __init__(self, options: ReadOptions, *, is_alone: bool) -> None:
        self._options = options
        self._is_alone = is_alone
        self._kept: OrderedDict[str, Run] = OrderedDict()
        self._points = 0
        self.errors: list[SourceError] = []
        self.others: list[SourceError] = []

    def pass_over(self, found: Found) -> None:
        """Count files that hold no history and were not asked for: errors where no other was."""
        for error in self.others:
            if error.source in found.named and self._kept:
                found.ignore(name_of(error.source))
            else:
                self.errors.append(error)

    def save(self, location: str) -> Save | None:
        """The save at a location; None where it cannot be read, which is told later."""
        try:
            return Save.of(self.run(location), is_alone=self._is_alone)
        except OtherFileError as error:
            self.others.append(error)
            return None
        except SourceError as error:
            self.errors.append(error)
            return None

    def stream(self, location: str) -> MetricStream:
        """The rows at a location."""
        return self.run(location).stream

    def settings(self, found: Found) -> Callable[[str], Identity]:
        """What tells the run of a save from others with equal rows, its files included."""

        def settings(location: str) -> Identity:
            run = self.run(location)
            folders = dict.fromkeys([folder_of(location), output_of(location)])
            beside = [found.beside.get(folder, []) for folder in folders]
            return read_settings(run.params, run.source, beside).identity(run.settings)

        return cache(settings)

    def run(self, location: str) -> Run:
        """The run at a location, as its file alone tells it."""
        if location in self._kept:
            self._kept.move_to_end(location)
            return self._kept[location]
        log = TrainerLogSource()
        source = log if log.claims(location) else TrainerStateSource()
        (run,) = source.read(location, self._options)
        self._kept[location] = run
        self._points += run.stream.points
        while self._points > KEPT_POINTS and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._points -= oldest.stream.points
        return run


def _logs_alone(found: Found, options: ReadOptions) -> list[str]:
    """The logs of tuning tools in directories that no state belongs to."""
    with_state = {output_of(path) for path in found.states}
    folders = sorted(found.logs.keys() - with_state, key=natural)
    known = []
    for path in (path for folder in folders for path in sorted(found.logs[folder])):
        if is_log(path, options.max_unpacked):
            known.append(path)
        else:
            found.ignore(name_of(path))
    return known


def _without_empty(runs: list[Folded]) -> tuple[list[Folded], list[str]]:
    """The runs but states without rows in directories that have others, and where those lie."""
    full = {output_of(run.longest.location) for run in runs if run.longest.rows}
    kept, empty = [], []
    for run in runs:
        if run.longest.rows or output_of(run.longest.location) not in full:
            kept.append(run)
        else:
            empty.append(run.longest.location)
    return kept, empty


def _trials(bundle: Bundle, runs: Sequence[Folded], reader: _Reader) -> dict[str, tuple[str, str]]:
    """Group and name of each trial by its longest save: its own directory in that of the search."""
    if not any(run.longest.is_trial for run in runs):
        return {}
    save = reader.save(bundle.neighbour) if bundle.neighbour else None
    beside = [Folded(save)] if save else []
    found = trial_places([*runs, *beside])
    searches = [*dict.fromkeys(search for search, _ in found.values())]
    places = [f"{place}/x" for place in searches]
    groups = dict(zip(searches, names_of(places, dict(bundle.depths)), strict=True))
    return {location: (groups[search], name) for location, (search, name) in found.items()}


def _no_states(location: str, found: Found) -> MissingSourceError:
    ending = next((end for end in (".json", ".jsonl") if end in found.others), "")
    pattern = f"{location.rstrip('/')}/*{ending}"
    by_pattern = f", or all of them by a pattern in quotes: '{pattern}'" if ending else ""
    return MissingSourceError(
        location,
        found=f"no trainer_state.json below it ({kinds_of(found) or 'no files at all'})",
        expected="the output directory of a Trainer, or a directory of such",
        remedy=f"Name another directory, or the file itself if it has another name{by_pattern}.",
    )
