"""The report as one self-contained HTML file: totals and a table of all runs.

Rows are written to a temporary file, so memory does not grow with the runs. The page is published
atomically. Its content security policy allows only its own script, and no requests.
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
from bridges.exporters.atomic_files import sync_directory, unlink, write_file
from bridges.migration.reports.html_parts import escaped, row, summary
from bridges.migration.reports.json_lines import report_errors
from bridges.report import RunReport, Totals

CHUNK_BYTES = 1 << 16
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
        self._rows: IO[bytes] | None = None

    def __enter__(self) -> HtmlReport:
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise ConfigError(f"the report {self.path!r} cannot be written: it is not a file")
        with report_errors(self.path, ConfigError):
            self._rows = tempfile.TemporaryFile(dir=os.path.dirname(self.path))
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        assert self._rows is not None
        with report_errors(self.path, ExportError), self._rows:
            publish(self.path, self._page(has_ended=error is None))

    def add(self, report: RunReport) -> None:
        """Write the row of a run."""
        assert self._rows is not None
        self.totals.add(report)
        with report_errors(self.path, ExportError):
            self._rows.write(_encoded(row(report)))

    def _page(self, has_ended: bool) -> Iterator[bytes]:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        template = files("bridges.migration.reports").joinpath("report.html").read_text("utf-8")
        texts = {
            "POLICY": policy(template),
            "TITLE": escaped(self.title),
            "SUMMARY": summary(self.totals, now, has_ended),
        }
        yield from filled(template, texts, {"ROWS": self._written_rows})

    def _written_rows(self) -> Iterator[bytes]:
        assert self._rows is not None
        self._rows.seek(0)
        while chunk := self._rows.read(CHUNK_BYTES):
            yield chunk


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
