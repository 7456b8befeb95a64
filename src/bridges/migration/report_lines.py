"""The report as JSON lines: a line per run as soon as it is done, the totals as the last one.

A file without the line of totals is that of a migration that did not end. A migration that is run
again reports every run again, so the file of the earlier one is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from bridges.errors import BridgeError, ConfigError, ExportError
from bridges.report import RunReport, Totals


class ReportLines:
    """Writes JSON lines to a file, or to what else a path may name; a context manager.

    Every line is handed to the system at once: it is there even if this process is killed.
    Raises ConfigError where the file cannot be written, ExportError where that fails later.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.totals = Totals()
        self._file: IO[str] | None = None

    def __enter__(self) -> ReportLines:
        with report_errors(self.path, ConfigError):
            self._file = open(self.path, "w", encoding="ascii", newline="\n")
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None
        with report_errors(self.path, ExportError), self._file:
            if error is None:
                self._write(self._end())

    def add(self, report: RunReport) -> None:
        """Write the line of a run."""
        self.totals.add(report)
        with report_errors(self.path, ExportError):
            self._write(report.as_dict())

    def _end(self) -> dict[str, Any]:
        findings = [found.as_dict() for found in self.totals.findings]
        return {
            "totals": self.totals.totals,
            "findings": findings,
            "exit_code": self.totals.exit_code,
        }

    def _write(self, document: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(document).replace("\x7f", r"\u007f") + "\n")
        self._file.flush()


@contextmanager
def report_errors(path: str, kind: type[BridgeError]) -> Iterator[None]:
    """Tell which report it is that cannot be written."""
    try:
        yield
    except OSError as error:
        raise kind(f"the report {path!r} cannot be written: {error.strerror or error}") from error
