"""Runs on a W&B server, by the official client: `wandb://ENTITY/PROJECT[/RUN]`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
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
    TRAINER_LABEL,
    MetricDefinition,
    RunLog,
    RunRecord,
)
from bridges.formats.wandb_log.rows import HistoryColumns
from bridges.log import log
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.selection import Selection
from bridges.sources.wandb.early import microseconds
from bridges.sources.wandb.logs import ReadLog
from bridges.sources.wandb.runs import Content, run_of
from bridges.sources.wandb.values import as_numbers
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run

RUNS_PER_PAGE = 50
ROWS_PER_PAGE = 5_000  # aimed at
MAX_GROWTH = 8  # of the steps in a page, from one to the next
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


def read_server(location: str, options: ReadOptions) -> Iterator[Run]:
    """The selected runs at an address; errors are raised after the last readable run.

    Raises SourceError, or TreeError for several.
    """
    address, selection = Address.of(location), Selection.of(options.select)
    errors: list[SourceError] = []
    seen = read = 0
    for found in _runs(address):
        seen += 1
        if _takes(selection, address, found):
            content = _readable(address, found, errors)
            if content is not None:
                read += 1
                yield run_of(content, options)
    if not read and not errors:
        errors.append(_no_runs(location, seen))
    if errors:
        raise errors[0] if len(errors) == 1 else TreeError(location, errors)


def _readable(address: Address, run: Any, errors: list[SourceError]) -> Content | None:
    """The content of a run; None with an error added if it cannot be read."""
    try:
        return _content(address, run)
    except SourceError as error:
        errors.append(error)
        return None


def _runs(address: Address) -> Iterator[Any]:
    """The runs of an address, the oldest first. Raises SourceError."""
    with _translated(address.location):
        api = open_api()
        place = f"{address.entity}/{address.project}"
        if address.run is not None:
            yield api.run(f"{place}/{address.run}")
            return
        yield from api.runs(place, order="+created_at", per_page=RUNS_PER_PAGE, lazy=False)


def _takes(selection: Selection, address: Address, run: Any) -> bool:
    if not selection.takes_experiment(address.project):
        return False
    tags = dict.fromkeys(run.tags or (), "")
    return selection.takes(run.name or "", run.id, STATUS.get(run.state, run.state), tags)


def _content(address: Address, run: Any) -> Content:
    """The content of a run. Raises SourceError."""
    source = f"wandb://{address.entity}/{address.project}/{run.id}"
    history, findings = HistoryColumns(), list[Finding]()
    with _translated(source):
        lines = line_count(run)
        for page in _pages(run, last_step(run), lines):
            history.add_rows(page)
        if history.count < lines and last_step(run) < MAX_STEPS_OF_RETRY:
            history = HistoryColumns()
            history.add_rows(list(run.scan_history(**fresh(run.scan_history))))
        if history.count < lines:
            message = f"the server counts {lines:,} rows, and gave {history.count:,} of them"
            lost = lines - history.count
            findings.append(Finding("rows-missing", Severity.LOSS, source, message, lost))
        read = ReadLog(source, _log(address, run), history.count)
    columns = [*as_numbers(history.columns())]
    return Content(
        run.id,
        source,
        (),
        [read],
        columns,
        history.count,
        history.rounded,
        findings,
        status=STATUS.get(run.state, "unknown"),
        facts={"wandb.url": run.url or ""},
        is_remote=True,
    )


def _pages(run: Any, last: int, lines: int) -> Iterator[list[Mapping[str, object]]]:
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


def _log(address: Address, run: Any) -> RunLog:
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
        start=_started(own) or microseconds(attributes.get("createdAt")),
    )
    telemetry = own.get("t")
    telemetry = telemetry if isinstance(telemetry, dict) else {}
    label = telemetry.get("9")
    return RunLog(
        run=record,
        config={(key,): value for key, value in dict(run.config).items()},
        summary={
            (key,): json.dumps(value).encode()
            for key, value in dict(run.summary._json_dict).items()
        },
        metrics=[*_definitions(own.get("m"))],
        writer=str(own.get("cli_version") or ""),
        transformers=str(telemetry.get("6") or ""),
        is_trainer=isinstance(label, dict) and label.get("1") == TRAINER_LABEL,
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


def _no_runs(location: str, seen: int) -> SourceError:
    found, remedy = "a project without runs", "Check which project the runs were logged to."
    if seen:
        found = f"{seen:,} run{'s' * (seen != 1)}, none of them selected"
        remedy = "Check the patterns of --select: `bridge ls` shows names."
    return MissingSourceError(location, found=found, expected="a run", remedy=remedy)
