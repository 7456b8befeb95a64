"""Which trainings of several directories are one run: they were written by one process.

TensorBoard shows each directory as a run. A training with directories such as `train` and
`validation`, or with one for each curve of `add_scalars`, is one run nevertheless.
Its keys are `DIRECTORY/TAG`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from bridges.formats.events.hparams import SessionStart
from bridges.sources.options import Division
from bridges.sources.tensorboard.event_log import EventLog
from bridges.sources.tensorboard.event_names import (
    SPLITS,
    has_process_id,
    is_exported,
    is_tf2,
    name_of,
    process_of,
)
from bridges.sources.tensorboard.trainings import LogPart, Training, trainings
from bridges.sources.tensorboard.units import EventFolder, Unit


class Role(Enum):
    """The role of a directory inside another one."""

    RUN = "run"  # a run of its own
    SPLIT = "split"  # one of several such as `train` and `validation`
    CURVE = "curve"  # one curve of `add_scalars`
    SESSION = "session"  # the params of `add_hparams`


@dataclass
class Member:
    """A directory with the content of its event files."""

    folder: EventFolder
    logs: Sequence[EventLog]
    role: Role = Role.RUN

    @property
    def prefix(self) -> str:
        """The prefix of its keys in a joined run."""
        within = self.folder.within
        return f"{within}/" if within and self.role in (Role.SPLIT, Role.CURVE) else ""

    @property
    def tags(self) -> set[str]:
        """Its tags with numbers."""
        return {tag for log in self.logs for tag in log.tags[: log.numbers]}


@dataclass
class Group:
    """A run: its trainings, each with its directory, and the `add_hparams` sessions beside it."""

    name: str
    parts: list[tuple[Member, Training]]
    sessions: list[Member] = field(default_factory=list)

    @property
    def began(self) -> int:
        """The time of its first event, in microseconds."""
        return min(training.began for _, training in self.parts)

    @property
    def processes(self) -> set[str]:
        """The processes in the names of its files."""
        return {process for _, training in self.parts for process in _processes(training.logs)}

    def shared_time(self, training: Training) -> int:
        """How long it was written at the same time as a training, in microseconds; -1: not."""
        return max(_shared_time(own, training) for _, own in self.parts)


def groups(
    unit: Unit, contents: Mapping[str, Sequence[EventLog]], division: Division
) -> list[Group]:
    """The runs of a unit in the order of their directories and times.

    `contents`: the event files of each directory, by its path.
    """
    members = [Member(folder, contents.get(folder.path, ())) for folder in unit.members]
    if division == "directory":
        return [
            Group(each.folder.name, [(each, training)])
            for each in members
            for training in trainings(each.logs, is_one=True)
            if any(map(len, training.logs))
        ]
    _assign_roles(members)
    joined = _joined(unit, members, is_one=division == "one")
    alone = [each for each in members if each.role is Role.RUN and each.folder.within]
    found = [*joined]
    for member in [*alone, *_with_sessions(members, joined)]:
        found += _numbered(member.folder.name, _of_member(member, division == "one"), [member])
    return found


def _assign_roles(members: Sequence[Member]) -> None:
    """Set the role of each directory inside another one, by names, tags and processes."""
    home = [member for member in members if not member.folder.within]
    taken = {tag for member in home for tag in member.tags}
    for member in members:
        if member.folder.within:
            member.role = _role(member)
    candidates = [member for member in members if member.role in (Role.SPLIT, Role.CURVE)]
    for member in candidates:
        others = [*home, *(each for each in candidates if each is not member)]
        keys = {f"{member.folder.within}/{tag}" for tag in member.tags}
        if keys & taken or not (_is_sure(member) or _is_shown(member, others)):
            member.role = Role.RUN
    if not home:
        return
    for member in members:
        if member.folder.within and member.role is Role.RUN and _is_session(member):
            member.role = Role.SESSION


def _role(member: Member) -> Role:
    """The possible role of a directory, by its name and its tags."""
    within = member.folder.within
    if any(is_exported(name, part=False) for name in member.folder.events):
        return Role.RUN
    if within in SPLITS:
        return Role.SPLIT
    tags = member.tags
    if len(tags) == 1:
        (tag,) = tags
        if within.startswith((f"{tag}/", f"{tag.replace('/', '_')}_")):
            return Role.CURVE
    return Role.RUN


def _is_sure(member: Member) -> bool:
    """Whether names alone make a directory a part of a run.

    Keras and others write TensorFlow 2's files into directories such as `train`.
    """
    names = member.folder.events
    if member.role is Role.SPLIT and any(map(is_tf2, names)):
        return True
    return any(is_exported(name, part=True) for name in names)


def _is_shown(member: Member, others: Sequence[Member]) -> bool:
    """Whether a process wrote this directory and another one, at the same time unless a curve."""
    processes = _processes(member.logs)
    for other in others:
        shared = processes & _processes(other.logs)
        if member.role is Role.CURVE and any(map(has_process_id, shared)):
            return True
        if any(
            process_of(name_of(one.path)) in shared and _overlap(one, two) >= 0
            for one in member.logs
            for two in other.logs
            if process_of(name_of(one.path)) == process_of(name_of(two.path))
        ):
            return True
    return False


def _is_session(member: Member) -> bool:
    """Whether a directory holds the params of a session, and at most one point of each tag."""
    has_params = any(isinstance(each, SessionStart) for log in member.logs for each in log.sessions)
    points = sum(len(log) for log in member.logs)
    tags = {tag for log in member.logs for tag in log.tags}
    return has_params and points <= len(tags)


def _joined(unit: Unit, members: Sequence[Member], *, is_one: bool) -> list[Group]:
    """The runs of the unit's directory, with their parts in others."""
    found: list[Group] = []
    for member in members:
        if member.role is Role.SESSION or (member.role is Role.RUN and member.folder.within):
            continue
        for training in _of_member(member, is_one):
            group = found[0] if is_one and found else _group_of(member, training, found)
            if group is None:
                found.append(Group("", [(member, training)]))
            else:
                group.parts.append((member, training))
    if len(found) > 1:
        found.sort(key=lambda group: group.began)
    for member in members:
        if not (member.folder.within or any(map(len, member.logs))):
            _add_without_points(member, found)
    inside = {
        name for member in members if not member.folder.within for name in member.folder.folders
    }
    inside |= {member.folder.within.partition("/")[0] for member in members}
    for number, group in enumerate(found, 1):
        group.name = _name(unit.name, number, inside)
    return found


def _add_without_points(member: Member, found: Sequence[Group]) -> None:
    """Give the files of the unit's directory, which have params or notes only, to the runs of their
    processes.
    """
    for log in member.logs:
        process = process_of(name_of(log.path))
        fitting = [group for group in found if process in group.processes]
        earlier = [group for group in fitting if group.began <= log.span[1]] or fitting
        if earlier:
            earlier[-1].parts[0][1].parts.append(LogPart(log))


def _group_of(member: Member, training: Training, found: Sequence[Group]) -> Group | None:
    """The run of a training: of the same process, at the same time if possible."""
    if not member.folder.within:
        return None
    processes = _processes(training.logs)
    fitting = [
        group
        for group in found
        if group.processes & processes and all(own is not member for own, _ in group.parts)
    ]
    best = max(fitting, key=lambda group: group.shared_time(training), default=None)
    if best is not None and best.shared_time(training) >= 0:
        return best
    if member.role is not Role.CURVE:
        return None
    before = [group for group in fitting if group.began <= training.began]
    return max(before, key=lambda group: group.began, default=None)


def _with_sessions(members: Sequence[Member], found: Sequence[Group]) -> Iterator[Member]:
    """Give each session to its run; the other sessions are yielded.

    Several sessions of one run with points and other params are trials: runs of their own.
    """
    home = [group for group in found if any(not own.folder.within for own, _ in group.parts)]
    for member in (each for each in members if each.role is Role.SESSION):
        began = min(log.began for log in member.logs)
        earlier = [group for group in home if group.began <= began] or home[:1]
        if not earlier:
            yield member
        else:
            earlier[-1].sessions.append(member)
    for group in home:
        with_points = [each for each in group.sessions if any(map(len, each.logs))]
        params = [sorted(_params(each).items()) for each in with_points]
        if any(each != params[0] for each in params):
            group.sessions = [each for each in group.sessions if each not in with_points]
            yield from with_points


def _params(member: Member) -> dict[str, bool | float | str]:
    return {key: value for log in member.logs for key, value in log.params.items()}


def _of_member(member: Member, is_one: bool) -> list[Training]:
    """The trainings of a directory with points."""
    found = trainings(member.logs, is_one=is_one)
    return [training for training in found if any(map(len, training.logs))]


def _numbered(name: str, found: Sequence[Training], members: Sequence[Member]) -> list[Group]:
    """A run for each training of a directory."""
    inside = {inner for member in members for inner in member.folder.folders}
    return [
        Group(_name(name, number, inside), [(members[0], training)])
        for number, training in enumerate(found, 1)
    ]


def _name(name: str, number: int, inside: set[str]) -> str:
    """The name of a training: the oldest is called like its directory."""
    if number == 1:
        return name
    return f"{name}-{number}" if str(number) in inside else f"{name}/{number}"


def _processes(logs: Sequence[EventLog]) -> set[str]:
    return {process_of(name_of(log.path)) for log in logs}


def _overlap(one: EventLog, two: EventLog) -> int:
    return min(one.span[1], two.span[1]) - max(one.began, two.began)


def _shared_time(one: Training, two: Training) -> int:
    return min(one.span[1], two.span[1]) - max(one.began, two.began)
