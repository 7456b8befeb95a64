"""Digests of a run's settings, which distinguish runs with equal rows and are stored in targets.

Diverged runs log the same loss (0 or NaN), and a smoke test logs the first rows of the full run, so
equal rows do not prove that two runs are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY_DIGITS, VALUE_DIGITS = 5, 3  # base64 digits: 30 and 18 bits


@dataclass(frozen=True)
class Settings:
    """Digests of a run's settings.

    known: digest of each setting, by the digest of its name
    files: digest of each settings file, by its kind
    max_steps: planned last step (None: unknown)
    step: last step of its state (None: unknown)
    output: name of its output directory
    """

    known: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    max_steps: int | None = None
    step: int | None = None
    output: str = ""

    @property
    def is_done(self) -> bool:
        """Whether the run had reached its `max_steps`."""
        return bool(self.max_steps and self.step is not None and self.step >= self.max_steps)

    @property
    def digest(self) -> str:
        """12 hex digits over all settings; empty if none is known."""
        if not (self.known or self.files):
            return ""
        known = [sorted(self.known.items()), sorted(self.files.items()), self.max_steps]
        return hashlib.blake2b(json.dumps(known).encode(), digest_size=6).hexdigest()

    def contradict(self, other: Settings) -> bool:
        """Whether a setting or a settings file that both have differs."""
        ends = {self.max_steps, other.max_steps} - {None}
        return len(ends) > 1 or any(
            mine.get(name, digest) != digest
            for mine, theirs in ((self.known, other.known), (self.files, other.files))
            for name, digest in theirs.items()
        )

    def is_same_run(self, other: Settings, *, equal_rows: bool) -> bool:
        """Whether a shorter run (`self`) and a longer run with the same first rows are one run.

        With other settings, a run in the same output directory was resumed; a run elsewhere is
        another run, such as a smoke test.
        """
        if not self.contradict(other):
            return True
        if equal_rows:
            return False
        if self.output and other.output:
            return self.output == other.output
        return not self.is_done

    def as_json(self) -> dict[str, Any]:
        """The settings in the form that targets store."""
        known = "".join(f"{name}{self.known[name]}" for name in sorted(self.known))
        found = (known, dict(self.files), self.max_steps, self.step, self.output)
        return dict(zip(("known", "files", "max_steps", "step", "output"), found, strict=True))

    @classmethod
    def parse(cls, found: Any) -> Settings:
        """The settings from their stored form. Raises KeyError or TypeError for anything else."""
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
