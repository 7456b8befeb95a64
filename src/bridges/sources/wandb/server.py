"""Runs on a W&B server, by the official client: `wandb://ENTITY/PROJECT[/RUN]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bridges.errors import BridgeError, SourceError, TreeError
from bridges.formats.wandb_log.client import (
    fresh,
    hide_key,
    lacks_key,
    last_step,
    line_count,
    open_api,
)
from bridges.formats.wandb_log.records import (
    SHARED_MODE,
    TENSORBOARD_SYNC,
    TRAINER_LABEL,
    MetricDefinition,
    RunLog,
    RunRecord,
    Stats,
)
from bridges.formats.wandb_log.rows import HistoryColumns
from bridges.log import log
from bridges.sources.fetch import MissingSourceError
from bridges.sources.notes import with_notes
from bridges.sources.options import ReadOptions
from bridges.sources.selection import Selection
from bridges.sources.times.iso import microseconds
from bridges.sources.wandb.content import Content
from bridges.sources.wandb.logs import ReadLog
from bridges.sources.wandb.notes import is_empty, notes_on
from bridges.sources.wandb.rows import moments_of
from bridges.sources.wandb.runs import run_of
from bridges.sources.wandb.values import as_numbers
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run

RUNS_PER_PAGE = 50
ROWS_PER_PAGE = 5_000  # aimed at
MAX_GROWTH = 8  # of the steps in a page, from one to the next
MAX_SAMPLES = 100_000  # of requests without pages: all rows, or all system metrics
MAX_STEPS_OF_RETRY = 1_000_000  # a thousand requests
ADDRESS = re.compile(r"wandb://([^/]+)/([^/]+)(?:/(?:runs/)?([^/]+))?/?\Z")
STATUS = {
    "finished": "finished",
    "failed": "failed",
    "crashed": "unfinished",
    "killed": "killed",
    "running": "running",
}
NO_KEY = "Set WANDB_API_KEY, or run `wandb login`; WANDB_BASE_URL names another server."


Row = Mapping[str, object]


@dataclass(frozen=True)
class Address:
    """The runs of a project, or one of them."""

    location: str
    entity: str
    project: str
    run: str | None

    @classmethod
    def of(cls, location: str) -> Address:
        """The address of a location. Raises SourceError."""
        found = ADDRESS.match(location)
        if found is None:
            raise SourceError(
                location,
                found="another form of address",
                expected="wandb://ENTITY/PROJECT or wandb://ENTITY/PROJECT/RUN",
                remedy="Entity, project and run id are parts of the address of the run's page.",
            )
        return cls(location, found[1], found[2], found[3])

    @property
    def place(self) -> str:
        """Entity and project, as the client takes them."""
        return f"{self.entity}/{self.project}"

    @property
    def server(self) -> str:
        """The address of the project."""
        return f"wandb://{self.place}"


def read_server(location: str, options: ReadOptions) -> Iterator[Run]:
    """The selected runs at an address; errors are raised after the last readable run.

    Raises SourceError, or TreeError for several.
    """
    reading = _Reading(Address.of(location), options)
    yield from with_notes(reading.runs(), reading.notes)
    reading.end()


class _Reading:
    """The reading of an address: the client, and the errors and counts so far."""

    def __init__(self, address: Address, options: ReadOptions) -> None:
        self._address, self._options = address, options
        self._selection = Selection.of(options.select)
        self._errors: list[SourceError] = []
        self._seen = self._read = 0
        self.notes: list[Finding] = []

    def runs(self) -> Iterator[Run]:
        """The readable and selected runs with rows or a summary."""
        with _translated(self._address.location):
            api = open_api()
        for run_id in self._run_ids(api):
            self._seen += 1
            with self._noting():
                run = self._run(api, run_id)
                if run is None:
                    continue
                if is_empty(run):
                    self.notes += notes_on(run)
                    continue
                self._read += 1
                yield run

    def _run_ids(self, api: Any) -> Iterator[str]:
        """The ids of the runs of an address, the oldest first. Raises SourceError."""
        if self._address.run is not None:
            yield self._address.run
            return
        with _translated(self._address.location):
            for run in api.runs(self._address.place, order="+created_at", per_page=RUNS_PER_PAGE):
                yield run.id

    def _run(self, api: Any, run_id: str) -> Run | None:
        """A run by its id, if it is selected. Raises SourceError.

        It is asked for alone: lists of runs lack the definitions of their metrics.
        """
        with _translated(f"{self._address.server}/{run_id}"):
            found = api.run(f"{self._address.place}/{run_id}")
            if not self._takes(found):
                return None
            content = content_of(self._address, found, self._options)
        return run_of(content, self._options)

    def _takes(self, run: Any) -> bool:
        tags = dict.fromkeys(run.tags or (), "")
        status = STATUS.get(run.state, run.state)
        return self._selection.takes_experiment(self._address.project) and self._selection.takes(
            run.name or "", run.id, status, tags
        )

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note an unreadable run."""
        try:
            yield
        except SourceError as error:
            self._errors.append(error)

    def end(self) -> None:
        """Raises the errors; without any, MissingSourceError if no run was read."""
        if not self._read and not self._errors:
            self._errors.append(_no_runs(self._address.location, self._seen, len(self.notes)))
        if self._errors:
            one = len(self._errors) == 1
            raise self._errors[0] if one else TreeError(self._address.location, self._errors)


def content_of(address: Address, run: Any, options: ReadOptions) -> Content:
    """The content of a run of the client. Raises the client's errors."""
    source = f"{address.server}/{run.id}"
    history, findings = _rows(run, source)
    log = _log(address, run, has_rows=history.count > 0)
    log.stats = [*_system_metrics(run, is_wanted=options.system_metrics)]
    if len(log.stats) >= MAX_SAMPLES:
        message = f"the server gives no more than {MAX_SAMPLES:,} moments: others may be missing"
        findings.append(Finding("system-sampled", Severity.WARNING, source, message))
    return Content(
        run.id,
        source,
        (),
        [ReadLog(source, log, history.count)],
        [*as_numbers(history.columns())],
        history.count,
        history.rounded,
        findings,
        status=STATUS.get(run.state, "unknown"),
        facts={"wandb.url": run.url or ""},
        is_remote=True,
    )


def _rows(run: Any, source: str) -> tuple[HistoryColumns, list[Finding]]:
    """The history rows, and a finding if there are fewer than the server counts."""
    history, lines, last = HistoryColumns(), line_count(run), last_step(run)
    for page in _pages(run, last, lines):
        history.add_rows(page)
    for retry in _retries(run, last, lines):
        if history.count >= lines:
            return history, []
        other = HistoryColumns()
        other.add_rows(retry())
        history = other if other.count > history.count else history
    message = f"the server counts {lines:,} rows, and gave {history.count:,} of them"
    lost = lines - history.count
    return history, [Finding("rows-missing", Severity.LOSS, source, message, lost)]


def _retries(run: Any, last: int, lines: int) -> Iterator[Callable[[], list[Row]]]:
    """Other requests for all rows.

    The client asks for one row for each step, too few if rows share steps.
    """
    if lines <= MAX_SAMPLES:
        yield lambda: list(run.history(samples=lines, pandas=False))
    if last < MAX_STEPS_OF_RETRY:
        yield lambda: list(run.scan_history(**fresh(run.scan_history)))


def _system_metrics(run: Any, *, is_wanted: bool) -> Iterator[Stats]:
    """The system metrics of a run; only the last ones, which cost no request, if not wanted."""
    if is_wanted:
        return moments_of(run.history(samples=MAX_SAMPLES, pandas=False, stream="system"))
    last = run._attrs.get("systemMetrics")
    return iter([Stats(0, last)] if isinstance(last, dict) and last else [])


def _pages(run: Any, last: int, lines: int) -> Iterator[list[Row]]:
    """The history rows by ranges of steps, each of about `ROWS_PER_PAGE` rows.

    The client asks for 1,000 steps at a time, which takes thousands of requests for a run with
    steps such as tokens.
    """
    start, width = 0, max(1, (last + 1) * ROWS_PER_PAGE // max(lines, 1))
    while lines and start <= last:
        stop = min(start + width, last + 1)
        options = {"min_step": start, "max_step": stop, "page_size": stop - start}
        page = [*run.scan_history(**options, **fresh(run.scan_history))]
        log("http", "W&B steps %d to %d of %s: %d rows", start, stop - 1, run.id, len(page))
        yield page
        start = stop
        growth = min(max(ROWS_PER_PAGE / max(len(page), 1), 1 / MAX_GROWTH), MAX_GROWTH)
        width = max(1, int(width * growth))


def _log(address: Address, run: Any, *, has_rows: bool) -> RunLog:
    """The attributes of a run as the records of a log."""
    attributes = run._attrs
    own = _own_config(run)
    record = RunRecord(
        run_id=run.id,
        entity=address.entity,
        project=address.project,
        group=attributes.get("group") or "",
        job_type=attributes.get("jobType") or "",
        name=run.name or "",
        notes=attributes.get("notes") or attributes.get("description") or "",
        tags=tuple(run.tags or ()),
        sweep=attributes.get("sweepName") or "",
        fork=_parent(own, run.id),
        start=_started(own) or (0 if has_rows else microseconds(attributes.get("createdAt"))),
    )
    telemetry = own.get("t")
    telemetry = telemetry if isinstance(telemetry, dict) else {}
    label, features = telemetry.get("9"), telemetry.get("3")
    features = features if isinstance(features, list) else []
    return RunLog(
        run=record,
        config={(key,): value for key, value in dict(run.config).items()},
        summary={(key,): value for key, value in dict(run.summary._json_dict).items()},
        metrics=[*_definitions(own.get("m"))],
        writer=str(own.get("cli_version") or ""),
        transformers=str(telemetry.get("6") or ""),
        is_trainer=isinstance(label, dict) and label.get("1") == TRAINER_LABEL,
        is_tensorboard=TENSORBOARD_SYNC in features,
        is_shared=SHARED_MODE in features,
    )


def _own_config(run: Any) -> Mapping[str, object]:
    """The values of wandb itself in the config of a run."""
    raw = getattr(run, "rawconfig", None) or dict(run.config)
    own = raw.get("_wandb") if isinstance(raw, dict) else None
    own = own.get("value", own) if isinstance(own, dict) else None
    return own if isinstance(own, dict) else {}


def _started(own: Mapping[str, object]) -> int:
    """The start of a run by its first writer; 0: unknown."""
    writers = own.get("e")
    found = writers.values() if isinstance(writers, dict) else ()
    times = [microseconds(each.get("startedAt")) for each in found if isinstance(each, dict)]
    return min((time for time in times if time), default=0)


def _parent(own: Mapping[str, object], run_id: str) -> str:
    """The id of the run from which another one was forked; empty for none, and for a rewind."""
    branch = own.get("branch_point")
    parent = str(branch.get("run_id") or "") if isinstance(branch, dict) else ""
    return parent if parent != run_id else ""


def _definitions(found: object) -> Iterator[MetricDefinition]:
    """The metric definitions in a config: by the numbers of their fields."""
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    names = [str(each.get("1") or each.get("2") or "") for each in entries]
    for each, name in zip(entries, names, strict=True):
        index = each.get("5")
        step = str(each.get("4") or "")
        if isinstance(index, int) and 0 < index <= len(names):
            step = names[index - 1]
        yield MetricDefinition(name, "1" not in each, step)


@contextmanager
def _translated(location: str) -> Iterator[None]:
    """Raise the errors of the client as SourceError."""
    try:
        yield
    except (SourceError, GeneratorExit, KeyboardInterrupt):
        raise
    except Exception as error:  # deliberately broad: the client raises many kinds
        raise _problem(location, error) from error


def _problem(location: str, error: Exception) -> Exception:
    if isinstance(error, BridgeError):
        return error
    text = hide_key(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    expected = "the runs of a project on a W&B server"
    if lacks_key(error):
        return SourceError(location, found="no valid API key", expected=expected, remedy=NO_KEY)
    if "Could not find" in str(error) or "not found" in str(error).lower():
        remedy = "Check the entity, the project and the run id, and the rights of the API key."
        return MissingSourceError(location, found=text, expected=expected, remedy=remedy)
    remedy = f"Try again later, or check the server. {NO_KEY}"
    return SourceError(location, found=text, expected=expected, remedy=remedy)


def _no_runs(location: str, seen: int, empty: int) -> SourceError:
    found, remedy = "a project without runs", "Check which project the runs were logged to."
    if empty:
        found = f"{empty:,} run{'s' * (empty != 1)} without rows"
    elif seen:
        found = f"{seen:,} run{'s' * (seen != 1)}, none of them selected"
        remedy = "Check the patterns of --select: `bridge ls` shows names."
    return MissingSourceError(location, found=found, expected="a run", remedy=remedy)
