"""MLflow file stores (`mlruns`): experiments, runs and their metrics as files in directories.

    ROOT/EXPERIMENT/meta.yaml, tags/, datasets/, models/, traces/
    ROOT/EXPERIMENT/RUN/meta.yaml, metrics/, params/, tags/, inputs/, outputs/, artifacts/
    ROOT/.trash/EXPERIMENT            deleted experiments
    ROOT/models                       the model registry

Directories are recognised by their `meta.yaml`, whatever their names. Nothing is written, and
nothing outside of the root is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from bridges.errors import SourceError
from bridges.formats.mlflow_store.meta_yaml import UNENDED, Meta, integer, optional_text, text
from bridges.formats.mlflow_store.records import (
    ACTIVE,
    DEFAULT_WORKSPACE,
    DELETED,
    Experiment,
    LoggedModel,
    Metric,
    RunHead,
    RunRecord,
)
from bridges.sources.mlflow.artifacts import artifact_folder
from bridges.sources.mlflow.file_metrics import read_metrics
from bridges.sources.mlflow.file_models import (
    ARTIFACTS,
    DATASETS,
    MODELS,
    models_by_run,
    read_links,
    read_model,
)
from bridges.sources.mlflow.file_reading import (
    META,
    Listing,
    as_text,
    is_folder,
    left_out,
    list_folder,
    merged,
    read_meta_file,
    read_texts,
)
from bridges.stream.finding import Finding, Severity

TRASH, TAGS, TRACES = ".trash", "tags", "traces"
RESERVED = frozenset({TAGS, DATASETS, TRACES, MODELS, TRASH})  # in an experiment
RUN_PARTS = ("metrics", "params", "tags", "inputs", "outputs")
STATUSES = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
SOURCE_TYPES = {"1": "NOTEBOOK", "2": "JOB", "3": "PROJECT", "4": "LOCAL", "1000": "UNKNOWN"}
TIMES = ("start_time", "end_time", "deleted_time")


@dataclass(frozen=True)
class FileExperiment(Experiment):
    """An experiment with its directory, and the findings about it for its first run."""

    directory: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class FileRun(RunHead):
    """A run with its `meta.yaml`, and the findings about this file and the tags."""

    meta: Meta = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


class FileStore:
    """A file store. `is_growing`: runs are being logged, so last lines may be incomplete."""

    def __init__(self, root: str, *, is_growing: bool = False) -> None:
        self.location = root
        self.errors: list[SourceError] = []
        self._messages: set[str] = set()  # of the errors
        self._is_growing = is_growing
        self._models: tuple[str, Mapping[str, list[str]]] = "", {}
        self._places: dict[str, str] = {}  # directory of each run by id

    def experiments(self) -> list[Experiment]:
        """All experiments, those in the trash last. Raises SourceError."""
        experiments = [*self._experiments_in(self.location, is_trash=False)]
        if is_folder(self.location, TRASH):
            trash = os.path.join(self.location, TRASH)
            experiments += self._experiments_in(trash, is_trash=True)
        return [*experiments]

    def _experiments_in(self, folder: str, *, is_trash: bool) -> Iterator[FileExperiment]:
        listing = list_folder(folder)
        self._report_links(folder, listing)
        for name in sorted(listing.folders, key=_by_number):
            experiment = self._experiment(folder, name, is_trash) if name != TRASH else None
            if experiment is not None:
                yield experiment

    def _report_links(self, folder: str, listing: Listing) -> None:
        """Add an error for each link to an experiment, a run or the trash."""
        for name in listing.links:
            path = os.path.join(folder, name)
            if name == TRASH or os.path.isfile(os.path.join(path, META)):
                self._report(
                    SourceError(
                        path,
                        found="a symbolic link",
                        expected="a directory of the store",
                        remedy="Replace the link by the directory itself.",
                    )
                )

    def _report(self, error: SourceError) -> None:
        if str(error) not in self._messages:
            self._messages.add(str(error))
            self.errors.append(error)

    def _experiment(self, parent: str, name: str, is_trash: bool) -> FileExperiment | None:
        """The experiment in a directory; None if it is something else."""
        folder = os.path.join(parent, name)
        try:
            meta = read_meta_file(folder) or {}
        except SourceError as error:
            if not name.isdigit() and not _has_runs(folder):
                return None
            self._report(error)
            meta = {}
        if "experiment_id" not in meta or _run_id(meta):
            if not _has_runs(folder):
                return None
            meta = {}
        findings = _about_experiment(name, meta)
        tags: dict[str, str] = {}
        if is_folder(folder, TAGS):
            tags = read_texts(os.path.join(folder, TAGS), f"../{TAGS}", findings)
        return FileExperiment(
            id=as_text(name),
            name=text(meta, "name") or _default_name(name),
            stage=DELETED if is_trash else text(meta, "lifecycle_stage") or ACTIVE,
            artifact_location=optional_text(meta, "artifact_location"),
            created=integer(meta, "creation_time"),
            updated=integer(meta, "last_update_time"),
            tags=tags,
            workspace=text(meta, "workspace") or DEFAULT_WORKSPACE,
            directory=folder,
            findings=merged(findings),
        )

    def heads(self, experiment: Experiment) -> Iterator[RunHead]:
        """The runs of an experiment by directory; findings about it are given to the first one."""
        assert isinstance(experiment, FileExperiment)
        try:
            listing = list_folder(experiment.directory)
        except SourceError as error:
            self._report(error)
            return
        self._report_links(experiment.directory, listing)
        notes, seen = experiment.findings, dict[str, str]()
        for name in listing.folders:
            try:
                run = None if name in RESERVED else self._run(experiment, name, notes)
                if run is not None and run.run_id in seen:
                    raise _same_id(run, seen[run.run_id])
            except SourceError as error:
                self._report(error)
                continue
            if run is not None:
                notes, seen[run.run_id] = (), run.where
                yield run

    def _run(
        self, experiment: FileExperiment, name: str, notes: tuple[Finding, ...]
    ) -> FileRun | None:
        """The run in a directory; None if it is something else. Raises SourceError."""
        folder = os.path.join(experiment.directory, name)
        meta, listing = read_meta_file(folder), list_folder(folder)
        if meta is None:
            _refuse_lost_meta(folder, listing)
            return None
        run_id = _run_id(meta)
        if not run_id:
            raise _without_id(folder)
        findings = [*notes, *self._about_run(run_id, folder, experiment, meta)]
        tags: dict[str, str] = {}
        if TAGS in listing.folders:
            tags = read_texts(os.path.join(folder, TAGS), TAGS, findings)
        is_deleted = DELETED in (experiment.stage, text(meta, "lifecycle_stage"))
        return FileRun(
            run_id,
            experiment,
            folder,
            name=text(meta, "run_name") or text(meta, "name"),
            status=_status(meta, findings),
            stage=DELETED if is_deleted else ACTIVE,
            start=integer(meta, "start_time"),
            end=integer(meta, "end_time"),
            tags=tags,
            meta=meta,
            findings=tuple(findings),
        )

    def _about_run(
        self, run_id: str, folder: str, experiment: FileExperiment, meta: Meta
    ) -> Iterator[Finding]:
        """Findings about the `meta.yaml` of a run."""
        name = os.path.basename(folder)
        if UNENDED in meta:
            message = "the file ends without a line end: it may have been cut off"
            yield Finding("meta-unended", Severity.WARNING, META, message)
        if run_id != name:
            message = f"the directory is called {name!r}, its run {run_id!r}"
            yield Finding("run-id-differs", Severity.INFO, META, message)
        stated = text(meta, "experiment_id")
        if stated not in ("", experiment.id):
            message = f"experiment {stated!r}: the run is read as one of {experiment.id!r}"
            yield Finding("experiment-id-differs", Severity.WARNING, META, message)
        other = self._places.setdefault(run_id, folder)
        if other != folder:
            message = f"the run in {other} has the same id"
            yield Finding("run-id-twice", Severity.WARNING, META, message)
        for key in TIMES:
            if text(meta, key) and integer(meta, key) is None:
                message = f"{key} {text(meta, key)[:40]!r} is not a time in milliseconds"
                yield Finding("meta-value-unreadable", Severity.LOSS, META, message)

    def read(self, head: RunHead) -> tuple[RunRecord, list[Metric]]:
        """A run with its metrics. Raises SourceError if its directory cannot be read."""
        assert isinstance(head, FileRun)
        meta, findings, listing = head.meta, [*head.findings], list_folder(head.where)
        findings += left_out(listing, RUN_PARTS)
        parts = {name: f"{head.where}{os.sep}{name}" for name in listing.folders}
        metrics: list[Metric] = []
        if "metrics" in parts:
            growing = self._is_growing
            metrics = read_metrics(parts["metrics"], "metrics", findings, is_growing=growing)
        inputs, links = read_links(head.where, listing.folders, findings)
        record = RunRecord(
            head,
            read_texts(parts["params"], "params", findings) if "params" in parts else {},
            user=text(meta, "user_id"),
            deleted=integer(meta, "deleted_time"),
            source_type=SOURCE_TYPES.get(text(meta, "source_type"), text(meta, "source_type")),
            source_name=text(meta, "source_name"),
            source_version=text(meta, "source_version"),
            entry_point=text(meta, "entry_point_name"),
            artifact_uri=text(meta, "artifact_uri"),
            artifact_folder=artifact_folder(
                text(meta, "artifact_uri"), [parts[ARTIFACTS]] if ARTIFACTS in parts else []
            ),
            store=self.location,
            store_folders=(self.location,),
            inputs=inputs,
            links=links,
            models=self._models_of(head, findings),
            findings=merged(findings),
        )
        return record, metrics

    def _models_of(self, run: FileRun, findings: list[Finding]) -> tuple[LoggedModel, ...]:
        """The logged models of a run. Which run has which is remembered for one experiment."""
        experiment = os.path.dirname(run.where)
        if self._models[0] != experiment:
            self._models = experiment, models_by_run(experiment, findings)
        models = (read_model(path, findings) for path in self._models[1].get(run.run_id, ()))
        return tuple(model for model in models if model is not None)

    def left_out(self) -> Counter[str]:
        """The numbers of traces, of models in the registry, and of logged models without a run."""
        counts: Counter[str] = Counter()
        for experiment in self.experiments():
            assert isinstance(experiment, FileExperiment)
            counts["traces"] += len(_folders(experiment.directory, TRACES))
            for run_id, models in models_by_run(experiment.directory, []).items():
                is_lost = not is_folder(experiment.directory, run_id)
                counts["logged models without a run"] += len(models) * is_lost
        registry = os.path.join(self.location, MODELS)
        for name in _folders(self.location, MODELS):
            counts["registered models"] += 1
            versions = [each for each in _folders(registry, name) if each.startswith("version-")]
            counts["model versions"] += len(versions)
        return +counts


def _folders(parent: str, name: str) -> list[str]:
    """The names of the directories in `parent/name`, if it can be listed."""
    with suppress(SourceError):
        return list_folder(os.path.join(parent, name)).folders if is_folder(parent, name) else []
    return []


def _by_number(name: str) -> tuple[bool, int, str]:
    """Ids by number, then other names."""
    is_number = name.isascii() and name.isdigit()
    return (not is_number, int(name[:20]) if is_number else 0, name)


def _run_id(meta: Meta) -> str:
    return text(meta, "run_id") or text(meta, "run_uuid")


def _has_runs(folder: str) -> bool:
    """Whether a directory inside has the `meta.yaml` of a run."""
    try:
        names = list_folder(folder).folders
    except SourceError:
        return False
    return any(_is_run(os.path.join(folder, name)) for name in names if name not in RESERVED)


def _is_run(folder: str) -> bool:
    try:
        return bool(_run_id(read_meta_file(folder) or {}))
    except SourceError:
        return False


def _default_name(experiment_id: str) -> str:
    return "Default" if experiment_id == "0" else f"experiment_{experiment_id}"


def _about_experiment(name: str, meta: Meta) -> list[Finding]:
    """Findings about the `meta.yaml` of an experiment."""
    where, stated = f"../{META}", text(meta, "experiment_id")
    if not meta:
        message = f"the experiment is named {_default_name(name)!r}: its meta.yaml is not there"
        return [Finding("experiment-unknown", Severity.WARNING, where, message)]
    if stated != name:
        message = f"experiment {stated!r} is read as {name!r}, the name of its directory"
        return [Finding("experiment-id-differs", Severity.WARNING, where, message)]
    return []


def _status(meta: Meta, findings: list[Finding]) -> str:
    """The name of the status; RUNNING if it is missing."""
    status = text(meta, "status") or "RUNNING"
    status = STATUSES.get(status, status)
    if status in STATUSES.values():
        return status
    message = f"status {status[:40]!r} is read as RUNNING"
    findings.append(Finding("meta-value-unreadable", Severity.LOSS, META, message))
    return "RUNNING"


def _refuse_lost_meta(folder: str, listing: Listing) -> None:
    """Raises SourceError if a directory without `meta.yaml` belongs to a run."""
    parts = [name for name in RUN_PARTS if name in listing.folders]
    if parts:
        raise SourceError(
            folder,
            found=f"{', '.join(parts)} without a {META}",
            expected=f"a run with a {META}",
            remedy=f"Restore its {META} from a backup or from git, or remove the directory.",
        )


def _without_id(folder: str) -> SourceError:
    return SourceError(
        os.path.join(folder, META),
        found="no run_id",
        expected="run_id or run_uuid",
        remedy="Restore the file from a backup or from git.",
    )


def _same_id(run: FileRun, other: str) -> SourceError:
    return SourceError(
        os.path.join(run.where, META),
        found=f"the run_id {run.run_id!r}, which {other} has, too",
        expected="one directory for each run",
        remedy="Remove one of the two directories.",
    )
