"""The report as one HTML file that needs nothing else: totals, and a table of all runs.

Rows go to a temporary file as they come, so memory does not grow with the runs; the page appears
under its name whole, or not at all. Its policy allows no script but its own, and no request.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from importlib.resources import files
from typing import IO

from bridges.errors import ConfigError, ExportError
from bridges.exporters.files import sync_directory, unlink, write_file
from bridges.migration.html_parts import escaped, row, summary
from bridges.migration.report_lines import report_errors
from bridges.report import RunReport, Totals

CHUNK = 1 << 16  # bytes copied at once
Part = Callable[[], Iterator[bytes]]


class HtmlReport:
    """Writes the page when it is left; a context manager.

    A migration that ends with an exception gets a page that says so. Raises ConfigError where the
    file cannot be written, ExportError where that fails later.
    """

    def __init__(self, path: str, title: str) -> None:
        self.path = os.path.realpath(path)
        self.title = title
        self.totals = Totals()
        self._rows: IO[bytes] | None = None

    def __enter__(self) -> HtmlReport:
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise ConfigError(f"the report {self.path!r} cannot be written: it is not a file")
        with report_errors(self.path, ConfigError):
            self._rows = tempfile.TemporaryFile(dir=os.path.dirname(self.path))
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        assert self._rows is not None
        partial = f"{self.path}.{os.getpid()}.partial"
        with report_errors(self.path, ExportError), self._rows:
            try:
                write_file(partial, self._page(has_ended=error is None))
                os.replace(partial, self.path)
                sync_directory(os.path.dirname(self.path))
            finally:
                unlink(partial)

    def add(self, report: RunReport) -> None:
        """Write the row of a run."""
        assert self._rows is not None
        self.totals.add(report)
        with report_errors(self.path, ExportError):
            self._rows.write(_encoded(row(report)))

    def _page(self, has_ended: bool) -> Iterator[bytes]:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        template = files("bridges.migration").joinpath("report.html").read_text("utf-8")
        texts = {
            "POLICY": _policy(template),
            "TITLE": escaped(self.title),
            "SUMMARY": summary(self.totals, now, has_ended),
        }
        yield from _filled(template, texts, {"ROWS": self._written_rows})

    def _written_rows(self) -> Iterator[bytes]:
        assert self._rows is not None
        self._rows.seek(0)
        while chunk := self._rows.read(CHUNK):
            yield chunk


def _filled(template: str, texts: Mapping[str, str], parts: Mapping[str, Part]) -> Iterator[bytes]:
    """The template with what belongs at its marks, each of which is looked at once."""
    for index, piece in enumerate(re.split("@([A-Z]+)@", template)):
        if index % 2 and piece in parts:
            yield from parts[piece]()
        else:
            yield _encoded(texts[piece] if index % 2 else piece)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # of a lone surrogate, its escape


def _policy(template: str) -> str:
    """The content security policy: the page's own style and script by their digests, no more."""
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in re.findall(r"<(?:style|script)>(.*?)</", template, re.DOTALL)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )
