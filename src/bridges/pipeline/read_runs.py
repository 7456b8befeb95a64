"""Read the runs at a location: choose its source, and name its runs by the options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bridges import plugins
from bridges.errors import BridgeError, ConfigError, SourceError
from bridges.log import log
from bridges.pipeline.key_rules import with_key_rules
from bridges.pipeline.options import ExportOptions
from bridges.sources.base import Configured, Selects, Shares, Source
from bridges.sources.options import ReadOptions
from bridges.sources.place import ORDER, last_source, sources_at
from bridges.sources.remote import forget_listings
from bridges.stream.model import Run


def read_runs(location: str, options: ExportOptions) -> Iterator[Run]:
    """The runs at a location, with the name, group and tags of the options.

    Raises SourceError, and ConfigError if one name is given for several runs.
    """
    forget_listings([location])
    source = source_of(location, options.source, options.read)
    runs = guarded(source.read(location, options.read), location, source, options.read)
    if options.read.select and not options.read.growing:
        runs = _some_selected(runs, location)
    if options.run_name and not options.read.growing:
        runs = _only_one(runs, location)
    yield from map(partial(_named, source, options), runs)  # keeps no run


def _named(source: Source, options: ExportOptions, run: Run) -> Run:
    """The run with the name, group and tags of the options."""
    log("read", "%s: %d rows of %s", source.name, len(run.stream), run.source)
    name, group = options.run_name or run.run_name or run.name, options.group or run.group
    if (name, group) == (run.name, run.group) and not options.tags:
        return run
    return replace(run, name=name, group=group, tags={**run.tags, **options.tags})


def source_of(location: str, name: str | None, options: ReadOptions | None = None) -> Source:
    """The source of that name; else the sources of a tree, or the first that claims the location,
    built-in ones first. Plug-ins come before tables that are not certainly logs.

    Raises ConfigError for an unknown name, or for options that the source refuses.
    """
    names = (name,) if name else sources_at(location, options)
    if names:
        sources = [_load(plugins.find("sources", name), options) for name in names]
        return sources[0] if len(sources) == 1 else _together(sources)
    for plug_in in plugins.built_in("sources"):
        if plug_in.name in ORDER:  # `sources_at` has decided
            continue
        source = _load(plug_in, options)
        if source.claims(location):
            return source
    for plug_in in plugins.third_party("sources"):
        source = _load(plug_in, options)
        if source.claims(location):
            return source
    return _load(plugins.find("sources", last_source(location)), options)


def _together(sources: Sequence[Source]) -> Source:
    from bridges.pipeline.several_sources import SeveralSources

    names = [source.name for source in sources]
    return SeveralSources(
        [source.among(names) if isinstance(source, Shares) else source for source in sources]
    )


def _load(plug_in: plugins.PlugIn, options: ReadOptions | None) -> Source:
    source: Source = plug_in.load()()
    if options is not None and isinstance(source, Configured):
        return source.configured(options)
    return source


def guarded(
    runs: Iterator[Run], location: str, source: Source, options: ReadOptions
) -> Iterator[Run]:
    """The selected runs of a source, with the rules for their keys.

    Any other error of the source is raised as a SourceError.
    """
    try:
        if options.select and not isinstance(source, Selects):
            from bridges.sources.selection import selected

            runs = selected(runs, options.select)
        yield from map(with_key_rules, runs)
    except SourceError as error:
        from bridges.sources.exported import named

        raise named(error, location) from error.__cause__
    except BridgeError:
        raise
    except Exception as error:  # deliberately broad: a source may come from a plug-in
        raise SourceError(
            location,
            found=f"{type(error).__name__}: {error}",
            expected=f"a location of the source {source.name!r}",
            remedy="If it is what it should be, this is a bug of that source.",
        ) from error


def _some_selected(runs: Iterator[Run], location: str) -> Iterator[Run]:
    """The selected runs of a location. Raises MissingSourceError without any."""
    from bridges.sources.selection import none_selected

    first = next(runs, None)
    if first is None:
        raise none_selected(location)
    yield first
    del first  # it may be large, and the next one is read now
    yield from runs


def _only_one(runs: Iterator[Run], location: str) -> Iterator[Run]:
    """The only run of a location. Raises ConfigError if there are several, before any is given."""
    first = next(runs, None)
    if first is None:
        return
    try:
        second = next(runs, None)
    except BridgeError:
        yield first
        raise
    if second is not None:
        raise ConfigError(
            f"--run-name names one run, and {location} holds several, such as {first.path} and "
            f"{second.path}. Name the directory of one run, or leave --run-name out: each run is "
            "named after its directory, and --group puts them together."
        )
    yield first
