"""Notes of the runs beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridges.errors import SourceError
from bridges.sources.notes import with_notes
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run
from tests.support import make_run


def test_a_run_before_an_error_is_kept_with_its_notes() -> None:
    notes: list[Finding] = []

    def runs() -> Iterator[Run]:
        yield make_run([{"loss": 1.0, "step": 1}])
        notes.append(Finding("table-empty", Severity.INFO, "b.csv", "no run"))
        raise SourceError("c.csv", found="damage", expected="rows", remedy="Restore it.")

    read = with_notes(runs(), notes)
    assert [finding.code for finding in next(read).findings] == ["table-empty"]
    with pytest.raises(SourceError, match="damage"):
        next(read)
