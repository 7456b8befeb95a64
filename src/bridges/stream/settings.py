"""What tells runs with equal rows apart: their settings, as short digests that a target can keep.

Runs that diverged log the same loss (0 or NaN) and a smoke test logs the first rows of the full
run, so rows alone do not prove that two runs are one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY_DIGITS, VALUE_DIGITS = 5, 3  # of base64: 30 and 18 bits


@dataclass(frozen=True)
class Settings:
    """Digests of a run's settings.

    `known` has a digest of each setting by a digest of its name, `files` one of each settings file
    by its kind. `max_steps` is where the run was to end (None: unknown), `step` how far its state
    is, `output` the name of its output directory.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    max_steps: int | None = None
    step: int | None = None
    output: str = ""

    @property
    def is_done(self) -> bool:
        """Whether the run had reached the step at which it was to end."""
        return bool(self.max_steps and self.step is not None and self.step >= self.max_steps)

    @property
    def digest(self) -> str:
        """12 hex digits over all settings; empty where none is known."""
        if not (self.known or self.files):
            return ""
        known = [sorted(self.known.items()), sorted(self.files.items()), self.max_steps]
        return hashlib.blake2b(json.dumps(known).encode(), digest_size=6).hexdigest()

    def contradict(self, other: Settings) -> bool:
        """Whether a setting that both know differs, or a settings file of one kind does."""
        ends = {self.max_steps, other.max_steps} - {None}
        return len(ends) > 1 or any(
            mine.get(name, digest) != digest
            for mine, theirs in ((self.known, other.known), (self.files, other.files))
            for name, digest in theirs.items()
        )

    def is_same_run(self, other: Settings, *, equal_rows: bool) -> bool:
        """Whether the rows of one run being the first of the other means that they are one run.

        A run that goes on with other settings does so in its output directory; the same beginning
        elsewhere is another run, such as a smoke test. `self` is the shorter one.
        """
        if not self.contradict(other):
            return True
        if equal_rows:
            return False
        if self.output and other.output:
            return self.output == other.output
        return not self.is_done

    def as_json(self) -> dict[str, Any]:
        """The settings as a target keeps them."""
        known = "".join(f"{name}{self.known[name]}" for name in sorted(self.known))
        found = (known, dict(self.files), self.max_steps, self.step, self.output)
        return dict(zip(("known", "files", "max_steps", "step", "output"), found, strict=True))

    @classmethod
    def parse(cls, found: Any) -> Settings:
        """The settings that a target keeps. Raises KeyError or TypeError for anything else."""
        size = KEY_DIGITS + VALUE_DIGITS
        text = str(found["known"])
        entries = [text[at : at + size] for at in range(0, len(text), size)]
        return cls(
            known={entry[:KEY_DIGITS]: entry[KEY_DIGITS:] for entry in entries},
            files={str(kind): str(digest) for kind, digest in found["files"].items()},
            max_steps=found["max_steps"],
            step=found["step"],
            output=str(found["output"]),
        )
