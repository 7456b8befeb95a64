"""Receipts: fingerprints of the files and settings of a verified run, stored in its target.

A receipt is saved after every point of the run was read back. If source and run are unchanged, the
next migration skips the run without reading either. A receipt is valid only while the run is
unchanged. Losing a receipt costs time, never correctness.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from bridges.report import RunReport

SPARE_LINES = 1000  # void lines that a file may have, in addition to as many as are valid
_STORED_NAMES = {  # JSON keys
    "content_fingerprint": "made_of",
    "stat_fingerprint": "looks",
    "trend": "course",
    "trend_metric": "course_of",
}
MAX_METRIC_CHARS = 100  # of the stored name


@dataclass(frozen=True, slots=True)
class Receipt:
    """The fingerprints of a run's source, and the extent of the run when it was verified.

    `content_fingerprint`  digest of the contents of the source files, and of the settings
    `stat_fingerprint`     digest of their stat values, and of the settings; empty if there is none
    `runs`                 number of runs of these files in the target
    `left_out`             number of runs excluded by the config
    `source`               file of the run, relative to the migrated location
    `digest`, `rows`       digest and number of the rows
    `points`               number of points
    `trend`                values of the sparkline in reports
    `trend_metric`         name of their metric; older receipts have none
    """

    content_fingerprint: str
    runs: int
    left_out: int
    source: str
    digest: str
    rows: int
    points: int
    trend: tuple[float, ...] = ()
    stat_fingerprint: str = ""
    trend_metric: str = ""

    def text(self) -> str:
        """The receipt as JSON, well below the targets' smallest limit, 5,000 characters."""
        trend = tuple(float(f"{value:.4g}") for value in self.trend)
        short = replace(self, trend=trend, trend_metric=self.trend_metric[:MAX_METRIC_CHARS])
        names = [name for name in self.__slots__ if name != "trend_metric" or self.trend_metric]
        return json.dumps({_STORED_NAMES.get(name, name): getattr(short, name) for name in names})

    @classmethod
    def parse(cls, text: str) -> Receipt | None:
        """The receipt of a JSON text; None for any other text."""
        with suppress(ValueError, KeyError, TypeError):
            return cls.of(json.loads(text))
        return None

    @classmethod
    def of(cls, found: Any) -> Receipt:
        """The receipt of a JSON value. Raises ValueError, KeyError, TypeError."""
        return cls(
            content_fingerprint=str(found["made_of"]),
            runs=int(found["runs"]),
            left_out=int(found["left_out"]),
            source=str(found["source"]),
            digest=str(found["digest"]),
            rows=int(found["rows"]),
            points=int(found["points"]),
            trend=tuple(map(float, found["course"])),
            stat_fingerprint=str(found["looks"]),
            trend_metric=str(found.get("course_of", "")),
        )

    def fingerprints(self) -> list[str]:
        """The fingerprints under which a migration looks up this receipt."""
        return [each for each in (self.content_fingerprint, self.stat_fingerprint) if each]


@dataclass(frozen=True, slots=True)
class RunReceipt:
    """A receipt with its run: run key, name and location in the target.

    `id` and `place` are as in `ExistingRun`; both are empty for receipts in a file.
    """

    key: str
    name: str
    location: str
    receipt: Receipt
    id: str = field(default="", compare=False)
    place: str = field(default="", compare=False)

    @classmethod
    def of(cls, report: RunReport, receipt: Receipt) -> RunReceipt:
        """The receipt of a reported run."""
        location = report.location or ""
        return cls(report.key, report.run, location, receipt, report.run_id, report.place)


@runtime_checkable
class SupportsReceipts(Protocol):
    """An exporter whose target stores receipts.

    `place` is its default experiment or project; empty for a target without them.
    """

    place: str

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in place of older ones. Raises ExportError."""
        ...

    def receipts(self) -> Iterator[RunReceipt]:
        """All receipts of unchanged runs in the target, by few requests. Raises ExportError."""
        ...


@dataclass(frozen=True)
class ReceiptFile:
    """The receipts of the runs below a directory, `root`: one file with a JSON object per line.

    Each line records the size and mtime of the run's files; if either differs, the receipt is
    ignored. Saving appends a line, and the last line for a run and source wins. The file is neither
    fsynced nor locked: a torn or lost line only means that the run is read again.
    """

    path: str
    root: str

    def put(self, runs: Iterable[tuple[RunReceipt, Sequence[str]]]) -> None:
        """Append receipts, each given with the paths of its run's files.

        Receipts of missing files are skipped. If the receipt file cannot be written, all are.
        """
        lines = []
        for run, paths in runs:
            with suppress(OSError):
                lines.append(f"\n{self._line(run, paths)}".encode())  # ends a torn line
        with suppress(OSError), open(self.path, "ab", buffering=0) as file:
            file.write(b"".join(lines))  # one write: other processes append too

    def _line(self, run: RunReceipt, paths: Sequence[str]) -> str:
        place = os.path.relpath(run.location, self.root)
        then = [[os.path.relpath(path, self.root), *_signature(path)] for path in paths]
        own = json.dumps({"key": run.key, "name": run.name, "place": place, "then": then})
        return f'{own[:-1]}, "mark": {run.receipt.text()}}}'

    def read(self) -> Iterator[RunReceipt]:
        """The valid receipts; their locations are paths below the root."""
        lines = self._lines()
        seen: set[tuple[str, str, str]] = set()
        kept: list[bytes] = []
        for line in reversed(lines):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                found = _parsed(line)
                run = self._run_receipt(found)
                known = run.key, run.location, run.receipt.source
                is_last = known not in seen
                seen.add(known)
                if is_last and self._is_unchanged(found["then"]):
                    kept.append(line)
                    yield run
        if len(lines) > 2 * len(kept) + SPARE_LINES:
            self._replace(kept[::-1])

    def _run_receipt(self, found: Any) -> RunReceipt:
        place = self._below(found["place"])
        return RunReceipt(found["key"], found["name"], place, Receipt.of(found["mark"]))

    def _is_unchanged(self, then: Sequence[Sequence[Any]]) -> bool:
        """Whether each file of a run has the recorded size and mtime."""
        return all(_signature(self._below(at)) == looked for at, *looked in then)

    def _below(self, place: str) -> str:
        return self.root if place == os.curdir else os.path.join(self.root, place)

    def _lines(self) -> list[bytes]:
        with suppress(OSError), open(self.path, "rb") as file:
            return file.read().split(b"\n")
        return []

    def _replace(self, lines: Sequence[bytes]) -> None:
        """Rewrite the file with these lines only."""
        fresh = f"{self.path}-{os.urandom(4).hex()}"
        with suppress(OSError):
            with open(fresh, "xb") as file:
                file.writelines(b"\n" + line for line in lines)
            os.replace(fresh, self.path)


def _parsed(line: bytes) -> Any:
    from pydantic_core import from_json  # slow to import

    try:
        return from_json(line)
    except ValueError:  # pydantic rejects lone surrogates, which encode undecodable path bytes
        return json.loads(line)


def _signature(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
