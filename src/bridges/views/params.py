"""The params of many runs, kept as differences from those of the first run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from bridges.stream.model import Run

_OWN = re.compile(  # where a run lies and how it is called
    r"(^|_)(dir|id|url|port|host|folder|file|output)$|^(local_)?rank$|^run_name$|^_|_version$"
    r"|^(resume_from_checkpoint|overwrite_output_dir)$"
)
ABSENT = object()  # a param that a run lacks


class ParamTable:
    """The params of many runs. Equal values are kept once, so memory follows the differences."""

    def __init__(self) -> None:
        self._first: dict[str, object] | None = None
        self._others: list[dict[str, object]] = []

    def add(self, params: Mapping[str, object]) -> None:
        """Add the params of the next run."""
        if self._first is None:
            self._first = dict(params)
            self._others.append({})
            return
        self._others.append(changes(self._first, params))

    def get(self, run: int, key: str) -> object:
        """A param of a run by its position, `ABSENT` if the run lacks it."""
        return self._others[run].get(key, (self._first or {}).get(key, ABSENT))

    def names(self) -> list[str]:
        """The keys of all runs, in the order of their first run."""
        others = (key for other in self._others for key in other)
        return [*dict.fromkeys((*(self._first or {}), *others))]

    def differing(self) -> list[str]:
        """The keys without one value in all runs."""
        differ = {key for other in self._others for key in other}
        return [key for key in self.names() if key in differ]

    def telling(self) -> list[str]:
        """The differing keys without paths, ids and other names of a run.

        Keys of more runs come first.
        """
        missing = Counter(key for one in self._others for key in one if one[key] is ABSENT)
        first = self._first or {}
        later = Counter(key for one in self._others for key in one if key not in first)
        missing.update({key: len(self._others) - count for key, count in later.items()})
        keys = (key for key in self.differing() if not _OWN.search(key))
        return sorted(keys, key=lambda key: missing[key])


def changes(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """The differing params of `after`; missing ones are `ABSENT`."""
    changed = {key: value for key, value in after.items() if not equal(before, key, value)}
    return {**changed, **{key: ABSENT for key in before if key not in after}}


def equal(params: Mapping[str, object], key: str, value: object) -> bool:
    """Whether the params have this value under the key; NaN equals NaN."""
    other = params.get(key, ABSENT)
    return bool(other is value or other == value or (other != other and value != value))


def params_of(run: Run) -> dict[str, object]:
    """The params of a run; those of its trial come first."""
    return {**run.trial_params, **run.params, **run.trial_params}
