"""The Python twins of the commands: `read` (inspect), `export`, `follow`, `verify`.

They print nothing and raise only `BridgeError`; what happened to each run is in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from threading import Event
from typing import Any

from bridges.batch import for_each_run
from bridges.errors import ConfigError
from bridges.exporters.base import Exporter
from bridges.following import IDLE_TIMEOUT, INTERVAL, Following, Pace
from bridges.pipeline import (
    ExportOptions,
    export_run,
    make_exporters,
    read_runs,
    verify_run,
)
from bridges.report import BatchReport, RunReport
from bridges.sources.base import ReadOptions
from bridges.stream.layout import LayoutOptions
from bridges.stream.model import Run
from bridges.stream.naming import LATEST, parse_version

Location = str | PathLike[str]
Locations = Location | Sequence[Location]
Target = str | Exporter


def read(
    location: Location,
    *,
    salvage: bool = False,
    max_unpacked: int | None = None,
    redact_home: bool = False,
    fill_from_events: bool = False,
    source: str | None = None,
) -> list[Run]:
    """The runs at a path, an fsspec URL or `-` (standard input). Raises SourceError.

    `salvage` reads a truncated file up to its last whole row; `max_unpacked` is how many bytes a
    gzip file may unpack to (by default 100 times its own, or 64 MiB); `redact_home` masks home
    directories in params, too; `fill_from_events` adds rows that only event files hold; `source`
    names the source to use.
    """
    read = ReadOptions(
        salvage,
        redact_home=redact_home,
        max_unpacked=max_unpacked,
        fill_from_events=fill_from_events,
    )
    options = ExportOptions(read=read, source=source)
    return list(read_runs(fspath(location), options))


def export(
    locations: Locations,
    *,
    to: Target | Sequence[Target],
    x_axis: str = "step",
    naming: str = "live",
    duplicates: str = "all",
    clock: str | None = None,
    callback_version: str | None = None,
    params: Sequence[str] = (),
    run_name: str | None = None,
    group: str | None = None,
    tags: Mapping[str, str] | None = None,
    salvage: bool = False,
    max_unpacked: int | None = None,
    redact_home: bool = False,
    fill_from_events: bool = False,
    source: str | None = None,
    verify: bool = True,
    attach_source: bool = False,
    dry_run: bool = False,
    jobs: int = 4,
    **target_options: Any,
) -> BatchReport:
    """Export every run of the locations to the targets and compare what they then hold.

    `to` is a target's name, an exporter, or several of them; `target_options` (such as `logdir`)
    go to the targets given by name; `params` are patterns of the params to write (none: all);
    `jobs` runs at a time are written to a W&B server. Raises ConfigError; what fails with a run is
    in the report.
    """
    options = export_options(
        x_axis=x_axis,
        naming=naming,
        duplicates=duplicates,
        clock=clock,
        callback_version=callback_version,
        params=params,
        run_name=run_name,
        group=group,
        tags=tags,
        salvage=salvage,
        max_unpacked=max_unpacked,
        redact_home=redact_home,
        fill_from_events=fill_from_events,
        source=source,
        verify=verify,
        attach_source=attach_source,
        dry_run=dry_run,
        jobs=jobs,
    )
    exporters = _exporters(to, target_options)
    return for_each_run(export_run, _several(locations), exporters, options)


def follow(
    locations: Locations,
    *,
    to: Target | Sequence[Target],
    interval: float = INTERVAL,
    idle_timeout: float = IDLE_TIMEOUT,
    stop: Event | None = None,
    on_append: Callable[[RunReport], None] = lambda report: None,
    x_axis: str = "step",
    naming: str = "live",
    duplicates: str = "all",
    clock: str | None = None,
    callback_version: str | None = None,
    params: Sequence[str] = (),
    run_name: str | None = None,
    group: str | None = None,
    tags: Mapping[str, str] | None = None,
    salvage: bool = False,
    max_unpacked: int | None = None,
    source: str | None = None,
    verify: bool = True,
    attach_source: bool = False,
    jobs: int = 4,
    **target_options: Any,
) -> BatchReport:
    """Export runs that still go on, and append their new rows until they have finished.

    Looks every `interval` seconds; ends when every run has its summary row, when nothing changed
    for `idle_timeout` seconds (0: never), or when `stop` is set; then everything is verified.
    `on_append` is told of each append. All else is as for `export`, locations need not be there
    yet. Raises ConfigError; what fails with a run to the end is in the report.
    """
    options = export_options(
        x_axis=x_axis,
        naming=naming,
        duplicates=duplicates,
        clock=clock,
        callback_version=callback_version,
        params=params,
        run_name=run_name,
        group=group,
        tags=tags,
        salvage=salvage,
        max_unpacked=max_unpacked,
        source=source,
        verify=verify,
        attach_source=attach_source,
        jobs=jobs,
    )
    exporters, pace = _exporters(to, target_options), Pace(interval, idle_timeout)
    wait = (stop or Event()).wait
    places = _several(locations)
    return Following(places, exporters, options, pace, on_append=on_append, wait=wait).run()


def verify(
    locations: Locations,
    *,
    to: Target | Sequence[Target],
    x_axis: str = "step",
    naming: str = "live",
    duplicates: str = "all",
    clock: str | None = None,
    callback_version: str | None = None,
    params: Sequence[str] = (),
    run_name: str | None = None,
    group: str | None = None,
    salvage: bool = False,
    max_unpacked: int | None = None,
    redact_home: bool = False,
    fill_from_events: bool = False,
    source: str | None = None,
    jobs: int = 4,
    **target_options: Any,
) -> BatchReport:
    """Compare every run of the locations with what the targets hold; nothing is written.

    The options are those of `export`, and must be the same ones.
    """
    options = export_options(
        x_axis=x_axis,
        naming=naming,
        duplicates=duplicates,
        clock=clock,
        callback_version=callback_version,
        params=params,
        run_name=run_name,
        group=group,
        salvage=salvage,
        max_unpacked=max_unpacked,
        redact_home=redact_home,
        fill_from_events=fill_from_events,
        source=source,
        jobs=jobs,
    )
    exporters = _exporters(to, target_options)
    return for_each_run(verify_run, _several(locations), exporters, options)


def export_options(
    *,
    x_axis: str = "step",
    naming: str = "live",
    duplicates: str = "all",
    clock: str | None = None,
    callback_version: str | None = None,
    params: Sequence[str] = (),
    run_name: str | None = None,
    group: str | None = None,
    tags: Mapping[str, str] | None = None,
    salvage: bool = False,
    max_unpacked: int | None = None,
    redact_home: bool = False,
    fill_from_events: bool = False,
    source: str | None = None,
    verify: bool = True,
    attach_source: bool = False,
    dry_run: bool = False,
    jobs: int = 4,
) -> ExportOptions:
    """The options by their names on the command line. Raises ConfigError."""
    if attach_source and redact_home:
        raise ConfigError(
            "--attach-source keeps the source as it is, home directories included, and "
            "--redact-home masks these: leave out one of the two"
        )
    version = parse_version(callback_version) if callback_version else LATEST
    patterns = (params,) if isinstance(params, str) else tuple(params)
    return ExportOptions(
        layout=LayoutOptions(x_axis, naming, duplicates, version, clock, patterns),
        read=ReadOptions(
            salvage,
            redact_home=redact_home,
            max_unpacked=max_unpacked,
            fill_from_events=fill_from_events,
        ),
        source=source,
        run_name=run_name,
        group=group,
        tags=tags or {},
        verify=verify,
        attach_source=attach_source,
        dry_run=dry_run,
        jobs=jobs,
    )


def _several(locations: Locations) -> list[str]:
    if isinstance(locations, (str, PathLike)):
        return [fspath(locations)]
    return [fspath(location) for location in locations]


def _exporters(to: Target | Sequence[Target], options: Mapping[str, Any]) -> list[Exporter]:
    targets = [to] if isinstance(to, str) or not isinstance(to, Sequence) else list(to)
    named = make_exporters([target for target in targets if isinstance(target, str)], options)
    return [*named, *(target for target in targets if not isinstance(target, str))]
