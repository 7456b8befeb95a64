"""Loads the text of a history: fetches, decompresses, unwraps, and rejects other file types.

Every failure is a SourceError with the type of the file.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass, field
from io import BytesIO

from bridges.errors import SourceError
from bridges.sources.fetch import EXPECTED, MAX_STREAM_BYTES, MissingSourceError, fetch
from bridges.sources.gzip_members import TooLargeError, bound_of, gunzip
from bridges.sources.text_density import too_many_parts
from bridges.sources.zero_bytes import intact_part, is_torn, zero_bytes
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Provenance

CUT_OFF_REMEDY = "The save was cut off: use an earlier checkpoint's file"
SALVAGE_REMEDY = f"{CUT_OFF_REMEDY}, or read its complete rows with --salvage."
_TABLE_LINE = re.compile(rb"^\|[ \t]?(.*?)[ \t]*\|(?:[ \t]*\|)?[ \t]*$")
ZERO, NEWLINE = b"\0", b"\n"
_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"SQLite format 3": "an SQLite database",
}


@dataclass
class Text:
    """JSON text as UTF-8 bytes without BOM, with its provenance and the findings of loading."""

    data: bytes
    provenance: Provenance
    findings: list[Finding] = field(default_factory=list)


def load(location: str, *, salvage: bool = False, max_unpacked: int | None = None) -> Text:
    """The text at a path, an fsspec URL or `-` (standard input). Raises SourceError.

    `max_unpacked`: maximum size of an unpacked gzip file (default: 100 times its packed size, or
    64 MiB) and of a stream of unknown length (default: 256 MiB), in bytes.
    """
    raw = fetch(location, most_of_stream=max_unpacked or MAX_STREAM_BYTES)
    provenance = Provenance(location, len(raw), hashlib.sha256(raw).hexdigest())
    findings: list[Finding] = []
    data = unpacked(location, raw, salvage, findings, max_unpacked)
    data = data.removeprefix(b"\xef\xbb\xbf")
    _refuse_other_kinds(location, data)
    data = _without_zeros(location, data, salvage, findings)
    _refuse_dense(location, data)
    data = _unwrap_table(location, data, salvage)
    _refuse_empty(location, data)
    return Text(data, provenance, findings)


def unpacked(
    location: str,
    raw: bytes,
    salvage: bool,
    findings: list[Finding],
    max_unpacked: int | None = None,
) -> bytes:
    """The bytes, decompressed if they are gzip. Raises SourceError."""
    is_gzip = raw[:2] == b"\x1f\x8b"
    return _gunzip(location, raw, salvage, max_unpacked, findings) if is_gzip else raw


def _gunzip(
    location: str, data: bytes, salvage: bool, most: int | None, findings: list[Finding]
) -> bytes:
    """The content of all members of a gzip file; zeros may follow the last member."""
    bound = most or bound_of(len(data))
    try:
        content, is_complete = gunzip(data, bound)
    except zlib.error as error:
        raise _broken_gzip(location, error) from error
    except TooLargeError:
        raise SourceError(
            location,
            found=f"{len(data):,} bytes of gzip data that unpack to more than {bound:,}",
            expected="a log history",
            remedy="If it is one, allow more with --max-unpacked BYTES.",
        ) from None
    if not is_complete:
        findings.append(_truncated_gzip(location, salvage))
    return content


def _broken_gzip(location: str, error: zlib.error) -> SourceError:
    reason = str(error).rpartition(": ")[2]
    return SourceError(
        location,
        found=f"gzip data that is broken ({reason})",
        expected="a complete gzip file",
        remedy="Get the file again.",
    )


def _truncated_gzip(location: str, salvage: bool) -> Finding:
    if not salvage:
        raise SourceError(
            location,
            found="gzip data that ends too early",
            expected="a complete gzip file",
            remedy="Get the file again, or use --salvage to read the part before the end.",
        )
    message = "the gzip data ends too early; the part before the end is read"
    return Finding("gzip-truncated", Severity.WARNING, "end of file", message)


def _refuse_dense(location: str, data: bytes) -> None:
    count = too_many_parts(data)
    if count is not None:
        raise SourceError(
            location,
            found=f"{count:,} objects, lists or table lines in {len(data):,} bytes",
            expected=EXPECTED,
            remedy="This is not a log history: check which file you gave.",
        )


def _refuse_empty(location: str, data: bytes) -> None:
    if not data[:512].strip() and not data.strip():
        found, remedy = "an empty file", f"{CUT_OFF_REMEDY}."
        if location == "-":
            found, remedy = "no input", "Check the command that should write it."
        raise MissingSourceError(location, found=found, expected=EXPECTED, remedy=remedy)


def _without_zeros(location: str, data: bytes, salvage: bool, findings: list[Finding]) -> bytes:
    """The text without its zero bytes and damaged lines. Raises SourceError unless `salvage`."""
    found = zero_bytes(data)
    if found is None:
        return data
    place = f"line {data.count(NEWLINE, 0, data.index(ZERO)) + 1}"
    left = intact_part(data) if salvage else b""
    if not left.strip():
        only = not data.strip(ZERO)
        remedy = f"{CUT_OFF_REMEDY}." if only or salvage else SALVAGE_REMEDY
        raise SourceError(
            location, place="" if only else place, found=found, expected="text", remedy=remedy
        )
    lost = len(data) - data.count(ZERO) - len(left)
    message = f"{found}: {len(left):,} bytes of intact text are read, {lost:,} bytes are lost"
    findings.append(Finding("zero-bytes", Severity.WARNING, place, message))
    return left


def _refuse_other_kinds(location: str, data: bytes) -> None:
    head = data[:512].lstrip()
    if head[:1] == b"<":
        raise SourceError(
            location,
            found="an HTML or XML page",
            expected=EXPECTED,
            remedy="Download the raw file instead of the page that shows it.",
        )
    kind = kind_of(data)
    if kind is None and ZERO in head and not is_torn(data):
        kind = "binary data or UTF-16 text (it contains zero bytes)"
    if kind is not None:
        remedy = "Give the trainer_state.json as UTF-8 text (gzip is fine)."
        raise SourceError(location, found=kind, expected=EXPECTED, remedy=remedy)


def kind_of(data: bytes) -> str | None:
    """The type of a file that is not plain text, by its first bytes; None for others."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def _unwrap_table(location: str, data: bytes, salvage: bool) -> bytes:
    """Unwrap text copied from a web page's table view, with each line between bars.

    The first bar becomes blanks, so columns keep their numbers. `salvage` allows a truncated last
    line.
    """
    if data.lstrip()[:1] != b"|":
        return data
    unwrapped = bytearray()
    lines = BytesIO(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n"))
    for number, line in enumerate(lines, 1):
        match = _TABLE_LINE.match(line)
        is_last = not line.endswith(b"\n")
        if match:
            unwrapped += b" " * match.start(1) + match[1] + b"\n"
        elif salvage and is_last and line[:1] == b"|":
            unwrapped += b" " + line[1:]
        elif line.strip():
            other = "use --salvage" if is_last else "remove the bars from every line"
            raise SourceError(
                location,
                place=f"line {number}",
                found=f"{line[:60].rstrip().decode(errors='replace')!r}",
                expected="a line between table bars `| … |`, like the first line",
                remedy=f"Copy the complete table again, or {other}.",
            )
        else:
            unwrapped += b"\n"
    return bytes(unwrapped.removesuffix(b"\n"))
