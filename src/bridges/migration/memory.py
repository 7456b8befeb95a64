"""What targets remember of earlier migrations, by which a source that did not change is not read.

The marks of a target are asked for once, before the work; those of its new runs are set by whoever
wrote these. Nothing depends on them but time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bridges.exporters.brief import briefly
from bridges.exporters.marks import Marked, Remembering
from bridges.migration import fingerprint
from bridges.migration.config import SourceSpec
from bridges.migration.targets import TargetSpec
from bridges.migration.tasks import Done, Task
from bridges.report import RunReport
from bridges.stream.finding import Finding, Severity

KNOWN = Finding(
    "known-by-its-files",
    Severity.INFO,
    "source",
    "its files are those that this run was made of and compared with; --recheck reads both again",
)


@dataclass
class Memory:
    """The marks of the targets of one migration."""

    targets: Sequence[TargetSpec]
    dry_run: bool = False
    _exporters: dict[str, Remembering] = field(default_factory=dict)
    _known: dict[str, dict[str, list[Marked]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for target in self.targets:
            exporter = target.exporter()
            if isinstance(exporter, Remembering):
                self._exporters[target.label] = exporter

    def settings(self, source: SourceSpec) -> dict[str, str]:
        """Digests of what the config says of a source, by the targets that keep marks."""
        return {
            target.label: fingerprint.settings_of(
                source, target, self._exporters[target.label].place
            )
            for target in self.targets
            if target.label in self._exporters
        }

    def load(self) -> None:
        """Ask each target once. One that does not answer remembers nothing."""
        for label, exporter in self._exporters.items():
            known = self._known[label] = {}
            # deliberately broad: whoever writes there tells what is wrong
            with briefly(), suppress(Exception):
                for run in exporter.remembered():
                    for digest in filter(None, (run.mark.made_of, run.mark.looks)):
                        known.setdefault(digest, []).append(run)

    def sift(self, task: Task) -> tuple[Task | None, Done]:
        """What is left to do of a task, and what is known to be done."""
        if not any(self._known.get(target.label) for target in task.targets):
            return task, Done(())
        known = self._known_runs(task)
        if not any(known.values()):
            return task, Done(())
        left = tuple(target for target in task.targets if not known[target.label])
        reports = [self._report(task, label, run) for label, runs in known.items() for run in runs]
        if left:
            return replace(task, targets=left), Done(tuple(reports))
        left_out = next(iter(known.values()))[0].mark.left_out
        return None, Done(tuple(reports), ((task.location, "as last time"),) * left_out)

    def _known_runs(self, task: Task) -> dict[str, list[Marked]]:
        """The runs of a task in each target; none where it does not know the task.

        Targets may know it by different digests: one that was written soon after the files changed
        does not know how they look.
        """
        known: dict[str, list[Marked]] = {target.label: [] for target in task.targets}
        for files in fingerprint.digests_of(task.place):
            for target in task.targets:
                known[target.label] = known[target.label] or self._runs(task, target, files)
            if all(known.values()):
                break
        return known

    def _runs(self, task: Task, target: TargetSpec, files: str) -> list[Marked]:
        """The runs of a target that are all that the files of a task give there."""
        settings = task.settings.get(target.label)
        if settings is None:
            return []
        made_of = fingerprint.made_of(files, settings)
        runs = self._known[target.label].get(made_of, [])
        return runs if runs and len(runs) == runs[0].mark.runs else []

    def _report(self, task: Task, label: str, run: Marked) -> RunReport:
        mark = run.mark
        return RunReport(
            source=f"{task.origin}{mark.source}",
            run=run.name,
            target=label,
            status="planned" if self.dry_run else "unchanged",
            rows=mark.rows,
            points=mark.points,
            location=run.location,
            findings=(KNOWN,),
            course=mark.course,
            key=run.key,
            digest=mark.digest,
            plan="unchanged" if self.dry_run else "",
        )

    def forget(self) -> None:
        """Free what was loaded."""
        self._known.clear()
