"""Pages of a server's history, and its columns, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from bridges.errors import SourceError
from bridges.formats.wandb_log.rows import Column
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.content import Content
from bridges.sources.wandb.server import MAX_SAMPLES, ROWS_PER_PAGE, Address, content_of
from bridges.sources.wandb.values import as_numbers

ADDRESS = Address.of("wandb://me/vision")


def content_of_run(run: FakeRun, **options: Any) -> Content:
    return content_of(ADDRESS, run, ReadOptions(**options))


class FakeRun:
    """A run of the client: `steps` are those of its rows, of which the server gives `shown`.

    limit: rows that a scan gives
    """

    id, name, state, url = "abc", "mine", "finished", "http://x/abc"
    tags, config = ("t",), {"lr": 1}

    def __init__(
        self, steps: Sequence[int], shown: Sequence[int] | None = None, limit: int | None = None
    ) -> None:
        self._limit = limit
        self._shown = steps if shown is None else shown
        last = {"lastStep": max(steps, default=-1)}
        self._attrs = {"historyLineCount": len(steps), "historyKeys": last}
        self.rawconfig: dict[str, Any] = {"_wandb": {"m": [{"2": "a*", "5": 2}, {"1": "n"}]}}
        self.summary = self
        self._json_dict = {"best": 0.5}
        self.moments: list[dict[str, Any]] = []
        self.requests: list[tuple[int, int]] = []

    def scan_history(
        self,
        page_size: int = 1000,
        min_step: int = 0,
        max_step: int = 1 << 60,
        use_cache: bool = True,
    ) -> Iterator[dict[str, Any]]:
        assert not use_cache
        self.requests.append((min_step, max_step))
        for step in self._shown[: self._limit]:
            if min_step <= step < max_step:
                yield self._row(step)

    def history(self, samples: int, pandas: bool, stream: str = "default") -> list[dict[str, Any]]:
        assert not pandas
        if stream == "system":
            return self.moments[:samples]
        self.requests.append((0, samples))
        return [self._row(step) for step in self._shown][:samples]

    def _row(self, step: int) -> dict[str, Any]:
        return {"_step": step, "_timestamp": 1.5e9 + step, "loss": step + 0.5}


def test_system_metrics_are_asked_for_on_request_only() -> None:
    run = FakeRun([0])
    run._attrs["systemMetrics"] = {"system.cpu": 7}
    run.moments = [{"system.cpu": at, "_timestamp": 1.5e9 + at, "_wandb": True} for at in range(3)]
    assert [dict(each.values) for each in content_of_run(run).stats] == [{"system.cpu": 7}]
    content = content_of_run(run, system_metrics=True)
    assert [(each.time, each.values["system.cpu"]) for each in content.stats] == [
        (1_500_000_000_000_000 + at * 1_000_000, at) for at in range(3)
    ]
    assert not content.findings
    run.moments *= MAX_SAMPLES
    (found,) = content_of_run(run, system_metrics=True).findings
    assert found.code == "system-sampled"


def test_pages_grow_over_gaps_and_shrink_in_dense_ranges() -> None:
    steps = [*range(20_000), 50_000_000]
    run = FakeRun(steps)
    content = content_of_run(run)
    assert content.count == len(steps)
    assert len(run.requests) < 40
    ends = [stop for _, stop in run.requests]
    assert [start for start, _ in run.requests] == [0, *ends[:-1]]
    dense = FakeRun(range(100_000))
    assert content_of_run(dense).count == 100_000
    assert max(stop - start for start, stop in dense.requests) <= 8 * ROWS_PER_PAGE


def test_rows_that_the_server_counts_but_does_not_give_are_a_loss() -> None:
    content = content_of_run(FakeRun([0, 1, 2], shown=[0, 2]))
    (found,) = content.findings
    assert (found.code, found.count, found.fails) == ("rows-missing", 1, True)
    assert not content_of_run(FakeRun([0, 1, 2])).findings


def test_rows_that_share_steps_are_asked_for_without_ranges() -> None:
    """The client asks for as many rows as there are steps."""
    run = FakeRun([0, 1, 2, 0, 1, 2, 1], limit=3)
    content = content_of_run(run)
    assert (content.count, content.findings) == (7, [])
    assert run.requests[-1] == (0, 7)


def test_a_fork_and_the_modes_of_a_run_are_those_of_its_config() -> None:
    run = FakeRun([0])
    own = {"t": {"3": [2, 35, 67]}, "branch_point": {"run_id": "parent", "step": 4}}
    run.rawconfig = {"_wandb": {"value": own}}
    content = content_of_run(run)
    assert content.record.fork == "parent"
    (log,) = content.logs
    assert (log.log.is_tensorboard, log.log.is_shared) == (True, True)
    own["branch_point"] = {"run_id": run.id, "step": 4}  # a rewind
    assert not content_of_run(run).record.fork


def test_definitions_and_labels_are_those_of_the_config() -> None:
    content = content_of_run(FakeRun([0]))
    (log,) = content.logs
    assert [(each.name, each.step_metric) for each in log.log.metrics] == [("a*", "n"), ("n", "")]
    assert (content.record.project, content.record.tags) == ("vision", ("t",))
    assert content.summary == {("best",): 0.5}


@pytest.mark.parametrize(
    ("location", "run"),
    [
        ("wandb://me/vision", None),
        ("wandb://me/vision/", None),
        ("wandb://me/vision/abc", "abc"),
        ("wandb://me/vision/runs/abc", "abc"),
    ],
)
def test_an_address_names_a_project_or_a_run(location: str, run: str | None) -> None:
    found = Address.of(location)
    assert (found.entity, found.project, found.run) == ("me", "vision", run)


@pytest.mark.parametrize("location", ["wandb://", "wandb://me", "wandb://me/a/b/c/d"])
def test_another_address_is_an_error(location: str) -> None:
    with pytest.raises(SourceError, match="wandb://ENTITY/PROJECT"):
        Address.of(location)


def columns(*values: object) -> list[Column]:
    objects = np.empty(len(values), object)
    objects[:] = values
    return [Column(("a",), np.arange(len(values)), objects)]


def test_special_texts_are_numbers_unless_other_texts_are_there() -> None:
    (found,) = as_numbers(columns("NaN", None, "-Infinity", "Infinity"))
    assert found.rows.tolist() == [0, 2, 3]
    assert repr(found.values.tolist()) == "[nan, -inf, inf]"
    (found,) = as_numbers(columns("NaN", "good", None))
    assert found.values.tolist() == ["NaN", "good"]
    assert not [*as_numbers(columns(None, None))]
