"""Reads the files of a file store: regular files in its directories, and nothing else.

Symbolic links are not followed, because they can lead out of the store or in a circle. Pipes,
sockets and devices are not opened. Each of them is named in a finding.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from bridges.errors import SourceError
from bridges.formats.mlflow_store.meta_yaml import Meta, MetaError, read_meta
from bridges.formats.mlflow_store.metric_lines import PIECE_BYTES, LineNumbers
from bridges.stream.finding import Finding, Severity

META = "meta.yaml"
MAX_TEXT_BYTES = 1 << 26  # of a param, tag or meta.yaml
_SHOWN = 5  # places in a merged finding
# a pipe put in place of a file after the directory was listed must not block
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


@dataclass(frozen=True)
class Listing:
    """The names in a directory, sorted: directories, regular files, links, and all else."""

    folders: list[str]
    files: list[str]
    links: list[str]
    specials: list[str]


def list_folder(path: str) -> Listing:
    """The names in a directory; none if it does not exist. Raises SourceError."""
    listing = Listing([], [], [], [])
    try:
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=_name):
                _kind(entry, listing).append(entry.name)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unreadable(path, error) from None
    return listing


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _kind(entry: os.DirEntry[str], listing: Listing) -> list[str]:
    if entry.is_dir(follow_symlinks=False):
        return listing.folders
    if entry.is_file(follow_symlinks=False):
        return listing.files
    return listing.links if entry.is_symlink() else listing.specials


def is_folder(parent: str, name: str) -> bool:
    """Whether `parent` has a directory of this name; a link is not one."""
    if not name or os.path.basename(name) != name or name in (os.curdir, os.pardir):
        return False
    try:
        return stat.S_ISDIR(os.lstat(os.path.join(parent, name)).st_mode)
    except (OSError, ValueError):
        return False


def read_pieces(path: str) -> Iterator[bytes]:
    """The content of a regular file, piece by piece. Raises OSError."""
    descriptor = os.open(path, _FLAGS)
    try:
        while piece := os.read(descriptor, PIECE_BYTES):
            yield piece
    finally:
        os.close(descriptor)


def read_bytes(path: str) -> bytes:
    """The content of a small regular file. Raises OSError."""
    descriptor = os.open(path, _FLAGS)
    try:
        pieces = [os.read(descriptor, PIECE_BYTES)]
        if len(pieces[0]) == PIECE_BYTES:
            _refuse_large(os.fstat(descriptor))
        while piece := os.read(descriptor, PIECE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _refuse_large(status: os.stat_result) -> None:
    """Raises OSError for large files and for devices, which may have no end."""
    if status.st_size > MAX_TEXT_BYTES or not stat.S_ISREG(status.st_mode):
        raise OSError(0, f"more than {MAX_TEXT_BYTES:,} bytes")


def read_meta_file(folder: str) -> Meta | None:
    """The `meta.yaml` of a directory, or None without one. Raises SourceError."""
    path = f"{folder}{os.sep}{META}"
    try:
        return read_meta(read_bytes(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from None
    except MetaError as error:
        expected = "YAML as MLflow writes it"
        raise SourceError(
            path, place=error.place, found=error.found, expected=expected, remedy=error.remedy
        ) from None


def files_below(folder: str, label: str, findings: list[Finding]) -> Iterator[tuple[str, str]]:
    """Key and path of each regular file below a directory; `/` in a key is a directory.

    `label`: the directory's name in findings.
    """
    waiting = [("", folder)]
    while waiting:
        prefix, path = waiting.pop()
        try:
            listing = list_folder(path)
        except SourceError as error:
            findings.append(_left_out(f"{label}/{prefix}", error.found))
            continue
        inside = path + os.sep
        for name in listing.files:
            yield prefix + name, inside + name
        waiting += [(f"{prefix}{name}/", inside + name) for name in listing.folders]
        findings += left_out(listing, prefix=f"{label}/{prefix}")


def read_texts(folder: str, label: str, findings: list[Finding]) -> dict[str, str]:
    """The content of all files below a directory by key, byte for byte as UTF-8 text."""
    texts = {}
    for key, path in files_below(folder, label, findings):
        text = _read_text(path, f"{label}/{key}", findings)
        if text is not None:
            texts[_text_key(key, label, findings)] = text
    return texts


def _read_text(path: str, where: str, findings: list[Finding]) -> str | None:
    """The content of a file as text; None if it is left out."""
    try:
        data = read_bytes(path)
    except OSError as error:
        findings.append(not_read(where, error))
        return None
    try:
        text, is_utf8 = data.decode(), True
    except UnicodeDecodeError:
        text, is_utf8 = data.decode(errors="replace"), False
    if (not is_utf8 or "\0" in text) and is_hidden(where):
        findings.append(hidden(where))
        return None
    if not is_utf8:
        findings.append(_not_utf8(where))
    return text


def _text_key(key: str, label: str, findings: list[Finding]) -> str:
    """The key as text: other bytes than UTF-8 in a file name are replaced."""
    text = as_text(key)
    if text != key:
        findings.append(_not_utf8(f"{label}/{text}"))
    return text


def as_text(name: str) -> str:
    """The name of a file as text: other bytes than UTF-8 are replaced."""
    return name if name.isascii() else os.fsencode(name).decode(errors="replace")


def is_hidden(key: str) -> bool:
    """Whether the name of a file begins with a dot, such as `.DS_Store` and `._loss`."""
    return key.rpartition("/")[2].startswith(".")


def hidden(where: str) -> Finding:
    """A note on a file of another program."""
    message = "hidden files of other programs are left out"
    return Finding("hidden-file", Severity.INFO, where, message)


def _not_utf8(where: str) -> Finding:
    message = "bytes other than UTF-8 text are replaced by U+FFFD"
    return Finding("text-not-utf8", Severity.LOSS, where, message)


def left_out(
    listing: Listing, names: Collection[str] | None = None, *, prefix: str = ""
) -> Iterator[Finding]:
    """The loss of links and special files; `names`: only those, which are to be directories."""
    for others, kind in (
        (listing.links, "a symbolic link"),
        (listing.specials, "a pipe, socket or device"),
        (listing.files if names else (), "a file in place of a directory"),
    ):
        for name in others:
            if names is None or name in names:
                yield _left_out(prefix + name, kind)


def damaged_lines(where: str, lines: LineNumbers) -> Finding:
    """The loss of lines of a metric file."""
    message = "lines without a point are left out"
    code = "metric-line-damaged"
    return Finding(code, Severity.LOSS, f"{where}: {lines}", message, lines.count)


def not_read(where: str, error: OSError) -> Finding:
    """The loss of a file without access."""
    return _left_out(where, _reason(error))


def _left_out(where: str, reason: str) -> Finding:
    return Finding("file-not-read", Severity.LOSS, where, f"{reason}: not read")


def unreadable(path: str, error: OSError) -> SourceError:
    """The error for a file or directory without access."""
    return SourceError(
        path,
        found=_reason(error),
        expected="a readable file or directory",
        remedy="Check its permissions, or copy the store to another place.",
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with one for each code and message, which names the first places."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.message), []).append(finding)
    return tuple(map(_merge, groups.values()))


def _merge(same: list[Finding]) -> Finding:
    where = "; ".join(finding.where for finding in same[:_SHOWN])
    more = f" and {len(same) - _SHOWN:,} more" if len(same) > _SHOWN else ""
    return replace(same[0], where=where + more, count=sum(finding.count for finding in same))
