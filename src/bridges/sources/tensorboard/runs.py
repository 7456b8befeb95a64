"""From the trainings of a unit to runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.earlier_exports import exported
from bridges.sources.tensorboard.event_log import EventLog
from bridges.sources.tensorboard.joining import Group, Member
from bridges.sources.tensorboard.rows import DirectoryPoints, stream_of
from bridges.sources.tensorboard.trainer_texts import trainer_settings
from bridges.sources.tensorboard.trainings import LogPart
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run
from bridges.stream.redact import redact, redact_text

MAX_SHOWN = 5  # tags of a kind, in a finding
COLUMNS_OF_A_PAGE = ("hparams", "_hparams_/experiment")  # they describe the params of other runs
Parts = Sequence[tuple[Member, Sequence[LogPart]]]


def runs_of(group: Group, options: ReadOptions) -> Iterator[Run]:
    """The run of a group, and with --superseded keep, the attempts before its resumes."""
    parts = [(member, training.parts) for member, training in group.parts]
    parts += [(each, [LogPart(log) for log in each.logs]) for each in group.sessions]
    attempts: list[tuple[Member, Sequence[LogPart]]] = []
    if options.superseded == "keep":
        attempts = [
            (member, attempt) for member, training in group.parts for attempt in training.attempts
        ]
    yield _run(group.name, parts, group, options, shares_identity=bool(attempts))
    for number, (member, attempt) in enumerate(attempts, 1):
        name = f"{group.name}/superseded" + (f"-{number}" if number > 1 else "")
        yield _run(name, [(member, attempt)], group, options, shares_identity=True)


def _run(
    name: str, parts: Parts, group: Group, options: ReadOptions, *, shares_identity: bool
) -> Run:
    logs = [part.log for _, found in parts for part in found]
    known = exported(logs)
    first, stream = _first(logs), stream_of(_directories(parts, group, options))
    params, masked = redact(_params(parts), home=options.redact_home)
    settings, in_params, in_texts = trainer_settings(
        stream, first.path, redact_home=options.redact_home
    )
    began = [log.start for log in logs if log.start is not None]
    findings = _findings(group, logs, known.status, options)
    return Run(
        name=redact_text(name),
        stream=stream,
        source=first.path,
        params={**params, **settings},
        settings_texts=in_params,
        status=known.status,
        tags=known.tags,
        findings=(_format(logs), *masked, *in_texts, *findings),
        provenance=tuple(log.provenance for log in logs if log.provenance),
        key_style="tags",
        identity=_identity(first),
        shares_identity=shares_identity,
        key=known.key,
        start=min(began, default=None),
        note=known.note,
        saves=tuple(log.path for log in logs),
        append_only=False,
        folders=_folders(parts),
    )


def _directories(parts: Parts, group: Group, options: ReadOptions) -> list[DirectoryPoints]:
    """The parts by the prefix of their keys: sessions lie in the directory of their run."""
    in_turns = {member.prefix for member, training in group.parts if training.in_turns}
    by_prefix: dict[str, list[LogPart]] = {}
    for member, found in parts:
        if member.prefix in by_prefix:
            in_turns.add(member.prefix)
        by_prefix.setdefault(member.prefix, []).extend(found)
    return [
        DirectoryPoints(prefix, found, prefix in in_turns, options.growing)
        for prefix, found in by_prefix.items()
    ]


def _first(logs: Sequence[EventLog]) -> EventLog:
    """The oldest file with points."""
    return min((log for log in logs if len(log)), key=lambda log: (log.began, log.path))


def _identity(log: EventLog) -> tuple[object, ...]:
    """Time, step, tag and value of the first point of a file."""
    at = int(log.tag[0])
    value = log.texts[int(log.value[0])] if at >= log.numbers else float(log.value[0]).hex()
    return ("tensorboard", int(log.time[0]), int(log.step[0]), log.tags[at], value)


def _params(parts: Parts) -> dict[str, bool | float | str]:
    """The params of all hparams sessions, later ones last."""
    logs = sorted((part.log for _, found in parts for part in found), key=lambda log: log.began)
    return {key: value for log in logs for key, value in log.params.items()}


def _folders(parts: Parts) -> dict[str, str]:
    """The directory of each key with a prefix."""
    return {
        member.prefix + tag: member.prefix.rstrip("/")
        for member, found in parts
        if member.prefix
        for part in found
        for tag in part.log.tags
    }


def _format(logs: Sequence[EventLog]) -> Finding:
    """The reason why the files are read as event files."""
    names = (
        "its name contains tfevents, and it begins"
        if len(logs) == 1
        else ("their names contain tfevents, and they begin")
    )
    what = "an event file" if len(logs) == 1 else f"{len(logs):,} event files"
    message = f"read as {what} of TensorBoard: {names} with a sound record"
    return Finding("event-format", Severity.INFO, logs[0].path, message, len(logs))


def _findings(
    group: Group, logs: Sequence[EventLog], status: str, options: ReadOptions
) -> list[Finding]:
    """The findings of a run and its files."""
    found = [each for _, training in group.parts for each in training.findings]
    if options.superseded == "keep":
        found = []
    for log in logs:
        found += log.findings
        if log.torn and not options.growing:
            message = (
                "the file ends inside a record, as after a crash; all points before it are read"
            )
            found.append(Finding("record-torn", Severity.INFO, log.path, message))
    if bad := sum(log.bad_times for log in logs):
        message = "invalid wall times: these points have time 0"
        found.append(Finding("times-out-of-range", Severity.WARNING, logs[0].path, message, bad))
    if status == "unknown" and not options.growing:
        message = (
            "event files do not record the end of a training: targets show the run as finished"
        )
        found.append(Finding("event-end-unknown", Severity.INFO, logs[0].path, message))
    if any(training.in_turns for _, training in group.parts):
        message = "several files were written at the same time: all their points are kept"
        found.append(Finding("written-in-turns", Severity.INFO, logs[0].path, message, len(logs)))
    return [*found, *_not_carried(logs)]


def _not_carried(logs: Sequence[EventLog]) -> list[Finding]:
    """A note about each kind of data without a place in any target."""
    kinds: dict[str, Counter[str]] = {}
    for log in logs:
        for (kind, tag), count in log.others.items():
            if (kind, tag) == COLUMNS_OF_A_PAGE:
                continue
            kinds.setdefault(kind, Counter())[tag] += count
    found = []
    for kind, tags in sorted(kinds.items()):
        shown = ", ".join(map(repr, [tag for tag in tags if tag][:MAX_SHOWN]))
        more = f" and {len(tags) - MAX_SHOWN} more" if len(tags) > MAX_SHOWN else ""
        where = f"{kind} {shown}{more}" if shown else kind
        message = f"not exported, as no target takes them: {kind} ({tags.total():,})"
        found.append(Finding("not-carried", Severity.INFO, where, message, tags.total()))
    return found
