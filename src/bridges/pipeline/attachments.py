"""Attach the source files of a run to its copy in the target (`--attach-source`).

A file is attached unchanged. It is not attached if it changed after it was read, or if it contains
secrets: a masked copy would not match the digest in the target.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from bridges.errors import ExportError, SourceError
from bridges.exporters.base import ExistingRun, Exporter, KeepsFiles
from bridges.sources.fetch import fetch
from bridges.sources.text import unpacked
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Provenance, Run
from bridges.stream.redact import redact_text

ANY_SIZE = 1 << 60  # bytes: the size was checked when the run was read


def attach_sources(run: Run, existing: ExistingRun, exporter: Exporter) -> list[Finding]:
    """Attach the source files; a finding if that is not possible.

    Raises ExportError if the target does not answer.
    """
    try:
        contents = {file.location: _content(file) for file in run.provenance}
        secret = [where for where, content in contents.items() if _holds_secret(where, content)]
        if secret or any(finding.code == "secret-masked" for finding in run.findings):
            where = ", ".join(secret) or run.source
            return [_not_attached(where, "it holds secrets, which the target would show")]
        if not isinstance(exporter, KeepsFiles):
            return [_not_attached(exporter.name, "this target holds no files")]
        exporter.attach(existing, _named(contents))
    except (SourceError, ExportError) as error:
        if isinstance(error, ExportError) and error.transient:
            raise
        return [_not_attached(run.source, str(error))]
    return []


def _content(file: Provenance) -> bytes:
    if file.location == "-":
        raise ExportError("standard input cannot be read twice: export a file instead")
    content = fetch(file.location)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ExportError("the file has changed since it was read: export it again")
    return content


def _holds_secret(location: str, content: bytes) -> bool:
    """Whether any part of a file contains a secret, also a part that the run does not keep."""
    text = unpacked(location, content, True, [], ANY_SIZE).decode(errors="replace")
    return redact_text(text) != text


def _named(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The contents by file name; equal names are numbered."""
    files: dict[str, bytes] = {}
    for location, content in contents.items():
        path = urlsplit(location).path if "://" in location else location.replace("\\", "/")
        name = posixpath.basename(path) or "source"
        files[_free(name, [*files])] = content
    return files


def _free(name: str, taken: Sequence[str]) -> str:
    numbered = (f"{number}-{name}" for number in range(2, len(taken) + 2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _not_attached(where: str, why: str) -> Finding:
    return Finding("source-not-attached", Severity.LOSS, where, f"not attached: {why}")
