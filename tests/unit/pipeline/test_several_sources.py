"""A tree with directories of several sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridges.errors import SourceError, TreeError
from bridges.pipeline.several_sources import SeveralSources
from bridges.sources.base import FilePart
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.stream.model import Run
from bridges.testing.runs import make_run

RUN = make_run([{"step": 1, "loss": 1.0}], group="vision")


class Fake:
    """A source of runs with these names; its error is raised after them."""

    def __init__(self, name: str, *runs: str, error: SourceError | None = None) -> None:
        self.name, self.runs, self.error = name, runs, error

    def claims(self, location: str) -> bool:
        return bool(self.runs)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        yield from (replace(RUN, name=name, source=location) for name in self.runs)
        if self.error:
            raise self.error

    def split(self, location: str) -> list[FilePart]:
        return [FilePart(name) for name in self.runs]

    def read_part(self, part: FilePart, options: ReadOptions) -> Iterator[Run]:
        yield replace(RUN, name=part.location)

    def files(self, location: str) -> list[str] | None:
        return [f"{location}/{name}" for name in self.runs]


def broken(kind: type[SourceError], source: str) -> SourceError:
    return kind(source, found="nothing", expected="a log", remedy="Look.")


def names(source: SeveralSources, select: tuple[str, ...] = ()) -> list[str]:
    return [run.name for run in source.read("tree", ReadOptions(select=select))]


def test_runs_of_all_sources_are_read_in_order() -> None:
    source = SeveralSources([Fake("one", "a", "b"), Fake("two", "c")])
    assert source.name == "one, two"
    assert source.claims("tree")
    assert names(source) == ["a", "b", "c"]
    assert source.files("tree") == ["tree/a", "tree/b", "tree/c"]


def test_runs_are_selected_for_sources_that_do_not_select() -> None:
    source = SeveralSources([Fake("one", "a", "b"), Fake("two", "c")])
    assert names(source, select=("run=b",)) == ["b"]
    assert names(source, select=("experiment=v*",)) == ["a", "b", "c"]


def test_an_error_of_one_source_comes_after_the_runs_of_all() -> None:
    error = broken(SourceError, "tree/x")
    runs = SeveralSources([Fake("one", "a", error=error), Fake("two", "c")]).read(
        "tree", ReadOptions()
    )
    assert [next(runs).name, next(runs).name] == ["a", "c"]
    with pytest.raises(SourceError, match="tree/x"):
        next(runs)


def test_a_source_without_runs_is_an_error_only_alone() -> None:
    nothing = broken(MissingSourceError, "tree")
    assert names(SeveralSources([Fake("one", error=nothing), Fake("two", "c")])) == ["c"]
    with pytest.raises(TreeError):
        names(SeveralSources([Fake("one", error=nothing), Fake("two", error=nothing)]))


def test_parts_are_read_by_their_own_source() -> None:
    source = SeveralSources([Fake("one", "a", "b"), Fake("two", "c")])
    parts = source.split("tree")
    assert [(part.source, part.location, part.files) for part in parts] == [
        (0, "a", ("a",)),
        (0, "b", ("b",)),
        (1, "c", ("c",)),
    ]
    found = [run.name for part in parts for run in source.read_part(part, ReadOptions())]
    assert found == ["a", "b", "c"]


def test_a_source_without_parts_is_an_error_only_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_parts(self: Fake, location: str) -> list[FilePart]:
        if self.error:
            raise self.error
        return [FilePart(name) for name in self.runs]

    monkeypatch.setattr(Fake, "split", without_parts)
    nothing = Fake("one", error=broken(MissingSourceError, "tree"))
    (part,) = SeveralSources([nothing, Fake("two", "c")]).split("tree")
    assert (part.source, part.location) == (1, "c")
    with pytest.raises(MissingSourceError):
        SeveralSources([nothing, nothing]).split("tree")
    with pytest.raises(SourceError, match="tree/x"):
        SeveralSources([Fake("one", error=broken(SourceError, "tree/x")), Fake("two", "c")]).split(
            "tree"
        )


def test_a_directory_that_all_sources_cannot_list_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("closed").mkdir()
    sources = [
        Fake("one", "a", error=broken(SourceError, "./closed")),
        Fake("two", "b", error=broken(SourceError, "closed")),
        Fake("three", error=broken(SourceError, "file")),
    ]
    with pytest.raises(TreeError) as caught:
        names(SeveralSources(sources))
    assert [error.source for error in caught.value.errors] == ["./closed", "file"]
