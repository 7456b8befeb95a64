"""MLflow: runs as the live callback logs them, with their own times.

State lives in the tags of the run (`state.py`). Databases with a known schema are written directly
(`direct.py`), servers and other stores through the public API (`client.py`).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

from bridges.errors import ConfigError, ExportError, pip_line
from bridges.exporters.base import BaseExporter, ExistingRun, Labels, Recorded, RecordGaps
from bridges.exporters.mlflow import rows
from bridges.exporters.mlflow.adapt import adapt
from bridges.exporters.mlflow.database import Database
from bridges.exporters.mlflow.details import record_of
from bridges.exporters.mlflow.direct import DirectWriter
from bridges.exporters.mlflow.experiments import DEFAULT_EXPERIMENT
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.mlflow.params import ParamRules
from bridges.exporters.mlflow.rivals import Settlement
from bridges.exporters.mlflow.schema import UnknownSchemaError
from bridges.exporters.receipts import RunReceipt
from bridges.formats.mlflow_store.records import RunRecord
from bridges.formats.mlflow_store.uri import check_driver, check_scheme, quoted_uri, shown_uri
from bridges.report import ArtifactCounts
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Values

if TYPE_CHECKING:
    from bridges.exporters.mlflow.api import Api
    from bridges.exporters.mlflow.artifact_copy.homes import Homes
    from bridges.exporters.mlflow.artifact_copy.sources import SourceTrees

DEFAULT_URI = "sqlite:///mlflow.db"
SQLITE = "sqlite:///"
POSTGRES = ("postgresql:", "postgresql+psycopg:", "postgresql+psycopg2:", "postgres:")


class Writer(Protocol):
    """A writer for a tracking store, with the store's limits."""

    @property
    def limits(self) -> Limits:
        """The limits of the store."""
        ...

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the experiment with one of the keys, including deleted ones."""
        ...

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the store may have a run from a tool's log with one of these keys."""
        ...

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the missing rows of an existing one."""
        ...

    def remove_leftovers(self, settlement: Settlement) -> int:
        """Delete unfinished copies of a complete run. Returns their number."""
        ...

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        ...

    def stored_params(self, existing: ExistingRun) -> Mapping[str, str]:
        """The params of the run."""
        ...

    def record_gaps(self, layout: Layout, existing: ExistingRun) -> RecordGaps:
        """The gaps of an existing run from MLflow."""
        ...

    def findings(self, layout: Layout) -> list[Finding]:
        """Findings about the place of a run in the store."""
        ...

    def artifact_homes(self, record: RunRecord, existing: ExistingRun) -> Homes:
        """The artifact locations of the run and its logged models."""
        ...

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files as artifacts of the run, once."""
        ...

    def preload(self) -> None:
        """List the runs of the experiment once; later `find` calls use that listing."""
        ...

    def relabel(self, existing: ExistingRun, tags: Mapping[str, str]) -> ExistingRun:
        """Set tags of the run; the tag of the name renames it."""
        ...

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones."""
        ...

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of all experiments."""
        ...


UI_URL = "http://127.0.0.1:5000/"  # of `mlflow ui`
# path and query of an experiment's runs; without the query, MLflow 3.17 opens its GenAI pages
TRAINING_RUNS = "/runs?workflowType=machine_learning"


class MlflowExporter(BaseExporter):
    """Writes runs into an experiment of a tracking store."""

    name = "mlflow"
    naming = "mlflow"
    Options = MlflowOptions

    def __init__(self, options: MlflowOptions | None = None) -> None:
        options = options or MlflowOptions()
        uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        check_scheme(uri)
        self.uri, self.shown = quoted_uri(uri), shown_uri(uri)
        self.experiment = options.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or None
        self.place = self.experiment or DEFAULT_EXPERIMENT
        self._wanted, self._force = options.mlflow_writer, options.force
        self.copies_artifacts = options.copy_artifacts
        self._artifacts: SourceTrees | None = None
        self._params = ParamRules.of_environment()
        self._is_server = self.uri.startswith(("http:", "https:"))
        self._why_client: str | None = None

    @cached_property
    def _writer(self) -> Writer:
        """The writer of the store, chosen at first use."""
        database = None if self._wanted == "client" else self._database()
        if database is not None:
            copies = self.copies_artifacts
            return DirectWriter(
                database, self.shown, self.experiment, self._force, copies_artifacts=copies
            )
        try:
            api = self._api()
        except ExportError as error:
            why = f" ({self._why_client})" if self._why_client else ""
            raise ExportError(f"{error}{why}") from error
        from bridges.exporters.mlflow.client import ClientWriter  # slow to import

        # on a server, the location of a run is the URL of its page
        shown = f"{self.shown.rstrip('/')}/" if self._is_server else self.shown
        return ClientWriter(api, shown, self.experiment, self._force)

    def _database(self) -> Database | None:
        """The database for the direct writer; None if the client writer is needed.

        Raises ConfigError if the direct writer was asked for but cannot be used.
        """
        try:
            database = _open_database(self.uri)
            database.check()
            return database
        except _NotDirectError as error:
            reason, is_reported = str(error), error.is_reported
        except UnknownSchemaError as error:
            reason, is_reported = f"{error}, so the database is not written directly", True
        if self._wanted == "direct":
            raise ConfigError(
                f"--mlflow-writer direct: {self.shown}: {reason}. Use --mlflow-writer auto."
            )
        self._why_client = reason if is_reported else None
        return None

    def _api(self) -> Api:
        from bridges.exporters.mlflow.rest import RestApi
        from bridges.exporters.mlflow.sdk import SdkApi
        from bridges.formats.mlflow_store.rest import needs_mlflow

        if not self._is_server:
            check_driver(self.uri)
            return SdkApi(self.uri)
        reason = needs_mlflow(self.uri)
        if reason is None:
            return RestApi(self.uri)
        self._why_client = f"{reason}, so mlflow's own client is used"
        return SdkApi(self.uri)

    def adapt(self, layout: Layout) -> Layout:
        """The layout with legal keys and params, and a finding for each change."""
        layout = adapt(layout, self._writer.limits, self._params)
        found = self._writer.findings(layout)
        if self._why_client:
            message = f"{self._why_client}; this is slower"
            found.append(Finding("written-by-client", Severity.INFO, self.shown, message))
        return replace(layout, findings=(*layout.findings, *found)) if found else layout

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the experiment with one of the keys, including deleted ones."""
        return self._writer.find(identity)

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the missing rows of an existing one."""
        return self._writer.write(layout, seen, existing)

    def remove_leftovers(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun
    ) -> int:
        """Delete unfinished copies of a complete run. Returns their number."""
        return self._writer.remove_leftovers(Settlement.of(layout, seen, existing))

    def batch(self) -> AbstractContextManager[None] | None:
        """One transaction of the direct writer for several runs, which copies no files."""
        writer = self._writer
        if self.copies_artifacts or not isinstance(writer, DirectWriter):
            return None
        return writer.batch()

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the store may have a run from a tool's log with one of these keys."""
        return self._writer.may_hold(keys)

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """True for the direct writer only."""
        return isinstance(self._writer, DirectWriter)

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        return self._writer.read_back(existing)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, str]:
        """The params of the run."""
        return self._writer.stored_params(existing)

    def record_gaps(self, layout: Layout, existing: ExistingRun) -> RecordGaps:
        """The gaps of an existing run from MLflow."""
        return self._writer.record_gaps(layout, existing)

    def copy_artifacts(
        self,
        layout: Layout,
        existing: ExistingRun | None,
        mode: Literal["copy", "compare", "plan"],
        on_progress: Callable[[str], None],
    ) -> tuple[ArtifactCounts, list[Finding]]:
        """Copy or compare the artifact files of a run from an MLflow store."""
        from bridges.exporters.mlflow.artifact_copy.copy_run import copy_run
        from bridges.exporters.mlflow.artifact_copy.sources import SourceTrees

        record = record_of(layout)
        if record is None or self._is_store_of(record):
            return ArtifactCounts(), []
        self._artifacts = self._artifacts or SourceTrees()
        homes = self._writer.artifact_homes(record, existing) if existing else None
        return copy_run(record, self._artifacts, homes, mode, on_progress)

    def _is_store_of(self, record: RunRecord) -> bool:
        """Whether the target is the store that a run was read from."""
        if not self.uri.startswith(SQLITE):
            return record.store == self.shown.rstrip("/")
        paths = record.store, self.uri.removeprefix(SQLITE)
        return all(map(os.path.isfile, paths)) and os.path.samefile(*paths)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files as artifacts of the run, once."""
        self._writer.attach(existing, files)

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun:
        """Set the labels, as tags."""
        return self._writer.relabel(existing, rows.label_tags(labels, self._writer.limits))

    def preload(self) -> None:
        """List the runs of the experiment once; later `find` calls use that listing."""
        self._writer.preload()

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts, each as a tag of its run."""
        self._writer.save_receipts(runs)

    def receipts(self) -> Iterator[RunReceipt]:
        """The receipts of all experiments of the store."""
        return self._writer.receipts()

    def as_stored(self, values: Values) -> Values:
        """Float64; infinities become ±MAX_FLOAT64, and -0.0 becomes 0.0."""
        return rows.stored(values)

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The `mlflow ui` command; None for a server, which has its own UI."""
        if self._is_server:
            return None
        return f"mlflow ui --backend-store-uri {shlex.quote(self.shown)}"

    def view_page(self, locations: Sequence[str]) -> str:
        """The page of a single run, of a single experiment, or the list of experiments."""
        start, _, route = locations[-1].partition("#")
        url = start if self._is_server else UI_URL
        if len(locations) == 1:
            return f"{url}#{route}"
        experiments = {each.rpartition("/runs/")[0] for each in locations}
        if len(experiments) > 1:
            return f"{url}#/experiments"
        return f"{url}#{route.rpartition('/runs/')[0]}{TRAINING_RUNS}"


class _NotDirectError(Exception):
    """The store needs the client writer. If `is_reported`, the user gets the reason."""

    def __init__(self, reason: str, is_reported: bool) -> None:
        super().__init__(reason)
        self.is_reported = is_reported


def _open_database(uri: str) -> Database:
    """The database of a URI. Raises _NotDirectError for stores that need the client writer."""
    if uri.startswith(SQLITE):
        from bridges.exporters.mlflow.sqlite import SqliteDatabase

        path = uri.removeprefix(SQLITE)
        if not path or path == ":memory:":
            raise ConfigError(f"--tracking-uri {uri} is a database in memory: give it a file")
        if "?" in path:
            raise _NotDirectError("the URI has options for SQLAlchemy", True)
        return SqliteDatabase(path)
    if uri.startswith(POSTGRES):
        try:
            import psycopg  # noqa: F401
        except ImportError:
            message = f"psycopg is not installed ({pip_line('postgresql')})"
            raise _NotDirectError(message, True) from None
        from bridges.exporters.mlflow.postgres import PostgresDatabase

        return PostgresDatabase(uri)
    raise _NotDirectError("this store is not a SQLite or PostgreSQL database", False)
