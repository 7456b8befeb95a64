"""The exceptions of the library. Bad input raises only `BridgeError`.

    BridgeError
    ├── SourceError             the input is missing or invalid
    ├── TreeError               several files of a directory tree are invalid
    ├── ConfigError             an option or a batch config is invalid
    │   └── ConfigFileError     all problems of a config file
    ├── ExportError             the target refused or failed (`transient`: a retry can help)
    ├── VerifyError             the target does not match the source
    └── MissingDependencyError  an optional package is absent; the message is the pip line

Exceptions of other packages are translated at the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

DISTRIBUTION = "tracker-bridges"  # on PyPI, `bridges` is another project


def pip_line(extra: str) -> str:
    """The command that installs the packages of an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


class BridgeError(Exception):
    """Base class of all exceptions of bridges."""


class SourceError(BridgeError):
    """The input is missing or invalid.

    The message reads `FILE: PLACE: found X; expected Y. REMEDY`.
    """

    def __init__(
        self, source: str, *, found: str, expected: str, remedy: str, place: str = ""
    ) -> None:
        self.source = source
        self.place = place
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(self._text())

    def __reduce__(self) -> tuple[object, ...]:
        """Parts with errors are sent to workers; exceptions are pickled without keywords."""
        keywords = {name: getattr(self, name) for name in ("found", "expected", "remedy", "place")}
        return partial(type(self), self.source, **keywords), ()

    def add_remedy(self, text: str) -> None:
        """Add a sentence to the remedy."""
        self.remedy = f"{self.remedy} {text}"
        self.args = (self._text(),)

    def _text(self) -> str:
        at = f"{self.source}: {self.place}" if self.place else self.source
        return f"{at}: found {self.found}; expected {self.expected}. {self.remedy}"


class TreeError(BridgeError):
    """Several files of a directory tree cannot be read; `errors` has one error per file."""

    def __init__(self, source: str, errors: Sequence[SourceError]) -> None:
        self.source = source
        self.errors = tuple(errors)
        super().__init__("; ".join(map(str, errors)))


class ConfigError(BridgeError):
    """An option has an invalid value."""


class ConfigFileError(ConfigError):
    """A config file is invalid; `problems` has one message for each problem.

    A message reads `FILE:LINE: KEY: found X; expected Y. REMEDY`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class ExportError(BridgeError):
    """The target could not be written.

    `transient`: the same call may succeed later. `waited`: the exporter already retried; retry only
    with a longer timeout. `answered`: the target answered an earlier request.
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
    """The target cannot be read back, or does not match the source."""


class MissingDependencyError(BridgeError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        super().__init__(f"{package} is not installed. Install it with: {pip_line(extra)}")
