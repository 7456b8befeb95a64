"""The runs known by receipts of earlier migrations: unchanged sources are skipped unread.

The receipts of each target are loaded once, before the work; workers save the receipts of new
exports. Losing receipts costs time, never correctness.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bridges.exporters.base import copies_artifacts
from bridges.exporters.receipts import RunReceipt, SupportsReceipts
from bridges.log import log
from bridges.migration import fingerprint
from bridges.migration.config.config import SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.migration.tasks import Done, Task
from bridges.report import RunReport
from bridges.short_retries import short_retries
from bridges.stream.finding import Finding, Severity

KNOWN = Finding(
    "known-by-its-files",
    Severity.INFO,
    "source",
    "files and settings are unchanged since this run was verified; --recheck reads it again",
)


@dataclass
class KnownRuns:
    """The receipts of the targets of one migration."""

    targets: Sequence[TargetSpec]
    dry_run: bool = False
    _exporters: dict[str, SupportsReceipts] = field(default_factory=dict)
    _known: dict[str, dict[str, list[RunReceipt]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for target in self.targets:
            exporter = target.exporter()
            # a receipt does not cover the artifact files of the source
            if isinstance(exporter, SupportsReceipts) and not copies_artifacts(exporter):
                self._exporters[target.label] = exporter

    def settings(self, source: SourceSpec) -> dict[str, str]:
        """The settings fingerprint of a source for each target with receipts, by label."""
        return {
            target.label: fingerprint.settings_of(
                source, target, self._exporters[target.label].place
            )
            for target in self.targets
            if target.label in self._exporters
        }

    def load(self) -> None:
        """Load the receipts of each target once; none for a target that does not answer."""
        for label, exporter in self._exporters.items():
            known = self._known[label] = {}
            # deliberately broad: the export into this target reports the error
            with short_retries(), suppress(Exception):
                for run in exporter.receipts():
                    for digest in run.receipt.fingerprints():
                        known.setdefault(digest, []).append(run)

    def sift(self, task: Task) -> tuple[Task | None, Done]:
        """The unfinished part of a task, and the reports of its known runs."""
        if not any(self._known.get(target.label) for target in task.targets):
            return task, Done(())
        known = self._known_runs(task)
        if not any(known.values()):
            return task, Done(())
        left = tuple(target for target in task.targets if not known[target.label])
        reports = [self._report(task, label, run) for label, runs in known.items() for run in runs]
        log("match", "%s: known by its files in %d targets", task.location, len(known) - len(left))
        if left:
            return replace(task, targets=left), Done(tuple(reports))
        left_out = next(iter(known.values()))[0].receipt.left_out
        return None, Done(tuple(reports), ((task.location, "as in the last migration"),) * left_out)

    def _known_runs(self, task: Task) -> dict[str, list[RunReceipt]]:
        """The receipts of a task by target; empty for a target without them.

        The fingerprint may differ between targets: a receipt saved soon after a change of the files
        has no stat fingerprint.
        """
        known: dict[str, list[RunReceipt]] = {target.label: [] for target in task.targets}
        for files in fingerprint.digests_of(task.place):
            for target in task.targets:
                known[target.label] = known[target.label] or self._runs(task, target, files)
            if all(known.values()):
                break
        return known

    def _runs(self, task: Task, target: TargetSpec, files: str) -> list[RunReceipt]:
        """The receipts of a target for these files, if all of their runs have one."""
        settings = task.settings.get(target.label)
        if settings is None:
            return []
        runs = self._known[target.label].get(fingerprint.combined(files, settings), [])
        return runs if runs and len(runs) == runs[0].receipt.runs else []

    def _report(self, task: Task, label: str, run: RunReceipt) -> RunReport:
        receipt = run.receipt
        return RunReport(
            source=f"{task.origin}{receipt.source}",
            run=run.name,
            target=label,
            status="planned" if self.dry_run else "unchanged",
            rows=receipt.rows,
            points=receipt.points,
            location=run.location,
            findings=(KNOWN,),
            trend=receipt.trend,
            trend_metric=receipt.trend_metric,
            key=run.key,
            digest=receipt.digest,
            plan="unchanged" if self.dry_run else "",
        )

    def forget(self) -> None:
        """Free the loaded receipts."""
        self._known.clear()
