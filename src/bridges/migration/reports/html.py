"""The report as one self-contained HTML file: all runs, each once with its targets, and totals.

Reports are written to a temporary file, so memory does not grow with the runs. The page is
published atomically. Its content security policy allows only its own script, and no requests.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timezone
from importlib.resources import files
from typing import TYPE_CHECKING

from bridges.errors import ConfigError, ExportError
from bridges.exporters.atomic_files import sync_directory, unlink, write_file
from bridges.migration.reports.html_parts import chips, escaped, options, summary, tables
from bridges.migration.reports.html_runs import merged, row
from bridges.migration.reports.json_lines import report_errors
from bridges.migration.reports.run_totals import RunTotals
from bridges.report import RunReport, Totals

if TYPE_CHECKING:
    from bridges.migration.reports.grouped_reports import GroupedReports

Part = Callable[[], Iterator[bytes]]


class HtmlReport:
    """A context manager that writes the page on exit.

    After an exception, the page is marked as interrupted. Raises ConfigError if the file cannot be
    created, ExportError if writing fails later.
    """

    def __init__(self, path: str, title: str) -> None:
        self.path = os.path.realpath(path)
        self.title = title
        self.totals = Totals()
        self._reports: GroupedReports | None = None

    def __enter__(self) -> HtmlReport:
        from bridges.migration.reports.grouped_reports import GroupedReports  # SQLite: 5 ms

        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise ConfigError(f"the report {self.path!r} cannot be written: it is not a file")
        with report_errors(self.path, ConfigError):
            self._reports = GroupedReports(os.path.dirname(self.path))
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        assert self._reports is not None
        with report_errors(self.path, ExportError), closing(self._reports):
            publish(self.path, self._page(self._reports, has_ended=error is None))

    def add(self, report: RunReport) -> None:
        """Add the report of a run and target."""
        assert self._reports is not None
        self.totals.add(report)
        with report_errors(self.path, ExportError):
            self._reports.add(report)

    def _page(self, runs: GroupedReports, has_ended: bool) -> Iterator[bytes]:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        template = packaged("report.html").replace("@SCRIPT@", packaged("rows.js"))
        by_run = RunTotals()
        for reports in runs:
            by_run.add(reports, merged(reports))
        codes = {code: number for number, (code, _) in enumerate(by_run.ordered())}
        targets = {target: number for number, target in enumerate(self.totals.targets)}
        texts = {
            "POLICY": policy(template),
            "TITLE": escaped(self.title),
            "SUMMARY": summary(self.totals, by_run, now, has_ended),
            "TARGETS": options(targets),
            "CHIPS": chips(by_run),
            "TABLES": tables(self.totals, by_run),
        }

        def rows() -> Iterator[bytes]:
            for reports in runs:
                yield _encoded(row(reports, targets, codes))

        yield from filled(template, texts, {"ROWS": rows})


def packaged(name: str) -> str:
    """The text of a file beside this module."""
    return files("bridges.migration.reports").joinpath(name).read_text("utf-8")


def publish(path: str, page: Iterator[bytes]) -> None:
    """Write a page atomically. Raises OSError."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        write_file(partial, page)
        os.replace(partial, path)
        sync_directory(os.path.dirname(path))
    finally:
        unlink(partial)


def filled(template: str, texts: Mapping[str, str], parts: Mapping[str, Part]) -> Iterator[bytes]:
    """The template with its placeholders replaced; replacements are not expanded again."""
    for index, piece in enumerate(re.split("@([A-Z]+)@", template)):
        if index % 2 and piece in parts:
            yield from parts[piece]()
        else:
            yield _encoded(texts[piece] if index % 2 else piece)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # escapes lone surrogates


def policy(template: str) -> str:
    """The content security policy: only the page's own styles and scripts, by their digests."""
    allowed = {
        tag: " ".join(map(_digest, re.findall(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)))
        for tag in ("style", "script")
    }
    return (
        f"default-src 'none'; style-src {allowed['style']}; script-src {allowed['script']}; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
