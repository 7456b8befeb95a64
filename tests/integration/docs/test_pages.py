"""README and docs keep their promises: every command and snippet of every page runs, in order."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs import generate
from docs.samples import write_samples

from bridges import plugins
from tests.integration.docs import pages
from tests.integration.exporters.wandb.support import environment as wandb_environment
from tests.integration.exporters.wandb.support import sync, wandb_server
from tests.object_store import object_store
from tests.servers import PostgreSQL
from tests.support import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = {
    str(page.relative_to(REPOSITORY)): page
    for page in (REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md")))
    if page.name not in generate.PAGES
}
NEED_SERVERS = {
    *("docs/targets/mlflow.md", "docs/targets/wandb.md"),
    *("docs/sources/anywhere.md", "docs/sources/mlflow.md", "docs/sources/wandb.md"),
}
FROM_A_CHECKOUT = {"README.md", "docs/quickstart.md"}  # these install and activate themselves
RUNNABLE = {"sh", "python", "console"}
OTHERS = {"text", "toml", "yaml"}


def named(name: str) -> object:
    return pytest.param(name, marks=[pytest.mark.slow] if name in NEED_SERVERS else [], id=name)


@contextlib.contextmanager
def services(
    page: Path, folder: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Start the servers that a page names: what stands for their addresses, and the environment."""
    replacing, environment = {}, {"MLFLOW_DISABLE_TELEMETRY": "true"}
    commands = "\n".join(block.text for block in pages.blocks(page))
    with contextlib.ExitStack() as stack:
        if "http://localhost:5000" in commands:
            replacing["http://localhost:5000"] = request.getfixturevalue("mlflow_url")
        if "postgresql://me@localhost/mlflow" in commands:
            postgres: PostgreSQL = request.getfixturevalue("postgres")
            database = postgres.create_database(f"docs_{page.parent.name}")
            replacing["postgresql://me@localhost/mlflow"] = database
        if "--mode online" in commands or "wandb sync" in commands:
            environment |= wandb_environment(stack.enter_context(wandb_server()))
        if "wandb://my-team/vision" in commands:
            url = stack.enter_context(wandb_server("--as-served"))
            sync(url, folder / "sync", *sorted((folder / "project" / "wandb").iterdir()))
            environment |= wandb_environment(url)
            replacing |= {"my-team/vision": "fake-entity/golden", "3xk1f2ab": "id-steps"}
        if "s3://bucket" in commands:
            found, files = stack.enter_context(object_store())
            files.put(str(folder / "outputs"), "bucket/outputs", recursive=True)
            environment |= found
        yield replacing, environment


@pytest.mark.parametrize("name", [*map(named, PAGES)])
def test_every_snippet_of_the_page_runs(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page = PAGES[name]
    if not any(block.steps for block in pages.blocks(page)):
        return
    write_samples(tmp_path)
    pages.prepare(tmp_path)
    if name == "docs/quickstart.md":  # which makes its own
        subprocess.run(["rm", "-r", tmp_path / "outputs"], check=True)
    with services(page, tmp_path, request) as (replacing, environment):
        done = pages.run(
            page,
            tmp_path,
            replacing=replacing,
            environment=environment,
            is_activated=name not in FROM_A_CHECKOUT,
        )
        for command, shown, output in done:
            assert shown is None or pages.shows(shown, output), f"{command}\n{output}"


@pytest.mark.parametrize("name", PAGES)
def test_every_block_has_a_language_that_is_run_or_known(name: str) -> None:
    languages = {block.language for block in pages.blocks(PAGES[name])}
    assert languages <= RUNNABLE | OTHERS
    text = PAGES[name].read_text("utf-8")
    assert text.count("\n```") == 2 * len(pages.blocks(PAGES[name]))


@pytest.mark.parametrize("target", [t.name for t in plugins.built_in("exporters")])
def test_every_target_has_a_page_in_the_navigation(target: str) -> None:
    if target == "memory":  # for tests and notebooks
        return
    assert f"targets/{target}.md" in (REPOSITORY / "mkdocs.yml").read_text()
    assert f"bridge export outputs --to {target}" in (DOCS / f"targets/{target}.md").read_text()


def test_the_output_that_a_page_shows_is_compared() -> None:
    assert pages.shows("a\n…\nd  … s\n", "a\nb\nc\nd  0.25 s\n")
    assert pages.shows("a\n…\nd\n", "a\nd\n")
    assert not pages.shows("a\n…\nd\n", "a\nb\n")
    assert not pages.shows("a\n", "a\nb\n")


def test_the_reference_pages_are_those_of_the_code() -> None:
    # in a process of its own: plug-ins of other tests are options here
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, f"run `make reference`: {done.stderr}"
