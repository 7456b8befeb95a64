"""Pages of a server's history, and its columns, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from bridges.errors import SourceError
from bridges.formats.wandb_log.rows import Column
from bridges.sources.wandb.server import ROWS_PER_PAGE, Address, content_of
from bridges.sources.wandb.values import as_numbers

ADDRESS = Address.of("wandb://me/vision")


class FakeRun:
    """A run of the client: `steps` are those of its rows, of which the server gives `shown`."""

    id, name, state, url = "abc", "mine", "finished", "http://x/abc"
    tags, config = ("t",), {"lr": 1}

    def __init__(self, steps: Sequence[int], shown: Sequence[int] | None = None) -> None:
        self._shown = steps if shown is None else shown
        last = {"lastStep": max(steps, default=-1)}
        self._attrs = {"historyLineCount": len(steps), "historyKeys": last}
        self.rawconfig = {"_wandb": {"m": [{"2": "a*", "5": 2}, {"1": "n"}]}}
        self.summary = self
        self._json_dict = {"best": 0.5}
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
        for step in self._shown:
            if min_step <= step < max_step:
                yield {"_step": step, "_timestamp": 1.5e9 + step, "loss": step + 0.5}


def test_pages_grow_over_gaps_and_shrink_in_dense_ranges() -> None:
    steps = [*range(20_000), 50_000_000]
    run = FakeRun(steps)
    content = content_of(ADDRESS, run)
    assert content.count == len(steps)
    assert len(run.requests) < 40
    ends = [stop for _, stop in run.requests]
    assert [start for start, _ in run.requests] == [0, *ends[:-1]]
    dense = FakeRun(range(100_000))
    assert content_of(ADDRESS, dense).count == 100_000
    assert max(stop - start for start, stop in dense.requests) <= 8 * ROWS_PER_PAGE


def test_rows_that_the_server_counts_but_does_not_give_are_a_loss() -> None:
    content = content_of(ADDRESS, FakeRun([0, 1, 2], shown=[0, 2]))
    (found,) = content.findings
    assert (found.code, found.count, found.fails) == ("rows-missing", 1, True)
    assert not content_of(ADDRESS, FakeRun([0, 1, 2])).findings


def test_definitions_and_labels_are_those_of_the_config() -> None:
    content = content_of(ADDRESS, FakeRun([0]))
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
