"""The contract of a source: a test suite for authors of plug-ins.

    from bridges.testing.sources import SourceContract

    class TestMine(SourceContract):
        source = MySource

        def write_run(self, folder):
            path = folder / "run.log"
            path.write_text(...)
            return str(path)

Requires pytest: `pip install 'tracker-bridges[testing]'`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bridges.errors import SourceError
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.sources.base import Divides, Source
from bridges.sources.options import ReadOptions
from bridges.stream.identity import identity_of
from bridges.stream.model import Run


class SourceContract:
    """The tests of the contract. A subclass defines `source` and `write_run`."""

    source: Callable[[], Source]

    def write_run(self, folder: Path) -> str:
        """Write a log of at least two rows for the source. Returns its location."""
        raise NotImplementedError

    def write_broken(self, folder: Path) -> str:
        """Write a broken log that the source claims. Returns its location."""
        path = Path(self.write_run(folder))
        path.write_bytes(b"\x00\xff broken")
        return str(path)

    def read(self, location: str) -> list[Run]:
        """The runs at a location."""
        return list(type(self).source().read(location, ReadOptions()))

    def test_it_claims_what_it_reads(self, tmp_path: Path) -> None:
        assert type(self).source().claims(self.write_run(tmp_path))

    def test_rows_are_whole_and_in_order(self, tmp_path: Path) -> None:
        runs = self.read(self.write_run(tmp_path))
        assert runs
        for run in runs:
            stream = run.stream
            assert len(stream) >= 2
            assert len(stream.kind) == len(stream.step)
            assert stream.step.dtype == np.int64
            assert stream.points > 0
            for series in stream.series:
                assert len(series.rows) == len(series.values) > 0
                assert (np.diff(series.rows) > 0).all()
                assert 0 <= series.rows[0] <= series.rows[-1] < len(stream)

    def test_reading_twice_gives_the_same_runs(self, tmp_path: Path) -> None:
        location = self.write_run(tmp_path)
        first, second = (
            [(run.path, identity_of(run)) for run in self.read(location)] for _ in range(2)
        )
        assert first == second

    def test_every_run_is_exported_once(self, tmp_path: Path) -> None:
        location, target = self.write_run(tmp_path), MemoryExporter()
        for status in ("exported", "unchanged"):
            for run in self.read(location):
                report = export_run(run, target, ExportOptions())
                assert (report.status, report.verified) == (status, True), report.findings

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        location = self.write_broken(tmp_path)
        with pytest.raises(SourceError) as caught:
            self.read(location)
        assert location in str(caught.value)

    def test_parts_give_the_same_runs(self, tmp_path: Path) -> None:
        source, location = type(self).source(), self.write_run(tmp_path)
        if not isinstance(source, Divides):
            pytest.skip("this source does not divide locations")
        parts = pickle.loads(pickle.dumps(list(source.split(location))))
        assert all(Path(path).exists() for part in parts for path in part.files)
        found = [run for part in parts for run in source.read_part(part, ReadOptions())]
        assert [run.path for run in found] == [run.path for run in self.read(location)]
