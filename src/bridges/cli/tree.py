"""The tree of a location: its searches and runs, with the input files of each run.

Only a small record of each run is kept, so a location can contain thousands of runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from bridges.cli.console import COLOURS, count_noun, printable
from bridges.cli.run_page import inspect
from bridges.cli.run_record import PLACE_CODES, Part, Record
from bridges.errors import SourceError
from bridges.stream.finding import Finding
from bridges.stream.model import Run

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.padding import Padding
    from rich.text import Text
    from rich.tree import Tree

MAX_RUNS = 40  # of one group, without -v


@dataclass
class Place:
    """The contents of one location: records of its runs, their pages, and read errors.

    `keep_pages` keeps the page of every run; otherwise a page is kept only for a single run.
    """

    location: str
    keep_pages: bool = False
    records: list[Record] = field(default_factory=list)
    pages: list[dict[str, object]] = field(default_factory=list)
    errors: list[SourceError] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Add a run."""
        self.records.append(Record.of(run))
        self.notes += [finding for finding in run.findings if finding.code in PLACE_CODES]
        if self.keep_pages or len(self.records) == 1:
            self.pages.append(inspect(run))
        elif len(self.records) == 2:
            self.pages.clear()

    @property
    def is_tree(self) -> bool:
        """Whether to show a tree instead of the page of one file."""
        is_file = [record.source for record in self.records] == [self.location]
        return not is_file and (len(self.records) > 1 or any(run.states for run in self.records))


@dataclass
class _Node:
    """A directory of the tree: its runs, and its sub-directories by name.

    `nested` has the runs inside a run by its source, where several runs have the same name.
    """

    runs: list[Record] = field(default_factory=list)
    folders: dict[str, _Node] = field(default_factory=dict)
    nested: dict[str, _Node] = field(default_factory=dict)

    def add(self, run: Record) -> None:
        """Add a run. The folder of its name belongs to an earlier run of the same name."""
        if run.name in self.folders:
            twins = [one for one in self.runs if one.nests and one.name == run.name]
            if twins:
                self.nested[twins[-1].source] = self.folders.pop(run.name)
        self.runs.append(run)

    @property
    def forks(self) -> list[Record]:
        """The forks of other runs of this directory."""
        here = {run.source for run in self.runs}
        return [run for run in self.runs if run.forked and run.forked[0] in here]

    @property
    def first(self) -> list[Record]:
        """The runs without the forks."""
        forks = {run.source for run in self.forks}
        return [run for run in self.runs if run.source not in forks]

    @property
    def all(self) -> Iterator[Record]:
        """All runs of this directory and below."""
        yield from self.runs
        for node in (*self.folders.values(), *self.nested.values()):
            yield from node.all


def print_tree(place: Place, verbose: bool) -> None:
    """Print the tree of a location and, for several runs, the command for one of them."""
    from rich.console import Console, Group
    from rich.tree import Tree

    root = _directories(place.location, place.records)
    label = _Line([(place.location, "bold"), *_counts(root, with_states=True)])
    tree = Tree(Group(label, *_notes(place, verbose)), guide_style="dim")
    _grow(tree, root, len(place.records) if verbose else MAX_RUNS)
    console = Console()
    console.print(tree)
    if len(place.records) > 1 and not verbose:
        console.print()
        console.print(_hint(place.records), soft_wrap=True)
    console.print()


def _hint(records: Sequence[Record]) -> Text:
    """The command for the page of the first run."""
    from rich.text import Text

    first = next((run for run in records if not run.forked), records[0])
    if not first.states:
        return Text("-v shows the page of each")
    inside = sum(f"{run.folder}/".startswith(f"{first.folder}/") for run in records)
    path = first.folder if inside == 1 and first.folder else first.place
    command = f"bridge inspect {shlex.quote(printable(path))}"
    return Text.assemble("View one: ", (command, "bold"))


def _directories(location: str, records: Sequence[Record]) -> _Node:
    """The directory tree of a location; for a pattern, from the common parent of all runs."""
    parts = [record.parts for record in records]
    shared = [names[0] for names in takewhile(lambda n: len({*n}) == 1, zip(*parts, strict=False))]
    asked = location.replace("\\", "/").rstrip("/").split("/")
    shared = asked if shared[: len(asked)] == asked else shared
    root = _Node()
    for record, names in zip(records, parts, strict=True):
        node = root
        for name in names[len(shared) :]:
            node = node.folders.setdefault(name, _Node())
        node.add(record)
    return root


def _grow(tree: Tree, node: _Node, most: int) -> None:
    """Add the runs and directories of a node, at most `most`."""
    first, forks, folders = node.first, node.forks, dict(node.folders)
    owners = {run.name: run.source for run in first if run.nests}  # the last run of a name
    for run in first[:most]:
        name = run.state if run.states and len(node.runs) > 1 else run.name
        branch = _add_run(tree, run, name, forks, most)
        inner = node.nested.get(run.source)
        if inner is None and owners.get(run.name) == run.source:
            inner = folders.pop(run.name, None)
        if inner is not None:
            _grow(branch, inner, most)
    for name, folder in [*folders.items()][: max(0, most - len(first))]:
        _add_folder(tree, name, folder, most)
    _more(tree, len(first) + len(folders) - most)


def _add_folder(tree: Tree, name: str, node: _Node, most: int) -> None:
    """Add a directory; a chain of directories without runs is joined to one line."""
    while not node.runs and len(node.folders) == 1:
        ((inner, node),) = node.folders.items()
        name = f"{name}/{inner}"
    if len(node.first) == 1 and not node.folders and not node.first[0].nests:
        _add_run(tree, node.first[0], name, node.forks, most)
    else:
        branch = tree.add(_Line([(f"{name}/", "bold"), *_counts(node)]))
        _grow(branch, node, most)


def _add_run(tree: Tree, run: Record, name: str, forks: Sequence[Record], most: int) -> Tree:
    """Add a run with its input files, and its forks below it. Returns its branch."""
    from rich.console import Group

    head = _Line([(name, "bold cyan"), *run.head])
    made_from = [part for part in run.made_from if part[0] != f"from {name}"]
    branch = tree.add(Group(head, _Line(made_from, indent=2)))
    mine = [fork for fork in forks if fork.forked and fork.forked[0] == run.source]
    for fork in mine[:most]:
        _add_run(branch, fork, fork.state, forks, most)
    _more(branch, len(mine) - most)
    return branch


def _more(tree: Tree, left: int) -> None:
    if left > 0:
        tree.add(_Line([(f"… and {left:,} more (-v shows all)", "dim")]))


def _counts(node: _Node, with_states: bool = False) -> list[Part]:
    """The number of runs below a node, or of trials and searches."""
    runs = [*node.all]
    searches = {run.search for run in runs}
    if runs and None not in searches:
        head = "search" if len(searches) == 1 else f"{len(searches):,} searches"
        parts = [(f"{head} of {count_noun(len(runs), 'trial')}", "")]
    else:
        parts = [(count_noun(len(runs), "run"), "")]
    states = sum(run.states for run in runs)
    return [*parts, (count_noun(states, "state"), "")] if with_states and states else parts


def _notes(place: Place, verbose: bool) -> Iterator[_Line]:
    """The findings of the location, one line for each code; `verbose`: for each message."""
    kinds: dict[tuple[str, ...], list[Finding]] = {}
    for note in place.notes:
        kind = (note.code, note.message) if verbose else (note.code,)
        kinds.setdefault(kind, []).append(note)
    for (code, *_), notes in kinds.items():
        worst, count = notes[0], sum(note.count for note in notes)
        others = len({note.message for note in notes}) - 1
        more = f"; {others:,} more of this kind (-v shows all)" if others else ""
        head = f"{worst.severity.value} {code}" + (f" ({count:,}×)" if count > 1 else "")
        line = [(head, COLOURS[worst.severity]), (f"{worst.message}{more}", "dim")]
        yield _Line(line, indent=2)
    if place.errors:
        files = ", ".join(error.source for error in place.errors[:3])
        more = f" and {len(place.errors) - 3:,} more" if len(place.errors) > 3 else ""
        yield _Line([("error not read", "red"), (f"{files}{more}", "dim")], indent=2)


class _Line:
    """The parts of a line, wrapped between parts if they do not fit."""

    def __init__(self, parts: Iterable[Part], indent: int = 0) -> None:
        self._parts = [(printable(text), style) for text, style in parts]
        self._indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Padding]:
        from rich.padding import Padding
        from rich.text import Text

        room, indent = options.max_width - 2, self._indent
        line = Text(overflow="fold")
        for text, style in self._parts:
            part = Text(text, style)
            if line and line.cell_len + 3 + part.cell_len > room:
                yield Padding(line, (0, 0, 0, indent), expand=False)
                line, indent = Text(overflow="fold"), 2
            line.append(" · " if line else "", "dim").append_text(part)
        if line:
            yield Padding(line, (0, 0, 0, indent), expand=False)
