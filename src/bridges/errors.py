"""The error tree. A `BridgeError` is the only thing that leaves the library on bad input.

    BridgeError
    ├── SourceError             the input cannot be read as what it should be
    ├── TreeError               several files of one directory tree cannot
    ├── ConfigError             an option or a batch config makes no sense
    │   └── ConfigFileError     all that is wrong with a config file
    ├── ExportError             the target refused or failed (`transient` tells if a retry helps)
    ├── VerifyError             the target does not hold what was written
    └── MissingDependencyError  an optional package is absent; the message is the pip line

Foreign exceptions are translated once, at the edge where they arise.
"""

from __future__ import annotations

from collections.abc import Sequence

DISTRIBUTION = "tracker-bridges"  # on the package index, where `bridges` is another project


def pip_line(extra: str) -> str:
    """The command that installs the packages of an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


class BridgeError(Exception):
    """Base of every error that bridges raises on purpose."""


class SourceError(BridgeError):
    """The input is not what it should be: which file, where in it, what to do about it.

    The message always reads `FILE: PLACE: found X; expected Y. REMEDY`.
    """

    def __init__(
        self, source: str, *, found: str, expected: str, remedy: str, place: str = ""
    ) -> None:
        self.source = source
        self.place = place
        self.found = found
        self.expected = expected
        self.remedy = remedy
        at = f"{source}: {place}" if place else source
        super().__init__(f"{at}: found {found}; expected {expected}. {remedy}")


class TreeError(BridgeError):
    """Several files below one place cannot be read; `errors` has one for each."""

    def __init__(self, source: str, errors: Sequence[SourceError]) -> None:
        self.source = source
        self.errors = tuple(errors)
        super().__init__("; ".join(map(str, errors)))


class ConfigError(BridgeError):
    """An option has a value that cannot be used."""


class ConfigFileError(ConfigError):
    """A config file cannot be used; `problems` has one message for each thing wrong in it.

    A message reads `FILE:LINE: KEY: found X; expected Y. REMEDY`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class ExportError(BridgeError):
    """The target could not be written.

    `transient` tells whether the same call may succeed later, `waited` that the exporter has tried
    it again for a while: only who has more patience is to try once more. `answered` is True where
    the target answered earlier requests.
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool = False,
        waited: bool = False,
        answered: bool = False,
    ) -> None:
        self.transient = transient
        self.waited = waited
        self.answered = answered
        super().__init__(message)


class VerifyError(BridgeError):
    """The target cannot be read back, or does not hold what it should."""


class MissingDependencyError(BridgeError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        super().__init__(f"{package} is not installed. Install it with: {pip_line(extra)}")
