"""The tutorial notebook runs from top to bottom, and its stored outputs are those of today.

`python -m tests.integration.docs.test_tutorial` stores them anew.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.bounds import HANGS
from tests.support import REPOSITORY

pytestmark = pytest.mark.slow

NOTEBOOK = REPOSITORY / "docs" / "tutorial.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook after a run in a folder that has its example data."""
    shutil.copytree(REPOSITORY / "configs" / "example-run", folder / "example-run")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=int(HANGS), resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[dict[str, str]]:
    """The texts that each code cell shows; tables of pandas are empty: each release has its own."""
    cells = [dict(_data(cell)) for cell in notebook.cells if cell.cell_type == "code"]
    return [{} if "dataframe" in data.get("text/html", "") else data for data in cells]


def _data(cell: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    for output in cell.outputs:
        yield from output.get("data", {"text/plain": output.get("text", "")}).items()


def test_the_notebook_runs_and_shows_what_it_stores(tmp_path: Path) -> None:
    stored, now = nbformat.read(NOTEBOOK, as_version=4), executed(tmp_path)
    assert outputs(now) == outputs(stored)
    pages = [each["text/html"] for each in outputs(now) if "text/html" in each]
    assert len(pages) == 4  # runs, a run, and two reports
    assert any("█" in page for page in pages)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = executed(Path(place))
        for cell in made.cells:
            cell.metadata.clear()  # execution times
        nbformat.write(made, NOTEBOOK)
