"""Completes a run with its sidecars: settings, a tuning tool's log, results and times.

Findings about a directory, or about the tree, are added to its first run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bridges.sources.file_names import RESULTS_NAME
from bridges.sources.options import ReadOptions
from bridges.sources.sidecars.live_params import own_projects, project_of, run_name_of
from bridges.sources.sidecars.settings_files import Settings, read_settings
from bridges.sources.times.events import EventFiles
from bridges.sources.times.evidence import with_evidence
from bridges.sources.trainer.checkpoint_paths import folder_of, output_of
from bridges.sources.trainer.discovery import FoundFiles
from bridges.sources.trainer.folding import FoldedRun
from bridges.sources.trainer.paths import label_of, name_of
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run
from bridges.stream.redact import redact_text


class RunCompleter:
    """Completes the runs of a tree with the files found there."""

    def __init__(
        self,
        location: str,
        found: FoundFiles,
        runs: Sequence[FoldedRun],
        trials: Mapping[str, tuple[str, str]],
        options: ReadOptions,
        empty: Sequence[str],
    ) -> None:
        self._found = found
        self._empty = Counter(map(output_of, empty))
        self._options = options
        self._trials = trials
        self._runs: dict[str, list[FoldedRun]] = {}
        for run in runs:
            self._runs.setdefault(output_of(run.longest.location), []).append(run)
        self._ownerless: set[str] = set()
        self._writers = Counter(output for run in runs for output in outputs_of(run))
        self._events = EventFiles(found.events, self._writers)
        self._broken = found.checkpoints_without_state()
        self._tree_findings = _ignored(location, found)

    def complete(self, run: Run, folded: FoldedRun, name: str) -> Run:
        """The run of a state with names, settings, log rows, results, times and findings."""
        settings = read_settings(
            run.params,
            run.source,
            [*_folders(folded, self._found)],
            redact_home=self._options.redact_home,
        )
        run = _with_settings(run, folded, name, settings, self._given_name(folded, settings))
        if folded.longest.location in self._trials:
            group, own = self._trials[folded.longest.location]
            run = replace(run, group=redact_text(group), name=redact_text(own or name))
        run, logs = self._with_log(run, folded)
        run = self._with_evidence(self._with_results(run, folded), folded, logs)
        return self._with_findings(run)

    def _given_name(self, folded: FoldedRun, settings: Settings) -> str | None:
        """The `run_name` in the arguments; None for a trial, or if another run may own them."""
        longest = folded.longest.location
        is_own = folder_of(settings.files.get("run_name", "")) == folder_of(longest)
        if longest in self._trials or not (is_own or self._is_alone(folded)):
            return None
        return run_name_of(settings.params, settings.files)

    def _with_log(self, run: Run, folded: FoldedRun) -> tuple[Run, list[str]]:
        """The run with the further rows of its log, and the log if its times may be the run's."""
        logs = self._found.logs.get(outputs_of(folded)[0], [])
        if not logs or run.source in logs:
            return run, []
        from bridges.sources.tuning_logs.further_rows import with_best_log

        alone = self._is_alone(folded)
        return with_best_log(run, sorted(logs), self._options, is_alone=alone)

    def _is_alone(self, folded: FoldedRun) -> bool:
        """Whether the run's output directories contain no other run."""
        return all(self._writers[output] == 1 for output in outputs_of(folded))

    def _with_results(self, run: Run, folded: FoldedRun) -> Run:
        output = output_of(run.source)
        sidecars = self._found.sidecars.get(output, [])
        files = [file for file in sidecars if RESULTS_NAME.match(name_of(file))]
        if self._options.growing or not files:
            return run
        from bridges.sources.sidecars.results import earlier_added, read_results, with_results

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
            return replace(run, findings=(*run.findings, _results_left_out(output, files)))
        return run

    def _owner(self, output: str) -> FoldedRun | None:
        """The run that a directory's results belong to; None if ambiguous.

        It is the only run, or the only one with a state outside checkpoints.
        """
        runs = self._runs[output]
        if len(runs) == 1:
            return runs[0]
        own = [run for run in runs if output in map(folder_of, run.locations)]
        return own[0] if len(own) == 1 else None

    def _with_evidence(self, run: Run, folded: FoldedRun, logs: Sequence[str]) -> Run:
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

    def _with_findings(self, run: Run) -> Run:
        """The run with the findings of its directory; the first run also gets those of the tree."""
        output, findings = output_of(run.source), self._tree_findings
        if output in self._broken:
            findings = [*findings, _without_state(output, self._broken.pop(output))]
        if output in self._empty:
            findings = [*findings, _without_rows(output, self._empty.pop(output))]
        self._tree_findings = []
        return replace(run, findings=(*run.findings, *findings)) if findings else run


def _with_settings(
    run: Run, folded: FoldedRun, name: str, settings: Settings, given_name: str | None
) -> Run:
    """The run with its names, project, settings, saves and the findings about them."""
    findings = [*run.findings, *settings.findings]
    if folded.earlier:
        steps = ", ".join(label_of(save.location) for save in folded.earlier[:5])
        more = " …" if len(folded.earlier) > 5 else ""
        message = f"earlier saves of this run are folded into it: {steps}{more}"
        findings.append(
            Finding("checkpoints-folded", Severity.INFO, run.source, message, len(folded.earlier))
        )
    forked = folded.forked
    if forked and forked[1] < folded.longest.rows:
        message = f"the first {forked[1]} rows equal those of {forked[0]}, then the rows differ"
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
        own_projects=own_projects(settings.params, settings.files),
        params=settings.params,
        param_files=settings.files,
        settings=replace(settings.identity(run.settings), output=output),
        findings=tuple(findings),
        saves=tuple(folded.locations),
        forked=forked,
    )


def _folders(folded: FoldedRun, found: FoundFiles) -> Iterator[list[str]]:
    """The files beside each save: the longest save first, its output directory next."""
    longest, *earlier = folded.locations
    folders = [folder_of(longest), output_of(longest), *map(folder_of, earlier)]
    return (found.sidecars.get(folder, []) for folder in dict.fromkeys(folders))


def _other_end(folded: FoldedRun) -> Finding:
    """The finding for a resume with another `max_steps`, and so another learning rate schedule."""
    (save, *_), last = folded.other_ends, folded.longest
    message = (
        f"{label_of(save.location)} was to end at step {save.max_steps:,} and "
        f"{label_of(last.location)} at step {last.max_steps:,}: resumed with another max_steps"
    )
    count = len(folded.other_ends)
    return Finding("resume-other-max-steps", Severity.WARNING, last.location, message, count)


def outputs_of(folded: FoldedRun) -> list[str]:
    """The output directories of a run, the longest save's first."""
    return [*dict.fromkeys(map(output_of, folded.locations))]


def _ignored(location: str, found: FoundFiles) -> list[Finding]:
    count = found.others.total()
    if not count:
        return [*found.notes]
    message = f"files that are not histories, settings or results: {kinds_of(found)}"
    ignored = Finding("files-ignored", Severity.INFO, location, message, count)
    return [ignored, *found.notes]


def kinds_of(found: FoundFiles) -> str:
    """The most common suffixes of ignored files with their counts: `3 .txt, 1 .csv`."""
    return ", ".join(f"{count} {ending}" for ending, count in found.others.most_common(3))


def _without_state(folder: str, names: list[str]) -> Finding:
    message = f"{', '.join(names[:5])}: no trainer_state.json, as after a crash while saving"
    return Finding("checkpoint-without-state", Severity.WARNING, folder, message, len(names))


def _same_rows(run: Run, other: str, rows: int) -> Finding:
    message = f"its rows equal the first rows of {other}, but the settings differ: two runs"
    return Finding("same-rows", Severity.INFO, run.source, message, rows)


def _without_rows(folder: str, count: int) -> Finding:
    message = "states without log rows: they belong to no run and are not exported"
    return Finding("empty-saves", Severity.WARNING, folder, message, count)


def _results_left_out(folder: str, files: Sequence[str]) -> Finding:
    message = (
        f"{', '.join(map(name_of, files))}: several runs lie in this directory, so the run of "
        "these results is unknown. Move each run into its own directory to export them."
    )
    return Finding("results-left-out", Severity.LOSS, folder, message, len(files))
