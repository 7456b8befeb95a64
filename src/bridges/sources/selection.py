"""Select runs of a source by experiment, name, status or tag, before their metrics are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bridges.errors import ConfigError
from bridges.sources.fetch import MissingSourceError
from bridges.stream.model import Run

FIELDS = ("experiment", "run", "status")
TAG = "tag."


@dataclass(frozen=True)
class Selection:
    """Conditions on runs: pairs of a field (see FIELDS, or `tag.KEY`) and a pattern.

    A run must match one pattern of each field. The patterns of a status ignore case.
    """

    conditions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str]) -> Selection:
        """The conditions from texts such as `status=finished`. Raises ConfigError."""
        return cls(tuple(map(_condition, texts)))

    def takes_experiment(self, name: str) -> bool:
        """Whether runs of an experiment can match."""
        return self._matches("experiment", (name,))

    def takes(self, name: str, run_id: str, status: str, tags: Mapping[str, str]) -> bool:
        """Whether a run matches; its experiment is not looked at."""
        values = {"run": (name, run_id), "status": (status,)}
        fields = {field for field, _ in self.conditions} - {"experiment"}
        return all(self._matches(field, values.get(field) or _tag(field, tags)) for field in fields)

    def _matches(self, field: str, values: Sequence[str]) -> bool:
        patterns = [pattern for own, pattern in self.conditions if own == field]
        if field == "status":
            patterns, values = [p.lower() for p in patterns], [v.lower() for v in values]
        return not patterns or any(fnmatchcase(v, p) for v in values for p in patterns)


def _tag(field: str, tags: Mapping[str, str]) -> tuple[str, ...]:
    value = tags.get(field.removeprefix(TAG))
    return () if value is None else (value,)


def _condition(text: str) -> tuple[str, str]:
    found = re.fullmatch(rf"({'|'.join(FIELDS)}|tag\.[^=]+)=(.*)", text, re.DOTALL)
    if found is None:
        raise ConfigError(
            f"--select {text!r}: expected KEY=PATTERN with one of the keys "
            f"{', '.join(FIELDS)} and tag.NAME, such as experiment='vision*'"
        )
    return found[1], found[2]


def no_runs(location: str) -> MissingSourceError:
    """The error of a location whose files have no run yet."""
    import shlex  # slow to import

    return MissingSourceError(
        location,
        found="files without a run",
        expected="runs with points",
        remedy=f"`bridge inspect {shlex.quote(location)}` says what the files lack.",
    )


def none_selected(location: str) -> MissingSourceError:
    """The error of a location whose runs do not match the selection."""
    return MissingSourceError(
        location,
        found="runs, none of them selected",
        expected="runs",
        remedy="Check the patterns of --select: `bridge ls` shows names and experiments.",
    )


def selected(runs: Iterator[Run], texts: Sequence[str]) -> Iterator[Run]:
    """The runs that match a selection; the experiment of a run is its group."""
    selection = Selection.of(texts)
    for run in runs:
        if selection.takes_experiment(run.group or "") and selection.takes(
            run.path, run.name, run.status, run.tags
        ):
            yield run
