"""The report as JSON lines: one line per finished run and target, and the totals at the end.

A file without totals is from an interrupted migration. A rerun reports every run again and replaces
the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from bridges.errors import BridgeError, ConfigError, ExportError
from bridges.report import RunReport, Totals


class ReportLines:
    """A context manager that writes JSON lines to a path, which may also be a pipe or device.

    Every line is flushed at once, so it survives if this process is killed. Raises ConfigError if
    the file cannot be opened, ExportError if writing fails later.
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

    def _end(self) -> dict[str, object]:
        findings = [found.as_dict() for found in self.totals.findings]
        return {
            "totals": self.totals.totals,
            "findings": findings,
            "exit_code": self.totals.exit_code,
        }

    def _write(self, document: Mapping[str, object]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(document).replace("\x7f", r"\u007f") + "\n")
        self._file.flush()


@contextmanager
def report_errors(path: str, kind: type[BridgeError]) -> Iterator[None]:
    """Translate OSError to an error that names the report."""
    try:
        yield
    except OSError as error:
        raise kind(f"the report {path!r} cannot be written: {error.strerror or error}") from error
