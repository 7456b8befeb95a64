"""Completing a run with what lies around its saves: settings, a tool's log, results and times.

Findings that concern a directory or a whole place are added to the first run there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bridges.sources.options import ReadOptions
from bridges.sources.sidecars.live_params import project_of, run_name_of
from bridges.sources.sidecars.results import NAME as RESULTS
from bridges.sources.sidecars.results import earlier_added, read_results, with_results
from bridges.sources.sidecars.sidecars import Settings, read_settings
from bridges.sources.times.events import EventFiles
from bridges.sources.times.evidence import with_evidence
from bridges.sources.trainer.checkpoint_paths import folder_of, output_of
from bridges.sources.trainer.discovery import Found
from bridges.sources.trainer.folding import Folded
from bridges.sources.trainer.paths import last_of, name_of
from bridges.sources.tuning_logs.beside import with_best_log
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run
from bridges.stream.redact import redact_text


class Surroundings:
    """What was found below a place, and completes each of its runs."""

    def __init__(
        self,
        location: str,
        found: Found,
        runs: Sequence[Folded],
        trials: Mapping[str, tuple[str, str]],
        options: ReadOptions,
        empty: Sequence[str],
    ) -> None:
        self._found = found
        self._empty = Counter(map(output_of, empty))
        self._options = options
        self._trials = trials
        self._runs: dict[str, list[Folded]] = {}
        for run in runs:
            self._runs.setdefault(output_of(run.longest.location), []).append(run)
        self._ownerless: set[str] = set()
        self._writers = Counter(output for run in runs for output in outputs_of(run))
        self._events = EventFiles(found.events, self._writers)
        self._broken = found.without_state()
        self._notes = _ignored(location, found)

    def whole(self, run: Run, folded: Folded, name: str) -> Run:
        """The run of a state, with all that lies beside its saves."""
        settings = read_settings(
            run.params,
            run.source,
            [*_folders(folded, self._found)],
            redact_home=self._options.redact_home,
        )
        run = _complete(run, folded, name, settings, self._given_name(folded, settings))
        if folded.longest.location in self._trials:
            group, own = self._trials[folded.longest.location]
            run = replace(run, group=redact_text(group), name=redact_text(own or name))
        run, logs = self._with_log(run, folded)
        return self._told(self._timed(self._with_results(run, folded), folded, logs))

    def _given_name(self, folded: Folded, settings: Settings) -> str | None:
        """The name in the arguments, where these are surely the run's. Trials have their own."""
        longest = folded.longest.location
        is_own = folder_of(settings.files.get("run_name", "")) == folder_of(longest)
        if longest in self._trials or not (is_own or self._is_alone(folded)):
            return None
        return run_name_of(settings.params, settings.files)

    def _with_log(self, run: Run, folded: Folded) -> tuple[Run, list[str]]:
        """The run with what its log adds, and the log if its times may be of the run."""
        logs = self._found.logs.get(outputs_of(folded)[0], [])
        if not logs or run.source in logs:
            return run, []
        alone = self._is_alone(folded)
        return with_best_log(run, sorted(logs), self._options, is_alone=alone)

    def _is_alone(self, folded: Folded) -> bool:
        """Whether no other run wrote to its output directories."""
        return all(self._writers[output] == 1 for output in outputs_of(folded))

    def _with_results(self, run: Run, folded: Folded) -> Run:
        output = output_of(run.source)
        beside = self._found.beside.get(output, [])
        files = [file for file in beside if RESULTS.match(name_of(file))]
        if self._options.growing or not files:
            return run
        results, unreadable = read_results(files)
        run = replace(
            run,
            findings=(*run.findings, *unreadable),
            earlier_added=earlier_added(run, results),
        )
        owner = self._owner(output)
        if owner is folded:
            return with_results(run, results)
        if owner is None and output not in self._ownerless:
            self._ownerless.add(output)
            return replace(run, findings=(*run.findings, _of_which(output, files)))
        return run

    def _owner(self, output: str) -> Folded | None:
        """The run of a directory whose results lie there: the only one, or that of the state which
        lies there, too; None where that cannot be told.
        """
        runs = self._runs[output]
        if len(runs) == 1:
            return runs[0]
        own = [run for run in runs if output in map(folder_of, run.locations)]
        return own[0] if len(own) == 1 else None

    def _timed(self, run: Run, folded: Folded, logs: Sequence[str]) -> Run:
        outputs = outputs_of(folded)
        return with_evidence(
            run,
            [(save.location, save.rows) for save in folded.saves],
            outputs,
            logs,
            self._events,
            is_alone=self._is_alone(folded),
            max_unpacked=self._options.max_unpacked,
            fill=self._options.fill_from_events and not self._options.growing,
        )

    def _told(self, run: Run) -> Run:
        """The run with the findings of its directory; the first run also gets those of the tree."""
        output, notes = output_of(run.source), self._notes
        if output in self._broken:
            notes = [*notes, _without_state(output, self._broken.pop(output))]
        if output in self._empty:
            notes = [*notes, _without_rows(output, self._empty.pop(output))]
        self._notes = []
        return replace(run, findings=(*run.findings, *notes)) if notes else run


def _complete(
    run: Run, folded: Folded, name: str, settings: Settings, given_name: str | None
) -> Run:
    """The run with its names, its project, its settings, and what it was made from."""
    findings = [*run.findings, *settings.findings]
    if folded.earlier:
        steps = ", ".join(last_of(save.location) for save in folded.earlier[:5])
        more = " …" if len(folded.earlier) > 5 else ""
        message = f"earlier saves of this run are part of it: {steps}{more}"
        findings.append(
            Finding("checkpoints-folded", Severity.INFO, run.source, message, len(folded.earlier))
        )
    forked = folded.forked
    if forked and forked[1] < folded.longest.rows:
        message = f"the first {forked[1]} rows are those of {forked[0]}, then it goes another way"
        findings.append(Finding("forked", Severity.WARNING, f"row {forked[1]}", message))
    elif forked:
        findings.append(_same_rows(run, *forked))
        forked = None
    if folded.other_ends:
        findings.append(_other_end(folded))
    output = redact_text(name_of(output_of(run.source)))
    return replace(
        run,
        name=redact_text(name),
        run_name=given_name,
        project=project_of(settings.files, run.stream.keys),
        params=settings.params,
        param_files=settings.files,
        settings=replace(settings.identity(run.settings), output=output),
        findings=tuple(findings),
        saves=tuple(folded.locations),
        forked=forked,
    )


def _folders(folded: Folded, found: Found) -> Iterator[list[str]]:
    """The files beside the saves of a run: the longest first, its output directory next."""
    longest, *earlier = folded.locations
    places = [folder_of(longest), output_of(longest), *map(folder_of, earlier)]
    return (found.beside.get(place, []) for place in dict.fromkeys(places))


def _other_end(folded: Folded) -> Finding:
    """The run was resumed with another length: the schedule of its learning rate is another one."""
    (save, *_), last = folded.other_ends, folded.longest
    message = (
        f"{last_of(save.location)} was to end at step {save.max_steps:,} and "
        f"{last_of(last.location)} at step {last.max_steps:,}: resumed with another length"
    )
    count = len(folded.other_ends)
    return Finding("resume-other-max-steps", Severity.WARNING, last.location, message, count)


def outputs_of(folded: Folded) -> list[str]:
    """The directories that a run wrote to, that of its longest save first."""
    return [*dict.fromkeys(map(output_of, folded.locations))]


def _ignored(location: str, found: Found) -> list[Finding]:
    count = found.others.total()
    if not count:
        return []
    message = f"files that are no histories, settings or results: {kinds_of(found)}"
    return [Finding("files-ignored", Severity.INFO, location, message, count)]


def kinds_of(found: Found) -> str:
    """How many files of which endings were passed over."""
    return ", ".join(f"{count} {ending}" for ending, count in found.others.most_common(3))


def _without_state(folder: str, names: list[str]) -> Finding:
    message = (
        f"{', '.join(names[:5])}: left without a trainer_state.json, as by a crash while saving"
    )
    return Finding("checkpoint-without-state", Severity.WARNING, folder, message, len(names))


def _same_rows(run: Run, other: str, rows: int) -> Finding:
    message = f"all its rows are also rows of {other}, but their settings differ: two runs"
    return Finding("same-rows", Severity.INFO, run.source, message, rows)


def _without_rows(folder: str, count: int) -> Finding:
    message = "states without any log row: they belong to no run, and nothing of them is exported"
    return Finding("empty-saves", Severity.WARNING, folder, message, count)


def _of_which(folder: str, files: Sequence[str]) -> Finding:
    message = (
        f"{', '.join(map(name_of, files))}: several runs lie in this directory, and nothing tells "
        "of which these results are. Move each run into a directory of its own to export them."
    )
    return Finding("results-left-out", Severity.LOSS, folder, message, len(files))
