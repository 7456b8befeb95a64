"""The Python functions of the commands: `read` (inspect), `export`, `follow`, `verify`.

They raise only `BridgeError`; the results of all runs are in the report. They print nothing, except
for the line of progress in a notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from threading import Event
from typing import TYPE_CHECKING

from bridges.api_keywords import ExportKeywords, FollowKeywords, ReadKeywords, VerifyKeywords
from bridges.errors import ConfigError
from bridges.exporters.base import Exporter
from bridges.exporters.factory import make_exporters
from bridges.option_names import PARAMETERS
from bridges.pipeline.batch import for_each_run
from bridges.pipeline.export_run import RunAction, export_run, verify_run
from bridges.pipeline.follow import Following
from bridges.pipeline.options import CHOICES, ExportOptions, Pace
from bridges.pipeline.read_runs import read_runs
from bridges.progress import Progress
from bridges.report import BatchReport, RunReport
from bridges.stream.runs import Runs

if TYPE_CHECKING:
    from typing_extensions import Unpack

Location = str | PathLike[str]
Locations = Location | Sequence[Location]
Target = str | Exporter


def read(location: Locations, **choices: Unpack[ReadKeywords]) -> Runs:
    """The runs at a path, a pattern, an fsspec URL or `-` (standard input), or at several of them.

    Returns a list that shows itself as a table in notebooks. Raises SourceError.

    `salvage` reads a truncated file up to its last complete row; `max_unpacked` is the maximum
    size of an unpacked gzip file in bytes (by default 100 times its packed size, or 64 MiB);
    `redact_home` also masks home directories in params; `fill_from_events` adds rows found only in
    event files; `source` is the name of the source to use.
    """
    chosen, unknown = _split(ReadKeywords, choices)
    if unknown:
        raise TypeError(f"read() got an unexpected keyword argument {min(unknown)!r}")
    with PARAMETERS.errors():
        options = ExportOptions.of(chosen)
        found = (run for each in _several(location) for run in read_runs(each, options))
        return Runs(map(PARAMETERS.findings, found))


def export(
    locations: Locations,
    *,
    to: Target | Sequence[Target],
    options: Mapping[str, object] | None = None,
    progress: bool | None = None,
    **choices: Unpack[ExportKeywords],
) -> BatchReport:
    """Export every run of the locations to the targets, then read it back and compare it.

    `to` is the name of a target, an exporter, or several of them; `options` are for plug-ins. All
    other keywords have the names and defaults of the options of `bridge export`: `params` are
    patterns of the params to write (default: all), `tags` is a mapping, and options of a target
    (such as `logdir`) apply to targets given by name. `progress` shows a line of progress (None:
    only in a notebook). Raises ConfigError; failures of single runs are in the report.
    """
    with PARAMETERS.errors():
        chosen, exporters = _prepared(ExportKeywords, to, options, choices)
        return _for_each_run(export_run, _several(locations), exporters, chosen, progress)


def follow(
    locations: Locations,
    *,
    to: Target | Sequence[Target],
    interval: float = Pace.interval,
    idle_timeout: float = Pace.idle_timeout,
    stop: Event | None = None,
    on_append: Callable[[RunReport], None] = lambda report: None,
    options: Mapping[str, object] | None = None,
    progress: bool | None = None,
    **choices: Unpack[FollowKeywords],
) -> BatchReport:
    """Export runs during their training, and append new rows until they have finished.

    Polls every `interval` seconds. Ends when every run has its summary row, when nothing changed
    for `idle_timeout` seconds (0: never), or when `stop` is set; then verifies everything.
    `on_append` gets the report of each append. Locations need not exist yet. For the other
    arguments see `export`. Raises ConfigError; failures of single runs are in the report.
    """
    with PARAMETERS.errors(), Progress(progress) as line:
        chosen, exporters = _prepared(FollowKeywords, to, options, choices)
        pace, wait = Pace(interval, idle_timeout), (stop or Event()).wait

        def append(report: RunReport) -> None:
            line.report(report)
            on_append(PARAMETERS.findings(report))

        paths = _several(locations)
        watched = Following(
            paths, exporters, chosen, pace, on_phase=line.phase, on_append=append, wait=wait
        )
        return _named(watched.run())


def verify(
    locations: Locations,
    *,
    to: Target | Sequence[Target],
    options: Mapping[str, object] | None = None,
    progress: bool | None = None,
    **choices: Unpack[VerifyKeywords],
) -> BatchReport:
    """Compare every run of the locations with its copies in the targets; nothing is written.

    Pass the same arguments as to `export`.
    """
    with PARAMETERS.errors():
        chosen, exporters = _prepared(VerifyKeywords, to, options, choices)
        return _for_each_run(verify_run, _several(locations), exporters, chosen, progress)


def _for_each_run(
    action: RunAction,
    locations: Sequence[str],
    exporters: Sequence[Exporter],
    options: ExportOptions,
    is_shown: bool | None,
) -> BatchReport:
    with Progress(is_shown) as progress:
        found = for_each_run(action, locations, exporters, options, progress.phase, progress.report)
    return _named(found)


def _named(report: BatchReport) -> BatchReport:
    """The report, with parameters in place of options in its findings."""
    return BatchReport(tuple(map(PARAMETERS.findings, report.runs)))


def _prepared(
    keywords: type,
    to: Target | Sequence[Target],
    options: Mapping[str, object] | None,
    given: Mapping[str, object],
) -> tuple[ExportOptions, list[Exporter]]:
    """Split the keywords: export options, and exporters with their options."""
    chosen, rest = _split(keywords, given)
    targets = [to] if isinstance(to, str) or not isinstance(to, Sequence) else list(to)
    if not targets:
        raise ConfigError("to is empty: name at least one target")
    by_name = [target for target in targets if isinstance(target, str)]
    known = sorted(keywords.__annotations__.keys() & CHOICES)
    named = make_exporters(by_name, {**rest, **(options or {})}, others=known)
    others = [target for target in targets if not isinstance(target, str)]
    return ExportOptions.of(chosen), [*named, *others]


def _split(
    keywords: type, given: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """The export options among the keywords, and all other keywords."""
    taken = keywords.__annotations__.keys() & CHOICES
    chosen = {name: value for name, value in given.items() if name in taken}
    return chosen, {name: value for name, value in given.items() if name not in taken}


def _several(locations: Locations) -> list[str]:
    if isinstance(locations, (str, PathLike)):
        return [fspath(locations)]
    return [fspath(location) for location in locations]
