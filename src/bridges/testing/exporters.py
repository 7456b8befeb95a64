"""The contract of an exporter: a test suite for authors of plug-ins.

    from bridges.testing.exporters import ExporterContract

    class TestMine(ExporterContract):
        def new_target(self, folder):
            return lambda: MyExporter(folder / "target")

Requires pytest and hypothesis: `pip install 'tracker-bridges[testing]'`.
"""

from __future__ import annotations

import math
import tempfile
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridges.exporters.base import ConflictError, ExistingRun, Exporter, KeepsParams, Preloads
from bridges.exporters.receipts import Receipt, RunReceipt, SupportsReceipts
from bridges.pipeline.compare import compare, expected_points
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions, LayoutOptions
from bridges.pipeline.target import Target
from bridges.stream.layout import Layout, Stored
from bridges.stream.model import MetricStream, RowKind, Run, Series
from bridges.stream.settings import Settings
from bridges.testing.runs import make_run

Rows = list[dict[str, Any]]
OpenTarget = Callable[[], Exporter]

ROWS: Rows = [
    {"loss": 2.5, "grad_norm": 1.5, "learning_rate": 0, "epoch": 0.5, "step": 1},
    {"loss": math.nan, "grad_norm": math.inf, "learning_rate": 1e-4, "epoch": 1.0, "step": 2},
    {"eval_loss": 0.1, "eval_flag": True, "eval_big": 2**53 + 1, "epoch": 1.0, "step": 2},
    {"loss": -0.0, "grad_norm": -math.inf, "learning_rate": 5e-5, "epoch": 1.5, "step": 3},
    {"note": "fine", "eval_list": [1, 2], "eval_none": None, "eval_dict": {"a": 1}, "step": 3},
    {"train_runtime": 9.5, "train_loss": 1.25, "total_flos": 10**15, "epoch": 1.5, "step": 3},
]

keys = st.sampled_from(["loss", "eval_loss", "grad_norm", "eval_a/b", "é", "test_x", "lr"])
values = st.one_of(
    st.floats(width=64), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(), st.none()
)
histories = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(0, 2**40), "epoch": st.floats(0, 100)}, optional={}
    ).flatmap(lambda row: st.dictionaries(keys, values).map(lambda more: {**more, **row})),
    max_size=30,
)


def export(run: Run, exporter: Exporter, **layout: Any) -> Any:
    """The report of one export."""
    return export_run(run, exporter, ExportOptions(layout=LayoutOptions(**layout)))


def _run_receipt(report: Any, source: str) -> RunReceipt:
    receipt = Receipt(
        "a" * 32, 1, 0, source, report.digest, report.rows, report.points, (1.5, -2e300)
    )
    return RunReceipt.of(report, receipt)


def _by_key(runs: Iterable[RunReceipt], source: str) -> dict[str, RunReceipt]:
    """The receipts of one source; a shared store may have receipts of other runs."""
    return {run.key: run for run in runs if run.receipt.source == source}


class ExporterContract:
    """The tests of the contract. A subclass defines `new_target`."""

    def new_target(self, folder: Path) -> OpenTarget:
        """A factory of exporters for a target in an empty folder.

        Each call makes a new exporter for the same target, as in another process.
        """
        raise NotImplementedError

    @pytest.fixture
    def open_target(self, tmp_path: Path) -> OpenTarget:
        return self.new_target(tmp_path)

    def found(self, run: Run, exporter: Exporter, **layout: Any) -> list[ExistingRun]:
        target = Target(exporter, LayoutOptions(**layout))
        return list(exporter.find(target.identity(run)))

    def placed(self, run: Run, exporter: Exporter, stored: Stored | None = None) -> Layout:
        target = Target(exporter, LayoutOptions())
        return target.lay_out(run, target.identity(run), stored)

    def test_every_point_is_read_back(self, open_target: OpenTarget) -> None:
        run, exporter = make_run(ROWS), open_target()
        report = export(run, exporter)
        assert (report.status, report.verified, report.rows) == ("exported", True, len(ROWS))
        layout = self.placed(run, exporter)
        (existing,) = self.found(run, open_target())
        recorded = open_target().read_back(existing)
        assert compare(layout, recorded, expected_points(layout, exporter)) == []
        count = sum(len(points.step) for points in recorded.points.values())
        assert count + len(recorded.others) + len(recorded.summary) == layout.points

    def test_points_keep_their_own_times(self, open_target: OpenTarget) -> None:
        """Runs of trackers: the times of points differ within a row, repeat, and decrease."""
        start, rows = 1_700_000_000_000_000, np.array([0, 1, 2])
        offsets = {"a": [0, -5000, 9000], "b": [7000, 7000, 7000], "c": [1000, 2000, 3000]}
        series = tuple(
            Series(key, rows, np.array([0.5, 1.5, 2.5]), start + np.array(times))
            for key, times in offsets.items()
        )
        stream = MetricStream(np.array([5, 5, 9]), np.full(3, RowKind.CUSTOM, np.uint8), series)
        run = Run(
            *("run", stream, "test"), key_style="tags", identity=("id",), start=start, end=start
        )
        for status in ("exported", "unchanged"):
            report = export(run, open_target())
            assert (report.status, report.verified) == (status, True), report.findings

    def test_final_values_may_be_nan_or_infinite(self, open_target: OpenTarget) -> None:
        final = {**ROWS[-1], "train_loss": math.nan, "train_runtime": math.inf}
        run = make_run([*ROWS[:2], {**final, "train_steps_per_second": -math.inf}])
        for status in ("exported", "unchanged"):
            report = export(run, open_target())
            assert (report.status, report.verified) == (status, True), report.findings

    def test_params_are_kept(self, open_target: OpenTarget) -> None:
        params = {"learning_rate": 5e-05, "layers": 4, "model": "a b", "é": "ü"}
        exporter, run = open_target(), make_run(ROWS, params=params)
        if not isinstance(exporter, KeepsParams):
            pytest.skip("this exporter stores no params")
        export(run, exporter)
        (existing,) = self.found(run, exporter)
        stored = exporter.stored_params(existing)
        assert {key: str(stored.get(key)) for key in params} == {
            k: str(v) for k, v in params.items()
        }

    def test_a_second_export_changes_nothing(self, open_target: OpenTarget) -> None:
        run = make_run(ROWS)
        first, second = export(run, open_target()), export(run, open_target())
        assert (second.status, second.new_points, second.verified) == ("unchanged", 0, True)
        assert second.location == first.location
        assert len(self.found(run, open_target())) == 1

    @pytest.mark.parametrize("start", range(1, len(ROWS)))
    def test_a_longer_history_adds_its_new_rows(self, open_target: OpenTarget, start: int) -> None:
        short, whole = make_run(ROWS[:start]), make_run(ROWS)
        before, after = export(short, open_target()), export(whole, open_target())
        assert (after.status, after.verified) == ("appended", True)
        assert after.location == before.location
        assert 0 < after.new_points <= after.points
        (existing,) = self.found(whole, open_target())
        assert existing.state.append_rows == (start, len(ROWS))
        assert export(whole, open_target()).status == "unchanged"

    @pytest.mark.parametrize("policy", ["first", "last"])
    def test_duplicates_stay_dropped_when_a_history_grows(
        self, open_target: OpenTarget, policy: str
    ) -> None:
        for stop in (2, 3, len(ROWS)):
            report = export(make_run(ROWS[:stop]), open_target(), duplicates=policy)
            assert report.verified, report.findings

    def test_an_older_checkpoint_finds_its_rows_there(self, open_target: OpenTarget) -> None:
        export(make_run(ROWS), open_target())
        report = export(make_run(ROWS[:2]), open_target())
        assert (report.status, report.verified) == ("unchanged", True)
        assert "target-is-longer" in [finding.code for finding in report.findings]

    def test_a_target_keeps_receipts(self, open_target: OpenTarget) -> None:
        """A write to a run removes its receipt; a later receipt replaces an earlier one."""
        exporter, source = open_target(), f"/é-{uuid.uuid4()}.json"
        if not isinstance(exporter, SupportsReceipts):
            pytest.skip("this exporter stores no receipts")

        def reopened() -> dict[str, RunReceipt]:
            opened = open_target()
            assert isinstance(opened, SupportsReceipts)
            return _by_key(opened.receipts(), source)

        assert reopened() == {}
        other = [{"loss": 7.5, "epoch": 0.5, "step": 1}]
        reports = [export(make_run(rows), exporter) for rows in (ROWS[:2], other)]
        saved = [_run_receipt(report, source) for report in reports]
        exporter.save_receipts(saved)
        assert reopened() == _by_key(saved, source)
        later = replace(saved[0].receipt, content_fingerprint="b" * 32, trend=(0.25,))
        exporter.save_receipts([replace(saved[0], receipt=later)])
        assert reopened() == _by_key([replace(saved[0], receipt=later), saved[1]], source)
        export(make_run(ROWS), open_target())
        assert reopened() == _by_key([saved[1]], source)
        assert export(make_run(ROWS), open_target()).status == "unchanged"

    def test_what_is_preloaded_is_found(self, open_target: OpenTarget) -> None:
        """`find` returns the same runs with and without `preload`."""
        other = make_run([{"loss": 7.5, "epoch": 0.5, "step": 1}])
        for _ in range(2):  # an empty target, then one with a run
            preloaded = open_target()
            if isinstance(preloaded, Preloads):
                preloaded.preload()
            for run in (make_run(ROWS[:2]), make_run(ROWS), other):
                found = self.found(run, preloaded)
                assert found == self.found(run, open_target())
            export(make_run(ROWS[:4]), open_target())
        assert self.found(make_run(ROWS), preloaded)

    def test_a_fork_is_a_run_of_its_own(self, open_target: OpenTarget) -> None:
        fork = make_run([*ROWS[:2], {"loss": 9.0, "epoch": 1.5, "step": 3}])
        first, second = export(make_run(ROWS), open_target()), export(fork, open_target())
        assert (second.status, second.verified) == ("exported", True)
        assert second.location != first.location
        assert export(fork, open_target()).status == "unchanged"
        assert export(make_run(ROWS), open_target()).location == first.location

    def test_equal_rows_with_other_settings_are_other_runs(self, open_target: OpenTarget) -> None:
        known = [Settings(known={"seed-": digest}) for digest in ("one", "two", "six")]
        runs = [make_run(ROWS, settings=one) for one in known]
        first = [export(run, open_target()) for run in runs]
        assert [report.status for report in first] == ["exported"] * 3, first
        assert len({report.location for report in first}) == 3
        again = [export(run, open_target()) for run in runs]
        assert [report.status for report in again] == ["unchanged"] * 3
        assert [report.location for report in again] == [report.location for report in first]

    def test_two_runs_may_have_one_name(self, open_target: OpenTarget) -> None:
        other = make_run([{"loss": 7.5, "epoch": 0.5, "step": 1}])
        first, second = export(make_run(ROWS), open_target()), export(other, open_target())
        assert second.verified
        assert second.location != first.location

    def test_a_run_is_found_under_another_name(self, open_target: OpenTarget) -> None:
        first = export(make_run(ROWS), open_target())
        again = export(make_run(ROWS, name="moved"), open_target())
        assert (again.status, again.location) == ("unchanged", first.location)

    def test_a_run_is_found_by_an_alias(self, open_target: OpenTarget) -> None:
        """Earlier exports may have stored it under another key."""
        run = make_run(ROWS)
        export(run, open_target())
        exporter = open_target()
        identity = Target(exporter, LayoutOptions()).identity(run)
        other = replace(identity, key="0" * len(identity.key), aliases=(identity.key,))
        assert [found.location for found in exporter.find(other)] == [
            found.location for found in self.found(run, exporter)
        ]

    def test_names_that_are_no_text_are_taken(self, open_target: OpenTarget) -> None:
        """Paths may contain bytes other than UTF-8, and names come from paths."""
        odd = "odd\udcff name\nline"
        run = replace(
            make_run(ROWS, name=odd),
            source=f"/tmp/{odd}/trainer_state.json",
            params={"output_dir": odd},
            tags={"from": odd},
            group=odd,
        )
        for status in ("exported", "unchanged"):
            report = export(run, open_target())
            assert (report.status, report.verified) == (status, True), report.findings

    @pytest.mark.parametrize(
        "layout", [{"x_axis": "epoch"}, {"naming": "raw"}, {"duplicates": "last"}]
    )
    def test_another_layout_is_another_run(
        self, open_target: OpenTarget, layout: dict[str, str]
    ) -> None:
        first = export(make_run(ROWS), open_target())
        second = export(make_run(ROWS), open_target(), **layout)
        assert (second.status, second.verified) == ("exported", True)
        assert second.location != first.location
        assert export(make_run(ROWS), open_target(), **layout).status == "unchanged"

    def test_a_history_without_rows(self, open_target: OpenTarget) -> None:
        assert export(make_run([]), open_target()).verified
        assert export(make_run([]), open_target()).status == "unchanged"

    def test_dry_run_writes_nothing(self, open_target: OpenTarget) -> None:
        run, exporter = make_run(ROWS), open_target()
        report = export_run(run, exporter, ExportOptions(dry_run=True))
        assert (report.status, report.new_points) == ("planned", report.points)
        assert self.found(run, open_target()) == []

    def test_verify_tells_what_is_missing(self, open_target: OpenTarget) -> None:
        run = make_run(ROWS)
        assert verify_run(run, open_target(), ExportOptions()).failed
        export(make_run(ROWS[:3]), open_target())
        report = verify_run(run, open_target(), ExportOptions())
        assert report.failed
        assert "only 3 of its 6 rows" in report.findings[-1].message
        export(run, open_target())
        assert not verify_run(run, open_target(), ExportOptions()).failed

    def test_a_write_that_comes_too_late_is_refused(self, open_target: OpenTarget) -> None:
        short, whole = make_run(ROWS[:2]), make_run(ROWS)
        export(short, open_target())
        exporter = open_target()
        seen = self.found(short, exporter)
        layout = self.placed(whole, exporter, Stored(clock=seen[0].state.clock))
        exporter.write(layout, seen, seen[0])
        with pytest.raises(ConflictError):
            exporter.write(layout, seen, seen[0])
        assert export(whole, open_target()).status == "unchanged"

    def test_exports_that_meet_write_a_run_once_whatever_its_names(
        self, open_target: OpenTarget
    ) -> None:
        one, other = make_run(ROWS), make_run(ROWS, name="other")
        first, second = open_target(), open_target()
        seen, seen_by_second = self.found(one, first), self.found(other, second)
        assert seen == seen_by_second == []
        first.write(self.placed(one, first), seen, None)
        with pytest.raises(ConflictError):
            second.write(self.placed(other, second), seen_by_second, None)
        (existing,) = self.found(other, second)
        assert [run.location for run in self.found(one, first)] == [existing.location]

    def test_a_changed_value_is_another_history(self, open_target: OpenTarget) -> None:
        export(make_run(ROWS), open_target())
        changed = [*ROWS[:3], {**ROWS[3], "loss": 0.0}, *ROWS[4:]]
        assert export(make_run(changed), open_target()).status == "exported"

    @settings(
        max_examples=30,
        deadline=None,
        # each exporter inherits this test, and its duration depends on the machine
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
    )
    @given(rows=histories, cut=st.integers(0, 30))
    def test_any_history_survives(self, rows: Rows, cut: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            open_target = self.new_target(Path(folder))
            for part in (make_run(rows[:cut]), make_run(rows)):
                report = export(part, open_target())
                assert report.verified, report.findings
            name = "again" if rows else "run"
            again = export(make_run(rows, name=name), open_target())
            assert (again.status, again.verified) == ("unchanged", True)
