"""Loads the text of a table: fetched, unpacked, without BOM, with plain line ends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from bridges.errors import SourceError
from bridges.sources.fetch import MAX_STREAM_BYTES, MissingSourceError, fetch
from bridges.sources.options import ReadOptions
from bridges.sources.text import kind_of, unpacked
from bridges.sources.zero_bytes import zero_bytes
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Provenance

EXPECTED = "a table of comma-separated or tab-separated values, or JSON lines"
BOM, NEWLINE, RETURN = b"\xef\xbb\xbf", b"\n", b"\r"


@dataclass
class TableText:
    """The text of a table in UTF-8, with a line feed at the end of each line.

    `is_cut`: the last line has no end, as while it is written.
    """

    location: str
    data: bytes
    provenance: Provenance
    findings: list[Finding] = field(default_factory=list)
    is_cut: bool = False


def load(location: str, options: ReadOptions) -> TableText:
    """The text at a path, a URL or `-` (standard input). Raises SourceError.

    A last line without an end is left out while a run grows.
    """
    limit = options.max_unpacked
    raw = fetch(location, expected=EXPECTED, most_of_stream=limit or MAX_STREAM_BYTES)
    provenance = Provenance(location, len(raw), hashlib.sha256(raw).hexdigest())
    text = TableText(location, b"", provenance)
    data = unpacked(location, raw, options.salvage, text.findings, limit).removeprefix(BOM)
    _refuse_other_kinds(location, data)
    data = _without_zeros(text, data, options.salvage)
    data = with_plain_ends(data)
    if data and not data.endswith(NEWLINE):
        text.is_cut = True
        data = data[: data.rfind(NEWLINE) + 1] if options.growing else data + NEWLINE
    if not data or data.isspace():
        raise empty(location)
    text.data = data
    return text


def with_plain_ends(data: bytes) -> bytes:
    """The text with line feeds in place of other line ends (`\\r\\n`, `\\r\\r\\n`, `\\r`)."""
    if RETURN not in data:
        return data
    data = data.replace(b"\r\r\n", NEWLINE).replace(b"\r\n", NEWLINE)
    return data if NEWLINE in data else data.replace(RETURN, NEWLINE)


def body_start(data: bytes) -> int:
    """The position of the first line with content, after lines such as `#{"t_start": 1.5}`."""
    start = len(data) - len(data.lstrip(b"\n "))
    while data.startswith(b"#{", start):
        start = data.find(NEWLINE, start) + 1 or len(data)
    return start


def empty(location: str, found: str = "an empty file") -> MissingSourceError:
    """The error for a table without rows."""
    remedy = "The training logged nothing, or the file was cut off: use another one."
    return MissingSourceError(location, found=found, expected=EXPECTED, remedy=remedy)


def _refuse_other_kinds(location: str, data: bytes) -> None:
    kind = "an HTML or XML page" if data[:512].lstrip()[:1] == b"<" else kind_of(data)
    if kind is not None:
        remedy = "Give the file as its logger wrote it, in UTF-8 (gzip is fine)."
        raise SourceError(location, found=kind, expected=EXPECTED, remedy=remedy)


def _without_zeros(text: TableText, data: bytes, salvage: bool) -> bytes:
    """The text up to its first zero byte. Raises SourceError unless the rest is to be left out."""
    found = zero_bytes(data)
    if found is None:
        return data
    start = data.index(b"\0")
    place, only = f"line {data.count(NEWLINE, 0, start) + 1}", not data.strip(b"\0")
    if only or not salvage:
        remedy = "Get the file again" + ("." if only else ", or use --salvage to read the others.")
        raise SourceError(text.location, place=place, found=found, expected="text", remedy=remedy)
    lines = data.split(NEWLINE)
    whole = [line for line in lines if b"\0" not in line]
    message = f"{found}: the lines with them are left out"
    lost = len(lines) - len(whole)
    text.findings.append(Finding("zero-bytes", Severity.WARNING, place, message, lost))
    return NEWLINE.join(whole)
